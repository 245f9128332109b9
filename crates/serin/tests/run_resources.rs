//! Limits on what the canary's processes use.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use rustix::process::Signal;
use serde_json::{Value, json};
use serin_testkit::{Document, Place, Release, processes};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// The sample app with something beside it, in the same process group.
fn canary_with(beside: &str) -> Value {
    json!(["sh", "-c", format!("{beside} & exec \"$0\" sample-app --version=v2 \"--port=$PORT\""), "{{serin}}"])
}

fn rolled_back(criterion: &Value, canary: Option<Value>, meddle: impl FnOnce(&Place, &Release)) -> String {
    let place = Place::new(SERIN);
    let mut document = Document::sample_apps("greedy", &[], &[])
        .criteria(json!([criterion]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]))
        .stage(50.0, "60s", 20);
    if let Some(command) = canary {
        document = document.set("workload.processes.canary.command", command);
    }
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, 100, &[]);
    run.event("deployed");
    let stable = place.pids("stable");
    meddle(&place, &run);
    run.event("rolled-back");
    load.stop().assert_nothing_lost();
    assert_eq!((stable.len(), place.pids("stable")), (1, stable), "stable was touched");
    run.interrupt();
    let ended = run.end();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_eq!(ended.last["report"]["end"]["cause"]["kind"], json!({"criterion": {"name": criterion["metric"]}}));
    processes::assert_none_left(place.path());
    ended.cause()
}

/// The number after `canary`.
fn value(cause: &str) -> f64 {
    cause.split(' ').nth(2).unwrap().parse().unwrap()
}

/// All processes of the canary count: two apps need twice the memory of one.
#[test]
fn memory() {
    let criterion = json!({"metric": "memory", "versusStable": {"ratio": 1.5}, "consecutive": 2});
    let cause = rolled_back(&criterion, Some(canary_with("\"$0\" sample-app --port=0")), |_, _| {});
    assert!(cause.starts_with("memory: canary ") && cause.contains(" MiB against "), "{cause}");
    assert!((2.0..500.0).contains(&value(&cause)), "{cause}");
}

#[test]
fn cpu() {
    let criterion = json!({"metric": "cpu", "max": "25%", "consecutive": 2});
    let cause = rolled_back(&criterion, Some(canary_with("while :; do :; done")), |_, _| {});
    assert!(cause.starts_with("cpu: canary ") && cause.ends_with("limit at most 25 %"), "{cause}");
    assert!((25.0..250.0).contains(&value(&cause)), "{cause}");
}

#[test]
fn restarts() {
    let cause = rolled_back(&json!({"metric": "restarts", "max": 0}), None, |place, run| {
        run.stage(1);
        processes::signal(place.replicas()["canary-1"], Signal::KILL);
    });
    assert!(cause.starts_with("restarts: canary 1; limit at most 0"), "{cause}");
}
