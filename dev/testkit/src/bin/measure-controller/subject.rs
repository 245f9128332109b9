//! A controller that is measured, and what is common to all.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use serde_json::Value;
use serin_testkit::{
    cluster::{Cluster, access},
    processes, wait,
};

use crate::objects::NAMESPACE;

/// How long the cluster may take to have everything on a busy machine.
const PATIENCE: Duration = Duration::from_mins(15);

/// How many releases there are, and how many of them are under way.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) releases: usize,
    pub(crate) active: usize,
}

/// A controller of some project, and how releases are made for it.
pub(crate) trait Subject {
    /// The project, with its version if it is not this one.
    fn name(&self) -> &str;

    /// The API server's name of the account that it runs as.
    fn account(&self) -> &str;

    /// Makes everything, starts the controller, and waits until the idle releases rest and the others are under way.
    fn begin(&self, cluster: &Cluster, load: Load) -> Result<Controller, String>;

    /// Where releases are, in the controller's own words, and whether that is where they should be.
    fn phases(&self, cluster: &Cluster, load: Load) -> (BTreeMap<String, usize>, bool);
}

/// What was built of another project: the folder with its program, its version and its manifests.
pub(crate) struct Built(pub(crate) PathBuf);

impl Built {
    pub(crate) fn version(&self) -> Result<String, String> {
        read(&self.0.join("version")).map(|version| version.trim().to_owned())
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes what the manifests say and waits until their kinds can be used.
    pub(crate) fn install(&self, cluster: &Cluster) -> Result<(), String> {
        let mut kinds = Vec::new();
        for entry in fs::read_dir(self.0.join("manifests")).map_err(|error| format!("{}: {error}", self.0.display()))? {
            let text = read(&entry.map_err(|error| error.to_string())?.path())?;
            if text.contains("kind: CustomResourceDefinition") {
                kinds.extend(create_kinds(cluster, &text)?);
            } else {
                cluster.apply(&text);
            }
        }
        until("its kinds", || kinds.iter().all(|name| is_established(cluster, name)))
    }
}

/// Names of the kinds that a text makes. It is sent as it is: the API server reads YAML that stricter readers refuse.
fn create_kinds(cluster: &Cluster, text: &str) -> Result<Vec<String>, String> {
    let client = cluster.client(&cluster.kubeconfig(access::ADMIN));
    let documents = text.split("\n---\n").filter(|document| document.contains("kind:"));
    documents
        .map(|document| {
            let request = http::Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions");
            let request = request.header("content-type", "application/yaml").body(document.as_bytes().to_vec());
            let request = request.map_err(|error| error.to_string())?;
            let made = cluster.block_on(client.request::<Value>(request)).map_err(|error| error.to_string())?;
            Ok(made["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        })
        .collect()
}

/// A controller, until dropped.
pub(crate) struct Controller(Child, PathBuf);

impl Controller {
    pub(crate) fn start(cluster: &Cluster, command: &mut Command) -> Self {
        let log = cluster.path().join("controller.log");
        let file = File::create(&log).unwrap();
        command.env(processes::MARKER, cluster.path()).stdout(file.try_clone().unwrap()).stderr(file);
        Self(command.spawn().unwrap(), log)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// The last that it said.
    fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.1).unwrap_or_default();
        let mut last: Vec<&str> = text.lines().rev().take(20).collect();
        last.reverse();
        last.join("\n")
    }

    /// Waits until all releases are where they should be.
    pub(crate) fn until_all(&self, subject: &dyn Subject, cluster: &Cluster, load: Load) -> Result<(), String> {
        let mut last = BTreeMap::new();
        let is_so = wait::paced(Duration::from_secs(1), PATIENCE, || {
            let (phases, is_so) = subject.phases(cluster, load);
            last = phases;
            is_so.then_some(())
        });
        is_so.ok_or_else(|| format!("not all releases are where they should be: {last:?}\n{}", self.said()))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many objects of a kind are in each state.
pub(crate) fn count(cluster: &Cluster, api_version: &str, kind: &str, state: impl Fn(&Value) -> String) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for object in cluster.list(api_version, kind, NAMESPACE) {
        *counts.entry(state(&object)).or_default() += 1;
    }
    counts
}

/// Whether a kind can be used.
pub(crate) fn is_established(cluster: &Cluster, crd: &str) -> bool {
    let crd = cluster.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", crd).unwrap_or_default();
    let conditions = crd["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Established" && one["status"] == "True"))
}

/// Waits for something that the cluster does by itself.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let is_so = wait::paced(Duration::from_millis(500), PATIENCE, || condition().then_some(()));
    is_so.ok_or_else(|| format!("waited in vain for {what}"))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
