//! `serin history`: what happened.

use std::process::ExitCode;

use serin_engine::store::{Reader, StateFolder, archive};
use serin_web::model::{Journal, RunRow, Runs};

use super::{remote, status::told};
use crate::{
    exit,
    output::{self, Output},
    render,
    server::{Client, ServerArg},
};

/// Shows the releases of a state folder, and the journal of the newest.
///
/// Exit codes: 0 shown, 2 there is none, 3 the state folder cannot be read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A service of a server. Without it: the releases of this state folder.
    service: Option<String>,
    #[command(flatten)]
    server: ServerArg,
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
    if let Some(name) = &args.service {
        return remote::with(&args.server, output, async |client| of_service(&client, name, args, output).await);
    }
    let Some(folder) = StateFolder::existing(&args.server.state.state) else {
        output::error(&format!("{} holds no releases; is it the right folder? (--state)", args.server.state.state.display()));
        return Ok(exit::code(exit::USAGE));
    };
    let reader = Reader::open(&folder)?;
    let rows = reader.releases(args.limit)?;
    for (position, row) in rows.iter().enumerate() {
        let (journal, cut) = if position == 0 && !args.list {
            let (journal, cut) = archive::complete(&folder, row.id, reader.journal(row.id)?);
            (journal.entries, cut)
        } else {
            (Vec::new(), None)
        };
        if let Some(cut) = cut {
            output::note(&render::plain(&cut));
        }
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

async fn of_service(client: &Client, name: &str, args: &Args, output: Output) -> anyhow::Result<u8> {
    let Runs { runs } = client.get(&format!("/v1/services/{name}/runs?limit={}", args.limit)).await?.read()?;
    for (position, row) in runs.iter().enumerate() {
        match output {
            Output::Json => output::data(&serde_json::to_string(row)?)?,
            Output::Text => output::data(&line(row))?,
        }
        if position == 0 && !args.list {
            journal(client, name, row.number, output).await?;
        }
    }
    if runs.is_empty() {
        output::note(&format!("{name} was not released yet"));
    }
    Ok(exit::SUCCEEDED)
}

/// A run as a line.
pub(super) fn line(row: &RunRow) -> String {
    let outcome = row.outcome.as_deref().unwrap_or("not ended");
    let began = render::clock_time(serin_core::Timestamp(row.began_at));
    format!("{began}  {} run {} · {outcome} · {}", row.service, row.run, render::plain(&row.document_name))
}

async fn journal(client: &Client, name: &str, run: i64, output: Output) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let part: Journal = client.get(&format!("/v1/services/{name}/runs/{run}/journal?after={after}")).await?.read()?;
        for entry in &part.entries {
            if entry.seq > after + 1 {
                output::note(&format!("entries {} to {} are no longer kept", after + 1, entry.seq - 1));
            }
            match (output, &entry.head) {
                (Output::Json, _) => output::data(&serde_json::to_string(entry)?)?,
                (Output::Text, Some(head)) => {
                    let line = render::lines::event(serin_core::Timestamp(entry.at), head, entry.text.as_deref().unwrap_or_default());
                    output::data(&format!("  {line}"))?;
                }
                (Output::Text, None) => {}
            }
            after = entry.seq;
        }
        if !part.more {
            return Ok(());
        }
    }
}
