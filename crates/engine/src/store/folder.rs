//! The state folder: where everything lies.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::StoreError;

/// Sockets have at most 107 bytes of path on Linux and 103 elsewhere.
const LONGEST_SOCKET_PATH: usize = 100;

/// A folder that holds the state of the releases of one machine or one project. Only its user may look inside.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
}

impl StateFolder {
    /// Opens a folder, creating it if it is not there.
    ///
    /// # Errors
    /// If it cannot be created or written, or if its path is too long for the sockets in it.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let fail = |what, source| StoreError::io(what, path, source);
        let logs = path.join("logs");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&logs).map_err(|error| fail("cannot create", error))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|error| fail("cannot protect", error))?;
        let path = path.canonicalize().map_err(|error| fail("cannot find", error))?;
        let folder = Self { path };
        for socket in [folder.control_socket(), folder.proxy_socket()] {
            let length = socket.as_os_str().len();
            if length > LONGEST_SOCKET_PATH {
                return Err(StoreError::PathTooLong { path: socket.display().to_string(), length });
            }
        }
        // Nobody wants journals and logs in a repository, wherever the folder was put.
        let ignore = folder.path.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").map_err(|error| StoreError::io("cannot write", &ignore, error))?;
        }
        Ok(folder)
    }

    /// A folder that is there already, without touching it; `None` if it holds no store.
    #[must_use]
    pub fn existing(path: &Path) -> Option<Self> {
        let folder = Self { path: path.canonicalize().ok()? };
        folder.database().exists().then_some(folder)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The journal.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join("serin.db")
    }

    /// The ownership lock.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The latch of a release.
    #[must_use]
    pub fn latch(&self, release: super::ReleaseId) -> PathBuf {
        self.path.join(format!("latch-{}", release.0))
    }

    /// What the judge has seen.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.json")
    }

    /// The route table that a restarted proxy begins with.
    #[must_use]
    pub fn route_table(&self) -> PathBuf {
        self.path.join("route-table.json")
    }

    /// Where commands are taken.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// Where the proxy takes its route tables.
    #[must_use]
    pub fn proxy_socket(&self) -> PathBuf {
        self.path.join("proxy.sock")
    }

    /// The output of a process.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }
}
