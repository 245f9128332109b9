//! The schema of the store and the way there from every earlier one.
//!
//! A step is never changed once it was released: stores out there have gone through it. Each runs in one transaction together with
//! its number, so that a store is of one schema or of the next and never in between. Before a store with content is touched it is
//! copied to `serin.db.vN`, N being the schema it has: an older binary goes on with that copy if it is put back in place (see
//! `docs/operating.md`). The copy of an earlier upgrade from the same schema is replaced.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// The step at position N leads from schema N to schema N + 1.
const STEPS: [&str; 2] = [FIRST, BOUNDED];
/// The schema that this version reads and writes.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// Releases, journals, processes, owners.
const FIRST: &str = "
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

/// What serves between releases, how releases ended in detail, and journals that are bounded.
const BOUNDED: &str = r#"
    CREATE TABLE service (id INTEGER PRIMARY KEY CHECK (id = 1), serving TEXT NOT NULL) STRICT;
    CREATE TABLE snapshot (
        release_id INTEGER PRIMARY KEY REFERENCES release (id),
        seq INTEGER NOT NULL,
        state TEXT NOT NULL
    ) STRICT;
    ALTER TABLE release ADD COLUMN "end" TEXT;
    ALTER TABLE release ADD COLUMN journal_deleted_at INTEGER;
"#;

/// Brings a store of schema `found` (0: an empty file) to [`VERSION`].
///
/// # Errors
/// If the copy or a step fails; the store has then the schema of the last step that succeeded, and opening it again goes on.
pub(super) fn migrate(connection: &mut Connection, database: &Path, found: i64) -> Result<(), StoreError> {
    if found > 0 && found < VERSION {
        keep_copy(connection, database, found)?;
    }
    for (number, step) in (1_i64..).zip(STEPS).filter(|(number, _)| *number > found) {
        let done = connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", number)?;
            transaction.commit()
        });
        done.map_err(|source| failed(database, number, source))?;
    }
    Ok(())
}

/// Where the store is kept as it was before it was brought on from this schema.
pub(super) fn copy_path(database: &Path, schema: i64) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(format!(".v{schema}"));
    PathBuf::from(name)
}

fn keep_copy(connection: &Connection, database: &Path, found: i64) -> Result<(), StoreError> {
    let copy = copy_path(database, found);
    let unready = copy_path(&copy, 0);
    let fail = |error| StoreError::io("cannot keep a copy before the migration as", &copy, error);
    match fs::remove_file(&unready) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    connection.execute("VACUUM INTO ?1", [unready.display().to_string()]).map_err(|source| failed(database, found + 1, source))?;
    File::open(&unready).and_then(|file| file.sync_all()).and_then(|()| fs::rename(&unready, &copy)).map_err(fail)?;
    super::sync_parent(&copy)
}

fn failed(database: &Path, to: i64, source: rusqlite::Error) -> StoreError {
    match StoreError::database(&database.display().to_string(), source) {
        StoreError::Database { path, source } => StoreError::Migration { path, to, source },
        damaged => damaged,
    }
}
