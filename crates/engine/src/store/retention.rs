//! What is kept of releases that are over.

use std::collections::BTreeSet;

use rusqlite::{Transaction, params};
use serin_core::Timestamp;

use super::{ReleaseId, Store, StoreError, archive, as_i64};

/// Runs whose journal is kept unless something else is asked for.
pub const KEEP_RUNS: u32 = 50;
/// How long a journal is kept unless something else is asked for: 90 days, in milliseconds.
pub const KEEP_MS: u64 = 90 * 24 * 3_600_000;
/// Outcomes are kept of so many times more runs than journals.
const OUTCOMES_PER_JOURNAL: usize = 10;

impl Store {
    /// Deletes the journals of ended runs that are not among the `keep_runs` newest ended ones, or ended more than `keep_ms` before
    /// `now`; and what is left of runs beyond ten times as many: name, document and outcome. Whatever its age, nothing is deleted of a
    /// run that is not over, of the one that brought what [serves](Self::serving), and the row of the newest run, whose number must not
    /// be given again. The numbers of runs start again for a document that nothing is kept of.
    ///
    /// Returns the runs whose journals were deleted: the caller removes their latches and recordings. The space is free for the store to use again;
    /// [`vacuum`](Self::vacuum) gives it back to the disk.
    ///
    /// # Errors
    /// If the database fails, or what serves cannot be read; nothing was deleted then.
    pub fn retain(&mut self, keep_runs: u32, keep_ms: u64, now: Timestamp) -> Result<Vec<ReleaseId>, StoreError> {
        let serves = self.serving()?.and_then(|serving| serving.release);
        let keep_runs = usize::try_from(keep_runs).unwrap_or(usize::MAX);
        let keep_rows = keep_runs.saturating_mul(OUTCOMES_PER_JOURNAL);
        let ended = self.ended()?;
        let newest: i64 = self
            .connection
            .query_row("SELECT coalesce(max(id), 0) FROM release", [], |row| row.get(0))
            .map_err(|source| StoreError::database(&self.path, source))?;
        let (mut journals, mut rows) = (Vec::new(), Vec::new());
        for (position, run) in ended.iter().enumerate().filter(|(_, run)| Some(run.id) != serves) {
            let old = position >= keep_runs || now.ms_since(run.ended_at) > keep_ms;
            if old && !run.journal_deleted {
                journals.push(run.id);
            }
            if position >= keep_rows && run.id.0 != newest {
                rows.push(run.id);
            }
        }
        if !journals.is_empty() || !rows.is_empty() {
            let deleted = self.connection.transaction().and_then(|transaction| {
                delete(&transaction, &journals, &rows, now)?;
                transaction.commit()
            });
            deleted.map_err(|source| StoreError::database(&self.path, source))?;
        }
        self.sweep_archive()?;
        self.checkpoint()?;
        Ok(journals)
    }

    /// Gives free space back to the disk. Needs about as much space as the store has while it runs.
    ///
    /// # Errors
    /// If the database fails; it is as it was then.
    pub fn vacuum(&mut self) -> Result<(), StoreError> {
        self.connection.execute_batch("VACUUM").map_err(|source| StoreError::database(&self.path, source))?;
        self.checkpoint()
    }

    /// Brings the write-ahead log into the database and empties it. A reader that is at work puts that off until the next time.
    fn checkpoint(&self) -> Result<(), StoreError> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|source| StoreError::database(&self.path, source))
    }

    /// Also what a crash between a deletion and this left behind.
    fn sweep_archive(&self) -> Result<(), StoreError> {
        let fail = |source| StoreError::database(&self.path, source);
        let mut statement = self.connection.prepare("SELECT id FROM release WHERE journal_deleted_at IS NULL").map_err(fail)?;
        let kept: Result<BTreeSet<i64>, _> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
        let kept = kept.map_err(fail)?;
        archive::sweep(&self.folder, |release| kept.contains(&release.0));
        Ok(())
    }

    /// Runs that are over, newest first.
    fn ended(&self) -> Result<Vec<Ended>, StoreError> {
        let fail = |source| StoreError::database(&self.path, source);
        let sql = "SELECT id, ended_at, journal_deleted_at IS NOT NULL FROM release WHERE ended_at IS NOT NULL ORDER BY id DESC";
        let mut statement = self.connection.prepare(sql).map_err(fail)?;
        let rows = statement.query_map([], |row| {
            let ended_at = Timestamp(row.get::<_, i64>(1)?.unsigned_abs());
            Ok(Ended { id: ReleaseId(row.get(0)?), ended_at, journal_deleted: row.get(2)? })
        });
        rows.and_then(Iterator::collect).map_err(fail)
    }
}

struct Ended {
    id: ReleaseId,
    ended_at: Timestamp,
    journal_deleted: bool,
}

fn delete(transaction: &Transaction<'_>, journals: &[ReleaseId], rows: &[ReleaseId], now: Timestamp) -> rusqlite::Result<()> {
    for id in journals.iter().chain(rows) {
        transaction.execute("DELETE FROM journal WHERE release_id = ?1", [id.0])?;
        transaction.execute("DELETE FROM snapshot WHERE release_id = ?1", [id.0])?;
    }
    for id in journals {
        transaction.execute("UPDATE release SET journal_deleted_at = ?2 WHERE id = ?1", params![id.0, as_i64(now.0)])?;
    }
    for id in rows {
        transaction.execute("DELETE FROM release WHERE id = ?1", [id.0])?;
    }
    Ok(())
}
