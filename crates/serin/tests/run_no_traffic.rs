//! A canary that nobody sends requests to: nothing is known about it, so nothing is promoted unless the document says so.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use serin_testkit::{Document, Place, http, processes, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn quiet(on_no_data: &str) -> Document {
    Document::sample_apps("quiet", &[], &[])
        .set("analysis.onNoData", json!(on_no_data))
        .stage_with(json!({"weight": 10, "hold": "500ms", "maxHold": "3s", "minRequests": 10}))
        .bake("0s")
}

fn has(lines: &[Value], kind: &str) -> bool {
    lines.iter().any(|line| line["event"]["type"] == kind)
}

#[test]
fn waits_then_pauses_and_a_person_ends_it() {
    let place = Place::new(SERIN);
    let document = quiet("hold");
    let run = place.run(&document, &["--wait-for-operator", "3s"]);
    run.stage(1);
    wait::until("a reason that counts requests", || {
        let status = &place.status()["status"];
        let why = status["wait"]["why"].as_str().is_some_and(|why| why.contains("0 of 10 requests"));
        let unknown = status["criteria"][0]["verdict"] == "unknown";
        (why && unknown && status["paused"] == false).then_some(())
    });
    let paused = run.event("paused");
    assert_eq!(paused["event"]["by"], Value::Null, "nobody asked for it");
    let reason = paused["event"]["reason"].as_str().unwrap();
    assert!(reason.contains("0 of 10 requests") && reason.contains("no verdict at 10 %"), "{reason}");
    wait::until("a status that says so", || {
        let status = &place.status()["status"];
        (status["paused"] == true && status["wait"]["operator"] == true).then_some(())
    });

    let ended = run.end();
    assert_eq!(ended.code, Some(5), "{}", ended.story());
    assert_eq!(ended.last["report"]["end"]["result"], "operator-needed");
    assert!(ended.last["report"]["end"]["why"].as_str().unwrap().contains("0 of 10 requests"));
    assert!(!has(&ended.lines, "promotion-started"));
    let replicas = place.replicas();
    assert_eq!(replicas.keys().collect::<Vec<_>>(), ["canary-1", "stable-1"], "everything is left running");
    assert_eq!(http::get(document.listen, "/", &[]).unwrap().status, 200);
    let proxy = processes::proxy(place.path());
    assert!(proxy.is_some());

    let again = place.run(&document, &[]);
    again.event("taken-over");
    wait::until("the release to answer", || (place.status()["status"]["paused"] == true).then_some(()));
    assert_eq!((place.replicas(), processes::proxy(place.path())), (replicas, proxy), "adopted, not started again");
    let aborted = place.serin(&["abort", "--reason", "nobody came"]);
    assert!(aborted.status.success(), "{aborted:?}");
    let ended = again.end();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert!(ended.cause().contains("nobody came"));
    assert!(ended.last["report"]["end"]["cause"]["kind"]["person"].is_object());
    processes::assert_none_left(place.path());
}

#[test]
fn rolls_back_where_the_document_says_so() {
    let place = Place::new(SERIN);
    let ended = place.run(&quiet("rollback"), &[]).end();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_eq!(ended.last["report"]["end"]["cause"]["kind"], "policy");
    assert!(ended.cause().contains("0 of 10 requests"), "{}", ended.cause());
    assert!(!has(&ended.lines, "stage-passed") && !has(&ended.lines, "promotion-started"), "{}", ended.story());
    processes::assert_none_left(place.path());
}

#[test]
fn goes_on_where_the_document_says_so() {
    let place = Place::new(SERIN);
    let ended = place.run(&quiet("continue"), &[]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    let waived = ended.events("stage-waived");
    assert!(waived[0]["event"]["reason"].as_str().unwrap().contains("0 of 10 requests"), "{waived:?}");
    assert!(!has(&ended.lines, "stage-passed"), "nothing was shown");
    processes::assert_none_left(place.path());
}
