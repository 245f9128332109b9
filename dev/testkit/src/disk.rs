//! A small disk of its own for a folder, which a test can fill: a tmpfs.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::wait;

/// See the module. Dropping it takes the disk away, with everything on it.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Puts a disk of this size, in MiB, at a folder, which is made if there is none.
    ///
    /// # Errors
    /// Where this process may not do that, which needs root: what the system said.
    ///
    /// # Panics
    /// If the folder cannot be made.
    pub fn mount(folder: &Path, mib: u32) -> Result<Self, String> {
        fs::create_dir_all(folder).unwrap();
        let options = format!("size={mib}m,mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self { folder: folder.to_owned() }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes until not a byte is free.
    ///
    /// # Panics
    /// If that cannot be reached.
    pub fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        let block = vec![1; 64 << 10];
        // Others may give something back meanwhile.
        wait::until("the disk to be full", || {
            for size in [block.len(), 4096] {
                while file.write_all(&block[..size]).is_ok() {}
            }
            (rustix::fs::statvfs(&self.folder).unwrap().f_bavail == 0).then_some(())
        });
    }

    /// Gives back what was [filled](Self::fill).
    ///
    /// # Panics
    /// If nothing was.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what still uses it is killed with the place.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).output();
    }
}
