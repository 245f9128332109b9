//! A good release: nothing is lost, nothing is miscounted, every stage gets its share.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::json;
use serin_testkit::{Document, Place, processes, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// A share of binomial counts is farther away from the truth than this many standard deviations once in 150,000 times.
const SIGMAS: f64 = 4.5;

fn good() -> Document {
    let quick = ["--latency=2ms", "--jitter=2ms"];
    Document::sample_apps("good", &quick, &quick)
}

/// All traffic, through every stage, the bake, the handover to the new version and the stop of the old one.
#[test]
fn succeeds_under_load_without_a_lost_request() {
    let place = Place::new(SERIN);
    let document = good()
        .set("workload.processes.stable.replicas", json!(2))
        .set("workload.processes.canary.replicas", json!(2))
        .stage(5.0, "2s", 20)
        .stage(25.0, "2s", 100)
        .stage(50.0, "2s", 100);
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, 500, &[]);
    run.event("succeeded");
    assert!(place.pids("stable").is_empty(), "the old version still runs: {:?}", place.replicas());
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.count("by_class.2xx"), report.count("sent"), "{:#}", report.value);
    run.interrupt();
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    assert_eq!(ended.last["report"]["end"]["result"], "succeeded");
    assert_eq!((&ended.last["report"]["own_errors"], &ended.last["report"]["rescued"]), (&json!(0), &json!(0)));
    assert_eq!(ended.stderr, "");
    processes::assert_none_left(place.path());
}

/// Each stage gets its weight but for chance, and what Serin says it measured is what clients saw.
#[test]
fn every_stage_gets_its_share_and_every_request_is_counted_once() {
    let place = Place::new(SERIN);
    let weights = [5.0, 25.0, 50.0];
    let gated =
        |document: Document, weight: f64| document.stage_with(json!({"weight": weight, "hold": "1s", "minRequests": 10, "gate": "manual"}));
    let document = weights.into_iter().fold(good(), gated).bake("0s");
    let run = place.run(&document, &[]);
    let mut sent = [0, 0];
    for (index, weight) in weights.into_iter().enumerate() {
        run.stage(index + 1);
        let report = place.load(&document, 400, &["--duration", "2s"]).end();
        report.assert_nothing_lost();
        run.wait_for("the gate", |line| line["event"]["type"] == "approval-awaited" && line["event"]["step"] == index);

        let arms = ["v1", "v2"].map(|version| report.count(&format!("by_version.{version}")));
        let (total, expected) = ((arms[0] + arms[1]) as f64, weight / 100.0);
        let share = arms[1] as f64 / total;
        let deviation = (expected * (1.0 - expected) / total).sqrt();
        assert!((share - expected).abs() < SIGMAS * deviation, "{share} of {total} requests at a weight of {weight} %");
        wait::until_or(
            "the measured share to be the one that clients saw",
            wait::PATIENCE,
            || place.status()["status"]["measured_share"].as_f64().filter(|measured| (measured - share).abs() < 1e-9),
            || format!("{share} against {:#}", place.status()),
        );
        sent = [sent[0] + arms[0], sent[1] + arms[1]];
        let approved = place.serin(&["approve"]);
        assert!(approved.status.success(), "{approved:?}");
    }
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    let totals = &ended.last["report"]["totals"];
    assert_eq!([0, 1].map(|arm| totals[arm]["by_weight"].as_u64().unwrap()), sent, "{totals}");
    assert_eq!([0, 1].map(|arm| totals[arm]["matched"].as_u64().unwrap()), [0, 0], "{totals}");
}

/// Load from the first moment at which the proxy accepts connections to after the bake: the totals of the report are what was sent.
#[test]
fn totals_are_what_the_load_sent() {
    let place = Place::new(SERIN);
    let document = good().stage(20.0, "1s", 50).set("strategy.canary.retain", json!("3s"));
    let run = place.run(&document, &[]);
    let load = place.load(&document, 300, &[]);
    run.event("retain-started");
    let report = load.stop();
    report.assert_nothing_lost();
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    let totals = &ended.last["report"]["totals"];
    let sent = ["v1", "v2"].map(|version| report.count(&format!("by_version.{version}")));
    assert_eq!([0, 1].map(|arm| totals[arm]["by_weight"].as_u64().unwrap()), sent, "{totals} {:#}", report.value);
    // What was recorded second by second adds up to the same.
    let recorded = std::fs::read_to_string(place.state().join("recordings/1.jsonl")).unwrap();
    let samples: Vec<serde_json::Value> = recorded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sum = |arm: usize| samples.iter().map(|sample| sample["arms"][arm]["requests"].as_u64().unwrap()).sum::<u64>();
    assert_eq!([0, 1].map(sum), sent);
}
