//! What the judge has seen, written at most every second.
//!
//! Losing it loses evidence: of a canary that was about to be found guilty nothing is known any more, what stable did is
//! forgotten, and the running stage counts from zero. A release goes on all the same, since a judge without a past is worth more
//! than none, and people are told.
//!
//! A server with hundreds of releases writes hundreds of these per second. Making and deleting a file each time would be most of what it
//! costs, so the file and its spare change places, and the spare is written over.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serin_core::Timestamp;

use super::{ReleaseId, StoreError};

/// A small file that is replaced as a whole.
#[derive(Debug, Clone)]
pub struct CheckpointFile {
    path: PathBuf,
}

/// Why there is no checkpoint that could be used.
#[derive(Debug, thiserror::Error)]
pub enum NoCheckpoint {
    /// There is no file.
    #[error("{path} does not exist")]
    Missing {
        /// The file.
        path: String,
    },
    /// It was made by another release.
    #[error("{path} is that of another release")]
    OtherRelease {
        /// The file.
        path: String,
    },
    /// It cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is damaged or has another shape.
    #[error("{path} is damaged, or was written by another version of serin: {source}")]
    NotUnderstood {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The part of the content that says whose it is.
#[derive(Deserialize)]
struct Owner {
    release: i64,
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
        write_over(&fresh, &text)
            .and_then(|()| exchange(&fresh, &self.path))
            .map_err(|error| StoreError::io("cannot write", &self.path, error))
    }

    /// The checkpoint of this release and when it was made.
    ///
    /// # Errors
    /// Why there is none that could be used.
    pub fn load<T: DeserializeOwned>(&self, release: ReleaseId) -> Result<(Timestamp, T), NoCheckpoint> {
        let path = || self.path.display().to_string();
        let text = fs::read(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => NoCheckpoint::Missing { path: path() },
            _ => NoCheckpoint::Unreadable { path: path(), source },
        })?;
        let owner: Owner = serde_json::from_slice(&text).map_err(|source| NoCheckpoint::NotUnderstood { path: path(), source })?;
        if owner.release != release.0 {
            return Err(NoCheckpoint::OtherRelease { path: path() });
        }
        let content: Content<T> = serde_json::from_slice(&text).map_err(|source| NoCheckpoint::NotUnderstood { path: path(), source })?;
        Ok((content.at, content.data))
    }
}

fn write_over(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().create(true).write(true).truncate(false).open(path)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)
}

/// The new file takes the place of the old one, which becomes the next spare.
fn exchange(fresh: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, fresh, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // The first one, or a file system that cannot do it.
        Err(_) => fs::rename(fresh, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(folder.path().join("checkpoint.json"));
        let load = || file.load::<Vec<u64>>(ReleaseId(7));
        assert!(matches!(load(), Err(NoCheckpoint::Missing { .. })));
        file.save(ReleaseId(7), Timestamp(5), &vec![1_u64, 2]).unwrap();
        assert_eq!(load().unwrap(), (Timestamp(5), vec![1, 2]));
        file.save(ReleaseId(7), Timestamp(5), &"another shape").unwrap();
        assert!(matches!(load(), Err(NoCheckpoint::NotUnderstood { .. })));
        file.save(ReleaseId(8), Timestamp(5), &"another shape").unwrap();
        assert!(matches!(load(), Err(NoCheckpoint::OtherRelease { .. })));
        fs::write(folder.path().join("checkpoint.json"), "{\"release\": 7, \"at\"").unwrap();
        assert!(matches!(load(), Err(NoCheckpoint::NotUnderstood { .. })));
        fs::remove_file(folder.path().join("checkpoint.json")).unwrap();
        fs::create_dir(folder.path().join("checkpoint.json")).unwrap();
        assert!(matches!(load(), Err(NoCheckpoint::Unreadable { .. })));
    }

    #[test]
    fn the_newest_is_read_whatever_was_longer_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(dir.path().join("checkpoint.json"));
        let read = || file.load::<String>(ReleaseId(1)).unwrap();
        for (at, text) in [(1, "a long one, longer than all others"), (2, "short"), (3, "another"), (4, "")] {
            file.save(ReleaseId(1), Timestamp(at), &text).unwrap();
            assert_eq!(read(), (Timestamp(at), text.to_owned()));
        }
        assert!(fs::read_dir(dir.path()).unwrap().count() <= 2, "one spare");
    }
}
