//! Our tests as a release has them: the thresholds of the default document, and the test on its errors.
//!
//! The thresholds are the judge's own. Shares of the alarm budget come from its forecast; what the test of an absolute limit has
//! to reach (a part of its share is for matched requests) is read off the judge while it looks at an outage.

use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};
use serin_core::{
    Timestamp, WeightBps,
    forecast::{Against, forecast},
    judge::Trial,
    plan::{OUTAGE_GUARD, Plan},
    traffic::{Arm, Assignment, Counts, Observation, Outcome, TrafficCell},
};
use serin_stats::{ArmCounts, Batch, ClassEvents, DEFAULT_ALPHA, FingerprintE, LimitE, RatioConfig};

/// Probability of a false rollback per release.
pub(crate) const ALPHA: f64 = DEFAULT_ALPHA;

/// Names no criteria and no guards, so that it has the default ones.
const DEFAULT_DOCUMENT: &str = r#"apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: default}
spec:
  workload:
    external:
      stable: {urls: ["http://127.0.0.1:1"]}
      canary: {urls: ["http://127.0.0.1:2"]}
  traffic: {embedded: {listen: "127.0.0.1:3"}}
  strategy: {canary: {stages: [{weight: 5, hold: 10m}], bake: 10m}}
"#;

/// The class of every error here.
const ERROR: u64 = 0;
/// An outage of more failures does not decide.
const MOST_FAILURES: u64 = 1_000;

/// Threshold in nats of a test that has the whole budget: `ln(1/alpha)`.
pub(crate) fn ln_single() -> f64 {
    -ALPHA.ln()
}

/// What `ln E` has to reach in a release with the default document, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Thresholds {
    /// Errors against stable, with their classes.
    pub(crate) errors: f64,
    /// Latency against stable, all quantiles together.
    pub(crate) latency: f64,
    /// The guard `outage`: its requests by weight.
    pub(crate) limits: f64,
}

/// The thresholds of the default document.
///
/// # Errors
/// If the document no longer has what is measured here.
pub(crate) fn release_thresholds() -> Result<Thresholds> {
    static FOUND: OnceLock<Thresholds> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(*found);
    }
    let plan = serin_spec::load("default", DEFAULT_DOCUMENT)?.release.plan;
    let found = Thresholds {
        errors: against_stable(&plan, "error-rate")?,
        latency: against_stable(&plan, "latency-any")?,
        limits: of_outage_guard(&plan)?,
    };
    Ok(*FOUND.get_or_init(|| found))
}

fn against_stable(plan: &Plan, name: &str) -> Result<f64> {
    let forecast = forecast(plan);
    let tests = forecast.iter().flat_map(|stage| &stage.tests);
    let test = tests.into_iter().find(|test| test.criterion == name && test.against == Against::Stable);
    let share = test.with_context(|| format!("the default document has no {name} against stable"))?.alarm_share;
    Ok(ln_single() - share.ln())
}

/// The judge says how far its evidence is from what is needed; a test that sees the same says how much evidence there is.
fn of_outage_guard(plan: &Plan) -> Result<f64> {
    let guard = plan.analysis.guards.iter().find(|guard| guard.name == OUTAGE_GUARD).context("the default document has no outage guard")?;
    let mut test = LimitE::above(guard.max)?;
    let mut trial = Trial::new(plan);
    trial.begin_stage(plan, plan.steps.len(), WeightBps::FULL);
    for second in 1..=MOST_FAILURES {
        test.update(ArmCounts { requests: 1, events: 1 });
        trial.observe(&failure(Timestamp(second * 1_000)));
        let level = trial.assessment().broken_guards.iter().find(|broken| broken.name == OUTAGE_GUARD).and_then(|broken| broken.evidence);
        if let Some(level) = level {
            return Ok(test.ln_e() - (level.harm / level.needed).ln());
        }
    }
    bail!("{MOST_FAILURES} failures in a row are no outage to the judge");
}

fn failure(at: Timestamp) -> Observation {
    let mut counts = Counts::default();
    counts.record(Outcome::ServerError, 1_000);
    let cell = TrafficCell { weight: WeightBps::FULL, arm: Arm::Canary, assignment: Assignment::Forced, counts, sessions: None };
    Observation { at, cells: vec![cell], ..Observation::default() }
}

/// The test on errors against stable in a release: of the total and by class. All errors are of one kind that stable had before,
/// so that the classes help least; what an unknown kind is worth has a table of its own.
#[derive(Debug, Clone)]
pub(crate) struct ReleaseErrors {
    test: FingerprintE,
    ln_threshold: f64,
}

impl ReleaseErrors {
    /// In `harm` mode.
    ///
    /// # Errors
    /// As [`release_thresholds`].
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { test: FingerprintE::new(&RatioConfig::fail(1.0, 1.5), &[ERROR])?, ln_threshold: release_thresholds()?.errors })
    }

    /// Takes errors; whether the evidence now is enough.
    pub(crate) fn update(&mut self, batch: Batch) -> bool {
        let Batch { canary_events, stable_events, weight } = batch;
        self.test.update(weight, &[ClassEvents { class: ERROR, canary_events, stable_events }]);
        self.decides()
    }

    /// Whether the evidence is enough.
    pub(crate) fn decides(&self) -> bool {
        self.test.ln_e() >= self.ln_threshold
    }
}

#[cfg(test)]
mod tests {
    use serin_core::judge::Verdict;
    use serin_stats::Share;

    use super::*;

    #[test]
    fn thresholds_are_dearer_than_that_of_a_single_test() {
        let thresholds = release_thresholds().unwrap();
        assert!((ln_single() - 100_f64.ln()).abs() < 1e-12);
        assert!(thresholds.errors > ln_single() && thresholds.latency > thresholds.errors && thresholds.limits > thresholds.errors);
    }

    /// A stage of the judge with the default criteria, in harm mode.
    fn stage(weight: u16) -> (Plan, Trial) {
        let mut plan = serin_spec::load("default", DEFAULT_DOCUMENT).unwrap().release.plan;
        plan.analysis.criteria.iter_mut().for_each(|criterion| criterion.mode = serin_stats::RatioMode::Harm);
        let mut trial = Trial::new(&plan);
        trial.begin_stage(&plan, 0, WeightBps::new(weight).unwrap());
        (plan, trial)
    }

    fn compared(at: u64, canary: [u64; 2], stable: [u64; 2]) -> Observation {
        let cell = |arm, [good, failed]: [u64; 2]| {
            let mut counts = Counts::default();
            counts.by_outcome[Outcome::Success.index()] = good;
            (0..failed).for_each(|_| {
                counts.record(Outcome::ServerError, 1_000);
                counts.record_class("500 GET /");
            });
            TrafficCell { weight: WeightBps::new(500).unwrap(), arm, assignment: Assignment::Random, counts, sessions: None }
        };
        let cells = vec![cell(Arm::Stable, stable), cell(Arm::Canary, canary)];
        Observation { at: Timestamp(at * 1_000), cells, ..Observation::default() }
    }

    #[test]
    fn errors_decide_when_they_do_in_the_judge() {
        // The first observation makes the class known; the expected errors of stable keep the ratio's bets where they are.
        let (plan, mut trial) = stage(500);
        let mut known = compared(1, [0, 0], [10_000, 1_000]);
        known.cells.truncate(1);
        known.cells[0].assignment = Assignment::Forced;
        known.cells[0].weight = WeightBps::ZERO;
        trial.observe(&known);
        let mut ours = ReleaseErrors::new().unwrap();
        assert_eq!(plan.analysis.criteria[0].name, "error-rate");
        for second in 2..500 {
            // Twice as many as stable.
            let (canary_events, stable_events) = (1, u64::from(second % 2 == 0) * 19);
            trial.observe(&compared(second, [9, canary_events], [190, stable_events]));
            let decides = ours.update(Batch { canary_events, stable_events, weight: Share::new(0.05).unwrap() });
            let judged = trial.assessment().criteria[0].verdict == Verdict::Fail;
            assert_eq!(decides, judged, "after {second} s: {}", trial.assessment().criteria[0].text);
            if decides {
                return;
            }
        }
        unreachable!("twice the errors were never found");
    }

    #[test]
    fn an_outage_after_health_decides_when_it_does_in_the_judge() {
        let plan = serin_spec::load("default", DEFAULT_DOCUMENT).unwrap().release.plan;
        for healthy in [0, 1_000, 1_000_000] {
            let mut trial = Trial::new(&plan);
            trial.begin_stage(&plan, plan.steps.len(), WeightBps::FULL);
            let mut test = LimitE::above(0.05).unwrap();
            let mut calm = failure(Timestamp(1_000));
            calm.cells[0].counts.by_outcome = Counts::default().by_outcome;
            calm.cells[0].counts.by_outcome[Outcome::Success.index()] = healthy;
            trial.observe(&calm);
            test.update(ArmCounts { requests: healthy, events: 0 });
            let is_decided = (2..100).any(|second| {
                trial.observe(&failure(Timestamp(second * 1_000)));
                test.update(ArmCounts { requests: 1, events: 1 });
                let decides = test.ln_e() >= release_thresholds().unwrap().limits - 1e-9;
                assert_eq!(decides, !trial.assessment().broken_guards.is_empty(), "failure {} after {healthy}", second - 1);
                decides
            });
            assert!(is_decided, "after {healthy}");
        }
    }
}
