//! Which version serves while no release is under way.

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use serin_core::traffic::Arm;

use super::{ReleaseId, StoreError};

/// The version that serves between releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The run that brought it; `None`: it serves as it was declared.
    pub release: Option<ReleaseId>,
    /// Which arm of the document below it is.
    pub arm: Arm,
    /// Where the document came from, for messages and relative paths.
    pub document_name: String,
    /// The document's text.
    pub document: String,
    /// Names its processes: v1, v2, …
    pub version: u64,
}

pub(super) fn read(connection: &Connection, path: &str) -> Result<Option<Serving>, StoreError> {
    let text: Option<String> = connection
        .query_row("SELECT serving FROM service WHERE id = 1", [], |row| row.get(0))
        .optional()
        .map_err(|source| StoreError::database(path, source))?;
    let Some(text) = text else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| StoreError::damaged(path, format!("what serves: {error}")))
}

pub(super) fn write(connection: &Connection, path: &str, serving: &Serving) -> Result<(), StoreError> {
    let text = serde_json::to_string(serving).map_err(|error| StoreError::damaged(path, error.to_string()))?;
    connection
        .execute("INSERT INTO service (id, serving) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET serving = excluded.serving", [text])
        .map(|_| ())
        .map_err(|source| StoreError::database(path, source))
}
