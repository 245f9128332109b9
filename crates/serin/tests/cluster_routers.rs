//! Every router of a cluster goes through the same two releases: one that succeeds, and one that a person takes back. Real requests are counted at the
//! door of the router's own kind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod cluster;

use std::collections::BTreeMap;

use cluster::Shop;
use serde_json::{Value, json};
use serin_testkit::cluster::Door;

/// One kind of router.
struct Router {
    door: Door,
    host: &'static str,
    /// What is there before.
    objects: &'static str,
    /// `spec.traffic` of the release.
    traffic: &'static str,
    /// The object that holds the share.
    object: (&'static str, &'static str, &'static str),
    /// The share that the object gives the canary, in percent.
    share: fn(&Value) -> Option<u64>,
    /// The first stage in percent.
    stage: u64,
    has_matches: bool,
    /// A hand edit, as a merge patch.
    drift: Option<&'static str>,
}

const ISTIO: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop, annotations: {owner: somebody}}
spec:
  hosts: [web.example]
  http:
  - match: [{uri: {prefix: /static}}]
    route: [{destination: {host: shop}}]
  - name: main
    timeout: 5s
    route: [{destination: {host: shop, port: {number: 80}}}]
";

const SUBSETS: &str = "
apiVersion: v1
kind: Service
metadata: {name: both, namespace: shop}
spec: {selector: {team: shop}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: both, namespace: shop}
spec: {host: both, subsets: [{name: old, labels: {app: shop}}, {name: new, labels: {app: shop-canary}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop, annotations: {owner: somebody}}
spec:
  hosts: [web.example]
  http:
  - route: [{destination: {host: both.shop.svc.cluster.local, subset: old}}]
";

const INGRESSES: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  ingressClassName: nginx
  rules:
  - host: web.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {name: http}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web-canary
  namespace: shop
  annotations: {owner: somebody, nginx.ingress.kubernetes.io/canary: 'true'}
spec:
  ingressClassName: nginx
  rules:
  - host: web.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop-canary, port: {name: http}}}}]}
";

const TRAEFIK: &str = "
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {name: web, namespace: shop, annotations: {owner: somebody}}
spec: {weighted: {services: [{name: shop, port: 80}]}}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: web, namespace: shop}
spec:
  routes: [{kind: Rule, match: Host(`web.example`), services: [{kind: TraefikService, name: web}]}]
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, annotations: {owner: somebody}}
spec: {selector: {team: shop, app: shop}, ports: [{name: http, port: 80, targetPort: http}]}
";

const CUSTOM: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop, annotations: {owner: somebody}}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [web.example]
  rules:
  - backendRefs: [{name: shop, port: 80, weight: 1000}, {name: shop-canary, port: 80, weight: 0}]
";

const GRPC: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: web, namespace: shop, annotations: {owner: somebody}}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [web.example]
  rules:
  - backendRefs: [{name: shop, port: 80}]
";

fn number(value: Option<&Value>) -> Option<u64> {
    value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()))
}

/// The share of the second backend of a list, in percent.
fn second(list: Option<&Value>) -> Option<u64> {
    let all: Vec<u64> = list?.as_array()?.iter().map(|one| number(one.get("weight")).unwrap_or(0)).collect();
    let sum: u64 = all.iter().sum();
    Some(all.get(1).copied().unwrap_or(0) * 100 / sum.max(1))
}

/// The weights of the last rule.
fn of_last_rule(object: &Value, rules: &str, backends: &str) -> Option<u64> {
    second(object.pointer(rules)?.as_array()?.last()?.get(backends))
}

/// See the module.
fn releases_on(test: &str, router: &Router) {
    let Some(shop) = Shop::open(test) else { return };
    shop.cluster.apply(router.objects);
    let (api_version, kind, name) = router.object;
    let object = || shop.get(api_version, kind, name);
    let before = object();
    shop.until("the router to serve", |shop| (shop.ask_at(router.door, router.host, &[]).ok()? == "v1").then_some(()));
    shop.controller();
    let traffic = shop.traffic_at(router.door, router.host);
    shop.new_version("v2");
    let stages = format!("{{weight: {}, hold: 1s, maxHold: 1s, gate: manual}}", router.stage);
    shop.release_by(router.traffic, &stages, "");
    let waits = |shop: &Shop, run: u64| {
        let status = shop.status();
        (status["phase"] == "AwaitingApproval" && status["run"] == run).then_some(())
    };
    shop.until("the first stage to wait for approval", |shop| waits(shop, 1));
    assert_eq!((router.share)(&object()), Some(router.stage), "{:#}", object());
    split_is(&shop, &traffic, router.stage);
    if router.has_matches {
        let declared = shop.ask_at(router.door, router.host, &[("x-canary", "true")]);
        assert_eq!(declared.as_deref(), Ok("v2"), "{:#}", object());
    }
    // A hand edit of what is ours is put right, also one that takes the note away.
    if let Some(drift) = router.drift {
        let mut drift: Value = serde_json::from_str(drift).unwrap();
        drift["metadata"]["annotations"]["serin.dev/decision"] = Value::Null;
        shop.cluster.patch((api_version, kind), "shop", name, &drift);
        shop.until("the share again", |_| ((router.share)(&object()) == Some(router.stage)).then_some(()));
        let is_told = |shop: &Shop| shop.status()["timeline"].as_array()?.iter().any(|line| line["head"] == "drift found").then_some(());
        shop.until("the drift to be told", is_told);
    }
    shop.command("1", &json!("approve"));
    shop.until_phase("Succeeded");
    assert_eq!((router.share)(&object()), Some(0));
    traffic.forget();
    shop.until("some more requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
    assert_eq!(traffic.counts().keys().map(String::as_str).collect::<Vec<_>>(), ["v2"]);

    // The next one is taken back by a person.
    shop.new_version("v3");
    shop.until("the first stage again", |shop| waits(shop, 2));
    shop.command("2", &json!("abort"));
    shop.until_phase("RolledBack");
    assert_eq!((router.share)(&object()), Some(0));
    traffic.forget();
    shop.until("more requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v2"], "{counts:?}");
    assert_eq!(untouched(&before, router), untouched(&object(), router));
}

/// Real requests within five standard deviations of the share, and none lost.
fn split_is(shop: &Shop, traffic: &cluster::Traffic, percent: u64) {
    traffic.forget();
    shop.until("enough requests", |_| (traffic.counts().values().sum::<u64>() >= 400).then_some(()));
    let counts: BTreeMap<String, u64> = traffic.counts();
    let all: u64 = counts.values().sum();
    let canary = counts.get("v2").copied().unwrap_or(0);
    assert_eq!(canary + counts.get("v1").copied().unwrap_or(0), all, "lost: {counts:?}");
    #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
    let (all, canary, share) = (all as f64, canary as f64, percent as f64 / 100.0);
    let deviation = (all * share * (1.0 - share)).sqrt();
    assert!((canary - all * share).abs() <= 5.0 * deviation, "{canary} of {all} at {percent} %");
}

/// What is not ours: everything but weights, the canary's backend, and our note.
fn untouched(object: &Value, router: &Router) -> Value {
    let mut object = object.clone();
    for gone in ["resourceVersion", "generation", "managedFields"] {
        object["metadata"].as_object_mut().unwrap().remove(gone);
    }
    let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.retain(|name, _| name == "owner" || name.ends_with("/canary"));
    object.as_object_mut().unwrap().remove("status");
    for (list, backends) in [("/spec/http", "route"), ("/spec/rules", "backendRefs")] {
        for rule in object.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(backends) = rule.get_mut(backends).and_then(Value::as_array_mut) {
                backends.truncate(1);
                backends.iter_mut().for_each(|backend| drop(backend.as_object_mut().unwrap().remove("weight")));
            }
        }
    }
    if router.object.1 == "TraefikService" {
        let services = object.pointer_mut("/spec/weighted/services").unwrap().as_array_mut().unwrap();
        services.truncate(1);
        services[0].as_object_mut().unwrap().remove("weight");
    }
    object
}

#[test]
fn releases_on_hosts_of_istio() {
    let router = Router {
        door: Door::Mesh,
        host: "web.example",
        objects: ISTIO,
        traffic: "{istio: {virtualService: web, stable: {host: shop}, canary: {host: shop-canary}, routes: [main], match: [{header: {x-canary: 'true'}}]}}",
        object: ("networking.istio.io/v1", "VirtualService", "web"),
        share: |object| of_last_rule(object, "/spec/http", "route"),
        stage: 20,
        has_matches: true,
        drift: None,
    };
    releases_on("releases_on_hosts_of_istio", &router);
}

#[test]
fn releases_on_subsets_of_istio() {
    let router = Router {
        door: Door::Mesh,
        host: "web.example",
        objects: SUBSETS,
        traffic: "{istio: {virtualService: web, stable: {host: both, subset: old}, canary: {host: both, subset: new}}}",
        object: ("networking.istio.io/v1", "VirtualService", "web"),
        share: |object| of_last_rule(object, "/spec/http", "route"),
        stage: 50,
        has_matches: false,
        drift: None,
    };
    releases_on("releases_on_subsets_of_istio", &router);
}

#[test]
fn releases_on_ingress_nginx() {
    let router = Router {
        door: Door::Nginx,
        host: "web.example",
        objects: INGRESSES,
        traffic: "{ingressNginx: {ingress: web, canaryIngress: web-canary, stableService: shop, canaryService: shop-canary, match: [{header: {x-canary: 'true'}}]}}",
        object: ("networking.k8s.io/v1", "Ingress", "web-canary"),
        share: |object| number(object.pointer("/metadata/annotations/nginx.ingress.kubernetes.io~1canary-weight")).or(Some(0)),
        stage: 20,
        has_matches: true,
        drift: Some(r#"{"metadata": {"annotations": {"nginx.ingress.kubernetes.io/canary-weight": "77"}}}"#),
    };
    releases_on("releases_on_ingress_nginx", &router);
}

#[test]
fn releases_on_traefik() {
    let router = Router {
        door: Door::Traefik,
        host: "web.example",
        objects: TRAEFIK,
        traffic: "{traefik: {traefikService: web, stableService: shop, canaryService: shop-canary}}",
        object: ("traefik.io/v1alpha1", "TraefikService", "web"),
        share: |object| second(object.pointer("/spec/weighted/services")),
        stage: 20,
        has_matches: false,
        drift: Some(
            r#"{"spec": {"weighted": {"services": [{"name": "shop", "port": 80, "weight": 1}, {"name": "shop-canary", "port": 80, "weight": 1}]}}}"#,
        ),
    };
    releases_on("releases_on_traefik", &router);
}

#[test]
fn releases_on_the_selector_of_a_service() {
    let router = Router {
        door: Door::Mesh,
        host: "web.shop.svc.cluster.local",
        objects: SERVICE,
        traffic: "{service: {service: web, stable: {app: shop}, canary: {app: shop-canary}}}",
        object: ("v1", "Service", "web"),
        share: |object| Some(if object.pointer("/spec/selector/app")? == "shop" { 0 } else { 100 }),
        stage: 100,
        has_matches: false,
        drift: Some(r#"{"spec": {"selector": {"app": "shop"}}}"#),
    };
    releases_on("releases_on_the_selector_of_a_service", &router);
}

#[test]
fn releases_on_a_field_that_the_document_describes() {
    let router = Router {
        door: Door::Gateway,
        host: "web.example",
        objects: CUSTOM,
        traffic: "{custom: {apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: web, total: 1000, \
                  stableWeight: /spec/rules/0/backendRefs/0/weight, canaryWeight: /spec/rules/0/backendRefs/1/weight}}",
        object: ("gateway.networking.k8s.io/v1", "HTTPRoute", "web"),
        share: |object| of_last_rule(object, "/spec/rules", "backendRefs"),
        stage: 20,
        has_matches: false,
        drift: Some(
            r#"{"spec": {"rules": [{"backendRefs": [{"name": "shop", "port": 80, "weight": 1}, {"name": "shop-canary", "port": 80, "weight": 1}]}]}}"#,
        ),
    };
    releases_on("releases_on_a_field_that_the_document_describes", &router);
}

#[test]
fn releases_on_a_route_for_grpc() {
    let router = Router {
        door: Door::Gateway,
        host: "web.example",
        objects: GRPC,
        traffic: "{gatewayApi: {route: web, kind: GRPCRoute, stableService: shop, canaryService: shop-canary, match: [{header: {x-canary: 'true'}}]}}",
        object: ("gateway.networking.k8s.io/v1", "GRPCRoute", "web"),
        share: |object| of_last_rule(object, "/spec/rules", "backendRefs"),
        stage: 20,
        has_matches: true,
        drift: None,
    };
    releases_on("releases_on_a_route_for_grpc", &router);
}
