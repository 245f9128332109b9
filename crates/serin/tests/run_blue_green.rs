//! Blue-green behind the built-in proxy: nobody sees green but through the preview address, then everybody does, and back within moments.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value, json};
use serin_testkit::{Document, Ended, Load, Place, Release, http, processes, prompt, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
/// Requests of each look at who answers.
const LOOKS: usize = 40;

/// Waits for a person after the preview, so that nothing in it depends on who is faster.
fn gated(bake: &str) -> Document {
    Document::sample_apps("switch", &[], &[]).blue_green(&json!({"gate": "manual"}), bake)
}

fn begin(document: &Document) -> (Place, Release, Load) {
    let place = Place::new(SERIN);
    let release = place.run(document, &["--keep-serving"]);
    let load = place.load(document, 200, &[]);
    (place, release, load)
}

#[track_caller]
fn say(place: &Place, args: &[&str]) -> prompt::Finished {
    let mut command = place.command(args);
    prompt::clean(&mut command);
    prompt::finish(command, None)
}

/// Every one of some requests is answered by this version.
#[track_caller]
fn assert_all(address: SocketAddr, version: &str) {
    for _ in 0..LOOKS {
        assert_eq!(http::get(address, "/", &[]).unwrap().version(), version);
    }
}

#[track_caller]
fn assert_closed(preview: SocketAddr) {
    wait::until("the preview to close", || std::net::TcpStream::connect(preview).is_err().then_some(()));
}

/// The canary's share of every change that was asked for, and whether it had the preview beside it.
fn shifts(lines: &[Value]) -> Vec<(u64, bool)> {
    let shifts = lines.iter().filter(|line| line["event"]["type"] == "requested").map(|line| &line["event"]["effect"]["shift"]);
    shifts.filter_map(|shift| Some((shift["weight"].as_u64()?, shift["preview"] == true))).collect()
}

fn by_weight(place: &Place, arm: usize) -> u64 {
    place.status()["status"]["arms"][arm]["totals"]["by_weight"].as_u64().unwrap_or(0)
}

/// Rolled back by itself; nothing is left, no request was lost.
fn back(place: &Place, release: Release, load: Load) -> Ended {
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_eq!(ended.last["report"]["own_errors"], 0, "{}", ended.last);
    processes::assert_none_left(place.path());
    ended
}

#[test]
fn a_good_green_is_seen_by_nobody_and_then_by_everybody() {
    let document = gated("1s");
    let (place, release, load) = begin(&document);
    release.event("approval-awaited");
    wait::until("traffic on stable", || (by_weight(&place, 0) >= 200).then_some(()));
    assert_all(document.listen, "v1");
    assert_all(document.preview(), "v2");
    let status = place.status()["status"].clone();
    assert_eq!(status["preview"], json!(document.preview().to_string()), "{status:#}");
    assert_eq!((&status["stages"][0]["preview"], &status["weight"]), (&json!(true), &json!(0)), "{status:#}");
    wait::until("the preview's requests in the counters", || {
        let totals = &place.status()["status"]["arms"][1]["totals"];
        (totals["preview"].as_u64().unwrap() >= LOOKS as u64).then(|| assert_eq!(totals["by_weight"], 0, "{totals}"))
    });

    let _ = say(&place, &["approve"]).expect_code(0);
    let seen = release.event("switch-seen");
    assert!(seen["event"]["requests"].as_u64() > Some(0), "{seen}");
    assert_all(document.listen, "v2");
    assert_closed(document.preview());
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    assert_eq!(shifts(&ended.lines), [(0, true), (10_000, false)], "{}", ended.story());
    processes::assert_none_left(place.path());
}

#[test]
fn a_green_that_fails_in_the_preview_is_never_switched_to() {
    let document = Document::sample_apps("bad", &[], &["--error-rate=100%"]).blue_green(&json!({}), "1s");
    let (place, release, load) = begin(&document);
    release.event("rolled-back");
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.count("by_version.v2"), 0, "{:#}", report.value);
    assert_closed(document.preview());
    release.interrupt();
    let ended = release.end();
    assert_eq!((ended.code, ended.decided_by().as_str()), (Some(4), "home"), "{}", ended.story());
    assert!(ended.cause().contains("GET / answered 500"), "{}", ended.cause());
    assert_eq!(shifts(&ended.lines), [(0, true), (0, false)]);
    let totals = &ended.last["report"]["totals"][1];
    assert!(totals["by_weight"] == 0 && totals["preview"].as_u64() > Some(0), "{totals}");
    processes::assert_none_left(place.path());
}

#[test]
fn a_green_that_fails_after_the_switch_is_held_against_what_blue_was_before() {
    let document = gated("10m").judge("sequential").set("analysis.guards", json!([{"name": "outage", "off": true}]));
    let (place, release, load) = begin(&document);
    release.event("approval-awaited");
    // What is compared with has to be known.
    wait::until("traffic on stable", || (by_weight(&place, 0) >= 400).then_some(()));
    let _ = say(&place, &["approve"]).expect_code(0);
    release.event("switch-seen");
    place.behave("canary", &json!({"error_rate": 0.3}));
    release.event("rolled-back");
    assert_all(document.listen, "v1");
    let ended = back(&place, release, load);
    assert_eq!(ended.decided_by(), "error-rate", "{}", ended.story());
    assert!(ended.cause().contains("from before the switch"), "{}", ended.cause());
}

#[test]
fn a_green_whose_processes_die_after_the_switch_is_left_at_once() {
    // It would come back in time for nothing to be noticed, if it were not kept from it.
    // Nor shall its failed requests decide, which stable answers meanwhile.
    let document = gated("10m")
        .set("workload.processes.canary.restart", json!({"backoff": "10m", "maxBackoff": "10m"}))
        .criteria(json!([{"metric": "request-rate", "max": "1000000rps"}]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]));
    let (place, release, load) = begin(&document);
    release.event("approval-awaited");
    let _ = say(&place, &["approve"]).expect_code(0);
    release.event("switch-seen");
    for pid in place.pids("canary") {
        processes::signal(pid, Signal::KILL);
    }
    release.event("rolled-back");
    assert_all(document.listen, "v1");
    let ended = back(&place, release, load);
    assert_eq!(ended.decided_by(), "workload", "{}", ended.story());
    assert!(ended.cause().contains("no replica of the canary is ready"), "{}", ended.cause());
    let at = |kind: &str| ended.lines.iter().position(|line| line["event"]["type"] == kind).unwrap();
    let stops = ended.lines.iter().position(|line| line["event"]["effect"] == "stop-canary").unwrap();
    assert!(at("rollback-decided") < at("traffic-returned") && at("traffic-returned") < stops, "{}", ended.story());
}

#[test]
fn control_dies_between_the_preview_and_the_switch() {
    let document = gated("1s");
    let (place, release, load) = begin(&document);
    release.event("approval-awaited");
    let before = (place.replicas(), processes::proxy(place.path()));
    drop(release.kill());
    assert_all(document.listen, "v1");
    assert_all(document.preview(), "v2");

    let release = place.run(&document, &["--keep-serving"]);
    release.event("taken-over");
    wait::until("the release to wait for a person again", || (place.status()["status"]["phase"] == "awaiting approval").then_some(()));
    assert_eq!((place.replicas(), processes::proxy(place.path())), before, "something was started anew");
    assert_all(document.listen, "v1");
    assert_all(document.preview(), "v2");
    // And once more, as soon as the decision is durable.
    let _ = say(&place, &["approve"]).expect_code(0);
    drop(release.kill());
    let release = place.run(&document, &["--keep-serving"]);
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    let journal = say(&place, &["history", "--output", "json"]).json_lines();
    let asked = shifts(&journal);
    assert_eq!((asked.first(), asked.last()), (Some(&(0, true)), Some(&(10_000, false))), "{asked:?}");
    assert!(asked.iter().all(|(weight, preview)| *weight == 0 || (*weight == 10_000 && !preview)), "{asked:?}");
    processes::assert_none_left(place.path());
}
