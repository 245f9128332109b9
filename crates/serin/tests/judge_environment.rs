//! A canary that breaks what both versions share keeps a ratio of one. The sequential judge takes its traffic away within seconds
//! and blames it once stable recovers without it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::json;
use serin_testkit::{Document, Place};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// The canary's traffic is gone this soon after both began to fail.
const WITHIN_MS: u64 = 10_000;

#[test]
fn breaks_what_both_share() {
    let place = Place::new(SERIN);
    let document = Document::sample_apps("sharing", &["--error-rate=0.5%"], &["--error-rate=0.5%"])
        .judge("sequential")
        .set("analysis.retreat", json!({"recoverWithin": "40s"}))
        .stage(5.0, "10m", 1000);
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, 200, &[]);
    let begun = run.stage(1);
    // Stable first: at no moment may the canary be the only one that fails.
    place.behave("stable", &json!({"error_rate": 0.6}));
    place.behave("canary", &json!({"error_rate": 0.6}));
    let retreated = run.event("retreated");
    let gone = run.wait_for("the proof that the canary has no traffic", |line| {
        line["event"]["type"] == "weight-proven" && line["event"]["weight"] == 0 && line["seq"].as_u64() > retreated["seq"].as_u64()
    });
    let within_ms = gone["at_ms"].as_u64().unwrap() - begun["at_ms"].as_u64().unwrap();
    assert!(within_ms <= WITHIN_MS, "after {within_ms} ms");
    let text = retreated["event"]["cause"]["text"].as_str().unwrap();
    assert!(text.contains("; stable ") && text.contains("limit "), "{text}");
    assert!(run.events("rollback-decided").is_empty(), "{}", run.story());

    place.behave("stable", &json!({"error_rate": 0.005}));
    run.event("rolled-back");
    load.stop().assert_nothing_lost();
    run.interrupt();
    let ended = run.end();
    assert_eq!((ended.code, ended.decided_by().as_str()), (Some(4), "interference"), "{}", ended.story());
    assert!(ended.cause().contains("stable kept its limits again"), "{}", ended.cause());
}
