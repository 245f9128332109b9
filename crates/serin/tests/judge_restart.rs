//! The control process is killed with -9 in the middle of a stage: what the sequential judge had seen by then still counts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use serin_testkit::{Document, Place, Release, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
/// Too few failures for a verdict, and too many to be without weight in it.
const FAILURES_BEFORE: u64 = 4;

/// What a text says of both versions: `9 of 212 against 31 of 4,020` as failed and all requests, the canary's first.
fn counts(text: &str) -> Option<[u64; 4]> {
    let (canary, stable) = text.split_once(" against ")?;
    let number = |word: &str| word.trim_end_matches([',', ';', ')']).replace(',', "").parse::<u64>().ok();
    let mut canary = canary.rsplit(' ').filter(|word| *word != "of");
    let mut stable = stable.split(' ').filter(|word| *word != "of");
    let (requests, failed) = (number(canary.next()?)?, number(canary.next()?)?);
    Some([failed, requests, number(stable.next()?)?, number(stable.next()?)?])
}

fn criterion(place: &Place) -> Option<Value> {
    place.status()["status"]["criteria"].as_array()?.iter().find(|one| one["name"] == "error-rate").cloned()
}

fn counts_now(place: &Place) -> Option<[u64; 4]> {
    counts(criterion(place)?["text"].as_str()?)
}

#[test]
fn evidence_outlives_the_control_process() {
    let place = Place::new(SERIN);
    // At 50 % with a clean stable a verdict takes twelve failures, whatever the luck.
    let document = Document::sample_apps("killed", &[], &["--error-rate=1%"])
        .judge("sequential")
        .criteria(json!([{"metric": "error-rate", "versusStable": {"ratio": 1.5}}]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]))
        .stage(50.0, "10m", 1000);
    let load = place.load(&document, 200, &[]);
    let run = place.run(&document, &["--keep-serving"]);
    run.stage(1);
    let before = wait::until("failures of the canary", || counts_now(&place).filter(|counts| counts[0] >= FAILURES_BEFORE));
    let said = run.kill();
    assert!(said.iter().all(|line| line["event"]["type"] != "rollback-decided"), "decided too soon for this test");

    let run = Release::start(place.command(&["--output", "json", "run", "--keep-serving"]));
    run.event("taken-over");
    assert!(run.events("stage-entered").is_empty(), "the stage was begun anew: {}", run.story());
    let after = wait::until("the criterion", || counts_now(&place));
    for (after, before) in after.iter().zip(before) {
        assert!(*after >= before, "{after} after the kill, {before} before it");
    }
    run.event("rolled-back");
    load.stop().assert_nothing_lost();
    run.interrupt();
    let ended = run.end();
    assert_eq!((ended.code, ended.decided_by().as_str()), (Some(4), "error-rate"), "{}", ended.story());
    let told = counts(&ended.cause()).unwrap_or_else(|| panic!("no counts: {}", ended.cause()));
    for (told, after) in told.iter().zip(after) {
        assert!(*told >= after, "{told} at the end, {after} before: {}", ended.cause());
    }
    // All that failed on the canary is in the evidence, what failed before the kill too.
    assert!(told[0] + 3 >= ended.canary_errors(), "{} of {} failures count: {}", told[0], ended.canary_errors(), ended.cause());
    assert!(ended.canary_errors() <= 40, "{} failed requests: {}", ended.canary_errors(), ended.cause());
}
