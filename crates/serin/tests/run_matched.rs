//! Requests that a declared rule sends to the canary: never compared with stable, and still held to absolute limits.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use serin_testkit::{Document, Ended, LoadReport, Place};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// The canary answers everybody but the testers, all of whose requests fail.
fn run(criteria: Value) -> (Ended, LoadReport, LoadReport) {
    let place = Place::new(SERIN);
    let document = Document::sample_apps("matched", &[], &["--fail-header=x-canary=true"])
        .set("traffic.embedded.match", json!([{"header": {"x-canary": "true"}}]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]))
        .criteria(criteria)
        .stage(20.0, "3s", 100)
        .stage(50.0, "1s", 50);
    let run = place.run(&document, &["--keep-serving"]);
    let everybody = place.load(&document, 200, &[]);
    run.event("deployed");
    let testers = place.load(&document, 60, &["--header", "x-canary: true"]);
    run.wait_for("the end", |line| ["succeeded", "rolled-back"].iter().any(|kind| line["event"]["type"] == *kind));
    let (everybody, testers) = (everybody.stop(), testers.stop());
    everybody.assert_nothing_lost();
    testers.assert_nothing_lost();
    run.interrupt();
    (run.end(), everybody, testers)
}

#[test]
fn are_not_compared_with_stable() {
    let (ended, everybody, testers) =
        run(json!([{"metric": "error-rate", "versusStable": {"ratio": 1.5, "increase": "2pp"}, "consecutive": 2}]));
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    assert_eq!(everybody.count("by_class.2xx"), everybody.count("sent"), "{:#}", everybody.value);
    // Not a test of nothing: in the stages more than half of the canary's requests were the testers', and failed.
    assert!(testers.count("by_code.500") > 100, "{:#}", testers.value);
    let canary = &ended.last["report"]["totals"][1];
    assert!(canary["matched"].as_u64() > Some(100), "{canary}");
}

#[test]
fn are_held_to_absolute_limits() {
    let (ended, everybody, _) = run(json!([{"metric": "error-rate", "max": "5%", "consecutive": 2}]));
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_eq!(ended.last["report"]["end"]["cause"]["kind"], json!({"criterion": {"name": "error-rate"}}));
    assert!(ended.cause().contains("matched requests: 100 %"), "{}", ended.cause());
    assert_eq!(everybody.count("by_class.2xx"), everybody.count("sent"), "{:#}", everybody.value);
}
