//! What a cluster with many releases has.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use serin_testkit::cluster::{Cluster, parse};

/// Where they all are.
pub(crate) const NAMESPACE: &str = "bench";
/// How names of active releases and of their objects begin.
pub(crate) const ACTIVE: &str = "active-";
const IDLE: &str = "idle-";
/// Requests to the API server at the same time.
const AT_ONCE: usize = 8;

const CRD: &str = include_str!("../../../../../charts/serin/crds/releases.yaml");
const RBAC: &str = include_str!("../../../../../charts/serin/rbac.yaml");

/// The resource, and the controller's account with the role that ships.
pub(crate) fn install(cluster: &Cluster) {
    cluster.apply(CRD);
    cluster.until("the resource", || {
        let crd = cluster.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "releases.serin.dev")?;
        let conditions = crd["status"]["conditions"].as_array()?.clone();
        conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True").then_some(())
    });
    cluster.namespace(NAMESPACE);
    cluster.namespace("serin");
    for mut role in parse(RBAC) {
        if role["kind"] == "Role" {
            role["metadata"]["namespace"] = json!("serin");
        }
        cluster.try_apply(&role).unwrap();
    }
    cluster.apply(
        "
{apiVersion: v1, kind: ServiceAccount, metadata: {name: controller, namespace: serin}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: serin-controller}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: serin-controller}
subjects: [{kind: ServiceAccount, name: controller, namespace: serin}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: serin-controller-lease, namespace: serin}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: serin-controller-lease}
subjects: [{kind: ServiceAccount, name: controller, namespace: serin}]
",
    );
}

/// So many releases with all that each of them needs; the first `active` of them have something to do.
pub(crate) fn make(cluster: &Cluster, releases: usize, active: usize) {
    let next = AtomicUsize::new(0);
    let url = cluster.prometheus().url();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= releases {
                        return;
                    }
                    for object in one(number, number < active, &url) {
                        cluster.try_apply(&object).unwrap_or_else(|error| panic!("{error}"));
                    }
                }
            });
        }
    });
}

fn one(number: usize, is_active: bool, url: &str) -> Vec<Value> {
    let name = format!("{}{number}", if is_active { ACTIVE } else { IDLE });
    let canary = format!("{name}-canary");
    // Idle ones have no pods: what the machine runs is not what is measured.
    let replicas = u8::from(is_active);
    let mut objects =
        vec![deployment(&name, "stable", "v1", replicas), deployment(&canary, "canary", if is_active { "v2" } else { "v1" }, 0)];
    for service in [&name, &canary] {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": service, "namespace": NAMESPACE},
            "spec": {"selector": {"app": service}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }));
    }
    objects.push(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"name": "gateway"}], "hostnames": [format!("{name}.example")],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [{"name": name, "port": 80}]}],
        },
    }));
    let selector = |more: &str| format!("http_requests_total{{app=\"{{{{arm}}}}\"{more}}}");
    objects.push(json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Release", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "workload": {"kubernetes": {"stable": {"deployment": name}, "canary": {"deployment": canary}}},
            "traffic": {"gatewayApi": {"route": name, "stableService": name, "canaryService": canary}},
            "strategy": {"canary": {"stages": [{"weight": 5, "hold": "12h", "minRequests": 1000}, {"weight": 50, "hold": "12h"}], "bake": "1h"}},
            "analysis": {
                "interval": "15s",
                "sources": {"prom": {"prometheus": {"url": url, "timeout": "5s"}}},
                "arms": {"stable": name, "canary": canary},
                "metrics": [{"name": "failures", "prometheus": {
                    "source": "prom", "numerator": selector(",code=\"500\""), "denominator": selector(""),
                }}],
                "criteria": [{"metric": "failures", "max": "5%", "versusStable": {"ratio": 1.5, "increase": "0.5pp"}}],
            },
        },
    }));
    objects
}

/// As large as Deployments are.
fn deployment(name: &str, arm: &str, version: &str, replicas: u8) -> Value {
    let variables: Vec<Value> =
        (0..20).map(|number| json!({"name": format!("SETTING_{number}"), "value": format!("value of setting {number}")})).collect();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"team": "bench"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name, "arm": arm}},
            "template": {
                "metadata": {"labels": {"app": name, "arm": arm}, "annotations": {"prometheus.io/scrape": "true"}},
                "spec": {"containers": [{
                    "name": "app", "image": format!("registry.example/sample-app:{version}"), "env": variables,
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                }]},
            },
        },
    })
}
