//! Releases as the store knows them.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serin_core::Timestamp;

use super::StoreError;

/// A release within one state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
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
    /// How it ended in detail, as JSON, if that was recorded.
    pub end: Option<String>,
    /// When its journal was deleted because of its age; `None`: the journal is there.
    pub journal_deleted_at: Option<Timestamp>,
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

/// Reads rows; `rest` is what follows the table's name.
pub(super) fn query(connection: &Connection, path: &str, schema: i64, rest: &str) -> Result<Vec<ReleaseRow>, StoreError> {
    let fail = |source| StoreError::database(path, source);
    let later = match schema {
        ..=1 => "NULL, NULL",
        _ => r#""end", journal_deleted_at"#,
    };
    let sql =
        format!("SELECT id, name, document_hash, run, document_name, document, created_at, ended_at, outcome, {later} FROM release {rest}");
    let mut statement = connection.prepare(&sql).map_err(fail)?;
    let time = |at: i64| Timestamp(at.unsigned_abs());
    let rows = statement.query_map([], |row| {
        Ok(ReleaseRow {
            id: ReleaseId(row.get(0)?),
            name: row.get(1)?,
            document_hash: row.get(2)?,
            run: row.get(3)?,
            document_name: row.get(4)?,
            document: row.get(5)?,
            created_at: time(row.get(6)?),
            ended_at: row.get::<_, Option<i64>>(7)?.map(time),
            outcome: row.get(8)?,
            end: row.get(9)?,
            journal_deleted_at: row.get::<_, Option<i64>>(10)?.map(time),
        })
    });
    rows.and_then(Iterator::collect).map_err(fail)
}
