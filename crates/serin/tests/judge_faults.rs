//! The sequential judge finds what is wrong with a canary, through the real proxy: after how many failed requests, and what it says.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use serde_json::{Value, json};
use serin_testkit::{Document, Ended, LoadReport, Place};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
const RPS: u32 = 200;
/// Slow enough that a pause of the machine between decision and switch costs no failures.
const OUTAGE_RPS: u32 = 20;

/// A release that nothing but its judge ends: one stage that outlasts every test.
fn document(name: &str, weight_percent: f64, stable: &[&str], canary: &[&str]) -> Document {
    Document::sample_apps(name, stable, canary).judge("sequential").stage(weight_percent, "10m", 1000)
}

/// With enough replicas of stable to tell slowness from the pauses of one process.
fn latency_alone(name: &str, stable: &[&str], canary: &[&str]) -> Document {
    document(name, 20.0, stable, canary)
        .set("workload.processes.stable.replicas", json!(3))
        .criteria(json!([{"metric": "latency-any", "versusStable": {"ratio": 1.5}}]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]))
}

/// Runs it to its rollback under a load of `rps` with these arguments. `onset` comes once the canary has its traffic.
fn rolled_back(document: &Document, rps: u32, load: &[&str], onset: impl Fn(&Place)) -> (Ended, LoadReport) {
    // A port is free until its server listens, so releases that begin at once may draw the same one for their replicas.
    static BEGINNING: Mutex<()> = Mutex::new(());
    let place = Place::new(SERIN);
    let beginning = BEGINNING.lock().unwrap_or_else(PoisonError::into_inner);
    let run = place.run(document, &["--keep-serving"]);
    let load = place.load(document, rps, load);
    run.stage(1);
    drop(beginning);
    onset(&place);
    run.event("rolled-back");
    let report = load.stop();
    run.interrupt();
    let ended = run.end();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    (ended, report)
}

/// Several releases at the same time.
fn several(count: usize, run: impl Fn(usize) -> (Ended, LoadReport) + Sync) -> Vec<(Ended, LoadReport)> {
    thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = (0..count).map(|number| scope.spawn(move || run(number))).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[track_caller]
fn assert_decided(ended: &Ended, by: &[&str], within_ms: u64, parts: &[&str]) {
    assert!(by.contains(&ended.decided_by().as_str()), "{} decided: {}", ended.decided_by(), ended.cause());
    assert!(ended.decided_in_ms() <= within_ms, "after {} ms: {}", ended.decided_in_ms(), ended.cause());
    for part in parts {
        assert!(ended.cause().contains(part), "{part} is missing in: {}", ended.cause());
    }
}

#[test]
fn five_times_the_errors() {
    let runs = several(5, |number| {
        let document = document(&format!("worse-{number}"), 10.0, &["--error-rate=1%"], &["--error-rate=5%"]);
        rolled_back(&document, RPS, &[], |_| ())
    });
    for (ended, report) in &runs {
        assert_decided(ended, &["error-rate", "latency-any", "outage"], 60_000, &["canary ", "evidence "]);
        assert!(ended.canary_errors() <= 40, "{} failed requests: {}", ended.canary_errors(), ended.cause());
        report.assert_nothing_lost();
    }
    let failed = median(runs.iter().map(|(ended, _)| ended.canary_errors()));
    assert!(failed <= 20, "{failed} failed requests in the median");
}

/// Answers with 500 are the canary's answers: clients see the few that there are.
#[test]
fn an_outage() {
    let runs = several(3, |number| {
        let document = document(&format!("outage-{number}"), 5.0, &["--error-rate=0.5%"], &["--error-rate=100%"]);
        rolled_back(&document, OUTAGE_RPS, &[], |_| ())
    });
    for (ended, _) in &runs {
        assert_decided(ended, &["error-rate", "outage"], 30_000, &[]);
    }
    let failed = median(runs.iter().map(|(ended, _)| ended.canary_errors()));
    assert!(failed <= 6, "{failed} failed requests in the median");
}

/// Connections that break are rescued: clients see none of the failures that the judge counts.
#[test]
fn an_outage_that_nobody_sees() {
    let runs = several(3, |number| {
        // Probes fail as well; rare ones leave it to the judge.
        let document =
            document(&format!("reset-{number}"), 5.0, &[], &[]).set("workload.processes.canary.ready.interval", json!("30s")).bake("0s");
        rolled_back(&document, OUTAGE_RPS, &[], |place| place.behave("canary", &json!({"mode": "reset"})))
    });
    for (ended, report) in &runs {
        assert_decided(ended, &["error-rate", "outage"], 30_000, &[]);
        report.assert_nothing_lost();
        assert_eq!(report.count("by_class.2xx"), report.count("sent"), "{:#}", report.value);
    }
    let failed = median(runs.iter().map(|(ended, _)| ended.canary_errors()));
    assert!(failed <= 6, "{failed} failed requests in the median");
}

#[test]
fn no_answers_or_few() {
    let rates = ["100%", "10%"];
    let runs = several(rates.len(), |number| {
        let hangs = format!("--hang-rate={}", rates[number]);
        let stable = ["--latency=20ms", "--latency-p99=100ms"];
        let document = latency_alone(&format!("hang-{number}"), &stable, &[stable[0], stable[1], &hangs]);
        rolled_back(&document, RPS, &["--timeout", "60s"], |_| ())
    });
    for ((ended, _), within_ms) in runs.iter().zip([5_000, 30_000]) {
        assert_decided(ended, &["latency-any"], within_ms, &["latency-any: canary ", " slower than ", "evidence "]);
    }
    // The median shows it before there are the 500 requests that tell stable's p99.
    let cause = runs[0].0.cause();
    let of_stable = cause.split(" of stable ").nth(1).and_then(|text| text.split(' ').nth(2)).map(|count| count.replace(',', ""));
    assert!(of_stable.unwrap().parse::<u64>().unwrap() < 400, "{cause}");
}

#[test]
fn slow_in_the_tail_or_altogether() {
    let canaries = [["--latency=20ms", "--latency-p99=400ms"], ["--latency=40ms", "--latency-p99=200ms"]];
    let runs = several(canaries.len(), |number| {
        let document = latency_alone(&format!("slow-{number}"), &["--latency=20ms", "--latency-p99=100ms"], &canaries[number]);
        rolled_back(&document, RPS, &[], |_| ())
    });
    for (ended, report) in &runs {
        assert_decided(ended, &["latency-any"], 30_000, &["latency-any: canary ", " slower than ", "evidence "]);
        report.assert_nothing_lost();
        assert_eq!(ended.canary_errors(), 0, "slowness is no error");
    }
}

/// Errors that come at once must not make a canary look fast.
#[test]
fn fast_errors() {
    let stable = ["--latency=30ms", "--latency-p99=120ms"];
    let document = latency_alone("fast", &stable, &["--error-rate=30%"]);
    let (ended, report) = rolled_back(&document, RPS, &[], |_| ());
    assert_decided(&ended, &["latency-any"], 20_000, &["latency-any: canary ", " slower than ", "evidence "]);
    report.assert_nothing_lost();
}

/// A kind of error that stable does not have, rare among all requests: found by its class, and named. Stable fails more often
/// altogether, so that nothing but the class can tell.
#[test]
fn a_new_error_on_one_route() {
    let canary = ["--error-rate=12%", "--error-code=503", "--error-path=/pay"];
    let document = document("route", 20.0, &["--error-rate=3%"], &canary)
        .criteria(json!([{"metric": "error-rate", "versusStable": {"ratio": 1.5}, "mode": "harm"}]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]));
    let paths: Vec<&str> = ["/", "/cart", "/find", "/pay", "/user"].iter().flat_map(|path| ["--path", path]).collect();
    let (ended, report) = rolled_back(&document, RPS, &paths, |_| ());
    assert_decided(&ended, &["error-rate"], 50_000, &["mostly 503 GET /pay"]);
    assert!(ended.canary_errors() <= 40, "{} failed requests: {}", ended.canary_errors(), ended.cause());
    report.assert_nothing_lost();
}

/// The report says it in data as well: which criterion, with what evidence.
#[test]
fn the_journal_tells_why() {
    let document = document("told", 20.0, &[], &["--error-rate=20%"]);
    let (ended, _) = rolled_back(&document, RPS, &[], |_| ());
    let decided = ended.events("rollback-decided");
    let told = &decided[0]["event"]["cause"];
    let known: Vec<Value> = vec![json!({"criterion": {"name": "error-rate"}}), json!({"guard": {"name": "outage"}})];
    assert!(known.contains(&told["kind"]), "{told}");
    assert_eq!(told["text"].as_str().unwrap(), ended.cause());
    assert!(ended.cause().contains("evidence ") && ended.cause().contains(" of 100 needed"), "{}", ended.cause());
}
