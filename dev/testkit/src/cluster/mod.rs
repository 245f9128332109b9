//! A Kubernetes cluster for tests, of real parts: etcd, API server and controllers; pods that are processes; requests that flow.
//!
//! [`Cluster::start`] takes a few seconds. Everything is in one temporary folder and on free ports, so that clusters can run side by side.
//! Dropping it ends everything in order; if the test is killed, a guard does (`guard`). Methods block and may be called from any
//! thread; a test that is async itself takes a [`Cluster::client`].
//!
//! What is not as in a real cluster: one node; no container isolation (a pod's first container is a process that has to listen at `POD_IP`);
//! no volumes, init containers, sidecars, `kubectl logs` or `exec`; no kube-proxy and no DNS: requests go through [`Door`]s.

pub mod access;
pub mod agent;
mod audit;
mod certificates;
mod control_plane;
mod controller;
mod daemon;
mod diagnostics;
mod guard;
pub mod mesh;
mod mirror;
mod net;
mod objects;
mod options;
mod prometheus;
mod slots;
mod tools;

use std::{
    fs,
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::watch};

use crate::{http, wait};
use control_plane::ControlPlane;
use mirror::Mirror;
use objects::Objects;

pub use audit::AuditEntry;
pub use mesh::Door;
pub use net::PodNetwork;
pub use objects::ObjectError;
pub use options::Options;
pub use tools::{Tools, helm_or_leave_out};

/// How the test applies objects.
const MANAGER: &str = "test";
/// Custom resources of others that tests use, written for them.
const CRDS: [&str; 4] = [
    include_str!("../../cluster/crds/gateway-api.yaml"),
    include_str!("../../cluster/crds/istio.yaml"),
    include_str!("../../cluster/crds/traefik.yaml"),
    include_str!("../../cluster/crds/prometheus-operator.yaml"),
];

/// See the module.
pub struct Cluster {
    // In the order in which they end.
    prometheus: Option<prometheus::Prometheus>,
    mesh: Option<mesh::Mesh>,
    runtime: Option<Runtime>,
    plane: Mutex<ControlPlane>,
    server: SocketAddr,
    eyes: Objects,
    admin: Objects,
    pods: Mirror,
    network: Arc<PodNetwork>,
    _guard: guard::Guard,
    folder: TempDir,
    _slot: slots::Slot,
}

impl Cluster {
    /// Starts one; or nothing, after saying that `test` was left out, where the programs are not built.
    ///
    /// # Panics
    /// If it does not start, or something is missing under `cargo xtask test`.
    #[must_use]
    pub fn start_or_leave_out(test: &str, options: &Options) -> Option<Self> {
        Tools::find_or_leave_out(test).map(|tools| Self::start(&tools, options))
    }

    /// Starts one.
    ///
    /// # Panics
    /// If it does not start; with what its servers said.
    #[must_use]
    pub fn start(tools: &Tools, options: &Options) -> Self {
        let slot = slots::Slot::wait();
        let folder = tempfile::Builder::new().prefix("serin-cluster-").tempdir().unwrap();
        let guard = guard::Guard::start(folder.path());
        let network = Arc::new(PodNetwork::reserve());
        let plane = ControlPlane::start(folder.path(), tools, &network);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("testbed").enable_all().build().unwrap();
        let client = |user| block_on(&runtime, access::client(&access::kubeconfig_path(folder.path(), user)));
        let (eyes, admin) = (Objects::new(client(access::EYES)), Objects::new(client(access::ADMIN)));

        let changes = Arc::new(watch::Sender::new(0));
        let (agent_client, changed) = (client(access::AGENT), changes.subscribe());
        let pods = {
            let _inside = runtime.enter();
            Mirror::follow(agent_client.clone(), "/api/v1/pods", changes)
        };
        let node = options.node.clone();
        runtime.spawn(agent::run(Objects::new(agent_client), Arc::clone(&network), folder.path().to_owned(), node, pods.clone(), changed));
        let server = plane.address;
        let mut cluster = Self {
            prometheus: None,
            mesh: None,
            runtime: Some(runtime),
            plane: Mutex::new(plane),
            server,
            eyes,
            admin,
            pods,
            network,
            _guard: guard,
            folder,
            _slot: slot,
        };
        if options.has_crds {
            cluster.install_crds();
        }
        if let (true, Some(envoy)) = (options.has_mesh, &tools.envoy) {
            let client = cluster.block_on(access::client(&cluster.kubeconfig(access::MESH)));
            let mesh = mesh::Mesh::start(cluster.path(), envoy, cluster.runtime(), client, Arc::clone(&cluster.network));
            cluster.mesh = Some(mesh);
        }
        if let (Some(interval), Some(prometheus)) = (options.scrape_interval, &tools.prometheus) {
            let envoy = cluster.mesh.as_ref().map(mesh::Mesh::admin);
            let (pods, network) = (cluster.pods.clone(), Arc::clone(&cluster.network));
            let started = prometheus::Prometheus::start(cluster.path(), prometheus, interval, cluster.runtime(), pods, network, envoy);
            cluster.prometheus = Some(started);
        }
        cluster.until("the default namespace", || cluster.get("v1", "ServiceAccount", "default", "default"));
        cluster
    }

    /// The folder with logs and data.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the API server listens.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// The kubeconfig of a user: [`access::ADMIN`], [`access::ALICE`] or [`access::BOB`].
    #[must_use]
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        access::kubeconfig_path(self.path(), user)
    }

    /// A kubeconfig with a token of a service account, which must exist. Valid for an hour.
    ///
    /// # Panics
    /// If there is no such account.
    #[must_use]
    pub fn service_account(&self, namespace: &str, name: &str) -> PathBuf {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}});
        let answer = self.block_on(self.eyes.send("POST", &path, "application/json", &request)).unwrap();
        let user = format!("{namespace}-{name}");
        let file = self.kubeconfig(&user);
        fs::write(&file, access::kubeconfig(self.path(), self.server, &user, answer["status"]["token"].as_str().unwrap())).unwrap();
        file
    }

    /// A client for a kubeconfig of this cluster. It works as long as the cluster does, within any runtime.
    #[must_use]
    pub fn client(&self, kubeconfig: &Path) -> Client {
        self.block_on(access::client(kubeconfig))
    }

    /// Runs a future to its end, from any thread.
    pub fn block_on<F: Future<Output: Send> + Send>(&self, future: F) -> F::Output {
        block_on(self.runtime(), future)
    }

    /// Applies all documents of a YAML text as `admin`, each with all its fields (server-side, by force).
    ///
    /// # Panics
    /// If one is refused.
    pub fn apply(&self, yaml: &str) {
        for object in parse(yaml) {
            self.try_apply(&object).unwrap_or_else(|error| panic!("{error}\n{object:#}"));
        }
    }

    /// Applies one object as `admin`.
    ///
    /// # Errors
    /// If it is refused.
    pub fn try_apply(&self, object: &Value) -> Result<Value, ObjectError> {
        self.block_on(self.admin.apply(object, MANAGER))
    }

    /// One object, if it is there. Not in the audit log.
    ///
    /// # Panics
    /// If the API server does not answer, or refuses.
    #[must_use]
    pub fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        match self.block_on(self.eyes.get(api_version, kind, namespace, name)) {
            Ok(object) => Some(object),
            Err(error) if error.code() == 404 => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// All objects of a kind, in one namespace or (empty) in all.
    ///
    /// # Panics
    /// If the API server does not answer, or refuses.
    #[must_use]
    pub fn list(&self, api_version: &str, kind: &str, namespace: &str) -> Vec<Value> {
        self.block_on(self.eyes.list(api_version, kind, namespace)).unwrap()
    }

    /// Changes fields (merge patch) as `admin`. The kind may be a subresource: `Deployment/status`.
    ///
    /// # Panics
    /// If it is refused.
    pub fn patch(&self, kind: (&str, &str), namespace: &str, name: &str, patch: &Value) -> Value {
        self.block_on(self.admin.merge(kind, namespace, name, patch)).unwrap()
    }

    /// Deletes an object as `admin`; one that is not there is fine. Its dependents go in the background.
    ///
    /// # Panics
    /// If it is refused.
    pub fn delete(&self, api_version: &str, kind: &str, namespace: &str, name: &str) {
        match self.block_on(self.admin.delete(api_version, kind, namespace, name, &json!({"propagationPolicy": "Background"}))) {
            Ok(_) => {}
            Err(error) if error.code() == 404 => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Makes a namespace and waits until objects can be made in it.
    pub fn namespace(&self, name: &str) {
        self.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"));
        self.until("the namespace", || self.get("v1", "ServiceAccount", name, "default"));
    }

    /// Waits until the controllers have seen a Deployment's last change and all its replicas are available, and nothing else is left.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn wait_available(&self, namespace: &str, deployment: &str) -> Value {
        self.until(&format!("{namespace}/{deployment} to be available"), || {
            let object = self.get("apps/v1", "Deployment", namespace, deployment)?;
            let status = |field: &str| object["status"][field].as_u64().unwrap_or(0);
            let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1);
            let is_seen = status("observedGeneration") >= object["metadata"]["generation"].as_u64().unwrap_or(1);
            let is_done = ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|field| status(field) == wanted);
            (is_seen && is_done).then_some(object)
        })
    }

    /// Polls until the condition gives something.
    ///
    /// # Panics
    /// After [`wait::PATIENCE`]. The cluster's diagnostics follow when it is dropped.
    pub fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        wait::paced(Duration::from_millis(50), wait::PATIENCE, &mut condition).unwrap_or_else(|| panic!("waited in vain for {what}"))
    }

    /// Running pods of a label value (`app=web`), by name, with the address where their process listens.
    #[must_use]
    pub fn pods(&self, namespace: &str, label: &str) -> Vec<Pod> {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        let all = self.pods.all();
        let matching = all.iter().filter(|((in_namespace, _), pod)| in_namespace == namespace && pod["metadata"]["labels"][key] == value);
        let network = &self.network;
        matching
            .filter_map(|((_, name), pod)| {
                let port = agent_port(pod)?;
                let address = network.dial_text(pod["status"]["podIP"].as_str()?, port)?;
                Some(Pod { name: name.clone(), address, object: Value::clone(pod) })
            })
            .collect()
    }

    /// What a pod's process said, of all its restarts. Empty for a pod that never ran.
    #[must_use]
    pub fn pod_log(&self, namespace: &str, name: &str) -> String {
        fs::read_to_string(agent::pods_folder(self.path()).join(format!("{namespace}_{name}.log"))).unwrap_or_default()
    }

    /// Where requests enter. Envoy picks the upstream by the `host` header.
    ///
    /// # Panics
    /// If the cluster was started without a data plane.
    #[must_use]
    pub fn door(&self, door: Door) -> SocketAddr {
        self.mesh.as_ref().unwrap().door(door)
    }

    /// GET through a door.
    ///
    /// # Errors
    /// If there is no complete answer.
    pub fn request(&self, door: Door, host: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<http::Answer> {
        http::get_of_host(self.door(door), host, path, headers)
    }

    /// The data plane.
    ///
    /// # Panics
    /// If the cluster was started without one.
    #[must_use]
    pub fn mesh(&self) -> &mesh::Mesh {
        self.mesh.as_ref().unwrap()
    }

    /// Where Prometheus answers.
    ///
    /// # Panics
    /// If the cluster was started without one.
    #[must_use]
    pub fn prometheus(&self) -> &prometheus::Prometheus {
        self.prometheus.as_ref().unwrap()
    }

    /// Requests that the API server has answered since a line of the audit log (0 at first), and the line for the next time. The
    /// testbed's own requests and those of the cluster's controllers are not in it.
    #[must_use]
    pub fn audit(&self, from_line: usize) -> (Vec<AuditEntry>, usize) {
        audit::read(&self.path().join("audit.log"), from_line)
    }

    /// Whether the API server answers and finds its store.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.block_on(self.eyes.get("v1", "Namespace", "", "default")).is_ok()
    }

    /// Lets the API server stand still: connections stay open and nothing is answered.
    pub fn freeze_apiserver(&self) {
        self.plane().freeze_apiserver(true);
    }

    /// Lets it go on.
    pub fn thaw_apiserver(&self) {
        self.plane().freeze_apiserver(false);
    }

    /// Ends the API server and starts it anew at the same address; `is_crash` is SIGKILL.
    pub fn restart_apiserver(&self, is_crash: bool) {
        self.plane().restart_apiserver(is_crash);
    }

    /// Ends the API server, until [`Self::start_apiserver`].
    pub fn stop_apiserver(&self, is_crash: bool) {
        self.plane().stop_apiserver(is_crash);
    }

    /// Starts the API server again.
    pub fn start_apiserver(&self) {
        self.plane().start_apiserver();
    }

    /// Ends etcd and starts it anew on its data; `is_crash` is SIGKILL.
    pub fn restart_etcd(&self, is_crash: bool) {
        self.plane().restart_etcd(is_crash);
    }

    /// Lets the cluster's controllers (Deployments, `EndpointSlices`, …) stand still, or go on.
    pub fn freeze_controllers(&self, is_frozen: bool) {
        self.plane().freeze_controllers(is_frozen);
    }

    fn install_crds(&self) {
        let all: Vec<Value> = CRDS.iter().flat_map(|text| parse(text)).collect();
        for crd in &all {
            self.block_on(self.eyes.apply(crd, "testbed")).unwrap_or_else(|error| panic!("{error}"));
        }
        for crd in &all {
            let name = crd["metadata"]["name"].as_str().unwrap();
            self.until(name, || {
                let object = self.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name)?;
                let conditions = object["status"]["conditions"].as_array()?.clone();
                conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True").then_some(())
            });
        }
    }

    fn plane(&self) -> MutexGuard<'_, ControlPlane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }
}

/// A running pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Where its process listens: to be asked directly by the test.
    pub address: SocketAddr,
    /// The whole object.
    pub object: Value,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("folder", &self.path()).field("server", &self.server).finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.plane().freeze_apiserver(false);
            #[allow(clippy::print_stderr, reason = "shown with the test that fails")]
            {
                eprintln!("{}", self.diagnostics());
            }
        }
        self.prometheus = None;
        self.mesh = None;
        // The agent first, so that it does not restart what is killed; its processes are killed with it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The documents of a YAML text.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn parse(yaml: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    all.into_iter().filter(|document| !document.is_null()).collect()
}

fn agent_port(pod: &Value) -> Option<u16> {
    pod["spec"]["containers"][0]["ports"][0]["containerPort"].as_u64()?.try_into().ok()
}

/// On a thread of its own if this one belongs to a runtime already.
fn block_on<F: Future<Output: Send> + Send>(runtime: &Runtime, future: F) -> F::Output {
    if tokio::runtime::Handle::try_current().is_err() {
        return runtime.block_on(future);
    }
    std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join().unwrap())
}
