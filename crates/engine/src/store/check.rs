//! Looks at a store for damage without changing anything, also while its owner is at work.
//!
//! What is looked at: the file (SQLite's own check), every journal (readable, without gaps, by owners in order, folding), every snapshot
//! (it is what its archived piece leads to), what serves, and the remembered processes. SQLite keeps no checksums, so a byte that turned
//! into another one within a text is found only if it makes the text unreadable or the journal inconsistent.

use serin_core::release::{Event, State};

use super::{Journal, Reader, ReleaseId, ReleaseRow, StateFolder, StoreError, archive};

/// Most problems that are listed.
const MOST_PROBLEMS: usize = 50;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The schema; `None` if the store could not be opened.
    pub schema: Option<i64>,
    /// How many runs it has.
    pub releases: usize,
    /// How many entries their journals have in the database.
    pub entries: u64,
    /// How many are in the archive.
    pub archived: u64,
    /// What is wrong, at most 50 items.
    pub problems: Vec<String>,
    /// What people should know and what is not wrong.
    pub remarks: Vec<String>,
}

impl CheckReport {
    fn problem(&mut self, text: impl Into<String>) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(text.into());
        }
    }

    fn take<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        result.map_err(|error| self.problem(error.to_string())).ok()
    }
}

/// Looks at the store of a folder. Whatever goes wrong is in the report.
#[must_use]
pub fn check(folder: &StateFolder) -> CheckReport {
    let mut report = CheckReport::default();
    let opened = Reader::open(folder);
    let Some(reader) = report.take(opened) else { return report };
    report.schema = Some(reader.schema());
    let found = integrity(&reader);
    if let Some(lines) = report.take(found) {
        lines.into_iter().for_each(|line| report.problem(format!("the database file: {line}")));
    }
    let rows = reader.releases(u32::MAX);
    for row in report.take(rows).unwrap_or_default() {
        report.releases += 1;
        check_run(folder, &reader, &row, &mut report);
    }
    let serving = reader.serving();
    if let Some(run) = report.take(serving).flatten().and_then(|serving| serving.release) {
        match reader.release(run) {
            Ok(Some(_)) => {}
            Ok(None) => report.problem(format!("release {}, which brought what serves, is missing", run.0)),
            Err(error) => report.problem(error.to_string()),
        }
    }
    let processes = reader.processes();
    report.take(processes);
    report
}

fn integrity(reader: &Reader) -> Result<Vec<String>, StoreError> {
    let fail = |source| StoreError::database(&reader.path, source);
    let mut statement = reader.connection.prepare("PRAGMA integrity_check(20)").map_err(fail)?;
    let lines: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
    let mut lines = lines.map_err(fail)?;
    lines.retain(|line| line != "ok");
    let mut statement = reader.connection.prepare("PRAGMA foreign_key_check").map_err(fail)?;
    let strays: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
    let strays = strays.map_err(fail)?;
    if let Some(table) = strays.first() {
        lines.push(format!("{} rows of the table {table} belong to no release", strays.len()));
    }
    Ok(lines)
}

fn check_run(folder: &StateFolder, reader: &Reader, row: &ReleaseRow, report: &mut CheckReport) {
    let run = row.id.0;
    let journal = reader.journal(row.id);
    let Some(journal) = report.take(journal) else { return };
    report.entries += journal.entries.len() as u64;
    match (row.journal_deleted_at, journal.is_empty()) {
        (Some(_), false) => report.problem(format!("release {run} has a journal that was deleted")),
        (None, true) if row.ended_at.is_some() => report.problem(format!("release {run} has ended and has no journal")),
        _ => {}
    }
    if journal.base.seq == 0
        && let Some(first) = journal.entries.first()
        && !matches!(first.event, Event::Began { .. })
    {
        report.problem(format!("the journal of release {run} does not begin with its beginning"));
    }
    owners_in_order(&journal, run, report);
    check_archive(folder, row.id, &journal.base, report);
}

fn owners_in_order(journal: &Journal, run: i64, report: &mut CheckReport) {
    let mut epoch = journal.base.epoch;
    for entry in &journal.entries {
        if entry.epoch < epoch {
            let before = entry.epoch;
            return report
                .problem(format!("entry {} of release {run} was written by owner {before} after one by owner {epoch}", entry.seq));
        }
        epoch = entry.epoch;
    }
}

/// Every piece leads to the next one's beginning, and the last one to the snapshot.
fn check_archive(folder: &StateFolder, release: ReleaseId, snapshot: &State, report: &mut CheckReport) {
    let run = release.0;
    let mut reached: Option<State> = None;
    for path in archive::pieces(folder, release) {
        let piece = archive::read(&path);
        let Some(piece) = report.take(piece) else { return };
        // Its entries were about to leave the database when the journal was read, or when a crash came.
        if piece.last_seq() > snapshot.seq {
            break;
        }
        report.archived += piece.entries.len() as u64;
        if reached.as_ref().is_some_and(|state| *state != piece.base) {
            report.problem(format!("{} does not begin with the state that the one before leads to", path.display()));
        }
        reached = Some(piece.state());
    }
    match reached {
        Some(state) if state.seq == snapshot.seq && state != *snapshot => {
            report.problem(format!("the snapshot of release {run} is not what its journal folds to at entry {}", state.seq));
        }
        Some(state) if state.seq == snapshot.seq => {}
        _ if snapshot.seq == 0 => {}
        _ => report.remarks.push(format!(
            "the snapshot of release {run} at entry {} cannot be compared: the entries before it are not in the archive",
            snapshot.seq
        )),
    }
}
