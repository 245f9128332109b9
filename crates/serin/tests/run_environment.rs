//! Both versions start to fail at the same time: the canary loses its traffic while it is found out who causes it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use serin_testkit::{Document, Place, Release, http, processes, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn shaken(recover_within: &str) -> Document {
    Document::sample_apps("shaken", &[], &[])
        .criteria(json!([{"metric": "error-rate", "max": "20%", "consecutive": 4}]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]))
        .set("analysis.retreat", json!({"recoverWithin": recover_within, "otherwise": "pause"}))
        .stage(50.0, "60s", 20)
}

fn set_error_rate(place: &Place, replica: &str, error_rate: f64) {
    let app = processes::address(place.path(), replica).unwrap();
    http::behave(app, &json!({"error_rate": error_rate}));
}

/// From a release in its stage to the retreat.
fn retreat(place: &Place, run: &Release) -> Value {
    run.stage(1);
    // Stable first: at no evaluation may the canary be the only one that breaks the limit.
    set_error_rate(place, "stable-1", 1.0);
    set_error_rate(place, "canary-1", 1.0);
    let retreated = run.event("retreated");
    run.wait_for("the proof that the canary has no traffic", |line| {
        line["event"]["type"] == "weight-proven" && line["event"]["weight"] == 0 && line["seq"].as_u64() > retreated["seq"].as_u64()
    });
    retreated
}

#[test]
fn stable_recovers_without_the_canary() {
    let place = Place::new(SERIN);
    let document = shaken("40s");
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, 200, &[]);
    let retreated = retreat(&place, &run);
    let text = retreated["event"]["cause"]["text"].as_str().unwrap();
    assert!(text.starts_with("error-rate: canary ") && text.contains("stable breaks it too"), "{text}");
    assert!(run.events("rollback-decided").is_empty(), "{}", run.story());
    set_error_rate(&place, "stable-1", 0.0);
    run.event("rolled-back");
    load.stop().assert_nothing_lost();
    run.interrupt();
    let ended = run.end();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_eq!(ended.last["report"]["end"]["cause"]["kind"], "interference");
    assert!(ended.cause().contains("stable kept its limits again"), "{}", ended.cause());
}

#[test]
fn stable_does_not_recover() {
    let place = Place::new(SERIN);
    let document = shaken("3s");
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, 200, &[]);
    retreat(&place, &run);
    let paused = run.event("paused");
    let reason = paused["event"]["reason"].as_str().unwrap();
    assert!(reason.contains("stable did not recover in time without the canary"), "{reason}");
    assert!(run.events("rollback-decided").is_empty(), "the canary is not to blame: {}", run.story());
    let status = wait::until("a status that asks for a person", || {
        Some(place.status()).filter(|status| status["status"]["wait"]["operator"] == true)
    });
    assert_eq!((&status["status"]["weight"], &status["status"]["phase"]), (&json!(0), &json!("retreated")), "{status:#}");
    assert_eq!(place.pids("canary").len(), 1, "it keeps running without traffic");
    let aborted = place.serin(&["abort"]);
    assert!(aborted.status.success(), "{aborted:?}");
    run.event("rolled-back");
    load.stop().assert_nothing_lost();
    run.interrupt();
    assert_eq!(run.end().code, Some(4));
    processes::assert_none_left(place.path());
}
