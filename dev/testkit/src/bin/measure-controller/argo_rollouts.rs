//! The controller of Argo Rollouts: a `Rollout` with its own template per release, split by an Istio `VirtualService`, and judged by a background
//! analysis that asks Prometheus every 15 seconds.
//!
//! Its router for `HTTPRoutes` is a plugin that it downloads, so it writes weights into a `VirtualService`, which it knows by itself. Active
//! ones are in a pause without an end after the first weight. All its settings are its defaults.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use serde_json::{Value, json};
use serin_testkit::{cluster::Cluster, free_address};

use crate::{
    objects::{self, NAMESPACE},
    subject::{Built, Controller, Load, Subject, count, until},
};

/// Where it keeps its lease unless it is told.
const HOME: &str = "argo-rollouts";
const API: &str = "argoproj.io/v1alpha1";

/// With the role that it ships.
const ACCOUNT: &str = "
{apiVersion: v1, kind: ServiceAccount, metadata: {name: argo-rollouts, namespace: argo-rollouts}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: argo-rollouts}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: argo-rollouts}
subjects: [{kind: ServiceAccount, name: argo-rollouts, namespace: argo-rollouts}]
";

pub(crate) struct ArgoRollouts {
    built: Built,
    name: String,
}

impl ArgoRollouts {
    /// By the folder with its program, its version, and its manifests.
    pub(crate) fn at(folder: PathBuf) -> Result<Self, String> {
        let built = Built(folder);
        let name = format!("Argo Rollouts {}", built.version()?);
        Ok(Self { built, name })
    }
}

impl Subject for ArgoRollouts {
    fn name(&self) -> &str {
        &self.name
    }

    fn account(&self) -> &'static str {
        "system:serviceaccount:argo-rollouts:argo-rollouts"
    }

    fn begin(&self, cluster: &Cluster, load: Load) -> Result<Controller, String> {
        self.built.install(cluster)?;
        cluster.namespace(NAMESPACE);
        cluster.namespace(HOME);
        cluster.apply(ACCOUNT);
        cluster.try_apply(&template(&cluster.prometheus().url())).map_err(|error| error.to_string())?;
        objects::make(cluster, load.releases, |number| one(number, load.active));
        let mut command = Command::new(self.built.program("rollouts-controller"));
        let port = |name: &str| format!("--{name}={}", free_address().port());
        // The test cluster has no older version of the API of Istio.
        command.args([port("metricsPort"), port("healthzPort"), "--istio-api-version=v1".to_owned()]);
        let controller = Controller::start(cluster, command.env("KUBECONFIG", cluster.service_account(HOME, "argo-rollouts")));
        controller.until_all(self, cluster, Load { active: 0, ..load })?;
        until("a pod for each active release", || objects::ready(cluster, "arm=any").len() >= load.active)?;
        objects::request(&objects::ready(cluster, "arm=any"));
        until("scraped counters", || cluster.prometheus().query("http_requests_total").len() >= load.active)?;
        objects::make(cluster, load.active, |number| vec![rollout(&objects::name(number, load.active), "v2", 1)]);
        controller.until_all(self, cluster, load)?;
        objects::request(&objects::ready(cluster, "arm=any"));
        Ok(controller)
    }

    fn phases(&self, cluster: &Cluster, load: Load) -> (BTreeMap<String, usize>, bool) {
        let phases = count(cluster, API, "Rollout", |rollout| rollout["status"]["phase"].as_str().unwrap_or("none").to_owned());
        let of = |phase: &str| phases.get(phase).copied().unwrap_or(0);
        let is_so = of("Healthy") == load.releases - load.active && of("Paused") == load.active;
        (phases, is_so)
    }
}

fn one(number: usize, active: usize) -> Vec<Value> {
    let name = objects::name(number, active);
    let (stable, canary) = (format!("{name}-stable"), format!("{name}-canary"));
    vec![
        objects::service(&stable, &name),
        objects::service(&canary, &name),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"hosts": [format!("{name}.example")], "http": [{"name": "primary", "route": [
                {"destination": {"host": stable}, "weight": 100},
                {"destination": {"host": canary}, "weight": 0},
            ]}]},
        }),
        // Idle ones have no pods, as with Serin.
        rollout(&name, "v1", u8::from(number < active)),
    ]
}

fn rollout(name: &str, version: &str, replicas: u8) -> Value {
    let labels = json!({"app": name, "arm": "any"});
    json!({
        "apiVersion": API, "kind": "Rollout", "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"team": "bench"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": objects::template(&labels, version),
            "strategy": {"canary": {
                "stableService": format!("{name}-stable"),
                "canaryService": format!("{name}-canary"),
                "trafficRouting": {"istio": {"virtualService": {"name": name, "routes": ["primary"]}}},
                "analysis": {"templates": [{"templateName": "failures"}], "args": [{"name": "app", "value": name}]},
                "steps": [{"setWeight": 5}, {"pause": {}}, {"setWeight": 50}],
            }},
        },
    })
}

fn template(url: &str) -> Value {
    json!({
        "apiVersion": API, "kind": "AnalysisTemplate", "metadata": {"name": "failures", "namespace": NAMESPACE},
        "spec": {
            "args": [{"name": "app"}],
            "metrics": [{
                "name": "failures", "interval": "15s", "successCondition": "result[0] <= 0.05", "failureLimit": 3,
                "provider": {"prometheus": {"address": url, "query":
                    "(sum(http_requests_total{app=\"{{args.app}}\",code=\"500\"}) or vector(0)) / sum(http_requests_total{app=\"{{args.app}}\"})",
                }},
            }],
        },
    })
}
