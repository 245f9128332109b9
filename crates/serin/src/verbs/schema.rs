//! `serin schema`: the JSON Schema of release documents.

use std::process::ExitCode;

use crate::{exit, output};

/// Prints the JSON Schema of release documents, for editors that complete and check.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints the schema.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    output::data(&serde_json::to_string_pretty(&serin_spec::schema())?)?;
    Ok(exit::code(exit::SUCCEEDED))
}
