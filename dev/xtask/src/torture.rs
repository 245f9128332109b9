//! `cargo xtask torture`: long campaigns against a real `serin serve`, from a release build (`torture` of the test kit). Arguments are
//! handed on as they are: `cargo xtask torture --help` and `cargo xtask torture kills --help` show them.
//!
//! Standard output is the campaign's alone, so that `--json` can go to a file or another tool.

use anyhow::Result;

use crate::cargo::{self, HandedOn};
use crate::tree;

/// Builds the binary and the tool, and runs the campaign.
///
/// # Errors
/// If something cannot be built, a rule is broken, or a target is missed.
pub(crate) fn run(args: &HandedOn) -> Result<()> {
    cargo::run(cargo::tool(&tree::root()?, "torture")?.args(&args.what), "the campaign")
}
