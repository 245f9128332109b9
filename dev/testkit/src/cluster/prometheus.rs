//! Prometheus over the cluster's pods and, if there is a data plane, Envoy.
//!
//! Debian's Prometheus knows no Kubernetes, so the targets are a file that is rewritten when pods change: running pods with the annotation
//! `prometheus.io/scrape: "true"` (`prometheus.io/port`, otherwise the first port; `prometheus.io/path`). Labels are those of the common
//! scrape configuration: `namespace`, `pod`, and the pod's own labels with `_` for what is not allowed.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, time::sleep};

use super::{daemon::Daemon, mirror::Mirror, net::PodNetwork};
use crate::{free_address, http};

/// How soon a new pod is known. Prometheus notices the file at once.
const LOOK: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    daemon: Daemon,
}

impl Prometheus {
    #[allow(clippy::too_many_arguments, reason = "one call, of parts that the cluster has")]
    pub(super) fn start(
        cluster: &Path,
        program: &Path,
        interval: Duration,
        runtime: &Runtime,
        pods: Mirror,
        network: Arc<PodNetwork>,
        envoy: Option<SocketAddr>,
    ) -> Self {
        let folder = cluster.join("prometheus");
        fs::create_dir_all(&folder).unwrap();
        let targets = folder.join("pods.json");
        write(&targets, &json!([]));
        let interval = format!("{}ms", interval.as_millis());
        let mut jobs = vec![json!({"job_name": "pods", "file_sd_configs": [{"files": [targets]}]})];
        jobs.extend(envoy.map(
            |envoy| json!({"job_name": "envoy", "metrics_path": "/stats/prometheus", "static_configs": [{"targets": [envoy.to_string()]}]}),
        ));
        let config = json!({
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "scrape_configs": jobs,
        });
        let file = folder.join("prometheus.yml");
        fs::write(&file, config.to_string()).unwrap();
        let address = free_address();
        let args = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ];
        let mut daemon = Daemon::start(cluster, "prometheus", program, &args);
        daemon.wait_ready("prometheus", || http::get(address, "/-/ready", &[]).is_ok_and(|answer| answer.status == 200));
        runtime.spawn(async move {
            let mut known = json!([]);
            loop {
                let now = find(&pods, &network);
                if now != known {
                    write(&targets, &now);
                    known = now;
                }
                sleep(LOOK).await;
            }
        });
        Self { address, daemon }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The answer to an instant query: `data.result`.
    ///
    /// # Panics
    /// If it is not answered.
    #[must_use]
    pub fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = http::get(self.address, &format!("/api/v1/query?query={encoded}"), &[]).unwrap();
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()));
        assert_eq!(value["status"], "success", "{value}");
        value["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Lets it stand still, or go on: connections stay open and nothing is answered.
    pub fn freeze(&self, is_frozen: bool) {
        self.daemon.signal(if is_frozen { Signal::STOP } else { Signal::CONT });
    }
}

fn find(pods: &Mirror, network: &PodNetwork) -> Value {
    let all = pods.all();
    all.iter().filter_map(|((namespace, name), pod)| target(namespace, name, pod, network)).collect()
}

fn target(namespace: &str, name: &str, pod: &Value, network: &PodNetwork) -> Option<Value> {
    let annotation = |name: &str| pod["metadata"]["annotations"][format!("prometheus.io/{name}")].as_str();
    if annotation("scrape") != Some("true") || pod["status"]["phase"] != "Running" {
        return None;
    }
    let port = annotation("port").and_then(|port| port.parse().ok()).or_else(|| super::agent_port(pod))?;
    let address = network.dial_text(pod["status"]["podIP"].as_str()?, port)?;
    let mut labels = json!({"namespace": namespace, "pod": name, "__metrics_path__": annotation("path").unwrap_or("/metrics")});
    for (key, value) in pod["metadata"]["labels"].as_object().into_iter().flatten() {
        labels[key.replace(|c: char| !c.is_ascii_alphanumeric(), "_")] = value.clone();
    }
    Some(json!({"targets": [address.to_string()], "labels": labels}))
}

fn write(file: &PathBuf, targets: &Value) {
    let beside = file.with_extension("next");
    let _ = fs::write(&beside, targets.to_string()).and_then(|()| fs::rename(&beside, file));
}
