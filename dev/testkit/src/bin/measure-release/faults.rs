//! Bad canaries: each fault is there from the canary's first request on, at a base of 0.5 % errors, 200 requests per second and a
//! weight of 5 %, under the criteria that a document without any has, unless said otherwise.

use std::time::Duration;

use serde_json::{Value, json};
use serin_testkit::{Document, Place};

pub(crate) const RPS: u32 = 200;
const WEIGHT_PERCENT: f64 = 5.0;
/// A release that takes longer was not rolled back.
const PATIENCE: Duration = Duration::from_secs(900);
/// A canary takes some seconds to start, as services do; meanwhile stable is seen alone.
const START: &str = "--start-delay=5s";
const BASE: &str = "--error-rate=0.5%";
/// Enough replicas to tell slowness from the pauses of one process.
const STABLE_REPLICAS: u32 = 3;

/// A fault and what is expected of it.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    stable: &'static [&'static str],
    canary: &'static [&'static str],
    load: &'static [&'static str],
    criteria: Criteria,
    /// Connections break, once the canary has traffic.
    resets: bool,
    /// What may decide.
    pub(crate) by: &'static [&'static str],
    /// What the cause should say.
    pub(crate) says: &'static str,
    /// Most failed canary requests in the median; `None` if there is no target.
    pub(crate) target: Option<u64>,
}

enum Criteria {
    Default,
    /// The default ones in harm mode.
    Harm,
    /// `latency-any` at 1.5 times stable's, and no guard.
    LatencyAlone,
}

/// What one release that was rolled back showed.
pub(crate) struct Found {
    pub(crate) by: String,
    pub(crate) cause: String,
    /// Failed requests of the canary, those after the decision included.
    pub(crate) failed: u64,
    /// Requests that the canary got by weight.
    pub(crate) requests: u64,
    /// From the proof that the canary has traffic to the proof that it has none.
    pub(crate) seconds: f64,
    /// From the decision to that proof.
    pub(crate) switched_ms: u64,
    /// Failed requests that stable did not answer in the canary's stead.
    pub(crate) user_visible: u64,
}

const SLOW_BASE: [&str; 3] = [BASE, "--latency=20ms", "--latency-p99=100ms"];
/// Requests that fail count as slow, and requests that hang fail in the end: any of these rightly decides on either.
const ANY: &[&str] = &["error-rate", "outage", "latency-any"];

const PLAIN: Fault = Fault {
    name: "",
    stable: &[BASE],
    canary: &[],
    load: &[],
    criteria: Criteria::Default,
    resets: false,
    by: ANY,
    says: "",
    target: None,
};

/// What is measured.
pub(crate) const FAULTS: &[Fault] = &[
    Fault { name: "5x errors", canary: &["--error-rate=2.5%"], target: Some(20), ..PLAIN },
    Fault { name: "outage, 500", canary: &["--error-rate=100%"], target: Some(6), ..PLAIN },
    Fault { name: "outage, resets (rescued)", canary: &[BASE], resets: true, target: Some(6), ..PLAIN },
    Fault {
        name: "new error on one of five routes, 5 % there, mode harm",
        canary: &["--error-rate=5%", "--error-code=503", "--error-path=/pay"],
        load: &["--path", "/", "--path", "/cart", "--path", "/find", "--path", "/pay", "--path", "/user"],
        // In limit mode the total must be beyond the limit as well, and it is just about there.
        criteria: Criteria::Harm,
        says: "503 GET /pay",
        ..PLAIN
    },
    Fault { name: "hangs, all", stable: &SLOW_BASE, canary: &["--hang-rate=100%"], ..PLAIN },
    Fault { name: "hangs, 10 %", stable: &SLOW_BASE, canary: &[BASE, "--latency=20ms", "--latency-p99=100ms", "--hang-rate=10%"], ..PLAIN },
    Fault {
        name: "tail 4x slower (p99 100 -> 400 ms)",
        stable: &SLOW_BASE,
        canary: &[BASE, "--latency=20ms", "--latency-p99=400ms"],
        by: &["latency-any"],
        ..PLAIN
    },
    Fault {
        name: "all 2x slower",
        stable: &SLOW_BASE,
        canary: &[BASE, "--latency=40ms", "--latency-p99=200ms"],
        by: &["latency-any"],
        ..PLAIN
    },
    Fault {
        name: "tail 4x slower, mode harm",
        stable: &SLOW_BASE,
        canary: &[BASE, "--latency=20ms", "--latency-p99=400ms"],
        criteria: Criteria::Harm,
        by: &["latency-any"],
        ..PLAIN
    },
    Fault {
        name: "all 2x slower, mode harm",
        stable: &SLOW_BASE,
        canary: &[BASE, "--latency=40ms", "--latency-p99=200ms"],
        criteria: Criteria::Harm,
        by: &["latency-any"],
        ..PLAIN
    },
    Fault {
        name: "fast 500s, 30 %, latency judged alone",
        stable: &SLOW_BASE,
        canary: &["--error-rate=30%"],
        criteria: Criteria::LatencyAlone,
        by: &["latency-any"],
        ..PLAIN
    },
];

/// Runs one release to its end; `None` if it was not rolled back.
pub(crate) fn run(fault: &Fault, number: u32, serin: &str) -> Option<Found> {
    let place = Place::new(serin);
    let document = document(fault, number);
    let run = place.run(&document, &["--keep-serving"]);
    let timeout = ["--timeout", "60s"];
    let load = place.load(&document, RPS, &[fault.load, timeout.as_slice()].concat());
    if fault.resets {
        run.stage(1);
        place.behave("canary", &json!({"mode": "reset"}));
    }
    let over = run.over_within(PATIENCE);
    drop(load);
    run.interrupt();
    let ended = run.end();
    if over.is_none_or(|line| line["event"]["type"] != "rolled-back") {
        return None;
    }
    let canary = &ended.last["report"]["totals"][1];
    let (taken_ms, switched_ms) = (ended.decided_in_ms(), ended.took_back_in_ms());
    let rescued = ended.last["report"]["rescued"].as_u64().unwrap();
    Some(Found {
        by: ended.decided_by(),
        cause: ended.cause(),
        failed: ended.canary_errors(),
        requests: canary["by_weight"].as_u64().unwrap(),
        seconds: (taken_ms + switched_ms) as f64 / 1_000.0,
        switched_ms,
        user_visible: ended.canary_errors().saturating_sub(rescued),
    })
}

fn document(fault: &Fault, number: u32) -> Document {
    let canary: Vec<&str> = fault.canary.iter().copied().chain([START]).collect();
    let document = Document::sample_apps(&format!("measured-{number}"), fault.stable, &canary)
        .judge("sequential")
        .set("workload.processes.stable.replicas", json!(STABLE_REPLICAS))
        .stage(WEIGHT_PERCENT, "20m", 1000);
    let document = match fault.criteria {
        Criteria::Default => document,
        Criteria::Harm => document.criteria(json!([
            {"metric": "error-rate", "versusStable": {"ratio": 1.5, "increase": "0.5pp"}, "mode": "harm"},
            {"metric": "latency-any", "versusStable": {"ratio": 1.5}, "mode": "harm"},
        ])),
        Criteria::LatencyAlone => document
            .criteria(json!([{"metric": "latency-any", "versusStable": {"ratio": 1.5}}]))
            .set("analysis.guards", json!([{"name": "outage", "off": true}])),
    };
    // Broken connections break probes as well; rare ones leave it to the judge.
    let probes: Value = if fault.resets { json!("30s") } else { json!("100ms") };
    document.set("workload.processes.canary.ready.interval", probes)
}
