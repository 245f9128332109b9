//! `cargo xtask simulate`: releases on bad days, from a release build. With `--mutations` it is the rules that are tested.
//!
//! Its other arguments are handed on as they are, so that they are declared (and refused) in one place only:
//! `cargo xtask simulate --help` shows them.

mod mutations;
mod planted;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, lock_flag};
use crate::tree;

/// What to simulate.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// `--mutations [NAME …]`, or the options of the simulation
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WHAT")]
    what: Vec<String>,
}

/// Builds and runs the simulation.
///
/// # Errors
/// If it cannot be built, or a rule is broken.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = tree::root()?;
    if let Some(("--mutations", names)) = args.what.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return mutations::run(&root, names);
    }
    let mut command = command(&root);
    command.args(&args.what).stdin(Stdio::null());
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the simulation failed: {status}");
    }
    Ok(())
}

/// The simulation; its arguments follow.
pub(crate) fn command(root: &Path) -> Command {
    let mut command = cargo(root, &["run", "--release", "-q", "-p", "serin-simulate"]);
    command.args(lock_flag()).arg("--");
    command
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn everything_is_handed_on() {
        let line = Line::try_parse_from(["simulate", "--seeds", "5", "--json", "--help"]).unwrap();
        assert_eq!(line.args.what, ["--seeds", "5", "--json", "--help"]);
    }
}
