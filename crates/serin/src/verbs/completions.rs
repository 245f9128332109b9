//! `serin completions`: completion scripts for shells.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::{Cli, exit, output};

/// Prints a completion script: `serin completions bash > /etc/bash_completion.d/serin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which shell.
    shell: clap_complete::Shell,
}

/// Prints the script.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "serin", &mut script);
    output::data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(exit::code(exit::SUCCEEDED))
}
