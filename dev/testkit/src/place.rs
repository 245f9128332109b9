//! A temporary folder in which a release runs, and everything that is started from it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Document, Load, Release, http, processes, wait};

/// See the module. Dropping it kills what still runs of it.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
    serin: PathBuf,
}

impl Place {
    /// A new folder; `serin` is the binary to test.
    ///
    /// # Panics
    /// If the folder cannot be made.
    #[must_use]
    pub fn new(serin: &str) -> Self {
        // Short, because sockets in it may have 107 bytes of path only.
        let dir = tempfile::Builder::new().prefix("serin-test-").tempdir().unwrap();
        Self { dir, serin: PathBuf::from(serin) }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The state folder within.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Writes a document as `release.yaml` and gives its path.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn write(&self, document: &Document) -> PathBuf {
        let file = self.path().join("release.yaml");
        fs::write(&file, document.text()).unwrap();
        file
    }

    /// `serin` in this folder with piped output; every process that comes of it is found again by its environment.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.serin);
        command
            .args(args)
            .current_dir(self.path())
            .env(processes::MARKER, self.path())
            .env("SERIN_STATE", self.state())
            .env_remove("PORT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Writes the document and starts `serin run` with it and further arguments.
    #[must_use]
    pub fn run(&self, document: &Document, args: &[&str]) -> Release {
        let file = self.write(document);
        let mut all = vec!["--output", "json", "run", file.to_str().unwrap()];
        all.extend_from_slice(args);
        Release::start(self.command(&all))
    }

    /// Starts `serin load` at the document's address, until it is stopped or its `--duration` is over.
    #[must_use]
    pub fn load(&self, document: &Document, rps: u32, args: &[&str]) -> Load {
        let (url, rps) = (document.url(), rps.to_string());
        let mut all = vec!["--output", "json", "load", &url, "--rps", &rps, "--wait", "60s"];
        all.extend_from_slice(args);
        Load::start(self.command(&all))
    }

    /// Runs `serin` with these arguments to its end.
    ///
    /// # Panics
    /// If it does not end in time.
    #[must_use]
    pub fn serin(&self, args: &[&str]) -> Output {
        let child = self.command(args).spawn().unwrap();
        let pid = child.id();
        let waiter = thread::spawn(move || child.wait_with_output().unwrap());
        wait::until_or(
            &format!("the end of serin {args:?} (pid {pid})"),
            wait::PATIENCE,
            || waiter.is_finished().then_some(()),
            String::new,
        );
        waiter.join().unwrap()
    }

    /// `serin status` as JSON: the field `status` while a release runs.
    ///
    /// # Panics
    /// If the answer is not JSON.
    #[must_use]
    pub fn status(&self) -> Value {
        let output = self.serin(&["--output", "json", "status"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// Changes how all replicas of one version behave, which must be sample apps: fields of their `/admin/behaviour`.
    ///
    /// # Panics
    /// If none runs, or one does not take it.
    pub fn behave(&self, arm: &str, changes: &Value) {
        let replicas: Vec<_> = self.replicas().into_keys().filter(|id| id.starts_with(arm)).collect();
        assert!(!replicas.is_empty(), "no replica of {arm} runs");
        for id in replicas {
            http::behave(processes::address(self.path(), &id).unwrap(), changes);
        }
    }

    /// Replicas that run, with their pids.
    #[must_use]
    pub fn replicas(&self) -> BTreeMap<String, u32> {
        processes::replicas(self.path())
    }

    /// The pids of one version's replicas.
    #[must_use]
    pub fn pids(&self, arm: &str) -> Vec<u32> {
        self.replicas().into_iter().filter(|(id, _)| id.starts_with(arm)).map(|(_, pid)| pid).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        processes::kill_all(self.path());
    }
}
