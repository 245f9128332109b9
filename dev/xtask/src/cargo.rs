//! How this tool calls cargo.
//!
//! `cargo run` gives its child variables about the package that is run (here: this tool). They are taken away again, because
//! build scripts and tests would otherwise see other values under `cargo xtask` than under plain `cargo`, and be built twice.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::metadata;

/// Arguments for another program, which declares (and refuses) them.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct HandedOn {
    /// Handed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WHAT")]
    pub(crate) what: Vec<String>,
}

/// Runs cargo without input, its output passed through; `what` names it in the error.
///
/// # Errors
/// If it cannot be started, or fails.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("{what} failed: {status}");
    }
    Ok(())
}

/// A cargo command in the repository's root.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(args);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_about_this_tool) {
            command.env_remove(name);
        }
    }
    command
}

/// `cargo run` of a tool of the test kit, from a release build and with `--serin`: the binary that it measures or tortures is built first.
/// The tool's own arguments are to be added.
///
/// # Errors
/// If `serin` cannot be built.
pub(crate) fn tool(root: &Path, bin: &str) -> Result<Command> {
    run(cargo(root, &["build", "--release", "-q", "-p", "serin"]).args(lock_flag()), "the build of serin")?;
    let serin = metadata::target_folder(root)?.join("release").join("serin");
    let mut command = cargo(root, &["run", "--release", "-q", "-p", "serin-testkit", "--bin", bin]);
    command.args(lock_flag()).arg("--").arg("--serin").arg(serin);
    Ok(command)
}

/// The flag for commands that read the lock file: in CI a lock file that does not fit the manifests is an error, not a thing to repair.
pub(crate) fn lock_flag() -> &'static [&'static str] {
    if env::var_os("CI").is_some() { &["--locked"] } else { &[] }
}

fn is_about_this_tool(name: &str) -> bool {
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || ["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"].contains(&name)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: HandedOn,
    }

    #[test]
    fn everything_is_handed_on() {
        for given in [vec!["detect", "--quick", "--part", "5.1", "--help"], vec!["--seeds", "5", "--json", "--help"]] {
            let line = Line::try_parse_from(std::iter::once("xtask").chain(given.iter().copied())).unwrap();
            assert_eq!(line.args.what, given);
        }
    }

    #[test]
    fn a_failure_says_what_failed() {
        assert_eq!(run(&mut Command::new("false"), "the build").unwrap_err().to_string(), "the build failed: exit status: 1");
    }

    #[test]
    fn only_variables_about_the_run_package_are_taken_away() {
        for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_CRATE_NAME"] {
            assert!(is_about_this_tool(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_TERM_COLOR", "PATH"] {
            assert!(!is_about_this_tool(name), "{name}");
        }
    }
}
