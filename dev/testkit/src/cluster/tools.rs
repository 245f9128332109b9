//! The programs that a test cluster is made of, and what happens where they are missing.
//!
//! `cargo xtask` puts them into a cache and links them below the target folder (`testbed/`), beside the tests that need them; the variable
//! `SERIN_TESTBED_BIN` names another folder. Plain `cargo test` says which tests it left out. Under `cargo xtask test` (variable
//! `SERIN_TESTBED`) a missing program fails the test.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
};

use crate::installed;

const FOLDER_VARIABLE: &str = "SERIN_TESTBED_BIN";
const REQUIRED_VARIABLE: &str = "SERIN_TESTBED";
const FOLDER: &str = "testbed";

/// Paths of the programs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The cluster's store.
    pub etcd: PathBuf,
    /// The API server.
    pub apiserver: PathBuf,
    /// The controllers of Kubernetes.
    pub controller_manager: PathBuf,
    /// The data plane; without it there is none.
    pub envoy: Option<PathBuf>,
    /// Without it nothing is scraped.
    pub prometheus: Option<PathBuf>,
}

impl Tools {
    /// Looks for the programs.
    ///
    /// # Errors
    /// With the name of what is missing, and what to do.
    pub fn find() -> Result<Self, String> {
        let folder = folder().ok_or("the programs of the test cluster are not built: run `cargo xtask cluster build`")?;
        let program = |name: &str| {
            let path = folder.join(name);
            if path.is_file() { Ok(path) } else { Err(format!("{} is missing: run `cargo xtask cluster build`", path.display())) }
        };
        Ok(Self {
            etcd: program("etcd")?,
            apiserver: program("kube-apiserver")?,
            controller_manager: program("kube-controller-manager")?,
            envoy: program("envoy").ok(),
            prometheus: installed("prometheus"),
        })
    }

    /// All programs; or nothing, after saying that `test` was left out.
    ///
    /// # Panics
    /// If something is missing under `cargo xtask test`.
    #[must_use]
    pub fn find_or_leave_out(test: &str) -> Option<Self> {
        let complete = Self::find().and_then(|tools| {
            let missing = if tools.envoy.is_none() {
                "envoy is missing: run `cargo xtask cluster build`"
            } else if tools.prometheus.is_none() {
                "prometheus is not installed; on Debian: apt-get install --no-install-recommends prometheus"
            } else {
                return Ok(tools);
            };
            Err(missing.to_owned())
        });
        complete.map_err(|missing| leave_out(test, &missing)).ok()
    }
}

/// Helm; or nothing, after saying that `test` was left out.
///
/// # Panics
/// If it is missing under `cargo xtask test`.
#[must_use]
pub fn helm_or_leave_out(test: &str) -> Option<PathBuf> {
    let found = folder().map(|folder| folder.join("helm")).filter(|path| path.is_file());
    if found.is_none() {
        leave_out(test, "helm is not built: run `cargo xtask cluster build`");
    }
    found
}

fn leave_out(test: &str, missing: &str) {
    assert!(env::var_os(REQUIRED_VARIABLE).is_none(), "{test}: {missing}");
    // Not by a macro, whose output is shown for failed tests only.
    let _ = writeln!(io::stderr(), "left out: {test}: {missing}");
}

fn folder() -> Option<PathBuf> {
    if let Some(folder) = env::var_os(FOLDER_VARIABLE) {
        return Some(folder.into());
    }
    let program = env::current_exe().ok()?;
    program.ancestors().skip(1).take(4).map(|folder| folder.join(FOLDER)).find(|folder| folder.is_dir())
}
