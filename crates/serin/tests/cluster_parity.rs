//! What the API server refuses and what our own validation refuses: nothing that is wrong goes unsaid, and nothing that is right is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod cluster;

use cluster::Shop;
use serde_json::{Value, json};
use serin_spec::{Severity, load_cluster};

const RELEASES: &str = "serin.dev/v1alpha1";

/// Who refuses a document that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The API server, by schema and rules, when it is applied.
    Server,
    /// The controller, in the status.
    Status,
}

fn good() -> Value {
    json!({
        "workload": {"kubernetes": {"stable": {"deployment": "shop"}, "canary": {"deployment": "shop-canary"}}},
        "traffic": {"gatewayApi": {"route": "shop", "stableService": "shop", "canaryService": "shop-canary"}},
        "strategy": {"canary": {"stages": [{"weight": 5, "hold": "10m"}, {"weight": 50, "hold": "1h"}], "bake": "1h"}},
        "analysis": {
            "sources": {"prom": {"prometheus": {"url": "http://127.0.0.1:9090"}}},
            "arms": {"stable": "shop", "canary": "shop-canary"},
            "metrics": [{"name": "failures", "prometheus": {"source": "prom", "numerator": "bad{app=\"{{arm}}\"}", "denominator": "all{app=\"{{arm}}\"}"}}],
            "criteria": [{"metric": "failures", "max": "5%"}],
        },
    })
}

/// Documents that are wrong: what is set where, and who says so.
fn wrong() -> Vec<(&'static str, Value, By)> {
    vec![
        ("/strategy/canary/stages", json!([]), By::Server),
        ("/strategy/canary/stages/0/weight", json!(101), By::Server),
        ("/strategy/canary/stages/0/weight", json!("much"), By::Server),
        ("/strategy/canary/stages/0/hold", json!("ten minutes"), By::Server),
        ("/strategy/canary/stages/0/hold", json!(600), By::Server),
        ("/strategy/canary/stages/0/holds", json!("10m"), By::Server),
        ("/strategy/canary/stages/0/gate", json!("perhaps"), By::Server),
        ("/strategy/canary/stages/0/minRequests", json!(-1), By::Server),
        ("/strategy/canary/preset", json!("careful"), By::Server),
        ("/strategy/canary", Value::Null, By::Server),
        ("/workload/processes", json!({"stable": {"command": ["a"]}, "canary": {"command": ["b"]}}), By::Server),
        ("/workload/kubernetes/stable/deployment", json!("Not A Name"), By::Server),
        ("/traffic/gatewayApi/route", Value::Null, By::Server),
        ("/analysis/onNoData", json!("hope"), By::Server),
        ("/analysis/criteria/0/metric", Value::Null, By::Server),
        ("/workload/kubernetes/stable/statefulSet", json!("shop"), By::Server),
        ("/workload/kubernetes/stable", json!({"namespace": "shop"}), By::Server),
        ("/workload/kubernetes/stable/namespace", json!("Not A Name"), By::Server),
        ("/workload/kubernetes/canary/daemonSet", json!("Not A Name"), By::Server),
        ("/traffic/replicas", json!({"service": "shop", "stable": {"a": "1"}, "canary": {"a": "2"}}), By::Server),
        ("/workload/kubernetes/canary/statefulSet", json!("shop-canary"), By::Status),
        ("/workload/kubernetes/canary/namespace", json!("elsewhere"), By::Status),
        ("/workload/kubernetes/stable/namespace", json!("elsewhere"), By::Status),
        ("/traffic", json!({"replicas": {"service": "shop", "stable": {"a": "1"}, "canary": {"b": "1"}}}), By::Status),
        ("/strategy/canary/stages/1/weight", json!(2), By::Status),
        ("/strategy/canary/stages/0/minHold", json!("2h"), By::Status),
        ("/workload/kubernetes/canary/deployment", json!("shop"), By::Status),
        ("/traffic/gatewayApi/canaryService", json!("shop"), By::Status),
        ("/analysis/criteria/0/max", Value::Null, By::Status),
        ("/analysis/criteria/0/max", json!("many"), By::Status),
        ("/analysis/criteria/0/metric", json!("unheard-of"), By::Status),
        ("/analysis/metrics/0/prometheus/source", json!("elsewhere"), By::Status),
        ("/analysis/metrics/0/prometheus/numerator", json!("bad"), By::Status),
        ("/analysis/sources/prom/prometheus/url", json!("prometheus:9090"), By::Status),
        ("/analysis/interval", json!("0s"), By::Status),
    ]
}

/// Sets a field that may not be there; null removes it.
fn set(spec: &mut Value, at: &str, value: &Value) {
    let (parent, field) = at.rsplit_once('/').unwrap();
    let parent = spec.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(field)),
        (Value::Object(fields), value) => drop(fields.insert(field.to_owned(), value.clone())),
        (other, _) => panic!("{at} is in {other}"),
    }
}

fn object(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": RELEASES, "kind": "Release", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

/// Where our own validation finds something wrong.
fn own(object: &Value) -> Vec<String> {
    match load_cluster("release", &object.to_string()) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().filter(|one| one.severity == Severity::Error).map(|one| one.path.to_string()).collect(),
    }
}

#[test]
fn what_is_wrong_is_refused_or_said_and_nothing_else() {
    let Some(shop) = Shop::open("what_is_wrong_is_refused_or_said_and_nothing_else") else { return };
    shop.controller();
    let fine = object("fine", &good());
    assert_eq!(own(&fine), Vec::<String>::new());
    shop.cluster.try_apply(&fine).unwrap();

    let mut unlike = Vec::new();
    let mut said = Vec::new();
    for (number, (at, value, by)) in wrong().into_iter().enumerate() {
        let mut spec = good();
        set(&mut spec, at, &value);
        let object = object(&format!("wrong-{number}"), &spec);
        let paths = own(&object);
        let is = match shop.cluster.try_apply(&object) {
            Err(_) => By::Server,
            Ok(_) => By::Status,
        };
        if paths.is_empty() || is != by {
            unlike.push(format!("{at} = {value}: {is:?} instead of {by:?}, our own: {paths:?}"));
        } else if is == By::Status {
            said.push((number, at, paths));
        }
    }
    assert_eq!(unlike, Vec::<String>::new());
    for (number, at, paths) in said {
        let reason = shop.until(&format!("the status of wrong-{number}, {at}"), |shop| {
            let status = shop.get(RELEASES, "Release", &format!("wrong-{number}"))["status"].clone();
            (status["phase"] == "Invalid").then(|| status["reason"].as_str().unwrap_or_default().to_owned())
        });
        assert!(reason.starts_with(&paths[0]), "{at}: {reason}, expected {paths:?}");
    }
    // A name that is no label is refused before anybody looks at the rest.
    let refused = shop.cluster.try_apply(&object("with.dots", &good())).unwrap_err().to_string();
    assert!(refused.contains("63 lower-case letters"), "{refused}");
    assert_eq!(shop.get(RELEASES, "Release", "fine")["status"]["phase"], "Idle");
}
