//! Documents of a cluster, and documents in the wrong place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use serin_spec::{
    LoadedAny, Severity, load, load_any, load_cluster, render,
    validated::{Auth, ClusterRouter, GatewayKind, Secret},
};

const CLUSTER: &str = r#"apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: checkout, namespace: shop}
spec:
  workload:
    kubernetes:
      stable: {deployment: checkout}
      canary: {deployment: checkout-canary, replicas: 3}
      readyWithin: 2m
  traffic:
    gatewayApi:
      route: checkout.example.com
      stableService: checkout
      canaryService: checkout-canary
      match: [{header: {X-Canary: "true"}}]
  strategy: {canary: {stages: [{weight: 5, hold: 30m}, {weight: 50, hold: 1h}], bake: 1h}}
"#;

const MACHINE: &str = r#"apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: checkout}
spec:
  workload: {external: {stable: {urls: ["http://10.0.0.1:80"]}, canary: {urls: ["http://10.0.0.2:80"]}}}
  traffic: {embedded: {listen: "127.0.0.1:8080"}}
  strategy: {canary: {stages: [{weight: 5, hold: 30m}], bake: 1h}}
"#;

/// Code and place of every error.
fn refused(text: &str) -> Vec<(&'static str, String)> {
    let diagnostics = load_cluster("release.yaml", text).expect_err("refused");
    assert!(!render(&diagnostics, "release.yaml", text, false).is_empty());
    diagnostics.iter().filter(|one| one.severity == Severity::Error).map(|one| (one.code, one.path.clone())).collect()
}

#[test]
fn a_cluster_release_is_read() {
    let release = load_cluster("release.yaml", CLUSTER).unwrap().release;
    assert_eq!((release.name.as_str(), release.plan.targets.as_slice()), ("checkout", &["gateway-api".to_owned()][..]));
    let weights: Vec<_> = release.plan.steps.iter().map(|step| step.weights["gateway-api"].canary_bps()).collect();
    assert_eq!(weights, [500, 5_000]);
    assert_eq!(release.plan.deploy_timeout_ms, 120_000);
    assert_eq!((release.workload.stable.as_str(), release.workload.canary.as_str()), ("checkout", "checkout-canary"));
    assert_eq!((release.workload.canary_replicas, release.workload.namespace), (Some(3), None));
    let ClusterRouter::GatewayApi { kind: GatewayKind::Http, route, .. } = &release.traffic.router else { panic!("{:?}", release.traffic) };
    assert_eq!(route, "checkout.example.com");
    assert_eq!(release.traffic.matches[0].headers[0].name, "x-canary");
}

#[test]
fn each_kind_is_told_apart() {
    assert!(matches!(load_any("release.yaml", CLUSTER.as_bytes()), Ok(LoadedAny::Cluster(_))));
    assert!(matches!(load_any("release.yaml", MACHINE.as_bytes()), Ok(LoadedAny::Machine(_))));
    assert_eq!(load("release.yaml", MACHINE).unwrap().release.name, "checkout");
}

#[test]
fn a_document_in_the_wrong_place_says_where_it_belongs() {
    let errors = load("release.yaml", CLUSTER).expect_err("refused");
    let shown = render(&errors, "release.yaml", CLUSTER, false);
    assert!(shown.contains("`workload.kubernetes` is for a cluster") && shown.contains("serin controller"), "{shown}");
    let places = [("for-a-machine", "spec.workload.external".to_owned()), ("for-a-machine", "spec.traffic.embedded".to_owned())];
    assert_eq!(refused(MACHINE), places);
}

#[test]
fn what_an_http_route_cannot_do_is_refused() {
    let cookies = CLUSTER.replace(r#"{header: {X-Canary: "true"}}"#, r#"{cookie: {beta: "1"}}"#);
    assert_eq!(refused(&cookies), [("not-for-this-router", "spec.traffic.gatewayApi.match[0].cookie".to_owned())]);
}

/// The document with another router.
fn with_router(router: &str) -> String {
    let (start, rest) = CLUSTER.split_once("    gatewayApi:").unwrap();
    let (_, end) = rest.split_once("  strategy:").unwrap();
    format!("{start}    {router}\n  strategy:{end}")
}

#[test]
fn every_router_is_read_and_has_a_name_of_its_own_in_plans() {
    for (router, target) in [
        ("gatewayApi: {route: a, kind: GRPCRoute, stableService: a, canaryService: b}", "gateway-api"),
        ("istio: {virtualService: a, stable: {host: a}, canary: {host: b.other}, match: [{cookie: {beta: '1'}}]}", "istio"),
        ("istio: {virtualService: a, stable: {host: a, subset: v1}, canary: {host: a, subset: v2}, routes: [main]}", "istio"),
        (
            "ingressNginx: {ingress: a, canaryIngress: b, stableService: a, canaryService: b, match: [{header: {x-canary: 'true'}}]}",
            "ingress-nginx",
        ),
        (
            "ingressNginx: {ingress: a, canaryIngress: b, stableService: a, canaryService: b, match: [{cookie: {beta: always}}]}",
            "ingress-nginx",
        ),
        ("traefik: {traefikService: a, stableService: a, canaryService: b}", "traefik"),
        (
            "custom: {apiVersion: projectcontour.io/v1, kind: HTTPProxy, plural: httpproxies, name: a, canaryWeight: /spec/routes/0/weight}",
            "custom",
        ),
        ("custom: {apiVersion: v1, kind: ConfigMap, name: a, canaryWeight: /metadata/annotations/weight, total: 10000}", "custom"),
    ] {
        let loaded = load_cluster("release.yaml", &with_router(router)).unwrap_or_else(|errors| panic!("{router}: {errors:?}"));
        assert_eq!((loaded.release.traffic.target(), loaded.release.plan.targets[0].as_str()), (target, target));
    }
    let all_at_once = with_router("service: {service: a, stable: {color: blue}, canary: {color: green}}")
        .replace("[{weight: 5, hold: 30m}, {weight: 50, hold: 1h}]", "[{weight: 100, hold: 1h}]");
    assert_eq!(load_cluster("release.yaml", &all_at_once).unwrap().release.traffic.target(), "service");
}

#[test]
fn what_a_router_cannot_do_is_refused_before_anything_begins() {
    let at = |place: &str| format!("spec.traffic.{place}");
    let strategy = || "spec.strategy.canary".to_owned();
    for (router, code, place) in [
        ("istio: {virtualService: a, stable: {host: a}, canary: {host: a}}", "same-service", at("istio.canary")),
        ("istio: {virtualService: a, stable: {host: a}, canary: {host: a, subset: v2}}", "same-service", at("istio.canary")),
        (
            "istio: {virtualService: a, stable: {host: a}, canary: {host: b}, match: [{cookie: {a: '1', b: '2'}}]}",
            "not-for-this-router",
            at("istio.match[0].cookie"),
        ),
        (
            "ingressNginx: {ingress: a, canaryIngress: a, stableService: a, canaryService: b}",
            "same-ingress",
            at("ingressNginx.canaryIngress"),
        ),
        (
            "ingressNginx: {ingress: a, canaryIngress: b, stableService: a, canaryService: b, match: [{header: {a: '1', b: '2'}}]}",
            "not-for-this-router",
            at("ingressNginx.match[0]"),
        ),
        (
            "ingressNginx: {ingress: a, canaryIngress: b, stableService: a, canaryService: b, match: [{cookie: {beta: '1'}}]}",
            "not-for-this-router",
            at("ingressNginx.match[0].cookie"),
        ),
        ("service: {service: a, stable: {color: blue}, canary: {color: green}}", "not-for-this-router", strategy()),
        ("service: {service: a, stable: {color: blue}, canary: {track: green}}", "different-labels", at("service.canary")),
        ("traefik: {traefikService: a, stableService: a, canaryService: a}", "same-service", at("traefik.canaryService")),
        ("custom: {apiVersion: a/v1, kind: A, name: a, canaryWeight: /spec/weight, total: 10}", "not-for-this-router", strategy()),
        ("custom: {apiVersion: a/b/v1, kind: A, name: a, canaryWeight: /spec/weight}", "format", at("custom.apiVersion")),
        ("custom: {apiVersion: a/v1, kind: a, name: a, canaryWeight: /spec/weight}", "format", at("custom.kind")),
        ("custom: {apiVersion: a/v1, kind: A, name: a, canaryWeight: /status/weight}", "format", at("custom.canaryWeight")),
        (
            "custom: {apiVersion: a/v1, kind: A, name: a, canaryWeight: /spec/a, stableWeight: /spec/a}",
            "same-field",
            at("custom.stableWeight"),
        ),
    ] {
        assert!(refused(&with_router(router)).contains(&(code, place.clone())), "{router}: {:?}", refused(&with_router(router)));
    }
}

#[test]
fn both_versions_are_two_things() {
    let one = CLUSTER
        .replace("deployment: checkout-canary", "deployment: checkout")
        .replace("canaryService: checkout-canary", "canaryService: checkout");
    let places = [
        ("same-deployment", "spec.workload.kubernetes.canary.deployment".to_owned()),
        ("same-service", "spec.traffic.gatewayApi.canaryService".to_owned()),
    ];
    assert_eq!(refused(&one), places);
}

#[test]
fn one_deployment_is_enough() {
    let one = CLUSTER.replace(
        "      stable: {deployment: checkout}\n      canary: {deployment: checkout-canary, replicas: 3}",
        "      deployment: checkout",
    );
    let workload = load_cluster("release.yaml", &one).unwrap().release.workload;
    assert_eq!((workload.stable.as_str(), workload.canary.as_str(), workload.is_managed), ("checkout", "checkout-canary", true));
    let sized = one.replace("deployment: checkout\n", "deployment: checkout\n      canary: {replicas: 2, deployment: trial}\n");
    let workload = load_cluster("release.yaml", &sized).unwrap().release.workload;
    assert_eq!((workload.canary.as_str(), workload.canary_replicas), ("trial", Some(2)));
    let apart = one.replace("deployment: checkout\n", "deployment: checkout\n      namespace: other\n");
    assert_eq!(refused(&apart), [("not-for-one-deployment", "spec.workload.kubernetes.namespace".to_owned())]);
    let both = one.replace("deployment: checkout\n", "deployment: checkout\n      stable: {deployment: shop}\n");
    assert_eq!(refused(&both), [("several-of", "spec.workload.kubernetes".to_owned())]);
    let half = CLUSTER.replace("      canary: {deployment: checkout-canary, replicas: 3}\n", "");
    assert_eq!(refused(&half), [("missing-field", "spec.workload.kubernetes.stable".to_owned())]);
    let long = one.replace("deployment: checkout\n", &format!("deployment: {}\n", ["a".repeat(63).as_str(); 3].join(".")));
    assert!(load_cluster("release.yaml", &long).unwrap().release.workload.canary.ends_with("a-canary"));
}

#[test]
fn one_deployment_needs_a_router_that_names_both_services() {
    let with = |router: &str| {
        let start = CLUSTER.find("  traffic:").unwrap();
        let (head, pair) = (&CLUSTER[..start], "stable: {deployment: checkout}\n      canary: {deployment: checkout-canary, replicas: 3}");
        let strategy = "  strategy: {canary: {stages: [{weight: 100, hold: 1h}]}}\n";
        format!("{}  traffic: {{{router}}}\n{strategy}", head.replace(pair, "deployment: checkout"))
    };
    for good in [
        "gatewayApi: {kind: GRPCRoute, route: a, stableService: a, canaryService: b}",
        "istio: {virtualService: a, stable: {host: a}, canary: {host: b}}",
        "ingressNginx: {ingress: a, canaryIngress: b, stableService: a, canaryService: b}",
        "traefik: {traefikService: a, stableService: a, canaryService: b}",
    ] {
        assert!(load_cluster("release.yaml", &with(good)).unwrap().release.workload.is_managed, "{good}");
    }
    for (bad, field) in [
        ("istio: {virtualService: a, stable: {host: a, subset: v1}, canary: {host: a, subset: v2}}", "istio"),
        ("service: {service: a, stable: {track: stable}, canary: {track: canary}}", "service"),
        ("custom: {apiVersion: a.b/v1, kind: Proxy, name: a, canaryWeight: /spec/weight}", "custom"),
    ] {
        assert_eq!(refused(&with(bad)), [("not-for-one-deployment", format!("spec.traffic.{field}"))], "{bad}");
        let errors = load_cluster("release.yaml", &with(bad)).expect_err("refused");
        assert!(render(&errors, "release.yaml", &with(bad), false).contains("give a pair"), "{bad}");
    }
}

#[test]
fn what_is_no_deployment_is_refused_with_what_to_do_instead() {
    for kind in ["statefulSet", "daemonSet", "job", "cronJob"] {
        if kind.ends_with("ob") {
            let pair = CLUSTER.replace("stable: {deployment: checkout}", &format!("stable: {{{kind}: checkout}}"));
            assert_eq!(refused(&pair), [("not-for-this-kind", format!("spec.workload.kubernetes.stable.{kind}"))]);
        }
        let one = CLUSTER.replace(
            "stable: {deployment: checkout}\n      canary: {deployment: checkout-canary, replicas: 3}",
            &format!("{kind}: checkout"),
        );
        assert_eq!(refused(&one), [("not-for-this-kind", format!("spec.workload.kubernetes.{kind}"))]);
        let errors = load_cluster("release.yaml", &one).expect_err("refused");
        let shown = render(&errors, "release.yaml", &one, false);
        assert!(shown.contains("cannot be released: ") && shown.contains("help"), "{shown}");
    }
}

#[test]
fn errors_of_meaning_are_found_beside_errors_of_structure() {
    let text =
        CLUSTER.replace("deployment: checkout-canary, replicas: 3", "deployment: checkout, replicas: 3").replace("hold: 30m", "hodl: 30m");
    let codes: Vec<_> = refused(&text).into_iter().map(|(code, _)| code).collect();
    assert!(codes.contains(&"unknown-field") && codes.contains(&"same-deployment"), "{codes:?}");
}

const SOURCE: &str = r#"  analysis:
    sources: {prom: {prometheus: {url: "http://127.0.0.1:9090"}}}
    arms: {stable: shop, canary: shop-canary}
    metrics:
      - {name: failures, prometheus: {source: prom, numerator: 'failed_total{service="{{arm}}"}', denominator: 'requests_total{service="{{arm}}"}'}}
    criteria: [{metric: failures, max: 5%}]
"#;

#[test]
fn what_is_judged_in_a_cluster_is_measured_by_sources() {
    // Defaults are about what Serin's own proxy sees: without a source nothing judges, and it says so.
    let unjudged = load_cluster("release.yaml", CLUSTER).unwrap();
    assert!(unjudged.release.plan.analysis.criteria.is_empty() && unjudged.release.plan.analysis.guards.is_empty());
    assert_eq!(unjudged.warnings.iter().map(|one| one.code).collect::<Vec<_>>(), ["not-judged"]);
    let judged = load_cluster("release.yaml", &format!("{CLUSTER}{SOURCE}")).unwrap();
    assert_eq!(judged.warnings.iter().map(|one| one.code).collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(judged.release.measures.queries.len(), 1);
    // What is written down and cannot be measured is an error.
    let builtin = format!(
        "{CLUSTER}  analysis: {{criteria: [{{metric: error-rate, max: 5%}}], guards: [{{name: slow, metric: latency-p99, max: 1s}}]}}\n"
    );
    let places = [("not-measured", "spec.analysis.criteria[0].metric".to_owned()), ("not-measured", "spec.analysis.guards".to_owned())];
    assert_eq!(refused(&builtin), places);
}

#[test]
fn a_controllers_own_secrets_are_not_sent_anywhere() {
    let with = |given: &str| SOURCE.replace(r#"{url: "http://127.0.0.1:9090"}"#, &format!(r#"{{url: "https://127.0.0.1:9090", {given}}}"#));
    for (given, field) in [
        ("auth: {bearer: {file: /var/run/secrets/kubernetes.io/serviceaccount/token}}", "auth.bearer"),
        ("auth: {basic: {username: a, password: {env: HOME}}}", "auth.basic.password"),
        ("auth: {mtls: {certificate: {secretKeyRef: {name: a, key: b}}, key: {file: a}}}", "auth.mtls.key"),
        ("ca: {file: a}", "ca"),
        ("headers: {x-key: {env: HOME}}", "headers.x-key"),
    ] {
        let place = format!("spec.analysis.sources.prom.prometheus.{field}");
        assert_eq!(refused(&format!("{CLUSTER}{}", with(given))), [("for-a-machine", place)]);
    }
    // Secrets beside the release are another matter, and there are none on one machine.
    let key = with("auth: {bearer: {secretKeyRef: {name: prom, key: token}}}");
    let loaded = load_cluster("release.yaml", &format!("{CLUSTER}{key}")).unwrap().release;
    let expected = Auth::Bearer(Secret::Key { name: "prom".to_owned(), key: "token".to_owned() });
    assert_eq!(loaded.measures.sources["prom"].auth, Some(expected));
    let errors = load("release.yaml", &format!("{MACHINE}{key}")).expect_err("refused");
    assert_eq!(errors.iter().map(|one| one.code).collect::<Vec<_>>(), ["for-a-cluster"]);
}

const BLUE_GREEN: &str = "{blueGreen: {preview: {checks: [{http: {path: /}}]}, bake: 1m}}";

/// The document with another router and `blueGreen`.
fn blue_green(router: &str, strategy: &str) -> String {
    let text = with_router(router);
    let (start, _) = text.split_once("  strategy:").unwrap();
    format!("{start}  strategy: {strategy}\n")
}

#[test]
fn blue_green_goes_through_the_canarys_service_or_an_address() {
    let pair = "traefik: {traefikService: a, stableService: a, canaryService: b}";
    let selector = "service: {service: a, stable: {color: blue}, canary: {color: green}}";
    assert_eq!(load_cluster("release.yaml", &blue_green(pair, BLUE_GREEN)).unwrap().release.preview, None);
    let places = |text: &str| refused(text).into_iter().map(|(code, place)| format!("{code} {place}")).collect::<Vec<_>>();
    assert_eq!(places(&blue_green(selector, BLUE_GREEN)), ["no-preview-address spec.strategy.blueGreen.preview"]);
    let addressed = BLUE_GREEN.replace("{checks", "{address: 'green.shop.svc:80', checks");
    let loaded = load_cluster("release.yaml", &blue_green(selector, &addressed)).unwrap().release;
    assert_eq!((loaded.preview.as_deref(), loaded.plan.is_switch()), (Some("green.shop.svc:80"), true));
    let bad = addressed.replace("green.shop.svc:80", "http://green/").replace("{address", "{minRequests: 5, address");
    assert_eq!(
        places(&blue_green(pair, &bad)),
        ["not-measured spec.strategy.blueGreen.preview.minRequests", "format spec.strategy.blueGreen.preview.address"],
    );
    // On one machine the proxy has a preview of its own.
    let machine = MACHINE
        .replace("{canary: {stages: [{weight: 5, hold: 30m}], bake: 1h}}", &addressed)
        .replace("8080\"", "8080\", preview: \"127.0.0.1:8081\"");
    let errors = load("release.yaml", &machine).expect_err("refused");
    assert_eq!(errors.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["spec.strategy.blueGreen.preview.address"]);
}
