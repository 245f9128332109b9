//! What every controller is measured with: Deployments of one size, Services, and a way to make a great many of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use serin_testkit::{
    cluster::{Cluster, Pod},
    http,
};

/// Where they all are.
pub(crate) const NAMESPACE: &str = "bench";
/// How names of active releases and of their objects begin.
pub(crate) const ACTIVE: &str = "active-";
const IDLE: &str = "idle-";
/// Requests to the API server at the same time.
const AT_ONCE: usize = 8;

/// So many releases, each with the objects that `of` says.
pub(crate) fn make(cluster: &Cluster, count: usize, of: impl Fn(usize) -> Vec<Value> + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    for object in of(number) {
                        cluster.try_apply(&object).unwrap_or_else(|error| panic!("{error}"));
                    }
                }
            });
        }
    });
}

/// The name of a release.
pub(crate) fn name(number: usize, active: usize) -> String {
    format!("{}{number}", if number < active { ACTIVE } else { IDLE })
}

pub(crate) fn service(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    })
}

pub(crate) fn deployment(name: &str, labels: &Value, version: &str, replicas: u8) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"team": "bench"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template(labels, version)},
    })
}

/// As large as templates are.
pub(crate) fn template(labels: &Value, version: &str) -> Value {
    let variables: Vec<Value> =
        (0..20).map(|number| json!({"name": format!("SETTING_{number}"), "value": format!("value of setting {number}")})).collect();
    json!({
        "metadata": {"labels": labels, "annotations": {"prometheus.io/scrape": "true"}},
        "spec": {"containers": [{
            "name": "app", "image": format!("registry.example/sample-app:{version}"), "env": variables,
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        }]},
    })
}

/// Pods that are ready, of active releases alone: no others have any.
pub(crate) fn ready(cluster: &Cluster, label: &str) -> Vec<Pod> {
    let is_ready = |pod: &Pod| pod.object["status"]["containerStatuses"][0]["ready"] == true;
    cluster.pods(NAMESPACE, label).into_iter().filter(is_ready).collect()
}

/// One request for each pod: counters are there from the first one on.
pub(crate) fn request(pods: &[Pod]) {
    pods.iter().for_each(|pod| drop(http::get(pod.address, "/", &[])));
}
