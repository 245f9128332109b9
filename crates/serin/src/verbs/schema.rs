//! `serin schema`: the JSON Schemas of documents.

use std::process::ExitCode;

use crate::{exit, output};

/// Prints the JSON Schema of release documents, or of a server's configuration, for editors that complete and check.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of which document.
    #[arg(value_enum, default_value_t)]
    of: Kind,
}

/// A kind of document.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Kind {
    /// Release documents.
    #[default]
    Release,
    /// The configuration of `serin serve`.
    Server,
}

/// Prints the schema.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let schema = match args.of {
        Kind::Release => serin_spec::schema(),
        Kind::Server => serin_spec::server_schema(),
    };
    output::data(&serde_json::to_string_pretty(&schema)?)?;
    Ok(exit::code(exit::SUCCEEDED))
}
