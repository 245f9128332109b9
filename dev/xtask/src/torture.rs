//! `cargo xtask torture`: long campaigns against a real `serin serve`, from a release build (`torture` of the test kit). Arguments are
//! handed on as they are: `cargo xtask torture --help` and `cargo xtask torture kills --help` show them.
//!
//! Standard output is the campaign's alone, so that `--json` can go to a file or another tool.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, lock_flag};
use crate::{metadata, tree};

/// What to do to it.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// `kills`, `aborts` or `many`, and its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CAMPAIGN")]
    what: Vec<String>,
}

/// Builds the binary and the tool, and runs the campaign.
///
/// # Errors
/// If something cannot be built, or a target is missed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = tree::root()?;
    // What is tortured is built beside the tool that does it.
    go(cargo(&root, &["build", "--release", "-q", "-p", "serin"]).args(lock_flag()), "the build of serin")?;
    let serin = metadata::target_folder(&root)?.join("release").join("serin");
    let mut command = cargo(&root, &["run", "--release", "-q", "-p", "serin-testkit", "--bin", "torture"]);
    command.args(lock_flag()).arg("--").arg("--serin").arg(serin).args(&args.what);
    go(command.stdin(Stdio::null()), "the campaign")
}

fn go(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("{what} failed: {status}");
    }
    Ok(())
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
        let line = Line::try_parse_from(["torture", "kills", "--n", "12", "--json", "--help"]).unwrap();
        assert_eq!(line.args.what, ["kills", "--n", "12", "--json", "--help"]);
    }
}
