//! Serin's own controller, with a pair of Deployments per release, split by an `HTTPRoute`.

use std::{collections::BTreeMap, process::Command};

use serde_json::{Value, json};
use serin_testkit::cluster::{Cluster, parse};

use crate::{
    objects::{self, NAMESPACE},
    subject::{Controller, Load, Subject, count, is_established, until},
};

const CRD: &str = include_str!("../../../../../charts/serin/crds/releases.yaml");
const RBAC: &str = include_str!("../../../../../charts/serin/rbac.yaml");

/// By the path of the binary.
pub(crate) struct Serin(pub(crate) String);

impl Subject for Serin {
    fn name(&self) -> &'static str {
        "Serin"
    }

    fn account(&self) -> &'static str {
        "system:serviceaccount:serin:controller"
    }

    fn begin(&self, cluster: &Cluster, load: Load) -> Result<Controller, String> {
        install(cluster)?;
        let url = cluster.prometheus().url();
        objects::make(cluster, load.releases, |number| one(number, load.active, &url));
        until("a pod of stable for each active release", || objects::ready(cluster, "arm=stable").len() >= load.active)?;
        objects::request(&objects::ready(cluster, "arm=stable"));
        until("scraped counters", || cluster.prometheus().query("http_requests_total").len() >= load.active)?;
        let mut command = Command::new(&self.0);
        command.args(["controller", "--all-namespaces", "--lease-namespace=serin"]);
        let controller = Controller::start(cluster, command.env("KUBECONFIG", cluster.service_account("serin", "controller")));
        controller.until_all(self, cluster, load)?;
        objects::request(&objects::ready(cluster, "arm=canary"));
        Ok(controller)
    }

    fn phases(&self, cluster: &Cluster, load: Load) -> (BTreeMap<String, usize>, bool) {
        let phase = |release: &Value| release["status"]["phase"].as_str().unwrap_or("none").to_owned();
        let phases = count(cluster, "serin.dev/v1alpha1", "Release", phase);
        let of = |phase: &str| phases.get(phase).copied().unwrap_or(0);
        let is_so = of("Idle") == load.releases - load.active && of("Progressing") == load.active;
        (phases, is_so)
    }
}

/// The resource, and the controller's account with the role that ships.
fn install(cluster: &Cluster) -> Result<(), String> {
    cluster.apply(CRD);
    until("the resource", || is_established(cluster, "releases.serin.dev"))?;
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
    Ok(())
}

fn one(number: usize, active: usize, url: &str) -> Vec<Value> {
    let name = objects::name(number, active);
    let canary = format!("{name}-canary");
    let is_active = number < active;
    let labels = |app: &str, arm: &str| json!({"app": app, "arm": arm});
    let selector = |more: &str| format!("http_requests_total{{app=\"{{{{arm}}}}\"{more}}}");
    vec![
        // Idle ones have no pods: what the machine runs is not what is measured.
        objects::deployment(&name, &labels(&name, "stable"), "v1", u8::from(is_active)),
        objects::deployment(&canary, &labels(&canary, "canary"), if is_active { "v2" } else { "v1" }, 0),
        objects::service(&name, &name),
        objects::service(&canary, &canary),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "parentRefs": [{"name": "gateway"}], "hostnames": [format!("{name}.example")],
                "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [{"name": name, "port": 80}]}],
            },
        }),
        json!({
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
        }),
    ]
}
