//! Pairs that are no Deployments, and pairs in two namespaces, with requests that are counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod cluster;

use cluster::Shop;
use serde_json::{Value, json};
use serin_testkit::cluster::Door;

const HOST: &str = "vault.example";

/// A workload of any kind with its Service.
fn workload(kind: &str, namespace: &str, name: &str, version: &str, replicas: u32) -> String {
    let own = match kind {
        "StatefulSet" => format!("replicas: {replicas}\n  serviceName: {name}\n  podManagementPolicy: Parallel"),
        "DaemonSet" => "minReadySeconds: 0".to_owned(),
        _ => format!("replicas: {replicas}"),
    };
    format!(
        "
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  {own}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: app
        image: registry.example/sample-app:{version}
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /ready, port: http}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 2}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
"
    )
}

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: vault, namespace: shop}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [vault.example]
  rules: [{backendRefs: [{name: vault, port: 80}]}]
";

fn release(shop: &Shop, arms: &str, services: &str) {
    shop.cluster.apply(&format!(
        "
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: shop, namespace: shop}}
spec:
  workload: {{kubernetes: {{{arms}}}}}
  traffic: {{gatewayApi: {{route: vault, stableService: vault, {services}}}}}
  strategy: {{canary: {{stages: [{{weight: 50, hold: 2s, maxHold: 2s}}]}}}}
  analysis: {{onNoData: continue, onInconclusive: advance}}
"
    ));
}

/// Gives a workload another version.
fn new_version(shop: &Shop, kind: &str, namespace: &str, name: &str, version: &str) {
    let found = shop.cluster.get("apps/v1", kind, namespace, name).unwrap();
    let mut containers = found["spec"]["template"]["spec"]["containers"].clone();
    containers[0]["image"] = json!(format!("registry.example/sample-app:{version}"));
    shop.cluster.patch(("apps/v1", kind), namespace, name, &json!({"spec": {"template": {"spec": {"containers": containers}}}}));
}

fn image(object: &Value) -> &str {
    object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

fn serves(shop: &Shop, version: &str) {
    shop.until(&format!("{version} to serve"), |shop| (shop.ask_at(Door::Gateway, HOST, &[]).ok()? == version).then_some(()));
}

fn settled(shop: &Shop, run: u64, phase: &str) -> Value {
    shop.until(&format!("run {run}: {phase}"), |shop| {
        let status = shop.status();
        (status["run"] == run && status["phase"] == phase).then_some(status)
    })
}

/// A good release and one whose pods crash.
fn releases_of(test: &str, kind: &str, field: &str) {
    let Some(shop) = Shop::open_alone(test) else { return };
    let scales = kind == "StatefulSet";
    shop.cluster.apply(&workload(kind, "shop", "vault", "v1", 2));
    shop.cluster.apply(&workload(kind, "shop", "vault-canary", "v1", 0));
    shop.cluster.apply(ROUTE);
    serves(&shop, "v1");
    shop.controller();
    let traffic = shop.traffic_at(Door::Gateway, HOST);
    release(&shop, &format!("stable: {{{field}: vault}}, canary: {{{field}: vault-canary}}"), "canaryService: vault-canary");
    shop.until_phase("Idle");
    new_version(&shop, kind, "shop", "vault-canary", "v2");
    settled(&shop, 1, "Succeeded");
    let [stable, canary] = ["vault", "vault-canary"].map(|name| shop.get("apps/v1", kind, name));
    assert!(image(&stable).ends_with(":v2"), "{stable:#}");
    if scales {
        assert_eq!(canary["spec"]["replicas"], 0);
        assert_eq!(stable["spec"]["replicas"], 2);
    } else {
        // A DaemonSet is left where it is, without traffic.
        assert_eq!(canary["status"]["numberReady"], 1, "{canary:#}");
    }
    traffic.forget();
    shop.until("more requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
    assert_eq!(traffic.counts().keys().map(String::as_str).collect::<Vec<_>>(), ["v2"]);

    // Pods of the canary that crash are seen whatever runs them.
    let containers = canary["spec"]["template"]["spec"]["containers"].clone();
    let mut broken = containers.clone();
    broken[0]["command"] = json!(["/bin/false"]);
    let template = |containers: &Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
    shop.cluster.patch(("apps/v1", kind), "shop", "vault-canary", &template(&broken));
    let status = settled(&shop, 2, "RolledBack");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("crash loop") || reason.contains("vault-canary"), "{reason}");
    assert!(image(&shop.get("apps/v1", kind, "vault")).ends_with(":v2"));

    // Pods that would keep the old template are no way to release anything.
    let keep = json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}});
    shop.cluster.patch(("apps/v1", kind), "shop", "vault", &keep);
    let mut third = containers;
    third[0]["image"] = json!("registry.example/sample-app:v3");
    third[0]["command"] = Value::Null;
    shop.cluster.patch(("apps/v1", kind), "shop", "vault-canary", &template(&third));
    let status = settled(&shop, 3, "Refused");
    assert!(status["reason"].as_str().unwrap().contains("OnDelete"), "{status:#}");
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v2"], "{counts:?}");
}

#[test]
fn a_pair_of_stateful_sets() {
    releases_of("a_pair_of_stateful_sets", "StatefulSet", "statefulSet");
}

#[test]
fn a_pair_of_daemon_sets() {
    releases_of("a_pair_of_daemon_sets", "DaemonSet", "daemonSet");
}

#[test]
fn a_deployment_beside_a_daemon_set_in_another_namespace() {
    let Some(shop) = Shop::open_alone("a_deployment_beside_a_daemon_set_in_another_namespace") else { return };
    shop.cluster.namespace("trial");
    shop.cluster.apply(&workload("DaemonSet", "shop", "vault", "v1", 0));
    // The same name, and the same labels: nothing in another namespace selects them.
    shop.cluster.apply(&workload("Deployment", "trial", "vault", "v2", 0));
    shop.cluster.apply(ROUTE);
    serves(&shop, "v1");
    shop.controller();
    let traffic = shop.traffic_at(Door::Gateway, HOST);
    release(
        &shop,
        "stable: {daemonSet: vault}, canary: {deployment: vault, namespace: trial}",
        "canaryService: vault, canaryNamespace: trial",
    );
    // The route may not name the Service there yet.
    let status = settled(&shop, 1, "Refused");
    assert!(status["reason"].as_str().unwrap().contains("ReferenceGrant"), "{status:#}");
    shop.cluster.apply(
        "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: shop, namespace: trial}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: '', kind: Service, name: vault}]
",
    );
    let retry = json!({"id": "1", "action": "retry", "by": "ann"}).to_string();
    let patch = json!({"metadata": {"annotations": {"serin.dev/command": retry}}});
    shop.cluster.patch(("serin.dev/v1alpha1", "Release"), "shop", "shop", &patch);
    shop.until("requests of the new version", |_| (traffic.counts().get("v2").copied().unwrap_or(0) > 0).then_some(()));
    settled(&shop, 2, "Succeeded");
    assert!(image(&shop.get("apps/v1", "DaemonSet", "vault")).ends_with(":v2"));
    assert_eq!(shop.cluster.get("apps/v1", "Deployment", "trial", "vault").unwrap()["spec"]["replicas"], 0);
    serves(&shop, "v2");
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v1", "v2"], "{counts:?}");
}
