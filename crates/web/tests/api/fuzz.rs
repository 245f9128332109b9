//! Whatever is sent, the answer is the client's mistake and never the daemon's.

use proptest::{
    collection::{btree_map, vec},
    prelude::{Just, Strategy, any, prop_oneof},
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use serin_web::{Limits, Role, Route, routes};

use crate::support::{Daemon, request, token, wide};

fn takers() -> Vec<&'static Route> {
    routes().iter().filter(|route| route.method != "GET").collect()
}

fn check(cases: u32, bodies: impl Strategy<Value = Vec<u8>>) {
    let daemon = Daemon::start();
    let takers = takers();
    let strategy = (0..takers.len(), bodies);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let done = runner.run(&strategy, |(index, body)| {
        let route = takers[index];
        let path = route.path.replace("{service}", "nobody");
        let reply = daemon.raw(&request(route.method.as_str(), &path, Some(&token(Role::Admin)), Some(&body)));
        // Alerts that name nothing of ours are fine, as Alertmanager wants it.
        let fine = route.id == "alertmanager" && reply.status == 200;
        if !fine && !(400..500).contains(&reply.status) {
            return Err(proptest::test_runner::TestCaseError::fail(format!("{} {path}: {reply:?}", route.method)));
        }
        assert!(fine || !reply.code().is_empty());
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
    assert_eq!(daemon.get("/healthz", None).status, 200);
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("firing")),
        Just(json!("4")),
    ];
    let names = || {
        let known =
            ["reason", "percent", "document", "name", "dir", "dry_run", "dryRun", "version", "alerts", "status", "labels", "service"];
        prop_oneof![proptest::sample::select(known.to_vec()).prop_map(str::to_owned), any::<String>()]
    };
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(names(), inner, 0..6).prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

#[test]
fn random_bytes() {
    check(200, vec(any::<u8>(), 0..2_000));
}

#[test]
fn random_json() {
    check(400, json_values().prop_map(|value| value.to_string().into_bytes()));
}

#[test]
fn random_documents() {
    let document = vec(any::<char>(), 0..300).prop_map(|text| text.into_iter().collect::<String>());
    check(100, document.prop_map(|text| json!({"document": text, "name": text, "reason": text}).to_string().into_bytes()));
}

#[test]
fn deeply_nested_json() {
    let daemon = Daemon::start();
    for route in takers() {
        let path = route.path.replace("{service}", "nobody");
        for open in ["[", "{\"a\":"] {
            let body = open.repeat(10_000);
            let reply = daemon.raw(&request(route.method.as_str(), &path, Some(&token(Role::Admin)), Some(body.as_bytes())));
            assert!((400..500).contains(&reply.status), "{path}: {reply:?}");
        }
    }
}

#[test]
fn random_bytes_for_a_whole_request() {
    // A few line breaks are the beginning of a request: for those the daemon waits.
    let daemon = Daemon::with(Limits { head_ms: 1_000, ..wide() }, None);
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let done = runner.run(&vec(any::<u8>(), 1..500), |mut bytes| {
        // So that the daemon does not wait for more.
        bytes.extend(b"\r\n\r\n");
        let reply = daemon.raw(&bytes);
        assert!(matches!(reply.status, 0 | 400..500), "{reply:?}");
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
    assert_eq!(daemon.get("/healthz", None).status, 200);
}
