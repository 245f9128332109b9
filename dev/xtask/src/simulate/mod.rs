//! `cargo xtask simulate`: releases on bad days, from a release build. With `--mutations` it is the rules that are tested.
//!
//! Its other arguments are handed on as they are, so that they are declared (and refused) in one place only:
//! `cargo xtask simulate --help` shows them.

mod mutations;
mod planted;

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::cargo::{self, HandedOn, cargo, lock_flag};
use crate::tree;

/// Builds and runs the simulation.
///
/// # Errors
/// If it cannot be built, or a rule is broken.
pub(crate) fn run(args: &HandedOn) -> Result<()> {
    let root = tree::root()?;
    if let Some(("--mutations", names)) = args.what.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return mutations::run(&root, names);
    }
    cargo::run(command(&root).args(&args.what), "the simulation")
}

/// The simulation; its arguments follow.
pub(crate) fn command(root: &Path) -> Command {
    let mut command = cargo(root, &["run", "--release", "-q", "-p", "serin-simulate"]);
    command.args(lock_flag()).arg("--");
    command
}
