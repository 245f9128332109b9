//! `cargo xtask bench`: runs `serin-bench` from a release build. Its arguments are handed on as they are, so that they are declared
//! (and refused) in one place only: `cargo xtask bench detect --help` shows them.
//!
//! Standard output is the benchmark's alone, so that `--json` can go to a file or another tool.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, lock_flag};
use crate::tree;

/// What to measure and how.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// `detect` and its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WHAT")]
    what: Vec<String>,
}

/// Builds and runs the benchmark.
///
/// # Errors
/// If it cannot be built, or fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = tree::root()?;
    let mut command = cargo(&root, &["run", "--release", "-q", "-p", "serin-bench"]);
    command.args(lock_flag()).arg("--").args(&args.what).stdin(Stdio::null());
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the benchmark failed: {status}");
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
