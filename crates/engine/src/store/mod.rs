//! What survives a crash: one folder with a SQLite journal, an ownership lock, a latch and a checkpoint.
//!
//! - `serin.db`: the journal and what belongs to it. WAL with `synchronous=FULL`: an appended entry is on the disk.
//! - `lock`: held with `flock` by the one process that may write. Others read in short transactions or ask the owner.
//! - `latch`: written in place and synced when traffic returns to stable, before the journal; see [`Latch`].
//! - `checkpoint.json`: what judge and meter have seen, at most a second old. It is the only place of the sequential judge's evidence:
//!   see [`CheckpointFile`] for what follows when it is lost.

mod checkpoint;
mod database;
mod folder;
mod latch;
mod lock;

pub use checkpoint::{CheckpointFile, NoCheckpoint};
pub use database::{NewRelease, Reader, ReleaseId, ReleaseRow, Store};
pub use folder::StateFolder;
pub use latch::Latch;
pub use lock::{Lock, owner_pid};

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
    /// A file that SQLite cannot make sense of is damaged; everything else may go away by itself.
    pub(crate) fn database(path: &str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged { path, detail: source.to_string() }
            }
            _ => Self::Database { path, source },
        }
    }

    pub(crate) fn io(what: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { what, path: path.display().to_string(), source }
    }
}
