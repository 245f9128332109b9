//! A canary that is worse than stable, under load: traffic goes back at once, and nobody loses a request by it.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use serin_testkit::{Document, Ended, Place, processes};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// The canary's share is proven to be zero this soon after the observation that decides.
const AT_ONCE_MS: u64 = 100;

/// Other tests may starve the processes of this one for as long: a rollback that was too slow gets another chance, a slow Serin does not.
const ATTEMPTS: usize = 6;

/// Guards for a canary that only a criterion is to decide on, and not by chance a handful of requests in a row.
fn without_outage() -> Value {
    json!([{"name": "outage", "off": true}])
}

/// Rolls back, and at once.
fn rolled_back(canary: &[&str], rps: u32, criteria: &Value, guards: &Value) -> Ended {
    let mut took_ms = Vec::new();
    while took_ms.len() < ATTEMPTS {
        let ended = rolled_back_once(canary, rps, criteria, guards);
        took_ms.push(ended.took_back_in_ms());
        if took_ms.iter().any(|took_ms| *took_ms <= AT_ONCE_MS) {
            return ended;
        }
    }
    panic!("weight 0 was proven after {took_ms:?} ms only");
}

/// Runs a release whose canary is bad from the first request on, to its end, with all the checks that every rollback has to stand.
fn rolled_back_once(canary: &[&str], rps: u32, criteria: &Value, guards: &Value) -> Ended {
    let place = Place::new(SERIN);
    let document = Document::sample_apps("bad", &["--latency=2ms"], canary)
        .set("workload.processes.stable.replicas", json!(2))
        .criteria(criteria.clone())
        .set("analysis.guards", guards.clone())
        .stage(20.0, "30s", 20);
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, rps, &[]);
    run.event("preflight-passed");
    let stable = place.pids("stable");
    assert_eq!(stable.len(), 2);
    run.event("rolled-back");
    let report = load.stop();
    report.assert_nothing_lost();
    assert!(report.count("by_version.v2") > 0, "{:#}", report.value);

    let after = place.load(&document, rps, &["--duration", "1s"]).end();
    after.assert_nothing_lost();
    assert_eq!(after.count("by_version.v1"), after.count("sent"), "{:#}", after.value);
    assert!(place.pids("canary").is_empty(), "the canary still runs: {:?}", place.replicas());
    assert_eq!(place.pids("stable"), stable, "stable was touched");

    run.interrupt();
    let ended = run.end();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    let report = &ended.last["report"];
    assert_eq!(report["end"]["result"], "rolled-back");
    assert_eq!(report["end"]["cause"]["kind"].get("person"), None, "{report:#}");
    assert_eq!(report["own_errors"], 0, "{report:#}");
    processes::assert_none_left(place.path());
    ended
}

#[test]
fn answers_with_errors() {
    let criteria = json!([
        {"metric": "error-rate", "max": "5%", "versusStable": {"ratio": 1.5, "increase": "0.5pp"}, "consecutive": 3},
        {"metric": "latency-p99", "max": "5s"},
    ]);
    let ended = rolled_back(&["--latency=2ms", "--error-rate=15%"], 500, &criteria, &without_outage());
    assert_eq!(ended.last["report"]["end"]["cause"]["kind"], json!({"criterion": {"name": "error-rate"}}));
    let cause = ended.cause();
    for part in ["error-rate: canary ", "%", "limit at most 5 %", "against 0 %"] {
        assert!(cause.contains(part), "{part} is missing in: {cause}");
    }
}

#[test]
fn fails_altogether() {
    let criteria = json!([{"metric": "error-rate", "max": "5%", "for": "10s"}]);
    let ended = rolled_back(&["--error-rate=100%"], 300, &criteria, &json!([]));
    assert_eq!(ended.last["report"]["end"]["cause"]["kind"], json!({"guard": {"name": "outage"}}), "faster than the criterion may be");
    assert!(ended.cause().starts_with("outage: canary 100 %"), "{}", ended.cause());
}

#[test]
fn answers_slowly() {
    let criteria = json!([
        {"metric": "error-rate", "max": "5%"},
        {"metric": "latency-p95", "versusStable": {"ratio": 3, "increase": "100ms"}, "consecutive": 3},
    ]);
    let ended = rolled_back(&["--latency=400ms"], 300, &criteria, &without_outage());
    assert_eq!(ended.last["report"]["end"]["cause"]["kind"], json!({"criterion": {"name": "latency-p95"}}));
    let cause = ended.cause();
    for part in [" ms", "against ", "limit "] {
        assert!(cause.contains(part), "{part} is missing in: {cause}");
    }
    // At least what the canary takes its time for, and what a busy machine adds.
    let value = cause.strip_prefix("latency-p95: canary ").and_then(|rest| rest.split(' ').next()?.replace(',', "").parse::<f64>().ok());
    assert!(value.is_some_and(|value_ms| (400.0..10_000.0).contains(&value_ms)), "{cause}");
}
