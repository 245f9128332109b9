//! Two equal versions go through a release of many stages under the sequential judge: nothing that happens to both is held against
//! the canary.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serin_testkit::{Document, Ended, Place, Release, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
const RPS: u32 = 200;
const STAGES: usize = 20;
/// The stage in which both versions begin to fail.
const OUTAGE_STAGE: usize = 5;
/// For how long at least.
const OUTAGE: Duration = Duration::from_secs(4);

/// Stages of a second each from 5 % to 50 %: too short to decide anything, so each is left undecided. What speaks against the
/// canary adds up all the same.
fn equals(name: &str, error_rate: &str, retreat: &Value) -> Document {
    let errors = format!("--error-rate={error_rate}");
    let document = Document::sample_apps(name, &["--latency=2ms", &errors], &["--latency=2ms", &errors])
        .judge("sequential")
        .set("analysis.onInconclusive", json!("advance"))
        .set("analysis.onNoData", json!("continue"))
        .set("analysis.retreat", retreat.clone())
        .bake("0s");
    (0..STAGES).fold(document, |document, number| {
        let weight = 5.0 + 45.0 * number as f64 / (STAGES - 1) as f64;
        let weight = (weight * 100.0).round() / 100.0;
        document.stage_with(json!({"weight": weight, "hold": "1s", "maxHold": "1s"}))
    })
}

fn assert_succeeded(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    assert!(ended.events("rollback-decided").is_empty(), "{}", ended.story());
    let left = ended.events("stage-waived").len() + ended.events("stage-passed").len();
    assert!(left >= STAGES, "{left} stages: {}", ended.story());
}

fn has(run: &Release, kind: &str) -> bool {
    !run.events(kind).is_empty()
}

/// A whole release of equal versions.
fn equal() -> Ended {
    let place = Place::new(SERIN);
    let document = equals("equal", "2%", &json!({}));
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, RPS, &[]);
    run.end_under(load)
}

#[test]
fn are_never_told_apart() {
    // The judge may be wrong once in a hundred releases; twice in a row is a defect.
    let ended = Some(equal()).filter(|ended| ended.code == Some(0)).unwrap_or_else(equal);
    assert_succeeded(&ended);
    // Not a test of nothing: both failed often enough to be told apart by a judge that looks too often.
    let errors = |arm: usize| ended.last["report"]["totals"][arm]["errors"].as_u64().unwrap();
    assert!(errors(0) > 20 && errors(1) > 5, "{} and {} errors", errors(0), errors(1));
}

/// Both fail for a while. Traffic leaves the canary until it is clear that the canary is not the cause; then the release goes on.
#[test]
fn share_an_outage() {
    let place = Place::new(SERIN);
    let document = equals("shared", "0.5%", &json!({"recoverWithin": "1s", "otherwise": "resume"}));
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, RPS, &[]);
    run.stage(OUTAGE_STAGE);
    // Stable first: at no moment may the canary be the only one that fails.
    place.behave("stable", &json!({"error_rate": 0.6}));
    place.behave("canary", &json!({"error_rate": 0.6}));
    let since = Instant::now();
    wait::until("the end of the outage", || {
        // Within `recoverWithin` a recovery would speak against the canary.
        let watches = run.events("retreated").len() > run.events("paused").len();
        (since.elapsed() >= OUTAGE && !watches).then_some(())
    });
    place.behave("canary", &json!({"error_rate": 0.005}));
    place.behave("stable", &json!({"error_rate": 0.005}));
    // A stage that may last a second only is no place to wait in: then the document's policy is to ask a person.
    let mut resumed = 0;
    wait::until("the end of the release", || {
        let paused = run.events("paused").len();
        if paused > resumed {
            assert!(place.serin(&["resume"]).status.success());
            resumed += 1;
        }
        (has(&run, "succeeded") || has(&run, "rolled-back")).then_some(())
    });
    let ended = run.end_under(load);
    assert_succeeded(&ended);
    assert!(!ended.events("retreated").is_empty(), "nothing was shared: {}", ended.story());
}
