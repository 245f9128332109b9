//! Which version of a service serves between releases.

use serde::{Deserialize, Serialize};
use serin_core::{Timestamp, traffic::Arm};

use super::{ReleaseId, Store, StoreError};

/// The version that serves, as the document and arm that describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The run that brought it; `None`: it was declared.
    pub release: Option<i64>,
    /// Which version of the document.
    pub arm: Arm,
    /// Where the document came from.
    pub document_name: String,
    /// Its text.
    pub document: String,
    /// Names its processes.
    pub version: u64,
}

impl Store {
    pub fn set_serving(&mut self, serving: &Serving) -> Result<(), StoreError> {
        let _ = serving;
        Ok(())
    }
    pub fn serving(&self) -> Result<Option<Serving>, StoreError> {
        Ok(None)
    }
    pub fn end_with(&mut self, release: ReleaseId, outcome: &str, now: Timestamp, serving: Option<&Serving>) -> Result<(), StoreError> {
        let _ = serving;
        self.end(release, outcome, now)
    }
    pub fn next_epoch(&mut self) -> Result<u64, StoreError> {
        Ok(self.epoch() + 1)
    }
}
