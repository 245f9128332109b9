//! What the judge has seen, written at most every second and lost without harm.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serin_core::Timestamp;

use super::{ReleaseId, StoreError};

/// A small file that is replaced as a whole.
#[derive(Debug, Clone)]
pub struct CheckpointFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Content<T> {
    release: i64,
    at: Timestamp,
    data: T,
}

impl CheckpointFile {
    /// The file at this place, which need not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Replaces the checkpoint. It is not synced: it must survive the death of the process, not of the machine.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save<T: Serialize>(&self, release: ReleaseId, at: Timestamp, data: &T) -> Result<(), StoreError> {
        let fresh = self.path.with_extension("new");
        let text = serde_json::to_vec(&Content { release: release.0, at, data })
            .map_err(|error| StoreError::io("cannot write", &self.path, error.into()))?;
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &self.path))
            .map_err(|error| StoreError::io("cannot write", &self.path, error))
    }

    /// The checkpoint of this release and when it was made; `None` if there is none that can be read.
    #[must_use]
    pub fn load<T: DeserializeOwned>(&self, release: ReleaseId) -> Option<(Timestamp, T)> {
        let content: Content<T> = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        (content.release == release.0).then_some((content.at, content.data))
    }
}
