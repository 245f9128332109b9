//! Journals as they are read: whole, or from a snapshot on.

use rusqlite::{Connection, OptionalExtension, params};
use serin_core::{
    Timestamp,
    release::{Entry, Event, State},
};

use super::{ReleaseId, StoreError};

/// The journal of a run: what its beginning folds to, and the entries after that.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journal {
    /// The state before the first of the entries: the default if they are all there are.
    pub base: State,
    /// In order and without gaps; the first has the number `base.seq + 1`.
    pub entries: Vec<Entry>,
}

impl Journal {
    /// The state at the end of the journal.
    #[must_use]
    pub fn state(&self) -> State {
        State::fold_from(self.base.clone(), &self.entries)
    }

    /// Whether nothing was written yet, or nothing is kept any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.base.seq == 0 && self.entries.is_empty()
    }

    /// The number of the last entry; 0 if there is none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.entries.last().map_or(self.base.seq, |entry| entry.seq)
    }
}

/// Reads a journal. The caller makes sure that both queries see the same moment.
pub(super) fn query(connection: &Connection, path: &str, schema: i64, release: ReleaseId) -> Result<Journal, StoreError> {
    let base = base(connection, path, schema, release)?;
    let entries = range(connection, path, release, base.seq, u64::MAX)?;
    Ok(Journal { base, entries })
}

/// What a journal in a store of any schema begins with.
pub(super) fn base(connection: &Connection, path: &str, schema: i64, release: ReleaseId) -> Result<State, StoreError> {
    if schema < 2 { Ok(State::default()) } else { snapshot(connection, path, release) }
}

/// The state that stands for the beginning of a journal; the default if nothing was replaced.
pub(super) fn snapshot(connection: &Connection, path: &str, release: ReleaseId) -> Result<State, StoreError> {
    let row: Option<(i64, String)> = connection
        .query_row("SELECT seq, state FROM snapshot WHERE release_id = ?1", [release.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(|source| StoreError::database(path, source))?;
    let Some((seq, text)) = row else { return Ok(State::default()) };
    let state: State = serde_json::from_str(&text)
        .map_err(|error| StoreError::damaged(path, format!("the snapshot of release {} at entry {seq}: {error}", release.0)))?;
    if state.seq != seq.unsigned_abs() {
        let detail = format!("the snapshot of release {} is of entry {} and not of entry {seq}", release.0, state.seq);
        return Err(StoreError::damaged(path, detail));
    }
    Ok(state)
}

/// The entries after `after` up to `last`, in order and without gaps.
pub(super) fn range(connection: &Connection, path: &str, release: ReleaseId, after: u64, last: u64) -> Result<Vec<Entry>, StoreError> {
    let fail = |source| StoreError::database(path, source);
    let sql = "SELECT seq, epoch, at, event FROM journal WHERE release_id = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql).map_err(fail)?;
    let mut rows = statement.query(params![release.0, super::as_i64(after), super::as_i64(last)]).map_err(fail)?;
    let mut entries: Vec<Entry> = Vec::new();
    while let Some(row) = rows.next().map_err(fail)? {
        let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs).map_err(fail);
        let (seq, epoch, at) = (number(0)?, number(1)?, Timestamp(number(2)?));
        let text: String = row.get(3).map_err(fail)?;
        let event: Event = serde_json::from_str(&text)
            .map_err(|error| StoreError::damaged(path, format!("journal entry {seq} of release {}: {error}", release.0)))?;
        let expected = after + entries.len() as u64 + 1;
        if seq != expected {
            return Err(StoreError::damaged(path, format!("journal entry {expected} of release {} is missing", release.0)));
        }
        entries.push(Entry { seq, epoch, at, event });
    }
    Ok(entries)
}
