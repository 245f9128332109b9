//! What the judge has seen, written at most every second and lost without harm.
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

    /// The checkpoint of this release and when it was made; `None` if there is none that can be read.
    #[must_use]
    pub fn load<T: DeserializeOwned>(&self, release: ReleaseId) -> Option<(Timestamp, T)> {
        let content: Content<T> = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        (content.release == release.0).then_some((content.at, content.data))
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
    fn the_newest_is_read_whatever_was_longer_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(dir.path().join("checkpoint.json"));
        let read = |release| file.load::<String>(ReleaseId(release));
        assert_eq!(read(1), None);
        for (at, text) in [(1, "a long one, longer than all others"), (2, "short"), (3, "another"), (4, "")] {
            file.save(ReleaseId(1), Timestamp(at), &text).unwrap();
            assert_eq!(read(1), Some((Timestamp(at), text.to_owned())));
        }
        assert_eq!(read(2), None, "of another release");
        assert!(fs::read_dir(dir.path()).unwrap().count() <= 2, "one spare");
    }
}
