//! The store of anyone but the owner.

use std::{path::PathBuf, time::Duration};

use rusqlite::{Connection, OpenFlags};
use serin_core::release::Entry;

use super::{Journal, ReleaseId, ReleaseRow, Serving, StateFolder, StoreError, archive, journal, migrations, rows, serving};
use crate::process::ReplicaRecord;

/// How long a reader waits for a lock. The owner holds none that lasts.
const PATIENCE: Duration = Duration::from_secs(2);

/// The store of anyone else: short transactions that never hold the owner up. It reads stores of earlier schemas as they are.
#[derive(Debug)]
pub struct Reader {
    pub(super) connection: Connection,
    pub(super) path: String,
    schema: i64,
}

impl Reader {
    /// Opens the store of a folder for reading.
    ///
    /// # Errors
    /// If it cannot be opened, is newer, or holds nothing.
    pub fn open(folder: &StateFolder) -> Result<Self, StoreError> {
        let path = folder.database().display().to_string();
        let fail = |source| StoreError::database(&path, source);
        let connection = Connection::open_with_flags(PathBuf::from(&path), OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(fail)?;
        connection.busy_timeout(PATIENCE).map_err(fail)?;
        let schema: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        match schema {
            1..=migrations::VERSION => Ok(Self { connection, path, schema }),
            0 => Err(StoreError::damaged(&path, "it holds no tables".to_owned())),
            found => Err(StoreError::Newer { path, found, known: migrations::VERSION }),
        }
    }

    /// The schema that the store has.
    #[must_use]
    pub fn schema(&self) -> i64 {
        self.schema
    }

    /// The newest runs first, at most `limit`.
    ///
    /// # Errors
    /// If the database fails.
    pub fn releases(&self, limit: u32) -> Result<Vec<ReleaseRow>, StoreError> {
        rows::query(&self.connection, &self.path, self.schema, &format!("ORDER BY id DESC LIMIT {limit}"))
    }

    /// A run by its key.
    ///
    /// # Errors
    /// If the database fails.
    pub fn release(&self, release: ReleaseId) -> Result<Option<ReleaseRow>, StoreError> {
        let rows = rows::query(&self.connection, &self.path, self.schema, &format!("WHERE id = {}", release.0))?;
        Ok(rows.into_iter().next())
    }

    /// The journal of a run, from its snapshot on if it has one.
    ///
    /// # Errors
    /// If the database fails or an entry cannot be understood.
    pub fn journal(&self, release: ReleaseId) -> Result<Journal, StoreError> {
        // The owner may replace entries by a snapshot at any time: both are read as they were at one moment.
        let transaction = self.connection.unchecked_transaction().map_err(|source| StoreError::database(&self.path, source))?;
        journal::query(&transaction, &self.path, self.schema, release)
    }

    /// The entries of a run after one of them, at most `most`, also those that are in the archive by now. If some are no longer kept, the
    /// next ones that are.
    ///
    /// # Errors
    /// If the database fails or an entry cannot be understood.
    pub fn entries_after(&self, folder: &StateFolder, release: ReleaseId, after: u64, most: usize) -> Result<Vec<Entry>, StoreError> {
        let transaction = self.connection.unchecked_transaction().map_err(|source| StoreError::database(&self.path, source))?;
        let base = journal::base(&transaction, &self.path, self.schema, release)?.seq;
        let mut entries = if after < base { archive::range(folder, release, after, base, most) } else { Vec::new() };
        if entries.len() < most {
            let (after, rest) = (after.max(base), (most - entries.len()) as u64);
            entries.extend(journal::range(&transaction, &self.path, release, after, after.saturating_add(rest))?);
        }
        entries.truncate(most);
        Ok(entries)
    }

    /// The version that serves between releases, if there is one.
    ///
    /// # Errors
    /// If the database fails or it cannot be understood.
    pub fn serving(&self) -> Result<Option<Serving>, StoreError> {
        if self.schema < 2 { Ok(None) } else { serving::read(&self.connection, &self.path) }
    }

    /// Every remembered process.
    ///
    /// # Errors
    /// If the database fails.
    pub fn processes(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        super::database::query_processes(&self.connection, &self.path)
    }
}
