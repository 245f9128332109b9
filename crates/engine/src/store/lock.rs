//! One writer: an advisory lock that the kernel releases when its holder dies, however it dies.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::MetadataExt as _,
};

use rustix::fs::{FlockOperation, flock};

use super::{StateFolder, StoreError};

/// Ownership of a state folder, until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder, or says who has it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it.
    pub fn take(folder: &StateFolder) -> Result<Self, StoreError> {
        let path = folder.lock();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(&path)
            .map_err(|error| StoreError::io("cannot open", &path, error))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StoreError::InUse { folder: folder.path().display().to_string(), pid: owner_pid(folder) });
        }
        // The number is for messages only; the lock itself is the truth, also on a full disk.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// The process that last took the folder; it may be gone.
fn owner_pid(folder: &StateFolder) -> Option<u32> {
    fs::read_to_string(folder.lock()).ok()?.trim().parse().ok()
}

/// The process that owns the folder right now, as the kernel says. Looks only: no lock is taken, so that no owner that starts at the same time
/// is refused. `None` also where `/proc` is missing.
#[must_use]
pub fn holder(folder: &StateFolder) -> Option<u32> {
    let inode = fs::metadata(folder.lock()).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 624 fe:00:10559489 0 EOF`
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields[..] else { return None };
        let locked: u64 = file.rsplit(':').next()?.parse().ok()?;
        (locked == inode).then(|| pid.parse().ok())?
    })
}
