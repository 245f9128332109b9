//! The document that waits until the release before it has been taken back. Kept in a file, so that a crash in between does not forget it.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Who;
use crate::{
    run::Document,
    store::{StateFolder, StoreError},
};

/// A release that is to begin.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) document: Document,
    pub(super) who: Who,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    document_name: String,
    document: String,
    by: String,
    reason: Option<String>,
}

impl Queued {
    /// Keeps it, replacing what was kept before.
    pub(super) fn keep(&self, folder: &StateFolder) -> Result<(), StoreError> {
        let path = path(folder);
        let kept = Kept {
            document_name: self.document.origin.clone(),
            document: self.document.text.clone(),
            by: self.who.name.clone(),
            reason: self.who.reason.clone(),
        };
        let fail = |error| StoreError::io("cannot write", &path, error);
        let text = serde_json::to_vec(&kept).map_err(|error| fail(error.into()))?;
        let fresh = path.with_extension("new");
        let write = || {
            fs::write(&fresh, text)?;
            fs::File::open(&fresh)?.sync_all()?;
            fs::rename(&fresh, &path)
        };
        tokio::task::block_in_place(write).map_err(fail)
    }

    /// What was kept, if it can still be read.
    pub(super) fn kept(folder: &StateFolder) -> Option<Self> {
        let kept: Kept = serde_json::from_slice(&fs::read(path(folder)).ok()?).ok()?;
        let document = Document::reread(&kept.document_name, kept.document).ok()?;
        Some(Self { document, who: Who { name: kept.by, reason: kept.reason } })
    }

    /// It has begun, or is not wanted any more.
    pub(super) fn forget(folder: &StateFolder) {
        let _ = fs::remove_file(path(folder));
    }

    /// How it is called to people.
    pub(super) fn words(&self) -> String {
        format!("{} {}, asked for by {}", self.document.release.name, short(&self.document.release.document_hash), self.who.name)
    }
}

/// The beginning of a document's hash: enough to tell it from others.
pub(super) fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn path(folder: &StateFolder) -> PathBuf {
    folder.path().join("queued.json")
}
