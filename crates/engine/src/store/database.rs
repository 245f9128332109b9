//! The journal in SQLite.

use std::{path::PathBuf, time::Duration};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serin_core::{
    Timestamp,
    release::{Entry, Event},
};

use super::{Lock, StateFolder, StoreError};
use crate::process::ReplicaRecord;

/// How long the owner waits for a reader's lock. It tries again by itself, and meanwhile it must judge.
const OWNER_PATIENCE: Duration = Duration::from_millis(200);
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE release (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        document_hash TEXT NOT NULL,
        run INTEGER NOT NULL,
        document_name TEXT NOT NULL,
        document TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        ended_at INTEGER,
        outcome TEXT,
        UNIQUE (name, document_hash, run)
    ) STRICT;
    CREATE TABLE journal (
        release_id INTEGER NOT NULL REFERENCES release (id),
        seq INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        at INTEGER NOT NULL,
        event TEXT NOT NULL,
        PRIMARY KEY (release_id, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE process (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE owner (epoch INTEGER NOT NULL) STRICT;
    INSERT INTO owner VALUES (0);
";

/// A release within one state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseId(pub i64);

/// A release as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseRow {
    /// Its key.
    pub id: ReleaseId,
    /// `metadata.name`.
    pub name: String,
    /// Hash of the document's meaning.
    pub document_hash: String,
    /// 1 for the first run of this document, 2 for the second, …
    pub run: u32,
    /// Where the document came from, for messages and relative paths.
    pub document_name: String,
    /// The document's text.
    pub document: String,
    /// When the run began.
    pub created_at: Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// How it ended, in a word.
    pub outcome: Option<String>,
}

/// What is needed to begin a run.
#[derive(Debug, Clone, Copy)]
pub struct NewRelease<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// Hash of the document's meaning.
    pub document_hash: &'a str,
    /// Where the document came from.
    pub document_name: &'a str,
    /// The document's text.
    pub document: &'a str,
}

/// The store of the owner: the only one that writes.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: String,
    epoch: u64,
    _lock: Lock,
}

/// The store of anyone else: short transactions that never hold the owner up.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: String,
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
        let connection = Connection::open(folder.database()).map_err(fail)?;
        connection.busy_timeout(OWNER_PATIENCE).map_err(fail)?;
        // Looked at before anything is changed: a newer version may want its file otherwise.
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        if !(0..=SCHEMA_VERSION).contains(&found) {
            return Err(StoreError::Newer { path, found, known: SCHEMA_VERSION });
        }
        connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(fail)?;
        if found == 0 {
            connection.execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")).map_err(fail)?;
        }
        let epoch: i64 = connection.query_row("UPDATE owner SET epoch = epoch + 1 RETURNING epoch", [], |row| row.get(0)).map_err(fail)?;
        Ok(Self { connection, path, epoch: epoch.unsigned_abs(), _lock: lock })
    }

    /// This ownership's number; grows with every opening.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
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
        })
    }

    /// Makes entries durable, all or none.
    ///
    /// # Errors
    /// If the database fails; nothing was stored then.
    pub fn append(&mut self, release: ReleaseId, entries: &[Entry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let path = self.path.clone();
        let fail = |source| StoreError::database(&path, source);
        let transaction = self.connection.transaction().map_err(fail)?;
        for entry in entries {
            let event = serde_json::to_string(&entry.event)
                .map_err(|error| StoreError::Damaged { path: path.clone(), detail: error.to_string() })?;
            transaction
                .prepare_cached("INSERT INTO journal (release_id, seq, epoch, at, event) VALUES (?1, ?2, ?3, ?4, ?5)")
                .and_then(|mut statement| {
                    statement.execute(params![release.0, as_i64(entry.seq), as_i64(entry.epoch), as_i64(entry.at.0), event])
                })
                .map_err(fail)?;
        }
        transaction.commit().map_err(fail)
    }

    /// Records how a run ended.
    ///
    /// # Errors
    /// If the database fails.
    pub fn end(&mut self, release: ReleaseId, outcome: &str, now: Timestamp) -> Result<(), StoreError> {
        self.connection
            .execute("UPDATE release SET ended_at = ?2, outcome = ?3 WHERE id = ?1", params![release.0, as_i64(now.0), outcome])
            .map(|_| ())
            .map_err(|source| self.fail(source))
    }

    /// Remembers a process, so that a restarted owner can adopt it.
    ///
    /// # Errors
    /// If the database fails.
    pub fn save_process(&self, record: &ReplicaRecord) -> Result<(), StoreError> {
        let text =
            serde_json::to_string(record).map_err(|error| StoreError::Damaged { path: self.path.clone(), detail: error.to_string() })?;
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
        let mut statement = self.connection.prepare("SELECT record FROM process ORDER BY id").map_err(|source| self.fail(source))?;
        let texts: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
        let texts = texts.map_err(|source| self.fail(source))?;
        // A record that cannot be read belongs to a process that cannot be adopted.
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// The run that was not finished, if there is one.
    ///
    /// # Errors
    /// If the database fails.
    pub fn unfinished(&self) -> Result<Option<ReleaseRow>, StoreError> {
        query_releases(&self.connection, &self.path, "WHERE ended_at IS NULL ORDER BY id DESC LIMIT 1").map(|rows| rows.into_iter().next())
    }

    /// The newest runs first, at most `limit`.
    ///
    /// # Errors
    /// If the database fails.
    pub fn releases(&self, limit: u32) -> Result<Vec<ReleaseRow>, StoreError> {
        query_releases(&self.connection, &self.path, &format!("ORDER BY id DESC LIMIT {limit}"))
    }

    /// The journal of a run.
    ///
    /// # Errors
    /// If the database fails or an entry cannot be understood.
    pub fn journal(&self, release: ReleaseId) -> Result<Vec<Entry>, StoreError> {
        query_journal(&self.connection, &self.path, release)
    }

    fn fail(&self, source: rusqlite::Error) -> StoreError {
        StoreError::database(&self.path, source)
    }
}

impl Reader {
    /// Opens the store of a folder for reading.
    ///
    /// # Errors
    /// If it cannot be opened or is newer.
    pub fn open(folder: &StateFolder) -> Result<Self, StoreError> {
        let path = folder.database().display().to_string();
        let fail = |source| StoreError::database(&path, source);
        let connection = Connection::open_with_flags(PathBuf::from(&path), OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(fail)?;
        connection.busy_timeout(Duration::from_secs(2)).map_err(fail)?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        if found > SCHEMA_VERSION {
            return Err(StoreError::Newer { path, found, known: SCHEMA_VERSION });
        }
        Ok(Self { connection, path })
    }

    /// The newest runs first, at most `limit`.
    ///
    /// # Errors
    /// If the database fails.
    pub fn releases(&self, limit: u32) -> Result<Vec<ReleaseRow>, StoreError> {
        query_releases(&self.connection, &self.path, &format!("ORDER BY id DESC LIMIT {limit}"))
    }

    /// The journal of a run.
    ///
    /// # Errors
    /// If the database fails or an entry cannot be understood.
    pub fn journal(&self, release: ReleaseId) -> Result<Vec<Entry>, StoreError> {
        query_journal(&self.connection, &self.path, release)
    }
}

fn query_releases(connection: &Connection, path: &str, rest: &str) -> Result<Vec<ReleaseRow>, StoreError> {
    let fail = |source| StoreError::database(path, source);
    let sql = format!("SELECT id, name, document_hash, run, document_name, document, created_at, ended_at, outcome FROM release {rest}");
    let mut statement = connection.prepare(&sql).map_err(fail)?;
    let rows = statement.query_map([], |row| {
        Ok(ReleaseRow {
            id: ReleaseId(row.get(0)?),
            name: row.get(1)?,
            document_hash: row.get(2)?,
            run: row.get(3)?,
            document_name: row.get(4)?,
            document: row.get(5)?,
            created_at: Timestamp(row.get::<_, i64>(6)?.unsigned_abs()),
            ended_at: row.get::<_, Option<i64>>(7)?.map(|at| Timestamp(at.unsigned_abs())),
            outcome: row.get(8)?,
        })
    });
    rows.and_then(Iterator::collect).map_err(fail)
}

fn query_journal(connection: &Connection, path: &str, release: ReleaseId) -> Result<Vec<Entry>, StoreError> {
    let fail = |source| StoreError::database(path, source);
    let damaged = |detail: String| StoreError::Damaged { path: path.to_owned(), detail };
    let mut statement = connection.prepare("SELECT seq, epoch, at, event FROM journal WHERE release_id = ?1 ORDER BY seq").map_err(fail)?;
    let mut rows = statement.query([release.0]).map_err(fail)?;
    let mut entries: Vec<Entry> = Vec::new();
    while let Some(row) = rows.next().map_err(fail)? {
        let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs).map_err(fail);
        let (seq, epoch, at) = (number(0)?, number(1)?, Timestamp(number(2)?));
        let text: Option<String> = row.get(3).optional().map_err(fail)?;
        let event: Event = serde_json::from_str(&text.unwrap_or_default())
            .map_err(|error| damaged(format!("journal entry {seq} of release {}: {error}", release.0)))?;
        if seq != entries.len() as u64 + 1 {
            return Err(damaged(format!("journal entry {} of release {} is missing", entries.len() + 1, release.0)));
        }
        entries.push(Entry { seq, epoch, at, event });
    }
    Ok(entries)
}

/// SQLite's integers are signed; times and counts stay far below their limit.
fn as_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
