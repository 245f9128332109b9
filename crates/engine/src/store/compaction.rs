//! Keeps the journal of one run from growing without bounds.
//!
//! State is the fold of the journal, so the beginning of a journal may be replaced by what it folds to. That happens in small pieces, one
//! with an appending at most: the release that is judged meanwhile waits for a piece and not for a large journal. The entries are in the
//! archive and synced before they leave the database, and leave it in the transaction that brings the snapshot. If any of that fails the
//! journal stays as it is, which is correct as well, and it is tried again later.

use rusqlite::params;
use serin_core::release::State;

use super::{Journal, ReleaseId, Store, StoreError, archive, as_i64, journal};

/// Most entries of a run in the database.
pub const MOST_ENTRIES: u64 = 10_000;
/// How many of them leave at a time.
pub(super) const PIECE: u64 = 500;
/// Entries until it is tried again after a failure.
const RETRY_AFTER: u64 = 100;

/// How far the journal that is being written was replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    release: ReleaseId,
    /// The snapshot's entry; 0 if there is none.
    base: u64,
    /// Not before this entry.
    next: u64,
}

impl Store {
    /// Called with every entry that ends an appending.
    pub(super) fn bound_journal(&mut self, release: ReleaseId, last: u64) {
        let progress = self.progress.filter(|progress| progress.release == release);
        // The base is read once per owner; until then a short journal needs no look.
        let base = progress.map_or(0, |progress| progress.base);
        if last.saturating_sub(base) <= MOST_ENTRIES || progress.is_some_and(|progress| last < progress.next) {
            return;
        }
        let next = last + RETRY_AFTER;
        match self.compact(release, last) {
            Ok(base) => self.progress = Some(Progress { release, base, next: 0 }),
            Err(error) => {
                tracing::warn!(release = release.0, %error, "the journal could not be shortened; trying again later");
                self.progress = Some(Progress { release, base, next });
            }
        }
    }

    /// Replaces a piece if there are too many entries. Returns the snapshot's entry.
    fn compact(&mut self, release: ReleaseId, last: u64) -> Result<u64, StoreError> {
        let base = journal::snapshot(&self.connection, &self.path, release)?;
        if last.saturating_sub(base.seq) <= MOST_ENTRIES {
            return Ok(base.seq);
        }
        let entries = journal::range(&self.connection, &self.path, release, base.seq, base.seq + PIECE)?;
        let piece = Journal { base, entries };
        archive::write(&self.folder, release, &piece)?;
        let state = piece.state();
        self.replace(release, &state)?;
        archive::trim(&self.folder, release);
        Ok(state.seq)
    }

    fn replace(&mut self, release: ReleaseId, state: &State) -> Result<(), StoreError> {
        let text = serde_json::to_string(state).map_err(|error| StoreError::damaged(&self.path, error.to_string()))?;
        let replaced = self.connection.transaction().and_then(|transaction| {
            transaction.execute(
                "INSERT INTO snapshot (release_id, seq, state) VALUES (?1, ?2, ?3)
                 ON CONFLICT (release_id) DO UPDATE SET seq = excluded.seq, state = excluded.state",
                params![release.0, as_i64(state.seq), text],
            )?;
            transaction.execute("DELETE FROM journal WHERE release_id = ?1 AND seq <= ?2", params![release.0, as_i64(state.seq)])?;
            transaction.commit()
        });
        replaced.map_err(|source| StoreError::database(&self.path, source))
    }
}
