//! `serin plan`: what a release would do.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    document, exit,
    output::{self, Output},
    render,
};

/// Shows every step of a release and what each changes. Touches nothing.
///
/// Exit codes: 0 shown, 2 the document is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The release document, `-` for standard input.
    file: PathBuf,
}

/// Prints the plan.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let Ok(document) = document::read(&args.file, output) else { return Ok(exit::code(exit::USAGE)) };
    match output {
        Output::Json => output::data(&render::plan::json(&document).to_string())?,
        Output::Text => output::data(&render::plan::text(&document))?,
    }
    Ok(exit::code(exit::SUCCEEDED))
}
