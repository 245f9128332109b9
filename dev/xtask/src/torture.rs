//! `cargo xtask torture`: long campaigns against a real `serin serve`, from a release build (`torture` of the test kit). Arguments are
//! handed on as they are: `cargo xtask torture --help` and `cargo xtask torture kills --help` show them.
//!
//! Standard output is the campaign's alone, so that `--json` can go to a file or another tool.

use anyhow::Result;

use crate::cargo::{self, HandedOn, cargo, lock_flag};
use crate::{metadata, tree};

/// Builds the binary and the tool, and runs the campaign.
///
/// # Errors
/// If something cannot be built, a rule is broken, or a target is missed.
pub(crate) fn run(args: &HandedOn) -> Result<()> {
    let root = tree::root()?;
    // What is tortured is built beside the tool that does it.
    cargo::run(cargo(&root, &["build", "--release", "-q", "-p", "serin"]).args(lock_flag()), "the build of serin")?;
    let serin = metadata::target_folder(&root)?.join("release").join("serin");
    let mut command = cargo(&root, &["run", "--release", "-q", "-p", "serin-testkit", "--bin", "torture"]);
    command.args(lock_flag()).arg("--").arg("--serin").arg(serin).args(&args.what);
    cargo::run(&mut command, "the campaign")
}
