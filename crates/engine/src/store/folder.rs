//! The state folder: where everything lies.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::StoreError;

/// Sockets have at most 107 bytes of path on Linux and 103 elsewhere.
const LONGEST_SOCKET_PATH: usize = 100;

/// Name of the table that a restarted proxy begins with.
pub(crate) const ROUTE_TABLE: &str = "route-table.json";

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

    /// A folder as it is, whatever is in it: for looking at what a damaged one still has. Nothing is created.
    ///
    /// # Errors
    /// If it is not there.
    pub fn at(path: &Path) -> Result<Self, StoreError> {
        let path = path.canonicalize().map_err(|error| StoreError::io("cannot find", path, error))?;
        Ok(Self { path })
    }

    /// The stores at a place: of the folder itself, and of the services below it if it is a server's. By path.
    #[must_use]
    pub fn all(path: &Path) -> Vec<Self> {
        let mut below: Vec<PathBuf> =
            fs::read_dir(path.join("services")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        below.sort();
        std::iter::once(path.to_owned()).chain(below).filter_map(|path| Self::existing(&path)).collect()
    }

    /// What journal and archive take on the disk, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let database = self.database();
        let parts = ["", "-wal"].map(|suffix| {
            let mut path = database.as_os_str().to_owned();
            path.push(suffix);
            size(Path::new(&path))
        });
        let archived = fs::read_dir(self.archives()).into_iter().flatten().flatten();
        let pieces = archived.flat_map(|run| fs::read_dir(run.path()).into_iter().flatten().flatten());
        parts.iter().sum::<u64>() + pieces.map(|piece| size(&piece.path())).sum::<u64>()
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

    /// Where entries are that snapshots stand for.
    #[must_use]
    pub fn archives(&self) -> PathBuf {
        self.path.join("journal-archive")
    }

    /// The archived entries of a release.
    #[must_use]
    pub fn archive(&self, release: super::ReleaseId) -> PathBuf {
        self.archives().join(release.0.to_string())
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

    /// What was seen of a release second by second.
    #[must_use]
    pub fn recording(&self, release: super::ReleaseId) -> PathBuf {
        self.path.join("recordings").join(format!("{}.jsonl", release.0))
    }

    /// What the judge has seen.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.json")
    }

    /// The route table that a restarted proxy begins with.
    #[must_use]
    pub fn route_table(&self) -> PathBuf {
        self.path.join(ROUTE_TABLE)
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
