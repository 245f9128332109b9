//! `serin store`: looks after the stores of a state folder.

use std::{fs, path::Path, process::ExitCode};

use serde_json::json;
use serin_core::Timestamp;
use serin_engine::store::{CheckReport, KEEP_MS, KEEP_RUNS, Reader, ReleaseRow, StateFolder, Store, StoreError, archive, check, holder};

use super::StateArg;
use crate::{
    exit,
    output::{self, Output},
    render::plain,
};

const DAY_MS: u64 = 24 * 3_600_000;

/// Looks after the stores of a state folder: of `serin run`, or of all services of a server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Looks for damage. Changes nothing; a release may be running.
    ///
    /// Exit codes: 0 nothing found, 2 there is no store, 3 something is wrong.
    Check(FolderArgs),
    /// Writes all releases with their journals to stdout, a JSON object per line. A release may be running.
    ///
    /// Exit codes: 0 written, 2 there is no store, 3 something could not be read.
    Export(FolderArgs),
    /// Deletes old journals and gives the space back to the disk. Nothing may be running.
    ///
    /// Exit codes: 0 done, 2 there is no store, 3 it is in use or could not be changed.
    Vacuum(VacuumArgs),
}

#[derive(Debug, clap::Args)]
struct FolderArgs {
    #[command(flatten)]
    state: StateArg,
}

#[derive(Debug, clap::Args)]
struct VacuumArgs {
    #[command(flatten)]
    state: StateArg,
    /// Of how many ended releases the journals are kept; outcomes of ten times as many are.
    #[arg(long, value_name = "N", default_value_t = KEEP_RUNS)]
    keep_runs: u32,
    /// Journals of releases that ended longer ago are deleted as well.
    #[arg(long, value_name = "DAYS", default_value_t = KEEP_MS / DAY_MS, value_parser = clap::value_parser!(u64).range(0..=36_500))]
    keep_days: u64,
}

/// Runs one of the three.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let state = match &args.what {
        What::Check(args) | What::Export(args) => &args.state.state,
        What::Vacuum(args) => &args.state.state,
    };
    let folders = StateFolder::all(state);
    if folders.is_empty() {
        output::error(&format!("{} holds no store; is it the right folder? (--state)", state.display()));
        return Ok(exit::code(exit::USAGE));
    }
    let mut code = exit::SUCCEEDED;
    for folder in &folders {
        let well = match &args.what {
            What::Check(_) => check_one(folder, output)?,
            What::Export(_) => export_one(folder)?,
            What::Vacuum(args) => vacuum_one(state, folder, args, output)?,
        };
        if !well {
            code = exit::PREFLIGHT;
        }
    }
    Ok(exit::code(code))
}

fn check_one(folder: &StateFolder, output: Output) -> anyhow::Result<bool> {
    let report = check(folder);
    let well = report.problems.is_empty();
    let CheckReport { schema, releases, entries, archived, problems, remarks } = &report;
    let path = folder.database().display().to_string();
    match output {
        Output::Json => {
            let line = json!({
                "type": "store-check", "store": path, "ok": well, "schema": schema, "releases": releases, "entries": entries,
                "archived_entries": archived, "problems": problems, "remarks": remarks,
            });
            output::data(&line.to_string())?;
        }
        Output::Text => {
            let schema = schema.map_or_else(|| "not readable".to_owned(), |schema| format!("schema {schema}"));
            let found = match problems.len() {
                0 => "in order".to_owned(),
                1 => "1 problem".to_owned(),
                many => format!("{many} problems"),
            };
            output::data(&format!(
                "{}: {found} · {schema} · {releases} releases · {entries} entries, {archived} more in the archive",
                plain(&path)
            ))?;
            for problem in problems {
                output::data(&format!("  wrong  {}", plain(problem)))?;
            }
            for remark in remarks {
                output::data(&format!("  note   {}", plain(remark)))?;
            }
        }
    }
    Ok(well)
}

fn export_one(folder: &StateFolder) -> anyhow::Result<bool> {
    let store = folder.path().display().to_string();
    let said = |error: StoreError| output::error(&error.to_string());
    let opened = Reader::open(folder).and_then(|reader| reader.releases(u32::MAX).map(|rows| (reader, rows)));
    let (reader, rows) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            said(error);
            return Ok(false);
        }
    };
    let mut well = true;
    for row in rows.iter().rev() {
        output::data(&exported_row(&store, row).to_string())?;
        let journal = match reader.journal(row.id) {
            Ok(journal) => journal,
            Err(error) => {
                said(error);
                well = false;
                continue;
            }
        };
        let (journal, cut) = archive::complete(folder, row.id, journal);
        if let Some(cut) = cut {
            output::note(&plain(&format!("release {} of {store}: {cut}; its export begins with the state after them", row.id.0)));
            let line = json!({"type": "snapshot", "release_id": row.id, "seq": journal.base.seq, "state": journal.base});
            output::data(&line.to_string())?;
        }
        for entry in &journal.entries {
            let line = json!({
                "type": "event", "release_id": row.id, "seq": entry.seq, "epoch": entry.epoch, "at_ms": entry.at, "event": entry.event,
            });
            output::data(&line.to_string())?;
        }
    }
    Ok(well)
}

fn exported_row(store: &str, row: &ReleaseRow) -> serde_json::Value {
    // What is not JSON was not written by the engine; it is passed on as it is.
    let end = row.end.as_ref().map(|end| serde_json::from_str(end).unwrap_or_else(|_| json!(end)));
    json!({
        "type": "release", "store": store, "release_id": row.id, "name": row.name, "run": row.run, "document_name": row.document_name,
        "document_hash": row.document_hash, "document": row.document, "created_at_ms": row.created_at, "ended_at_ms": row.ended_at,
        "outcome": row.outcome, "end": end, "journal_deleted_at_ms": row.journal_deleted_at,
    })
}

fn vacuum_one(state: &Path, folder: &StateFolder, args: &VacuumArgs, output: Output) -> anyhow::Result<bool> {
    let before = folder.bytes();
    let deleted = match server_of(state).map_or_else(|| clean(folder, args), Err) {
        Ok(deleted) => deleted,
        Err(error) => {
            match output {
                Output::Json => {
                    output::data(&json!({"type": "store-vacuum", "store": folder.database(), "error": error.to_string()}).to_string())?;
                }
                Output::Text => output::error(&error.to_string()),
            }
            return Ok(false);
        }
    };
    let after = folder.bytes();
    match output {
        Output::Json => {
            let line = json!({
                "type": "store-vacuum", "store": folder.database(), "deleted_journals": deleted, "bytes_before": before, "bytes_after": after,
            });
            output::data(&line.to_string())?;
        }
        Output::Text => output::data(&format!(
            "{}: journals deleted: {deleted}, {before} bytes before, {after} bytes after",
            plain(&folder.database().display().to_string())
        ))?,
    }
    Ok(true)
}

/// A server that owns the whole place may open any store of it at any time.
fn server_of(state: &Path) -> Option<StoreError> {
    let folder = StateFolder::at(state).ok()?;
    let pid = holder(&folder)?;
    Some(StoreError::InUse { folder: folder.path().display().to_string(), pid: Some(pid) })
}

fn clean(folder: &StateFolder, args: &VacuumArgs) -> Result<usize, StoreError> {
    let mut store = Store::open(folder)?;
    let now = Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default());
    let deleted = store.retain(args.keep_runs, args.keep_days * DAY_MS, now)?;
    for release in &deleted {
        // A leftover latch only ever keeps traffic away from a canary that is gone.
        let _ = fs::remove_file(folder.latch(*release));
        let _ = fs::remove_file(folder.recording(*release));
    }
    store.vacuum()?;
    Ok(deleted.len())
}
