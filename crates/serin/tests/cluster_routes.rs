//! A cluster of real parts: pods that serve, routes that split, and what happens when its servers fail.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use serin_testkit::{
    Over,
    cluster::{Cluster, Door, Options, mesh},
};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn app(name: &str, version: &str, replicas: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}, version: {version}}}
      annotations: {{prometheus.io/scrape: 'true'}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: app
        image: registry.example/sample-app:{version}
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /ready, port: http}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 1}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
"
    )
}

fn route(stable: u32, canary: u32) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
spec:
  parentRefs: [{{name: gateway}}]
  hostnames: [shop.example]
  rules:
  - matches: [{{headers: [{{name: x-canary, value: 'true'}}]}}]
    backendRefs: [{{name: canary, port: 80}}]
  - backendRefs: [{{name: stable, port: 80, weight: {stable}}}, {{name: canary, port: 80, weight: {canary}}}]
"
    )
}

fn start(test: &str, options: Options) -> Option<Cluster> {
    let cluster = Cluster::start_or_leave_out(test, &options.sample_app(SERIN))?;
    cluster.namespace("shop");
    Some(cluster)
}

/// Answers by version; anything but 200 counts as its status.
fn count(cluster: &Cluster, door: Door, host: &str, headers: &[(&str, &str)], requests: u32) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let what = match cluster.request(door, host, "/", headers) {
            Ok(answer) if answer.status == 200 => answer.version().to_owned(),
            Ok(answer) => answer.status.to_string(),
            Err(error) => error.to_string(),
        };
        *counts.entry(what).or_insert(0) += 1;
    }
    counts
}

/// Until all of some requests are answered so.
fn serves(cluster: &Cluster, door: Door, host: &str, headers: &[(&str, &str)], version: &str) {
    cluster.until(&format!("{version} at {host}"), || {
        let counts = count(cluster, door, host, headers, 5);
        (counts.len() == 1 && counts.contains_key(version)).then_some(())
    });
}

/// Whether the share is the weight, by five standard deviations.
fn assert_share(counts: &BTreeMap<String, u32>, version: &str, share: f64) {
    let total = f64::from(counts.values().sum::<u32>());
    let got = f64::from(counts.get(version).copied().unwrap_or(0)) / total;
    let error = (share * (1.0 - share) / total).sqrt();
    assert!((got - share).abs() <= 5.0 * error, "{version}: {got} of {total}, expected {share}: {counts:?}");
}

#[test]
fn requests_flow_from_a_deployment_through_a_route() {
    let Some(cluster) = start("requests_flow_from_a_deployment_through_a_route", Options::default()) else { return };
    cluster.apply(&app("stable", "v1", 3));
    cluster.apply(&app("canary", "v2", 1));
    cluster.wait_available("shop", "stable");
    cluster.wait_available("shop", "canary");
    cluster.apply(&route(80, 20));
    serves(&cluster, Door::Gateway, "shop.example", &[("x-canary", "true")], "v2");
    serves(&cluster, Door::Mesh, "stable.shop", &[], "v1");
    let counts = count(&cluster, Door::Gateway, "shop.example", &[], 500);
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v1", "v2"], "{counts:?}");
    assert_share(&counts, "v2", 0.2);

    // The status says which generation is live, and a held data plane says nothing.
    let accepted = |generation: &Value| {
        let route = cluster.get("gateway.networking.k8s.io/v1", "HTTPRoute", "shop", "web").unwrap();
        let conditions = route["status"]["parents"][0]["conditions"].as_array().cloned().unwrap_or_default();
        let is_true = |condition: &Value| condition["status"] == "True" && condition["observedGeneration"] == *generation;
        (conditions.len() == 2 && conditions.iter().all(is_true)).then_some(())
    };
    let generation = |object: &Value| object["metadata"]["generation"].clone();
    let first = cluster.get("gateway.networking.k8s.io/v1", "HTTPRoute", "shop", "web").unwrap();
    cluster.until("acceptance", || accepted(&generation(&first)));
    cluster.mesh().hold(mesh::Held { routes: true, status: true });
    let second = cluster.try_apply(&serin_testkit::cluster::parse(&route(0, 100))[0]).unwrap();
    assert_ne!(generation(&first), generation(&second));
    assert!(count(&cluster, Door::Gateway, "shop.example", &[], 60).contains_key("v1"));
    assert!(accepted(&generation(&second)).is_none());
    cluster.mesh().hold(mesh::Held::default());
    cluster.until("acceptance of the change", || accepted(&generation(&second)));
    assert_eq!(count(&cluster, Door::Gateway, "shop.example", &[], 50), [("v2".to_owned(), 50)].into());
}

#[test]
fn pods_that_cannot_run_say_why_and_crashes_are_counted() {
    let Some(cluster) = start("pods_that_cannot_run_say_why_and_crashes_are_counted", Options { has_mesh: false, ..Options::default() })
    else {
        return;
    };
    let with = |name: &str, change: Value| {
        let mut deployment = serin_testkit::cluster::parse(&app(name, "v1", 1))[0].clone();
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        for (field, value) in change.as_object().unwrap() {
            container[field] = value.clone();
        }
        cluster.try_apply(&deployment).unwrap();
    };
    with("crashing", json!({"command": [SERIN, "sample-app", "--host=$(POD_IP)", "--port=8080", "--crash-after=300ms"]}));
    with("no-image", json!({"image": "missing/app:v1"}));
    with("too-big", json!({"resources": {"requests": {"cpu": "1000"}}}));
    with("never-ready", json!({"args": ["--never-ready"]}));
    with(
        "unhealthy",
        json!({"livenessProbe": {"httpGet": {"path": "/status/500", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}}),
    );
    let pod = |app: &str| cluster.list("v1", "Pod", "shop").into_iter().find(|pod| pod["metadata"]["labels"]["app"] == app);
    let state = |app: &str| Some(pod(app)?["status"]["containerStatuses"][0].clone());
    cluster.until("a crash loop", || {
        let status = state("crashing")?;
        let is_looping = status["state"]["waiting"]["reason"] == "CrashLoopBackOff" && status["restartCount"].as_u64()? >= 2;
        (is_looping && status["lastState"]["terminated"]["exitCode"] == 70).then_some(())
    });
    cluster
        .until("an image that cannot be pulled", || (state("no-image")?["state"]["waiting"]["reason"] == "ImagePullBackOff").then_some(()));
    cluster.until("a pod that does not fit", || {
        let conditions = pod("too-big")?["status"]["conditions"].as_array()?.clone();
        conditions.iter().any(|condition| condition["reason"] == "Unschedulable").then_some(())
    });
    cluster.until("a restart by the liveness probe", || (state("unhealthy")?["restartCount"].as_u64()? >= 1).then_some(()));
    let status = cluster.until("a running pod", || state("never-ready").filter(|status| status["state"]["running"].is_object()));
    assert_eq!(status["ready"], false);
    assert!(cluster.pod_log("shop", pod("never-ready").unwrap()["metadata"]["name"].as_str().unwrap()).contains("listens on"));

    // Out of memory, as the kernel would end it.
    let victim = cluster.until("an address", || cluster.pods("shop", "app=never-ready").pop());
    let pid = serin_testkit::processes::mentioning(cluster.path())
        .into_iter()
        .find(|process| process.command.contains(&format!("--host={}", victim.address.ip())))
        .unwrap();
    serin_testkit::processes::signal(pid.pid, rustix::process::Signal::KILL);
    cluster.until("the end by SIGKILL", || (state("never-ready")?["lastState"]["terminated"]["reason"] == "OOMKilled").then_some(()));

    // Deletion ends the process and then the object.
    cluster.delete("apps/v1", "Deployment", "shop", "never-ready");
    cluster.until("the pod to go", || pod("never-ready").is_none().then_some(()));
    let left = serin_testkit::processes::mentioning(cluster.path());
    assert!(!left.iter().any(|process| process.command.contains("--never-ready")), "{left:#?}");
}

#[test]
fn a_rolling_update_loses_no_request_and_servers_may_fail() {
    let Some(cluster) = start("a_rolling_update_loses_no_request_and_servers_may_fail", Options::default()) else { return };
    cluster.apply(&app("stable", "v1", 2));
    cluster.wait_available("shop", "stable");
    serves(&cluster, Door::Mesh, "stable.shop", &[], "v1");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let lost = std::thread::scope(|scope| {
        let over = Over(&is_over);
        let traffic = scope.spawn(|| {
            let mut all = BTreeMap::new();
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                for (what, number) in count(&cluster, Door::Mesh, "stable.shop", &[], 20) {
                    *all.entry(what).or_insert(0) += number;
                }
            }
            all
        });
        cluster.freeze_apiserver();
        let frozen = Instant::now();
        assert!(count(&cluster, Door::Mesh, "stable.shop", &[], 50).contains_key("v1"));
        assert!(frozen.elapsed() < Duration::from_secs(60));
        cluster.thaw_apiserver();
        cluster.apply(&app("stable", "v2", 2));
        cluster.wait_available("shop", "stable");
        serves(&cluster, Door::Mesh, "stable.shop", &[], "v2");
        cluster.restart_apiserver(true);
        cluster.restart_etcd(true);
        cluster.apply(&app("stable", "v3", 2));
        cluster.wait_available("shop", "stable");
        serves(&cluster, Door::Mesh, "stable.shop", &[], "v3");
        drop(over);
        traffic.join().unwrap()
    });
    assert_eq!(lost.keys().map(String::as_str).collect::<Vec<_>>(), ["v1", "v2", "v3"], "{lost:?}");
}

#[test]
fn istio_and_ingress_nginx_routes_split_too_and_pods_are_scraped() {
    let options = Options { scrape_interval: Some(Duration::from_millis(500)), ..Options::default() };
    let Some(cluster) = start("istio_and_ingress_nginx_routes_split_too_and_pods_are_scraped", options) else { return };
    cluster.apply(&app("stable", "v1", 1));
    cluster.apply(&app("canary", "v2", 1));
    cluster.apply(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [shop.example]
  http:
  - match: [{sourceLabels: {region: eu}}]
    route: [{destination: {host: canary}}]
  - route: [{destination: {host: stable}, weight: 70}, {destination: {host: canary}, weight: 30}]
",
    );
    let ingress = |name: &str, service: &str, annotations: &str| {
        format!(
            "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: shop, annotations: {{{annotations}}}}}
spec:
  ingressClassName: nginx
  rules: [{{host: shop.example, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}]
"
        )
    };
    let canary = "nginx.ingress.kubernetes.io/canary";
    cluster.apply(&ingress("main", "stable", ""));
    cluster.apply(&ingress("canary", "canary", &format!("{canary}: 'true', {canary}-weight: '40', {canary}-by-header: x-canary")));
    cluster.wait_available("shop", "stable");
    cluster.wait_available("shop", "canary");
    serves(&cluster, Door::Mesh, "shop.example", &[(mesh::SOURCE_LABELS, "app=a,region=eu")], "v2");
    serves(&cluster, Door::Nginx, "shop.example", &[("x-canary", "never")], "v1");
    serves(&cluster, Door::Nginx, "shop.example", &[("x-canary", "always")], "v2");
    assert_share(&count(&cluster, Door::Mesh, "shop.example", &[], 400), "v2", 0.3);
    assert_share(&count(&cluster, Door::Nginx, "shop.example", &[], 400), "v2", 0.4);
    cluster.until("scraped counters of both", || {
        let found = cluster.prometheus().query("sum by (version) (http_requests_total)");
        (found.len() == 2).then_some(())
    });
}

#[test]
fn users_may_what_their_roles_say_and_the_audit_log_tells() {
    let Some(cluster) = start("users_may_what_their_roles_say_and_the_audit_log_tells", Options { has_mesh: false, ..Options::default() })
    else {
        return;
    };
    let account = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: controller, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: controller}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: controller}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: controller}
subjects: [{kind: ServiceAccount, name: controller, namespace: shop}]
";
    cluster.apply(account);
    let (_, mark) = cluster.audit(0);
    let client = cluster.client(&cluster.service_account("shop", "controller"));
    let create = |path: &str, body: &str| {
        let request = ::http::Request::post(path).header("content-type", "application/json").body(body.as_bytes().to_vec()).unwrap();
        cluster.block_on(client.request::<Value>(request)).map(drop).map_err(|error| error.to_string())
    };
    let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"mine"},"data":{"a":"b"}}"#;
    cluster.until("the role to count", || create("/api/v1/namespaces/shop/configmaps", map).ok());
    assert!(
        create("/api/v1/namespaces/shop/secrets", r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}"#)
            .unwrap_err()
            .contains("forbidden")
    );
    let (entries, _) = cluster.audit(mark);
    let ours: Vec<_> = entries.iter().filter(|entry| entry.user == "system:serviceaccount:shop:controller").collect();
    let made = ours.iter().find(|entry| entry.code == 201).unwrap();
    assert_eq!((made.verb.as_str(), made.resource.as_str(), &made.body["data"]["a"]), ("create", "configmaps", &json!("b")));
    assert!(ours.iter().any(|entry| entry.code == 403 && entry.resource == "secrets" && entry.is_write()));
}
