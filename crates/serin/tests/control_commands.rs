//! The second terminal: people pause, resume, set weights, approve, reject, promote and abort, and the journal says who and why.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use serin_testkit::{
    Document, Place, Release, http, processes,
    prompt::{self, Finished, clean, finish},
    wait,
};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn say(place: &Place, args: &[&str]) -> Finished {
    let mut command = place.command(args);
    clean(&mut command);
    finish(command, None)
}

fn me() -> String {
    prompt::me("tester")
}

fn status(place: &Place) -> Value {
    place.status()["status"].clone()
}

fn held_ms(place: &Place) -> u64 {
    status(place)["stages"][0]["held_ms"].as_u64().unwrap()
}

/// What a stage waits for is time; everything else is seen at once.
fn document(name: &str) -> Document {
    Document::sample_apps(name, &[], &[]).bake("500ms")
}

#[track_caller]
fn refused(place: &Place, args: &[&str], part: &str) {
    let finished = say(place, args).expect_code(2);
    assert_eq!(finished.stdout, "");
    assert!(finished.stderr.starts_with("error: ") && finished.stderr.contains(part), "{args:?}: {}", finished.stderr);
    let data = say(place, &[args, &["--output", "json"]].concat()).expect_code(2).json();
    assert_eq!(data["accepted"], json!(false), "{data}");
    assert!(data["text"].as_str().unwrap().contains(part), "{data}");
}

#[track_caller]
fn accepted(place: &Place, args: &[&str]) {
    let data = say(place, &[args, &["--output", "json"]].concat()).expect_code(0).json();
    assert_eq!(data, json!({"accepted": true, "text": "accepted"}));
}

#[test]
fn while_paused_the_time_of_the_stage_stands_still() {
    let place = Place::new(SERIN);
    let document = document("paused").stage(50.0, "4s", 20);
    let load = place.load(&document, 100, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    wait::until("some time held", || (held_ms(&place) > 300).then_some(()));
    accepted(&place, &["pause", "--reason", "lunch"]);
    let paused = release.event("paused");
    assert_eq!((&paused["event"]["by"], &paused["event"]["reason"]), (&json!(me()), &json!("lunch")));
    refused(&place, &["pause"], "already paused: lunch");
    refused(&place, &["approve"], "nothing waits for approval");

    let text = say(&place, &["status"]);
    assert_eq!(text.code, 5, "a paused release needs an operator: {}", text.stdout);
    assert!(text.stdout.lines().next().unwrap().contains("· paused"), "{}", text.stdout);
    assert!(text.stdout.contains("waiting: paused: lunch"), "{}", text.stdout);

    // Longer than the whole stage: the release's own clock says so.
    let (held, since) = (held_ms(&place), status(&place)["elapsed_ms"].as_u64().unwrap());
    wait::until("more time than the stage has", || (status(&place)["elapsed_ms"].as_u64().unwrap() > since + 4_500).then_some(()));
    assert_eq!(held_ms(&place), held, "time ran while paused");
    assert_eq!(release.events("stage-passed").len(), 0);
    assert_eq!(status(&place)["weight"], json!(5000), "the weight stays");

    accepted(&place, &["resume", "--reason", "back again"]);
    let resumed = release.event("resumed");
    assert_eq!((&resumed["event"]["by"], &resumed["event"]["reason"]), (&json!(me()), &json!("back again")));
    refused(&place, &["resume"], "the release is not paused");
    let passed = release.event("stage-passed");
    let rest = passed["at_ms"].as_u64().unwrap() - resumed["at_ms"].as_u64().unwrap();
    assert!(rest >= 4_000 - held - 300, "held {held} ms before and {rest} ms after the pause are no 4 s");
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    processes::assert_none_left(place.path());
}

#[test]
fn a_weight_set_by_hand_is_measured_and_ends_with_resume() {
    let place = Place::new(SERIN);
    let document = document("by-hand").stage(50.0, "4s", 20);
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    accepted(&place, &["weight", "10", "--reason", "careful"]);
    let overridden = release.event("overridden");
    assert_eq!(overridden["event"], json!({"type": "overridden", "weight": 1000, "by": me(), "reason": "careful"}));
    assert_eq!(release.event("paused")["event"]["by"], json!(me()));
    let proven = release.wait_for("proof of 10 %", |line| line["event"]["type"] == "weight-proven" && line["event"]["weight"] == 1000);
    assert!(proven["seq"].as_u64() > overridden["seq"].as_u64());
    assert_eq!((&status(&place)["weight"], &status(&place)["paused"]), (&json!(1000), &json!(true)));

    // Measured by what the proxy counts from now on.
    let served = |status: &Value| [0, 1].map(|arm| status["arms"][arm]["totals"]["by_weight"].as_u64().unwrap());
    let before = served(&status(&place));
    let after = wait::until("400 requests", || {
        let now = served(&status(&place));
        (now[0] + now[1] >= before[0] + before[1] + 400).then_some(now)
    });
    let (canary, all) = (after[1] - before[1], after[0] + after[1] - before[0] - before[1]);
    let share = canary as f64 / all as f64;
    // Five standard deviations of 10 % in 400.
    assert!((share - 0.1).abs() < 0.075, "{canary} of {all} requests at 10 %");
    assert_eq!(release.events("stage-passed").len(), 0, "a stage passed at a weight that is not its own");

    accepted(&place, &["resume"]);
    let back = release.wait_for("proof of 50 % again", |line| {
        line["event"]["type"] == "weight-proven" && line["event"]["weight"] == 5000 && line["seq"].as_u64() > proven["seq"].as_u64()
    });
    let passed = release.event("stage-passed");
    let held = passed["at_ms"].as_u64().unwrap() - back["at_ms"].as_u64().unwrap();
    assert!(held >= 4_000, "the stage begins anew at its own weight, but was held {held} ms only");
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
}

#[test]
fn a_manual_gate_waits_for_approval() {
    let place = Place::new(SERIN);
    let document = document("gated").stage_with(gate()).stage(100.0, "500ms", 20);
    let load = place.load(&document, 100, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.event("approval-awaited");
    let text = say(&place, &["status"]).expect_code(5);
    assert!(text.stdout.contains("waiting: approval to leave 50 %: `approve` or `reject`"), "{}", text.stdout);
    assert_eq!(release.events("stage-entered").len(), 1);
    refused(&place, &["resume"], "the release is not paused; it waits for `approve`");
    accepted(&place, &["pause", "--reason", "not now"]);
    refused(&place, &["approve"], "the release is paused: `resume` first, then `approve`");
    accepted(&place, &["resume"]);
    accepted(&place, &["approve", "--reason", "looks\u{7} good\n\u{1b}[31m"]);
    let approved = release.event("approved");
    assert_eq!(approved["event"]["by"], json!(me()));
    assert_eq!(approved["event"]["reason"], json!("looks  good  [31m"), "control characters stay out of the journal");
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
}

#[test]
fn a_manual_gate_rejected_is_a_rollback_by_a_person() {
    let place = Place::new(SERIN);
    let document = document("rejected").stage_with(gate());
    let load = place.load(&document, 100, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    let _ = release.event("approval-awaited");
    accepted(&place, &["reject", "--reason", "prices are wrong"]);
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_eq!(ended.cause(), format!("rejected by {}: prices are wrong", me()));
    assert_eq!(ended.last["report"]["end"]["cause"]["kind"], json!({"person": {"by": me()}}));
    processes::assert_none_left(place.path());
}

#[test]
fn promote_skips_stages_and_still_bakes() {
    let place = Place::new(SERIN);
    let document = document("promoted").stage(5.0, "60s", 20).stage(50.0, "60s", 20).bake("5s");
    let load = place.load(&document, 100, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    accepted(&place, &["promote", "--reason", "urgent fix"]);
    let event = release.event("promoted-by-person");
    assert_eq!((&event["event"]["by"], &event["event"]["reason"]), (&json!(me()), &json!("urgent fix")));
    let baking = release.event("bake-started");
    refused(&place, &["promote"], "only a release in a stage can be promoted; this one is baking");
    refused(&place, &["weight", "10"], "the weight can be set during a stage only; the release is baking");
    let passed = release.event("bake-passed");
    assert!(passed["at_ms"].as_u64().unwrap() - baking["at_ms"].as_u64().unwrap() >= 5_000);
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    assert_eq!(ended.events("stage-entered").len(), 1);
}

#[test]
fn abort_takes_everything_back_at_any_time() {
    let place = Place::new(SERIN);
    let document = document("aborted").stage(50.0, "60s", 20);
    for (moment, wait_for) in [("deploying", "began"), ("in a stage", "weight-proven"), ("paused", "paused")] {
        let load = place.load(&document, 100, &["--duration", "2s"]);
        let release = place.run(&document, &["--keep-serving"]);
        let first = if moment == "paused" {
            let _ = release.stage(1);
            accepted(&place, &["pause"]);
            release.event(wait_for)
        } else {
            release.event(wait_for)
        };
        accepted(&place, &["abort", "--reason", "we must stop"]);
        let decided = release.event("rollback-decided");
        assert!(decided["seq"].as_u64() > first["seq"].as_u64(), "{moment}");
        assert_eq!(decided["event"]["cause"]["text"], format!("aborted by {}: we must stop", me()), "{moment}");
        let _ = release.event("rolled-back");
        // Serving on, so that every request of the load has somebody to answer it.
        load.end().assert_nothing_lost();
        refused_when_over(&place, &release);
        release.interrupt();
        let ended = release.end();
        assert_eq!(ended.code, Some(4), "{moment}: {}", ended.story());
        processes::assert_none_left(place.path());
    }
}

#[test]
fn commands_where_nothing_runs() {
    let place = Place::new(SERIN);
    for args in [&["pause"][..], &["resume"], &["approve"], &["reject"], &["weight", "10"], &["promote"], &["abort"]] {
        refused(&place, args, "no release is running in ");
        refused(&place, args, "if it runs elsewhere, name its state folder with --state");
    }
    assert!(!place.state().exists(), "a command made a state folder");
}

#[test]
fn nobody_comes_in_a_pipe() {
    let place = Place::new(SERIN);
    let document = document("alone").stage_with(gate());
    let load = place.load(&document, 100, &[]);
    let release = place.run(&document, &["--wait-for-operator", "1s"]);
    let ended = release.end();
    assert_eq!(ended.code, Some(5), "{}", ended.story());
    assert_eq!(ended.last["report"]["end"], json!({"result": "operator-needed", "why": "approval to leave 50 %: `approve` or `reject`"}));
    assert_eq!(place.replicas().len(), 2, "everything is left running");
    let versions: BTreeSet<String> = (0..40).map(|_| http::get(document.listen, "/", &[]).unwrap().version().to_owned()).collect();
    assert_eq!(versions, BTreeSet::from(["v1".to_owned()]), "a canary without a judge gets no traffic");
    refused(&place, &["approve"], "no release is running in ");
    let text = say(&place, &["status"]).expect_code(5);
    assert!(text.stdout.contains("interrupted while awaiting approval; `serin run` goes on with it"), "{}", text.stdout);

    let pids = place.replicas();
    let release = Release::start(place.command(&["--output", "json", "run", "--keep-serving"]));
    let _ = release.event("taken-over");
    accepted(&place, &["approve"]);
    let _ = release.event("bake-started");
    assert_eq!(place.replicas(), pids);
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    processes::assert_none_left(place.path());
}

fn gate() -> Value {
    json!({"weight": 50, "hold": "500ms", "minRequests": 20, "gate": "manual"})
}

/// The release is over, but serves on: there is nothing to command any more.
fn refused_when_over(place: &Place, release: &Release) {
    let _ = release.wait_for("serving on", |line| line["text"].as_str().is_some_and(|text| text.contains("serving on until interrupted")));
    refused(place, &["promote"], "no release is running in ");
}
