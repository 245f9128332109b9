//! The latch: "traffic was taken back", in one synced write.
//!
//! Taking traffic back is the one move that runs before it is journaled. Should the process die in between, the latch tells
//! the next one that the canary must not get traffic, even if the journal cannot say why, or cannot be read at all. The file
//! is written in place at its full size from the beginning, so that setting it needs no free disk space.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use super::StoreError;

const OPEN: &[u8; 16] = b"serin:open      ";
const SET: &[u8; 16] = b"serin:retreated ";

/// The latch of one release.
#[derive(Debug)]
pub struct Latch {
    file: File,
    path: PathBuf,
    set: bool,
}

impl Latch {
    /// Opens the latch of a release, creating it unset. A latch that cannot be understood counts as set.
    ///
    /// # Errors
    /// If the file cannot be created or synced.
    pub fn open(path: PathBuf) -> Result<Self, StoreError> {
        let fail = |what, error| StoreError::io(what, &path, error);
        let fresh = !path.exists();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| fail("cannot open", error))?;
        if fresh {
            file.write_all_at(OPEN, 0).and_then(|()| file.sync_all()).map_err(|error| fail("cannot write", error))?;
        }
        let mut content = [0; OPEN.len()];
        let set = file.read_exact_at(&mut content, 0).is_err() || &content != OPEN;
        Ok(Self { file, path, set })
    }

    /// Whether traffic was taken back.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set
    }

    /// Traffic was taken back. Does nothing if that is known already.
    ///
    /// # Errors
    /// If the write or the sync fails; the caller goes on, because the traffic matters more.
    pub fn set(&mut self) -> Result<(), StoreError> {
        self.write(SET, true)
    }

    /// The journal says what became of the traffic, and the canary may get some again (after a retreat).
    ///
    /// # Errors
    /// If the write or the sync fails.
    pub fn clear(&mut self) -> Result<(), StoreError> {
        self.write(OPEN, false)
    }

    /// Removes the latch of a release that is over.
    pub fn remove(self) {
        // A leftover latch only ever keeps traffic away from a canary that is gone.
        let _ = fs::remove_file(&self.path);
    }

    fn write(&mut self, content: &[u8; 16], set: bool) -> Result<(), StoreError> {
        if self.set == set {
            return Ok(());
        }
        self.file
            .write_all_at(content, 0)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| StoreError::io("cannot write", &self.path, error))?;
        self.set = set;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_across_processes_and_takes_damage_for_set() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latch");
        let mut latch = Latch::open(path.clone()).unwrap();
        assert!(!latch.is_set());
        latch.set().unwrap();
        assert!(Latch::open(path.clone()).unwrap().is_set());
        latch.clear().unwrap();
        assert!(!Latch::open(path.clone()).unwrap().is_set());
        fs::write(&path, "garbage").unwrap();
        assert!(Latch::open(path).unwrap().is_set());
    }
}
