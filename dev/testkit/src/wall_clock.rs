//! A wall clock that a test moves, for single processes and what they start: Debian's `libfaketime`, which stands between them and the
//! system. Neither root nor a namespace is needed, and the monotonic clock stays the system's, as it does when somebody sets the time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where distributions keep it, below `/usr`: by architecture, and without.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// See the module. Dropping it sweeps up what the library leaves in shared memory for processes that have ended.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    offset: PathBuf,
}

impl WallClock {
    /// A clock that is right so far, with its offset in a file of the folder. `None` if the library is not installed.
    #[must_use]
    pub fn new(folder: &Path) -> Option<Self> {
        let clock = Self { library: library()?, offset: folder.join("clock-offset") };
        clock.set_offset_s(0);
        Some(clock)
    }

    /// Puts a process that is not started yet, and all that come of it, under this clock.
    pub fn govern(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset)
            .env("FAKETIME_NO_CACHE", "1")
            // Called so before and after version 0.9.9.
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            // Files are as old as they are.
            .env("NO_FAKE_STAT", "1");
    }

    /// Steps: from now on it goes wrong by this many seconds, ahead or (below 0) behind.
    ///
    /// # Panics
    /// If that cannot be written.
    pub fn set_offset_s(&self, seconds: i64) {
        // Whoever reads meanwhile must not find half a number.
        let next = self.offset.with_extension("next");
        fs::write(&next, format!("{seconds:+}\n")).unwrap();
        fs::rename(next, &self.offset).unwrap();
    }
}

impl Drop for WallClock {
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let of = ["faketime_shm_", "sem.faketime_sem_"].iter().find_map(|kind| name.strip_prefix(kind)?.parse::<u32>().ok());
            if of.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn library() -> Option<PathBuf> {
    let architecture = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    [architecture.as_str(), "/usr/lib", "/usr/lib64"].iter().map(|folder| Path::new(folder).join(LIBRARY)).find(|path| path.is_file())
}
