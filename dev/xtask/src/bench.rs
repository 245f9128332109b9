//! `cargo xtask bench`: runs a benchmark from a release build. `release` measures real releases (`measure-release` of the test
//! kit), everything else is for `serin-bench`. Arguments are handed on as they are, so that they are declared (and refused) in one
//! place only: `cargo xtask bench detect --help` and `cargo xtask bench release --help` show them.
//!
//! Standard output is the benchmark's alone, so that `--json` can go to a file or another tool.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, lock_flag};
use crate::{metadata, tree};

/// The benchmark that is not one of `serin-bench`.
const RELEASE: &str = "release";

/// What to measure and how.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// `detect` or `release`, and its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WHAT")]
    what: Vec<String>,
}

/// Builds and runs the benchmark.
///
/// # Errors
/// If it cannot be built, or fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = tree::root()?;
    let mut command = match args.what.split_first() {
        Some((what, options)) if what == RELEASE => {
            // What is measured is built beside the tool that measures.
            go(cargo(&root, &["build", "--release", "-q", "-p", "serin"]).args(lock_flag()), "the build of serin")?;
            let serin = metadata::target_folder(&root)?.join("release").join("serin");
            let mut command = cargo(&root, &["run", "--release", "-q", "-p", "serin-testkit", "--bin", "measure-release"]);
            command.args(lock_flag()).arg("--").arg("--serin").arg(serin).args(options);
            command
        }
        _ => {
            let mut command = cargo(&root, &["run", "--release", "-q", "-p", "serin-bench"]);
            command.args(lock_flag()).arg("--").args(&args.what);
            command
        }
    };
    go(command.stdin(Stdio::null()), "the benchmark")
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
        let line = Line::try_parse_from(["bench", "detect", "--quick", "--part", "5.1", "--help"]).unwrap();
        assert_eq!(line.args.what, ["detect", "--quick", "--part", "5.1", "--help"]);
    }
}
