//! Requests that a declared rule sends to the canary come from other people: the sequential judge compares them with nobody, and
//! still holds them to absolute limits.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::json;
use serin_testkit::{Document, Ended, LoadReport, Place, Release, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
/// So many failed requests of testers would convict the canary several times over if they were compared.
const TELLING_ERRORS: u64 = 60;

/// A release with testers on the canary beside everybody: `place`, the release, and both loads.
fn begin(name: &str, canary: &[&str], testers_rps: u32) -> (Place, Release, [serin_testkit::Load; 2]) {
    let place = Place::new(SERIN);
    let document = Document::sample_apps(name, &["--error-rate=1%"], canary)
        .judge("sequential")
        .set("traffic.embedded.match", json!([{"header": {"x-canary": "true"}}]))
        .stage(5.0, "10m", 1000);
    let run = place.run(&document, &["--keep-serving"]);
    let everybody = place.load(&document, 200, &[]);
    run.stage(1);
    let testers = place.load(&document, testers_rps, &["--path", "/testers", "--header", "x-canary: true"]);
    (place, run, [everybody, testers])
}

fn end(run: Release, loads: [serin_testkit::Load; 2]) -> (Ended, [LoadReport; 2]) {
    let reports = loads.map(serin_testkit::Load::stop);
    reports.iter().for_each(LoadReport::assert_nothing_lost);
    run.interrupt();
    (run.end(), reports)
}

/// Twice the errors of everybody else, all of them among testers.
#[test]
fn more_errors_among_testers_are_no_difference_between_versions() {
    let (place, run, loads) = begin("testers", &["--error-rate=2%", "--error-path=/testers"], 200);
    wait::until("errors of testers", || {
        let errors = place.status()["status"]["arms"][1]["totals"]["errors"].as_u64();
        (errors >= Some(TELLING_ERRORS) || !run.events("rollback-decided").is_empty()).then_some(())
    });
    assert!(run.events("rollback-decided").is_empty(), "{}", run.story());
    assert!(place.serin(&["abort"]).status.success());
    run.event("rolled-back");
    let (ended, [_, testers]) = end(run, loads);
    assert!(testers.count("by_code.500") >= TELLING_ERRORS, "{:#}", testers.value);
    assert!(ended.last["report"]["end"]["cause"]["kind"].get("person").is_some(), "{}", ended.cause());
}

/// What nobody may see is found among them too.
#[test]
fn an_outage_of_testers_is_an_outage() {
    // Few enough that a pause of the machine between decision and switch costs hardly any failures.
    let (_place, run, loads) = begin("tested", &["--error-rate=100%", "--error-path=/testers"], 20);
    run.event("rolled-back");
    let (ended, [everybody, testers]) = end(run, loads);
    assert_eq!((ended.code, ended.decided_by().as_str()), (Some(4), "outage"), "{}", ended.story());
    assert!(ended.cause().contains("matched requests: 100 %"), "{}", ended.cause());
    assert!(testers.count("by_code.500") <= 30, "{:#}", testers.value);
    // The canary answers everybody else as it should; what fails is stable's one in a hundred.
    assert!(everybody.count("by_code.500") * 20 < everybody.count("sent"), "{:#}", everybody.value);
}
