//! Ctrl-C and `kill`: the first ends a release safely, the second at once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::thread;

use rustix::process::Signal;
use serde_json::json;
use serin_testkit::{Document, Place, http, processes, prompt, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn document(name: &str) -> Document {
    let matches = json!([{"header": {"x-canary": "true"}}]);
    Document::sample_apps(name, &[], &[])
        .stage(50.0, "60s", 20)
        .set("traffic.embedded.match", matches)
        .set("traffic.embedded.drain", json!("20s"))
}

/// A request to the canary that takes a while, and is there already.
fn slow_request(place: &Place, document: &Document, path: &'static str) -> thread::JoinHandle<std::io::Result<http::Answer>> {
    let listen = document.listen;
    let slow = thread::spawn(move || http::get(listen, path, &[("x-canary", "true")]));
    let canary = processes::address(place.path(), "canary-1").unwrap();
    wait::until("the slow request on the canary", || {
        let metrics = http::get(canary, "/metrics", &[]).ok()?.text();
        metrics.contains("http_requests_in_flight{version=\"v2\"} 1").then_some(())
    });
    slow
}

#[test]
fn the_first_signal_ends_the_release_safely() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = Place::new(SERIN);
        let document = document("safely");
        let release = place.run(&document, &[]);
        let _ = release.stage(1);
        let slow = slow_request(&place, &document, "/sleep/1500");
        release.signal(signal);
        let decided = release.event("rollback-decided");
        assert_eq!(decided["event"]["cause"]["kind"], json!({"person": {"by": "interrupt"}}));
        let _ = release.event("traffic-returned");
        let answer = slow.join().unwrap().unwrap();
        assert_eq!((answer.status, answer.version()), (200, "v2"), "the request under way was cut off");
        let ended = release.end();
        assert_eq!(ended.code, Some(130), "{}", ended.story());
        assert_eq!(ended.last["report"]["end"], json!({"result": "interrupted"}));
        assert_eq!(ended.events("rolled-back").len(), 1);
        assert!(
            ended.lines.iter().any(|line| line["text"].as_str().is_some_and(|text| text.starts_with("interrupted: traffic goes back")))
        );
        processes::assert_none_left(place.path());
        // The release is over: there is nothing to resume.
        let mut command = place.command(&["run"]);
        prompt::clean(&mut command);
        let _ = prompt::finish(command, None).expect_code(2);
    }
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let place = Place::new(SERIN);
    let document = document("at-once");
    let release = place.run(&document, &[]);
    let _ = release.stage(1);
    let slow = slow_request(&place, &document, "/sleep/19000");
    release.interrupt();
    let _ = release.event("rollback-decided");
    let _ = release.event("traffic-returned");
    release.interrupt();
    let ended = release.end();
    assert_eq!(ended.code, Some(130), "{}", ended.story());
    assert_eq!(ended.last["report"]["end"], json!({"result": "forced"}));
    assert_eq!(ended.events("rolled-back").len(), 0, "it waited for the slow request");
    assert!(slow.join().unwrap().is_err(), "it waited for the slow request");
    processes::assert_none_left(place.path());

    // What was cut short is brought to its end by the next run.
    let release = place.run(&document, &[]);
    let _ = release.event("taken-over");
    let ended = release.end();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert!(ended.cause().contains("by interrupt"), "{}", ended.cause());
    processes::assert_none_left(place.path());
}

#[test]
fn a_signal_before_the_release_began() {
    let place = Place::new(SERIN);
    let document = Document::sample_apps("early", &["--never-ready"], &[]).stage(50.0, "1s", 20);
    let release = place.run(&document, &[]);
    wait::until("stable's process", || (!place.pids("stable").is_empty()).then_some(()));
    release.interrupt();
    let ended = release.end();
    assert_eq!(ended.code, Some(130), "{}", ended.story());
    assert_eq!((&ended.last["type"], &ended.last["error"]), (&json!("error"), &json!("interrupted before the release began")));
    processes::assert_none_left(place.path());
}

#[test]
fn a_closed_terminal_is_a_signal_too() {
    let place = Place::new(SERIN);
    let release = place.run(&document("hangup"), &[]);
    let _ = release.stage(1);
    release.signal(Signal::HUP);
    let ended = release.end();
    assert_eq!(ended.code, Some(130), "{}", ended.story());
    processes::assert_none_left(place.path());
}
