//! Kinds of workloads and where they are: what a pair may be, and which routers lead to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use serin_spec::{
    Severity, load_cluster,
    validated::{Pair, WorkloadKind},
};

const GATEWAY: &str = "gatewayApi: {route: a, stableService: a, canaryService: b}";

fn document(workload: &str, traffic: &str) -> String {
    format!(
        "
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: checkout, namespace: shop}}
spec:
  workload: {{kubernetes: {{{workload}}}}}
  traffic: {{{traffic}}}
  strategy: {{canary: {{stages: [{{weight: 100, hold: 30m}}]}}}}
"
    )
}

fn pair(workload: &str, traffic: &str) -> Pair {
    load_cluster("release.yaml", &document(workload, traffic)).unwrap_or_else(|errors| panic!("{workload}: {errors:?}")).release.workload
}

fn refused(workload: &str, traffic: &str) -> Vec<(&'static str, String)> {
    let diagnostics = load_cluster("release.yaml", &document(workload, traffic)).expect_err("refused");
    let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error);
    errors.map(|one| (one.code, one.path.strip_prefix("spec.").unwrap_or(&one.path).to_owned())).collect()
}

#[test]
fn a_pair_is_of_any_two_kinds() {
    use WorkloadKind::{DaemonSet, Deployment, StatefulSet};
    for (stable, canary, kinds) in [
        ("statefulSet: a", "statefulSet: b, replicas: 2", [StatefulSet, StatefulSet]),
        ("daemonSet: a", "daemonSet: b", [DaemonSet, DaemonSet]),
        ("daemonSet: a", "deployment: b, replicas: 2", [DaemonSet, Deployment]),
        // Two kinds may have one name.
        ("statefulSet: a", "deployment: a", [StatefulSet, Deployment]),
    ] {
        assert_eq!(pair(&format!("stable: {{{stable}}}, canary: {{{canary}}}"), GATEWAY).kinds, kinds);
    }
    let none = refused("stable: {statefulSet: a}, canary: {replicas: 1}", GATEWAY);
    assert_eq!(none, [("missing-field", "workload.kubernetes.stable".to_owned())]);
    let same = refused("stable: {statefulSet: a}, canary: {statefulSet: a}", GATEWAY);
    assert_eq!(same, [("same-deployment", "workload.kubernetes.canary.statefulSet".to_owned())]);
    let several = refused("stable: {statefulSet: a}, canary: {statefulSet: b, deployment: b}", GATEWAY);
    assert_eq!(several[0].0, "several-of");
    assert_eq!(refused("stable: {statefulSet: a, deployment: a}, canary: {deployment: b}", GATEWAY)[0].0, "several-of");
    let counted = refused("stable: {daemonSet: a}, canary: {daemonSet: b, replicas: 2}", GATEWAY);
    assert_eq!(counted, [("not-for-this-kind", "workload.kubernetes.canary.replicas".to_owned())]);
    let made = refused("deployment: a, canary: {statefulSet: b}", GATEWAY);
    assert_eq!(made, [("not-for-one-deployment", "workload.kubernetes.canary.statefulSet".to_owned())]);
}

#[test]
fn each_version_is_where_the_document_says() {
    let places = |workload: &str, traffic: &str| {
        let pair = pair(workload, traffic);
        (pair.namespace, pair.canary_namespace)
    };
    let text = |text: &str| Some(text.to_owned());
    let apart = "gatewayApi: {route: a, stableService: a, canaryService: a, canaryNamespace: trial}";
    assert_eq!(places("stable: {deployment: a}, canary: {deployment: a, namespace: trial}", apart), (None, text("trial")));
    assert_eq!(
        places("namespace: prod, stable: {deployment: a}, canary: {deployment: a, namespace: trial}", apart),
        (text("prod"), text("trial"))
    );
    // The same said twice is one place.
    assert_eq!(places("namespace: prod, stable: {deployment: a}, canary: {deployment: b, namespace: prod}", GATEWAY), (text("prod"), None));
    let half = refused("stable: {deployment: a, namespace: prod}, canary: {deployment: a}", apart);
    assert_eq!(half, [("missing-field", "workload.kubernetes.stable.namespace".to_owned())]);
    let made = refused("deployment: a, canary: {namespace: trial}", GATEWAY);
    assert!(made.contains(&("not-for-one-deployment", "workload.kubernetes.canary.namespace".to_owned())), "{made:?}");
}

#[test]
fn a_router_that_names_no_service_in_each_namespace_is_refused() {
    let two = "stable: {deployment: a}, canary: {deployment: a, namespace: trial}";
    for (traffic, field) in [
        (GATEWAY, Some("gatewayApi")),
        ("gatewayApi: {route: a, stableService: a, canaryService: a, canaryNamespace: trial}", None),
        ("istio: {virtualService: a, stable: {host: a}, canary: {host: a.trial}}", None),
        ("istio: {virtualService: a, stable: {host: a}, canary: {host: b}}", Some("istio")),
        ("istio: {virtualService: a, stable: {host: a, subset: v1}, canary: {host: a, subset: v2}}", Some("istio")),
        ("ingressNginx: {ingress: a, canaryIngress: b, stableService: a, canaryService: b}", Some("ingressNginx")),
        ("service: {service: a, stable: {app: a}, canary: {app: b}}", Some("service")),
        ("traefik: {traefikService: a, stableService: a, canaryService: b}", Some("traefik")),
        ("custom: {apiVersion: a.b/v1, kind: Proxy, name: a, canaryWeight: /spec/weight}", None),
    ] {
        match field {
            None => assert_eq!(pair(two, traffic).canary_namespace.as_deref(), Some("trial")),
            Some(field) => assert_eq!(refused(two, traffic), [("not-for-this-router", format!("traffic.{field}"))], "{traffic}"),
        }
    }
    // Within one namespace two Services have two names.
    let one = "stable: {deployment: a}, canary: {deployment: b}";
    let same = "gatewayApi: {route: a, stableService: a, canaryService: a}";
    assert_eq!(refused(one, same)[0].0, "same-service");
}

#[test]
fn shares_made_of_replicas_need_labels_and_no_number() {
    const RATIO: &str = "replicas: {service: a, stable: {track: stable}, canary: {track: canary}, max: 4}";
    let one = "stable: {deployment: a}, canary: {deployment: b}";
    assert_eq!(pair(one, RATIO).canary_replicas, None);
    for (workload, traffic, code, field) in [
        (
            "stable: {deployment: a}, canary: {deployment: b, replicas: 2}",
            RATIO,
            "not-for-this-router",
            "workload.kubernetes.canary.replicas",
        ),
        ("stable: {deployment: a}, canary: {daemonSet: b}", RATIO, "not-for-this-router", "workload.kubernetes.canary.daemonSet"),
        ("stable: {deployment: a}, canary: {deployment: a, namespace: trial}", RATIO, "not-for-this-router", "traffic.replicas"),
        ("deployment: a", RATIO, "not-for-one-deployment", "traffic.replicas"),
        (one, "replicas: {service: a, stable: {track: a}, canary: {track: a}}", "same-service", "traffic.replicas.canary"),
        (one, "replicas: {service: a, stable: {track: a}, canary: {app: a}}", "different-labels", "traffic.replicas.canary"),
    ] {
        assert_eq!(refused(workload, traffic), [(code, field.to_owned())], "{workload} {traffic}");
    }
    let at_once = document(one, RATIO).replace("{canary: {stages: [{weight: 100, hold: 30m}]}}", "{blueGreen: {preview: {gate: manual}}}");
    let errors = load_cluster("release.yaml", &at_once).expect_err("refused");
    assert!(errors.iter().any(|one| one.code == "not-for-this-router"), "{errors:?}");
    let matched = refused(one, "replicas: {service: a, stable: {track: a}, canary: {track: b}, match: [{header: {a: b}}]}");
    assert_eq!(matched[0].0, "unknown-field");
}
