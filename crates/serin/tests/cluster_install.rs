//! What is shipped to be installed: the plain manifests, under which the controller runs here, and the chart, which must say the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod cluster;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use cluster::{SERIN, Shop};
use serde_json::{Value, json};
use serin_testkit::cluster::{Cluster, Options, helm_or_leave_out, parse};

const MANIFESTS: &str = include_str!("../../../packaging/kubernetes/serin.yaml");
const ACCOUNT: &str = "serin-controller";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/serin")
}

/// Waits until the controllers have seen a release of another version to its end.
fn releases(shop: &Shop) {
    shop.release("{weight: 50, hold: 1s, maxHold: 1s, minRequests: 1}", "");
    shop.until_phase("Idle");
    shop.new_version("v2");
    shop.until_phase("Succeeded");
    let image = &shop.get("apps/v1", "Deployment", "shop")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.example/sample-app:v2");
}

#[test]
fn the_controller_runs_under_the_plain_manifests() {
    let test = "the_controller_runs_under_the_plain_manifests";
    let Some(shop) = Shop::open_with(test, Options::default().image("serin", &[SERIN])) else { return };
    for mut object in parse(MANIFESTS) {
        if object["kind"] == "Deployment" {
            // Pods of the test cluster are processes: what a kubelet would mount is handed over by a variable.
            let kubeconfig = shop.cluster.service_account("serin", ACCOUNT);
            let env = object.pointer_mut("/spec/template/spec/containers/0/env").and_then(Value::as_array_mut).unwrap();
            env.push(json!({"name": "KUBECONFIG", "value": kubeconfig}));
        }
        shop.cluster.try_apply(&object).unwrap_or_else(|error| panic!("{error}\n{object:#}"));
    }
    // Pods that are refused by the strictest of the standards for their security would never be there.
    let namespace = shop.cluster.get("v1", "Namespace", "", "serin").unwrap();
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    shop.cluster.wait_available("serin", ACCOUNT);
    let lease = shop.cluster.until("a leader", || {
        let lease = shop.cluster.get("coordination.k8s.io/v1", "Lease", "serin", ACCOUNT)?;
        lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty()).map(str::to_owned)
    });
    releases(&shop);

    // Whoever did it had the shipped roles alone, and nothing was refused to it.
    let user = format!("system:serviceaccount:serin:{ACCOUNT}");
    let (entries, _) = shop.cluster.audit(0);
    let own: Vec<_> = entries.iter().filter(|entry| entry.user == user).collect();
    assert!(own.iter().any(|entry| entry.resource == "httproutes" && entry.verb == "patch"), "{lease}");
    let refused: Vec<_> = own.iter().filter(|entry| entry.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

fn rendered(helm: &Path, namespace: &str, set: &[&str]) -> Vec<Value> {
    let mut command = Command::new(helm);
    command.args(["template", "serin"]).arg(chart()).args(["--namespace", namespace, "--include-crds"]);
    command.args(set.iter().flat_map(|one| ["--set", one]));
    // It looks for plugins, caches and clusters of whoever runs the test.
    let out = command.env_clear().env("HOME", "/nonexistent").output().unwrap();
    assert!(out.status.success(), "{set:?}: {}", String::from_utf8_lossy(&out.stderr));
    parse(&String::from_utf8_lossy(&out.stdout)).into_iter().filter(|object| !object.is_null()).collect()
}

/// Without the labels that only helm has.
fn plain(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"] {
                fields.remove(name);
            }
            fields.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let named = objects.into_iter().map(|mut object| {
        plain(&mut object);
        (format!("{} {}", object["kind"], object["metadata"]["name"]), object)
    });
    named.filter(|(_, object)| object["kind"] != "Namespace").collect()
}

#[test]
fn the_chart_says_what_the_manifests_say() {
    let Some(helm) = helm_or_leave_out("the_chart_says_what_the_manifests_say") else { return };
    let (chart, manifests) = (by_name(rendered(&helm, "serin", &[])), by_name(parse(MANIFESTS)));
    assert_eq!(chart.keys().collect::<Vec<_>>(), manifests.keys().collect::<Vec<_>>());
    for (name, object) in &manifests {
        assert_eq!(&chart[name], object, "{name}");
    }

    // In one namespace there is no right beyond it.
    let narrow = rendered(&helm, "serin", &["watchNamespace=shop"]);
    assert!(narrow.iter().all(|object| !object["kind"].as_str().unwrap().starts_with("ClusterRole")));
    let role = narrow.iter().find(|object| object["kind"] == "Role" && object["metadata"]["namespace"] == "shop").unwrap();
    assert_eq!(role["rules"], manifests["\"ClusterRole\" \"serin-controller\""]["rules"]);
    let deployment = narrow.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let args = deployment.pointer("/spec/template/spec/containers/0/args").unwrap().to_string();
    assert!(args.contains("--namespace=shop") && !args.contains("--all-namespaces"), "{args}");
}

#[test]
fn the_server_takes_the_chart_with_every_value() {
    let test = "the_server_takes_the_chart_with_every_value";
    let Some(helm) = helm_or_leave_out(test) else { return };
    let Some(cluster) = Cluster::start_or_leave_out(test, &Options { has_mesh: false, has_crds: false, ..Options::default() }) else {
        return;
    };
    for namespace in ["serin", "shop", "own"] {
        cluster.namespace(namespace);
    }
    let every = [
        "replicas=0",
        "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "image.pullPolicy=Always",
        "imagePullSecrets[0].name=registry",
        "watchNamespace=shop",
        "lease.duration=30s",
        "log=debug",
        "metrics.enabled=true,metrics.port=9470,metrics.tokenSecret.name=token,metrics.tokenSecret.key=it",
        "metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.interval=15s,metrics.serviceMonitor.labels.release=prometheus",
        "extraArgs[0]=--lease-name=other",
        "extraEnv[0].name=HTTPS_PROXY,extraEnv[0].value=http://proxy:3128",
        "rbac.extraRules[0].apiGroups[0]=projectcontour.io,rbac.extraRules[0].resources[0]=httpproxies,rbac.extraRules[0].verbs[0]=patch",
        "serviceAccount.name=other",
        "serviceAccount.annotations.team=shop",
        "resources.limits.cpu=1",
        "podAnnotations.team=shop",
        "podLabels.team=shop",
        "nodeSelector.disk=ssd",
        "tolerations[0].operator=Exists",
        "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1,affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey=zone",
        "priorityClassName=system-cluster-critical",
    ];
    for (namespace, set) in [("serin", &["replicas=0"][..]), ("own", &every[..])] {
        // The test cluster has no operator that knows ServiceMonitors.
        for object in rendered(&helm, namespace, set).into_iter().filter(|object| object["kind"] != "ServiceMonitor") {
            cluster.try_apply(&object).unwrap_or_else(|error| panic!("{error}\n{object:#}"));
        }
    }
    let made = cluster.get("apps/v1", "Deployment", "own", ACCOUNT).unwrap();
    let pod = &made["spec"]["template"]["spec"];
    assert_eq!((&pod["serviceAccountName"], &pod["priorityClassName"]), (&json!("other"), &json!("system-cluster-critical")));
    assert_eq!(
        pod["containers"][0]["args"],
        json!([
            "controller",
            "--namespace=shop",
            "--lease-namespace=own",
            "--lease-duration=30s",
            "--metrics-listen=0.0.0.0:9470",
            "--metrics-token-file=/etc/serin/metrics/token",
            "--lease-name=other",
        ])
    );
    assert!(pod["containers"][0]["image"].as_str().unwrap().contains("@sha256:"));
    let rules = cluster.get("rbac.authorization.k8s.io/v1", "Role", "shop", ACCOUNT).unwrap()["rules"].clone();
    assert_eq!(rules.as_array().unwrap().last().unwrap()["resources"], json!(["httpproxies"]));
    // Off is off.
    let off = rendered(&helm, "own", &["rbac.create=false", "serviceAccount.create=false", "podDisruptionBudget.enabled=false"]);
    let kinds = off.iter().map(|object| object["kind"].as_str().unwrap());
    assert_eq!(kinds.filter(|kind| *kind != "CustomResourceDefinition").collect::<Vec<_>>(), ["Deployment"]);
}

#[test]
fn every_value_of_the_chart_is_used_and_none_else() {
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values = parse(&text).remove(0);
    let templates: String =
        std::fs::read_dir(chart().join("templates")).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let mut paths = Vec::new();
    leaves(&values, ".Values", &mut paths);
    for path in &paths {
        let is_used = path.match_indices('.').skip(2).map(|(at, _)| &path[..at]).chain([path.as_str()]).any(|part| names(&templates, part));
        assert!(is_used, "{path} is in no template");
    }
    for used in templates.split(".Values.").skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '.').next().unwrap()) {
        let at = format!("/{}", used.trim_end_matches('.').replace('.', "/"));
        assert!(values.pointer(&at).is_some(), ".Values.{used} is not in values.yaml");
    }
}

fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => fields.iter().for_each(|(name, value)| leaves(value, &format!("{at}.{name}"), found)),
        None => found.push(at.to_owned()),
    }
}

/// Whether the text has the path as a whole.
fn names(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| !text[at + path.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '.'))
}
