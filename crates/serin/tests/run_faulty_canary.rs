//! A canary that does not work at all: each way to fail ends in a rollback that says what it was, and clients notice nothing.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::json;
use serin_testkit::{Document, Ended, Place, processes};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// Only Serin's watch over processes and connections is to decide here.
fn lenient(canary: &[&str]) -> Document {
    Document::sample_apps("faulty", &[], canary)
        .criteria(json!([{"metric": "request-rate", "max": "1000000rps"}]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]))
        .set("traffic.embedded.timeouts", json!({"connect": "2s", "response": "3s"}))
        .set("workload.processes.canary.restart", json!({"backoff": "50ms", "maxBackoff": "100ms", "limit": 2, "window": "1m"}))
        .stage(20.0, "40s", 20)
}

/// Runs the release to its end under load: rolled back by itself, no request lost, stable untouched, nothing left.
fn rolled_back(document: &Document) -> Ended {
    let place = Place::new(SERIN);
    let run = place.run(document, &["--keep-serving"]);
    let load = place.load(document, 200, &[]);
    run.event("preflight-passed");
    let stable = place.pids("stable");
    run.event("rolled-back");
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(place.pids("stable"), stable, "stable was touched");
    assert!(place.pids("canary").is_empty(), "the canary still runs: {:?}", place.replicas());
    run.interrupt();
    let ended = run.end();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_eq!(ended.last["report"]["own_errors"], 0, "{}", ended.last);
    processes::assert_none_left(place.path());
    ended
}

fn assert_cause(ended: &Ended, parts: &[&str]) {
    // A failed start is noticed by two watchers; whichever comes first says the same.
    let kind = &ended.last["report"]["end"]["cause"]["kind"];
    assert!(kind == "workload" || (kind == "effect" && ended.events("deployed").is_empty()), "{kind}: {}", ended.cause());
    for part in parts {
        assert!(ended.cause().contains(part), "{part} is missing in: {}", ended.cause());
    }
}

fn assert_got_no_traffic(ended: &Ended) {
    assert!(ended.events("stage-entered").is_empty(), "{}", ended.story());
    assert_eq!(ended.last["report"]["totals"][1], json!({"by_weight": 0, "matched": 0, "preview": 0, "errors": 0, "rescues": 0}));
}

#[test]
fn never_becomes_ready() {
    let document = lenient(&["--never-ready"]).set("workload.processes.canary.ready.within", json!("3s"));
    let ended = rolled_back(&document);
    assert_cause(&ended, &["canary-1", "not ready", "503"]);
    assert_got_no_traffic(&ended);
}

#[test]
fn exits_at_start() {
    // Not at once: the load beside it has to send something first.
    let command = json!(["sh", "-c", "sleep 2; echo no database >&2; exit 3"]);
    let ended = rolled_back(&lenient(&[]).set("workload.processes.canary.command", command));
    assert_cause(&ended, &["canary-1", "exited with code 3", "no database"]);
    assert_got_no_traffic(&ended);
}

#[test]
fn crashes_again_and_again() {
    let ended = rolled_back(&lenient(&["--crash-after=2s"]));
    assert_cause(&ended, &["canary-1", "restarted 2 times", "exited with code 70"]);
}

#[test]
fn hangs() {
    let ended = rolled_back(&lenient(&["--hang-after=3s"]).set("workload.processes.canary.ready.timeout", json!("300ms")));
    assert_cause(&ended, &["no canary replica responds", "canary-1", "300 ms"]);
}

#[test]
fn answers_garbage() {
    let ended = rolled_back(&lenient(&["--garbage-after=3s"]));
    assert_cause(&ended, &["no canary replica responds", "canary-1"]);
}

#[test]
fn resets_connections() {
    let ended = rolled_back(&lenient(&["--reset-after=3s"]));
    assert_cause(&ended, &["no canary replica responds", "canary-1"]);
}

#[test]
fn does_not_exist() {
    let place = Place::new(SERIN);
    let document = lenient(&[]).set("workload.processes.canary.command", json!(["./no-such-program"]));
    let ended = place.run(&document, &[]).end();
    assert_eq!(ended.code, Some(3), "{}", ended.story());
    assert_eq!(ended.last["type"], "error");
    let error = ended.last["error"].as_str().unwrap();
    assert!(error.contains("canary command") && error.contains("no-such-program"), "{error}");
    assert!(ended.lines.iter().all(|line| line["type"] != "event"), "something was begun: {}", ended.story());
    assert_eq!(processes::mentioning(place.path()), []);
}
