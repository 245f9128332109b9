//! What survives a crash: one folder with a SQLite journal, an ownership lock, a latch and a checkpoint.
//!
//! - `serin.db`: the journal and what belongs to it. WAL with `synchronous=FULL`: an appended entry is on the disk. Bounded in two ways:
//!   the beginning of a long journal is replaced by a snapshot (`compaction`), and ended runs are forgotten (`retention`).
//! - `serin.db.v1`: the store before it was brought to the next schema (`migrations`).
//! - `journal-archive/`: entries that a snapshot stands for ([`archive`]). Nothing that runs needs them.
//! - `lock`: held with `flock` by the one process that may write. Others read in short transactions or ask the owner.
//! - `latch`: written in place and synced when traffic returns to stable, before the journal; see [`Latch`].
//! - `checkpoint.json`: what judge and meter have seen, at most a second old, ten where only time passed. It is the only place of the sequential judge's evidence:
//!   see [`CheckpointFile`] for what follows when it is lost.

pub mod archive;
mod check;
mod checkpoint;
mod compaction;
mod database;
mod folder;
mod journal;
mod latch;
mod lock;
mod migrations;
mod reader;
mod retention;
mod rows;
mod serving;
#[cfg(test)]
mod tests;

pub use check::{CheckReport, check};
pub use checkpoint::{CheckpointFile, NoCheckpoint};
pub use compaction::MOST_ENTRIES;
pub use database::Store;
pub(crate) use folder::ROUTE_TABLE;
pub use folder::StateFolder;
pub use journal::Journal;
pub use latch::Latch;
pub use lock::{Lock, holder};
pub use reader::Reader;
pub use retention::{KEEP_MS, KEEP_RUNS};
pub use rows::{NewRelease, ReleaseId, ReleaseRow};
pub use serving::Serving;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process owns the folder.
    #[error("{folder} is in use by another serin process{}; stop it, or choose another folder with --state", pid.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
    InUse {
        /// The folder.
        folder: String,
        /// The owner, as far as known.
        pid: Option<u32>,
    },
    /// A file operation failed.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("the store {path}: {source}")]
    Database {
        /// The database file.
        path: String,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The store was written by a newer version.
    #[error("the store {path} has schema {found}, this version knows up to {known}; use the newer serin that wrote it")]
    Newer {
        /// The database file.
        path: String,
        /// Its schema version.
        found: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// The store could not be brought to a newer schema.
    #[error(
        "the store {path} could not be brought to schema {to}: {source}; it is as it was before; repair the cause (a full disk, say) and try again"
    )]
    Migration {
        /// The database file.
        path: String,
        /// The schema that it was to have.
        to: i64,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Something in the store cannot be understood.
    #[error("the store {path} is damaged: {detail}; keep it for inspection and choose another folder with --state")]
    Damaged {
        /// The database file.
        path: String,
        /// What was found.
        detail: String,
    },
    /// The folder's path is too long for a socket in it.
    #[error("the state folder's path is too long for a socket ({path}, {length} of at most 100 bytes); choose a shorter one with --state")]
    PathTooLong {
        /// The socket's path.
        path: String,
        /// Its length in bytes.
        length: usize,
    },
}

impl StoreError {
    /// A file that SQLite cannot make sense of, or a value of another kind than was written, is damage; everything else may go away by
    /// itself.
    pub(crate) fn database(path: &str, source: rusqlite::Error) -> Self {
        use rusqlite::{Error, ErrorCode};
        let damaged = match &source {
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
            | Error::InvalidColumnType(..) => true,
            other => matches!(other.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)),
        };
        if damaged { Self::damaged(path, source.to_string()) } else { Self::Database { path: path.to_owned(), source } }
    }

    pub(crate) fn damaged(path: &str, detail: String) -> Self {
        Self::Damaged { path: path.to_owned(), detail }
    }

    pub(crate) fn io(what: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { what, path: path.display().to_string(), source }
    }
}

/// Makes a file's name durable.
fn sync_parent(path: &std::path::Path) -> Result<(), StoreError> {
    let parent = path.parent().unwrap_or(path);
    std::fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(|error| StoreError::io("cannot sync", parent, error))
}

/// SQLite's integers are signed; times and counts stay far below their limit.
fn as_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
