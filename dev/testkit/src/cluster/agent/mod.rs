//! The node: a Node object with its Lease, and every pod that is bound to it as a local process.
//!
//! It is kubelet and scheduler in one: pods that fit are bound to the one node, others are told why not. Pods are followed by one mirror;
//! each has a task of its own (`pod`). Times that a kubelet counts in tens of seconds are shorter here ([`Settings`]).

mod pod;
mod probe;
mod schedule;
mod spec;
mod status;

pub use schedule::Capacity;
pub use spec::Images;

use std::{collections::BTreeMap, fs::OpenOptions, io::Write, path::PathBuf, sync::Arc, time::Duration};

use jiff::{Timestamp, Unit};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use super::{mirror::Mirror, net::PodNetwork, objects::Objects};
use pod::{Running, Wish};

/// The name of the node.
pub const NODE: &str = "testbed";

const LEASE_RENEWAL: Duration = Duration::from_secs(10);
/// Pods that did not fit are looked at again.
const RESCHEDULE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(100);

/// How the node differs from a real one.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What images stand for.
    pub images: Images,
    /// What the node has.
    pub capacity: Capacity,
    /// The pause before the second restart; the first has none, and each further one is twice as long. A kubelet: 10 s.
    pub crash_backoff: Duration,
    /// The longest pause. A kubelet: 300 s.
    pub crash_backoff_max: Duration,
    /// A process that ran for so long begins anew without a pause. A kubelet: 600 s.
    pub stable_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            images: Images::new(),
            capacity: Capacity::default(),
            crash_backoff: Duration::from_secs(1),
            crash_backoff_max: Duration::from_secs(10),
            stable_after: Duration::from_mins(1),
        }
    }
}

/// What all pods share.
pub(super) struct Node {
    objects: Objects,
    network: Arc<PodNetwork>,
    folder: PathBuf,
    settings: Settings,
}

struct Backoff {
    next: Duration,
    max: Duration,
    step: Duration,
}

impl Backoff {
    fn new(settings: &Settings) -> Self {
        Self { next: Duration::ZERO, max: settings.crash_backoff_max, step: settings.crash_backoff }
    }

    fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (2 * now).max(self.step).min(self.max);
        now
    }
}

impl Node {
    fn pods_folder(&self) -> PathBuf {
        pods_folder(&self.folder)
    }

    /// For the test's diagnostics.
    fn say(&self, line: &str) {
        if let Ok(mut log) = OpenOptions::new().create(true).append(true).open(self.folder.join("agent.log")) {
            let _ = writeln!(log, "{} {line}", now());
        }
    }
}

/// Where the logs of pods are: `NAMESPACE_NAME.log`.
pub(super) fn pods_folder(cluster: &std::path::Path) -> PathBuf {
    cluster.join("pods")
}

/// Runs the node until the runtime ends.
pub(super) async fn run(
    objects: Objects,
    network: Arc<PodNetwork>,
    folder: PathBuf,
    settings: Settings,
    pods: Mirror,
    mut changes: watch::Receiver<u64>,
) {
    let node = Arc::new(Node { objects, network, folder, settings });
    let _ = std::fs::create_dir_all(node.pods_folder());
    register(&node).await;
    tokio::spawn(renew_lease(Arc::clone(&node)));
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let all = pods.all();
        let has_waiting = schedule_all(&node, all.values()).await;
        follow(&node, &mut running, all.values());
        let again = async { if has_waiting { sleep(RESCHEDULE).await } else { std::future::pending().await } };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

/// Starts what is new here, and tells the others what is wished.
fn follow<'a>(node: &Arc<Node>, running: &mut BTreeMap<String, Running>, all: impl Iterator<Item = &'a Arc<Value>>) {
    let ours: BTreeMap<&str, &Arc<Value>> =
        all.filter(|pod| pod["spec"]["nodeName"] == NODE).filter_map(|pod| Some((pod["metadata"]["uid"].as_str()?, pod))).collect();
    for (uid, pod) in &ours {
        let is_over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let wish = if pod["metadata"]["deletionTimestamp"].is_null() {
            Wish::Run
        } else {
            Wish::End(pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(0))
        };
        match running.get(*uid) {
            Some(known) => drop(known.wish.send_if_modified(|old| std::mem::replace(old, wish.clone()) != wish)),
            None if is_over && wish == Wish::Run => {}
            None => {
                let started = pod::start(Arc::clone(node), Arc::clone(pod));
                started.wish.send_replace(wish);
                running.insert((*uid).to_owned(), started);
            }
        }
    }
    for (_, gone) in running.iter().filter(|(uid, _)| !ours.contains_key(uid.as_str())) {
        gone.wish.send_replace(Wish::Gone);
    }
    running.retain(|uid, pod| ours.contains_key(uid.as_str()) || !pod.task.is_finished());
}

/// Binds what fits and says why the others do not. Whether any is waiting.
async fn schedule_all<'a>(node: &Node, all: impl Iterator<Item = &'a Arc<Value>>) -> bool {
    let all: Vec<&Value> = all.map(Arc::as_ref).collect();
    let is_active = |pod: &&Value| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let mut bound: Vec<&Value> = all.iter().copied().filter(|pod| !pod["spec"]["nodeName"].is_null()).filter(is_active).collect();
    let wants = |pod: &&Value| pod["spec"]["nodeName"].is_null() && pod["metadata"]["deletionTimestamp"].is_null();
    let mut has_waiting = false;
    for pod in all.iter().copied().filter(wants).filter(|pod| pod["spec"]["schedulerName"] == "default-scheduler") {
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        if let Some(obstacle) = schedule::obstacle(pod, NODE, &bound, &node.settings.capacity) {
            has_waiting = true;
            let is_told = spec::list(&pod["status"]["conditions"]).iter().any(|condition| condition["message"] == obstacle.as_str());
            if !is_told {
                let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": obstacle, "lastTransitionTime": now()});
                let status = json!({"status": {"phase": "Pending", "conditions": [condition]}});
                let _ = node.objects.merge(("v1", "Pod/status"), namespace, name, &status).await;
            }
            continue;
        }
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "uid": pod["metadata"]["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
        match node.objects.send("POST", &path, "application/json", &binding).await {
            Ok(_) => bound.push(pod),
            // Bound already (the mirror is behind), or gone.
            Err(error) if matches!(error.code(), 404 | 409) => {}
            Err(error) => {
                node.say(&error.to_string());
                has_waiting = true;
            }
        }
    }
    has_waiting
}

async fn register(node: &Node) {
    let capacity = &node.settings.capacity;
    let amounts = json!({
        "cpu": format!("{}m", capacity.cpu_milli), "memory": capacity.memory_bytes.to_string(), "pods": capacity.pods.to_string(),
    });
    let mut labels = json!({"kubernetes.io/hostname": NODE});
    for (name, value) in schedule::LABELS {
        labels[name] = value.into();
    }
    let at = now();
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Testbed", "lastHeartbeatTime": at, "lastTransitionTime": at});
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}, "spec": {}});
    let status = json!({"status": {
        "capacity": amounts, "allocatable": amounts,
        "addresses": [{"type": "InternalIP", "address": node.network.node().to_string()}, {"type": "Hostname", "address": NODE}],
        "conditions": [condition("Ready", "True"), condition("MemoryPressure", "False"), condition("DiskPressure", "False")],
        "nodeInfo": {
            "architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "v1.36.3", "kubeProxyVersion": "", "bootID": "", "machineID": "",
            "systemUUID": "", "kernelVersion": "", "osImage": "testbed", "containerRuntimeVersion": "process://1",
        },
    }});
    // The API server marks new nodes as not ready until somebody removes that.
    let clear = json!({"spec": {"taints": null}});
    loop {
        let registered = async {
            let nodes = node.objects.send("POST", "/api/v1/nodes", "application/json", &object).await;
            if let Err(error) = nodes
                && error.code() != 409
            {
                return Err(error);
            }
            node.objects.merge(("v1", "Node/status"), "", NODE, &status).await?;
            node.objects.merge(("v1", "Node"), "", NODE, &clear).await
        };
        match registered.await {
            Ok(_) => return,
            Err(error) => node.say(&error.to_string()),
        }
        sleep(RETRY).await;
    }
}

async fn renew_lease(node: Arc<Node>) {
    loop {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": micros()},
        });
        let renewed = node.objects.apply(&lease, "testbed").await;
        sleep(if renewed.is_ok() { LEASE_RENEWAL } else { RETRY }).await;
    }
}

/// Now, as the API writes times.
pub(super) fn now() -> String {
    Timestamp::now().round(Unit::Second).unwrap_or_default().to_string()
}

fn micros() -> String {
    format!("{:.6}", Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_wait() {
        let settings = Settings { crash_backoff: Duration::from_secs(1), crash_backoff_max: Duration::from_secs(3), ..Settings::default() };
        let mut backoff = Backoff::new(&settings);
        let pauses: Vec<u64> = (0..5).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 3, 3]);
    }
}
