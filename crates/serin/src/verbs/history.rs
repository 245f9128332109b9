//! `serin history`: what happened.

use std::process::ExitCode;

use serin_engine::store::{Reader, StateFolder};

use super::{StateArg, status::told};
use crate::{
    exit,
    output::{self, Output},
    render,
};

/// Shows the releases of a state folder, and the journal of the newest.
///
/// Exit codes: 0 shown, 2 there is none, 3 the state folder cannot be read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: StateArg,
    /// How many releases to list.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only the list, without a journal.
    #[arg(long)]
    list: bool,
}

/// Prints the history.
///
/// # Errors
/// If the store cannot be read or stdout not be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let Some(folder) = StateFolder::existing(&args.state.state) else {
        output::error(&format!("{} holds no releases; is it the right folder? (--state)", args.state.state.display()));
        return Ok(exit::code(exit::USAGE));
    };
    let reader = Reader::open(&folder)?;
    let rows = reader.releases(args.limit)?;
    for (position, row) in rows.iter().enumerate() {
        let journal = if position == 0 && !args.list { reader.journal(row.id)?.entries } else { Vec::new() };
        match output {
            Output::Json => {
                let line = serde_json::json!({
                    "type": "release", "name": row.name, "run": row.run, "document": row.document_name, "document_hash": row.document_hash,
                    "created_at_ms": row.created_at, "ended_at_ms": row.ended_at, "outcome": row.outcome,
                });
                output::data(&line.to_string())?;
                for entry in &journal {
                    output::data(&render::json::entry(entry, None).to_string())?;
                }
            }
            Output::Text => {
                let outcome = row.outcome.as_deref().unwrap_or("not ended");
                output::data(&format!(
                    "{}  {} run {} · {outcome} · {}",
                    render::clock_time(row.created_at),
                    row.name,
                    row.run,
                    render::plain(&row.document_name)
                ))?;
                if let Ok(loaded) = serin_spec::load(&row.document_name, &row.document) {
                    for line in told(&journal, &loaded.release.plan) {
                        output::data(&format!("  {line}"))?;
                    }
                }
            }
        }
    }
    Ok(exit::code(exit::SUCCEEDED))
}
