//! Equal versions: sixty stages of five seconds that are too short to decide anything, so that each is left undecided while what
//! speaks against the canary adds up.

use std::time::{Duration, Instant};

use serde_json::json;
use serin_testkit::{Document, Ended, Place, wait};

use crate::faults::RPS;

const STAGES: u32 = 60;
const STAGE: &str = "5s";
/// In this stage things happen.
const MIDDLE: usize = 30;
const OUTAGE: Duration = Duration::from_secs(30);
const BASE: f64 = 0.005;
/// The share of errors while both fail.
const OUTAGE_RATE: f64 = 0.2;
/// A release that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(900);

/// Equal versions, and what happens to both.
pub(crate) struct Equal {
    pub(crate) name: &'static str,
    has_outage: bool,
    /// Weights of the first half and of the second, in percent; each stage adds a hundredth, since weights have to rise.
    weights: [f64; 2],
}

/// What one release showed.
pub(crate) struct EqualRun {
    pub(crate) succeeded: bool,
    /// What rolled it back.
    pub(crate) cause: Option<String>,
    pub(crate) stages: usize,
    pub(crate) retreats: usize,
    /// Failed and all requests by arm, stable's first.
    pub(crate) seen: [(u64, u64); 2],
}

/// What is measured.
pub(crate) const EQUALS: &[Equal] = &[
    Equal { name: "60 stages at 5 %", has_outage: false, weights: [5.0, 5.5] },
    Equal { name: "the same, both fail 20 % for 30 s", has_outage: true, weights: [5.0, 5.5] },
    Equal { name: "60 stages, from 5 % to 50 % midway", has_outage: false, weights: [5.0, 50.0] },
];

/// Runs one release to its end.
pub(crate) fn run(equal: &Equal, serin: &str) -> EqualRun {
    let place = Place::new(serin);
    let document = document(equal);
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, RPS, &[]);
    let since = Instant::now();
    let mut outage: Option<Instant> = None;
    let (mut healed, mut resumed) = (!equal.has_outage, 0);
    let over = |kind: &str| !run.events(kind).is_empty();
    wait::until_or(
        "the end of the release",
        PATIENCE,
        || {
            if !healed {
                let entered = || run.events("stage-entered").iter().any(|line| line["event"]["step"] == MIDDLE);
                match outage {
                    None if entered() => {
                        // Stable first: at no moment may the canary be the only one that fails.
                        set_errors(&place, ["stable", "canary"], OUTAGE_RATE);
                        outage = Some(Instant::now());
                    }
                    Some(begun) if begun.elapsed() >= OUTAGE => {
                        set_errors(&place, ["canary", "stable"], BASE);
                        healed = true;
                    }
                    _ => {}
                }
            } else if run.events("paused").len() > resumed {
                // Stages that may last five seconds are no place to wait in: the document's policy is to ask a person.
                assert!(place.serin(&["resume"]).status.success());
                resumed += 1;
            }
            (over("succeeded") || over("rolled-back") || since.elapsed() >= PATIENCE).then_some(())
        },
        String::new,
    );
    load.stop().assert_nothing_lost();
    run.interrupt();
    seen(&run.end())
}

fn seen(ended: &Ended) -> EqualRun {
    let totals = &ended.last["report"]["totals"];
    EqualRun {
        succeeded: !ended.events("succeeded").is_empty(),
        cause: (!ended.events("rollback-decided").is_empty()).then(|| ended.cause()),
        stages: ended.events("stage-waived").len() + ended.events("stage-passed").len(),
        retreats: ended.events("retreated").len(),
        seen: [0, 1].map(|arm| (totals[arm]["errors"].as_u64().unwrap(), totals[arm]["by_weight"].as_u64().unwrap())),
    }
}

fn set_errors(place: &Place, arms: [&str; 2], rate: f64) {
    arms.iter().for_each(|arm| place.behave(arm, &json!({"error_rate": rate})));
}

fn document(equal: &Equal) -> Document {
    let app = ["--error-rate=0.5%", "--latency=20ms", "--latency-p99=100ms"];
    let document = Document::sample_apps("equal", &app, &[app.as_slice(), &["--start-delay=5s"]].concat())
        .judge("sequential")
        .set("workload.processes.stable.replicas", json!(3))
        .set("analysis.onInconclusive", json!("advance"))
        .set("analysis.onNoData", json!("continue"))
        .set("analysis.retreat", json!({"recoverWithin": "1s", "otherwise": "resume"}))
        .bake("0s");
    (0..STAGES).fold(document, |document, number| {
        let [first, second] = equal.weights;
        let base = if number < STAGES / 2 { first } else { second };
        let weight = ((base + f64::from(number % (STAGES / 2)) / 100.0) * 100.0).round() / 100.0;
        document.stage_with(json!({"weight": weight, "hold": STAGE, "maxHold": STAGE}))
    })
}
