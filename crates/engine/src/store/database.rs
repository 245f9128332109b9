//! The store of the owner.

use std::time::Duration;

use rusqlite::{Connection, params};
use serin_core::{Timestamp, release::Entry};

use super::{
    Journal, Lock, NewRelease, ReleaseId, ReleaseRow, Serving, StateFolder, StoreError, as_i64, compaction::Progress, journal, migrations,
    rows, serving,
};
use crate::process::ReplicaRecord;

/// How long the owner waits for a reader's lock. It tries again by itself, and meanwhile it must judge.
const OWNER_PATIENCE: Duration = Duration::from_millis(200);

/// The store of the owner: the only one that writes.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Connection,
    pub(super) path: String,
    pub(super) folder: StateFolder,
    pub(super) progress: Option<Progress>,
    epoch: u64,
    _lock: Lock,
}

impl Store {
    /// Opens the store of a folder as its owner, creating or migrating it, and begins a new epoch.
    ///
    /// # Errors
    /// If another process owns the folder, the disk fails, or the store is damaged or newer.
    pub fn open(folder: &StateFolder) -> Result<Self, StoreError> {
        let lock = Lock::take(folder)?;
        let path = folder.database().display().to_string();
        let fail = |source| StoreError::database(&path, source);
        let mut connection = Connection::open(folder.database()).map_err(fail)?;
        connection.busy_timeout(OWNER_PATIENCE).map_err(fail)?;
        // Looked at before anything is changed: a newer version may want its file otherwise.
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        if !(0..=migrations::VERSION).contains(&found) {
            return Err(StoreError::Newer { path, found, known: migrations::VERSION });
        }
        connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(fail)?;
        migrations::migrate(&mut connection, &folder.database(), found)?;
        let mut store = Self { connection, path, folder: folder.clone(), progress: None, epoch: 0, _lock: lock };
        store.next_epoch()?;
        Ok(store)
    }

    /// This ownership's number; grows with every opening and every [`next_epoch`](Self::next_epoch).
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Begins a new epoch without letting go of the folder: whatever was sent in the name of the one before is fenced off.
    ///
    /// # Errors
    /// If the database fails; the epoch is the old one then.
    pub fn next_epoch(&mut self) -> Result<u64, StoreError> {
        let epoch: i64 = self
            .connection
            .query_row("UPDATE owner SET epoch = epoch + 1 RETURNING epoch", [], |row| row.get(0))
            .map_err(|source| self.fail(source))?;
        self.epoch = epoch.unsigned_abs();
        Ok(self.epoch)
    }

    /// Records a new run.
    ///
    /// # Errors
    /// If the database fails.
    pub fn begin(&mut self, new: NewRelease<'_>, now: Timestamp) -> Result<ReleaseRow, StoreError> {
        let NewRelease { name, document_hash, document_name, document } = new;
        let fail = |source| StoreError::database(&self.path, source);
        let run: u32 = self
            .connection
            .query_row(
                "SELECT 1 + coalesce(max(run), 0) FROM release WHERE name = ?1 AND document_hash = ?2",
                params![name, document_hash],
                |row| row.get(0),
            )
            .map_err(fail)?;
        self.connection
            .execute(
                "INSERT INTO release (name, document_hash, run, document_name, document, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![name, document_hash, run, document_name, document, as_i64(now.0)],
            )
            .map_err(fail)?;
        Ok(ReleaseRow {
            id: ReleaseId(self.connection.last_insert_rowid()),
            name: name.to_owned(),
            document_hash: document_hash.to_owned(),
            run,
            document_name: document_name.to_owned(),
            document: document.to_owned(),
            created_at: now,
            ended_at: None,
            outcome: None,
            end: None,
            journal_deleted_at: None,
        })
    }

    /// Makes entries durable, all or none. A journal that has become too long is shortened after that, see [`Journal`].
    ///
    /// # Errors
    /// If the database fails; nothing was stored then.
    pub fn append(&mut self, release: ReleaseId, entries: &[Entry]) -> Result<(), StoreError> {
        let Some(last) = entries.last() else { return Ok(()) };
        let path = self.path.clone();
        let fail = |source| StoreError::database(&path, source);
        let transaction = self.connection.transaction().map_err(fail)?;
        for entry in entries {
            let event = serde_json::to_string(&entry.event).map_err(|error| StoreError::damaged(&path, error.to_string()))?;
            transaction
                .prepare_cached("INSERT INTO journal (release_id, seq, epoch, at, event) VALUES (?1, ?2, ?3, ?4, ?5)")
                .and_then(|mut statement| {
                    statement.execute(params![release.0, as_i64(entry.seq), as_i64(entry.epoch), as_i64(entry.at.0), event])
                })
                .map_err(fail)?;
        }
        transaction.commit().map_err(fail)?;
        self.bound_journal(release, last.seq);
        Ok(())
    }

    /// Records how a run ended: in a word, and in detail as JSON.
    ///
    /// # Errors
    /// If the database fails.
    pub fn end(&mut self, release: ReleaseId, outcome: &str, now: Timestamp, end: Option<&str>) -> Result<(), StoreError> {
        self.end_with(release, outcome, now, end, None)
    }

    /// Records how a run ended and which version serves from then on, both or neither. `None`: the same one as before.
    ///
    /// # Errors
    /// If the database fails; nothing was recorded then.
    pub fn end_with(
        &mut self,
        release: ReleaseId,
        outcome: &str,
        now: Timestamp,
        end: Option<&str>,
        serving: Option<&Serving>,
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        let fail = |source| StoreError::database(&path, source);
        let transaction = self.connection.transaction().map_err(fail)?;
        transaction
            .execute(
                r#"UPDATE release SET ended_at = ?2, outcome = ?3, "end" = ?4 WHERE id = ?1"#,
                params![release.0, as_i64(now.0), outcome, end],
            )
            .map_err(fail)?;
        if let Some(serving) = serving {
            serving::write(&transaction, &path, serving)?;
        }
        transaction.commit().map_err(fail)
    }

    /// Records which version serves between releases.
    ///
    /// # Errors
    /// If the database fails.
    pub fn set_serving(&mut self, serving: &Serving) -> Result<(), StoreError> {
        serving::write(&self.connection, &self.path, serving)
    }

    /// The version that serves between releases, if there is one.
    ///
    /// # Errors
    /// If the database fails or it cannot be understood.
    pub fn serving(&self) -> Result<Option<Serving>, StoreError> {
        serving::read(&self.connection, &self.path)
    }

    /// Remembers a process, so that a restarted owner can adopt it.
    ///
    /// # Errors
    /// If the database fails.
    pub fn save_process(&self, record: &ReplicaRecord) -> Result<(), StoreError> {
        let text = serde_json::to_string(record).map_err(|error| StoreError::damaged(&self.path, error.to_string()))?;
        self.connection
            .execute(
                "INSERT INTO process (id, record) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
                params![record.id, text],
            )
            .map(|_| ())
            .map_err(|source| self.fail(source))
    }

    /// Forgets a process that is gone.
    ///
    /// # Errors
    /// If the database fails.
    pub fn forget_process(&self, id: &str) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM process WHERE id = ?1", [id]).map(|_| ()).map_err(|source| self.fail(source))
    }

    /// Every remembered process.
    ///
    /// # Errors
    /// If the database fails.
    pub fn processes(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        query_processes(&self.connection, &self.path)
    }

    /// The run that was not finished, if there is one.
    ///
    /// # Errors
    /// If the database fails.
    pub fn unfinished(&self) -> Result<Option<ReleaseRow>, StoreError> {
        let rest = "WHERE ended_at IS NULL ORDER BY id DESC LIMIT 1";
        Ok(rows::query(&self.connection, &self.path, migrations::VERSION, rest)?.into_iter().next())
    }

    /// The newest runs first, at most `limit`.
    ///
    /// # Errors
    /// If the database fails.
    pub fn releases(&self, limit: u32) -> Result<Vec<ReleaseRow>, StoreError> {
        rows::query(&self.connection, &self.path, migrations::VERSION, &format!("ORDER BY id DESC LIMIT {limit}"))
    }

    /// The journal of a run, from its snapshot on if it has one.
    ///
    /// # Errors
    /// If the database fails or an entry cannot be understood.
    pub fn journal(&self, release: ReleaseId) -> Result<Journal, StoreError> {
        journal::query(&self.connection, &self.path, migrations::VERSION, release)
    }

    fn fail(&self, source: rusqlite::Error) -> StoreError {
        StoreError::database(&self.path, source)
    }
}

/// Remembered processes, also those that were about to be started. A record that cannot be read belongs to a process that cannot be adopted.
pub(super) fn query_processes(connection: &Connection, path: &str) -> Result<Vec<ReplicaRecord>, StoreError> {
    let fail = |source| StoreError::database(path, source);
    let mut statement = connection.prepare("SELECT record FROM process ORDER BY id").map_err(fail)?;
    let texts: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
    Ok(texts.map_err(fail)?.iter().filter_map(|text| serde_json::from_str(text).ok()).map(ReplicaRecord::found).collect())
}
