//! Metrics of other sources, under the sequential and the threshold judge.

use serin_stats::ArmCounts;

use super::traffic::{bps, criterion, plan};
use crate::{
    Timestamp,
    judge::{Checkpoint, CriterionAssessment, Trial, Verdict},
    plan::{ExternalKind, ExternalMetric, JudgeKind, Metric, MetricName, Plan},
    traffic::{
        Arm, Gap, GapKind, Measured, Observation, Reading,
        align::{Aligner, Part, Sample, Series},
    },
};

const POLL_MS: u64 = 15_000;

fn metric(kind: ExternalKind) -> Metric {
    Metric::External(ExternalMetric { name: MetricName::new("orders").unwrap(), kind })
}

struct World {
    plan: Plan,
    trial: Trial,
    now_ms: u64,
}

impl World {
    fn new(kind: ExternalKind, max: Option<f64>, versus: Option<(f64, Option<f64>)>) -> Self {
        let mut plan = plan(vec![criterion(metric(kind), max, versus)], vec![]);
        plan.analysis.poll_ms = Some(POLL_MS);
        Self::of(plan)
    }

    fn of(plan: Plan) -> Self {
        Self::at(plan, 500)
    }

    fn at(plan: Plan, weight_bps: u16) -> Self {
        let mut trial = Trial::new(&plan);
        trial.begin_stage(&plan, 0, bps(weight_bps));
        Self { plan, trial, now_ms: 1_000_000 }
    }

    fn observe(&mut self, readings: Vec<Reading>) {
        let name = MetricName::new("orders").unwrap();
        let measured = readings.into_iter().map(|reading| Measured { metric: name, reading }).collect();
        self.trial.observe(&Observation { at: Timestamp(self.now_ms), measured, ..Observation::default() });
    }

    fn see(&mut self, readings: Vec<Reading>) -> CriterionAssessment {
        self.observe(readings);
        self.trial.assessment().criteria[0].clone()
    }

    /// A look a moment later.
    fn look(&mut self, readings: Vec<Reading>) -> CriterionAssessment {
        self.now_ms += POLL_MS;
        self.see(readings)
    }

    /// Looks until a verdict, at most this often.
    fn until(&mut self, wanted: Verdict, most: usize, reading: impl Fn(usize) -> Reading) -> Option<usize> {
        (0..most).find(|index| self.look(vec![reading(*index)]).verdict == wanted)
    }
}

fn counts(stable: [u64; 2], canary: [u64; 2]) -> Reading {
    Reading::Counts([stable, canary].map(|[requests, events]| ArmCounts { requests, events }))
}

fn gap(kind: GapKind) -> Reading {
    Reading::Missing(Gap { kind, text: "canary: nothing there".to_owned() })
}

#[test]
fn a_ratio_fails_by_the_shares_that_the_arms_really_had() {
    let mut world = World::new(ExternalKind::Ratio, None, Some((1.5, None)));
    // One of a hundred on both: an uneven split is no harm.
    assert_eq!(world.until(Verdict::Fail, 200, |look| counts([700 + look as u64, 7], [300, 3])), None);
    let mut world = World::new(ExternalKind::Ratio, None, Some((1.5, None)));
    let looks = world.until(Verdict::Fail, 40, |_| counts([1_000, 10], [50, 5])).expect("ten times as many");
    assert!(looks <= 5, "{looks}");
    // What is proven stays proven, also when the source falls silent.
    assert_eq!(world.look(vec![gap(GapKind::Unreachable)]).verdict, Verdict::Fail);
}

#[test]
fn a_ratio_passes_and_is_unknown_while_its_source_says_nothing() {
    let mut world = World::new(ExternalKind::Ratio, None, Some((1.5, None)));
    assert_eq!(world.trial.assessment().criteria, []);
    assert!(world.see(vec![]).text.starts_with("not yet: "));
    world.until(Verdict::Pass, 100, |_| counts([1_000, 2], [500, 1])).expect("passes");
    let lost = world.look(vec![counts([0, 0], [0, 0]), gap(GapKind::Empty)]);
    assert_eq!((lost.verdict, lost.text.as_str()), (Verdict::Unknown, "empty: canary: nothing there"));
    assert!(!world.trial.assessment().all_pass());
    assert_eq!(world.look(vec![counts([1_000, 2], [500, 1])]).verdict, Verdict::Pass);
    // Nobody says anything: the source's task is gone.
    world.now_ms += 3 * POLL_MS + 60_001;
    let silent = world.see(vec![]);
    assert!(silent.verdict == Verdict::Unknown && silent.text.starts_with("stale: "), "{silent:?}");
}

#[test]
fn an_absolute_limit_on_a_ratio() {
    let mut world = World::new(ExternalKind::Ratio, Some(0.05), None);
    assert!(world.until(Verdict::Pass, 50, |_| counts([1_000, 10], [100, 1])).is_some());
    let failed = world.until(Verdict::Fail, 50, |_| counts([1_000, 10], [100, 30])).expect("found");
    assert!(failed <= 3, "{failed}");
    let mut world = World::new(ExternalKind::Ratio, Some(0.05), None);
    assert!(world.until(Verdict::Environment, 50, |_| counts([1_000, 300], [100, 30])).is_some(), "stable breaks it too");
}

/// A preview has its testers, and an idle stable its probes: neither is beside the other arm's clients.
#[test]
fn arms_are_compared_while_the_weights_send_requests_to_both() {
    // Where it does not apply, a criterion is shown only if it fails.
    let fails = |world: &mut World, most: usize, reading: fn(usize) -> Reading| {
        (0..most).any(|look| {
            world.now_ms += POLL_MS;
            world.observe(vec![reading(look)]);
            world.trial.assessment().criteria.first().is_some_and(|one| one.verdict == Verdict::Fail)
        })
    };
    for (weight_bps, is_compared) in [(0, false), (5_000, true), (10_000, false)] {
        let plan = World::new(ExternalKind::Ratio, None, Some((1.5, None))).plan;
        assert_eq!(fails(&mut World::at(plan, weight_bps), 40, |_| counts([1_000, 0], [1_000, 50])), is_compared, "{weight_bps}");
        let plan = World::new(ExternalKind::Value, None, Some((1.2, None))).plan;
        let value = |look: usize| Reading::Values([Some(1.0 + look as f64 / 1_000.0), Some(60.0)], None);
        assert_eq!(fails(&mut World::at(plan, weight_bps), 400, value), is_compared, "a value at {weight_bps}");
        let limited = || World::at(World::new(ExternalKind::Ratio, Some(0.05), None).plan, weight_bps);
        assert!(limited().until(Verdict::Fail, 40, |_| counts([1_000, 10], [100, 30])).is_some(), "a limit at {weight_bps}");
        assert!(limited().until(Verdict::Pass, 50, |_| counts([1_000, 10], [100, 1])).is_some(), "a limit at {weight_bps}");
    }
}

#[test]
fn what_a_source_counts_is_no_request_where_requests_are_counted() {
    let mut world = World::new(ExternalKind::Ratio, Some(0.05), None);
    world.look(vec![counts([100, 0], [60, 0])]);
    assert_eq!(world.trial.canary_requests(bps(500)), 60, "nobody else counts");
    // The built-in proxy is there, and saw none.
    world.look(vec![]);
    assert_eq!(world.trial.canary_requests(bps(500)), 0);
}

#[test]
fn values_are_judged_by_blocks_of_looks() {
    // The noise is the same for both, save for a little.
    let value = |canary: f64| {
        move |look: usize| {
            let noise = 1.0 + (look % 5) as f64 * 0.01;
            Reading::Values([Some(10.0 * noise), Some(canary * (noise + (look % 3) as f64 * 0.003))], None)
        }
    };
    let mut world = World::new(ExternalKind::Value, None, Some((1.5, None)));
    assert!(world.until(Verdict::Fail, 200, value(30.0)).is_some());
    let mut world = World::new(ExternalKind::Value, None, Some((1.5, None)));
    assert!(world.until(Verdict::Pass, 200, value(10.5)).is_some());
    // Nothing against nothing is no difference, and neither is a value below nothing.
    let mut world = World::new(ExternalKind::Value, None, Some((1.5, None)));
    assert_eq!(
        world.until(Verdict::Fail, 400, |look| Reading::Values([Some(0.0), Some(if look % 2 == 0 { 0.0 } else { -1.0 })], None)),
        None
    );
    // Looks are not counted again by observations without one.
    let mut world = World::new(ExternalKind::Value, None, Some((1.5, None)));
    world.look(vec![value(30.0)(0)]);
    for _ in 0..4_000 {
        world.now_ms += 50;
        assert_ne!(world.see(vec![]).verdict, Verdict::Fail);
    }
}

#[test]
fn one_version_without_a_value_is_unknown_with_its_reason() {
    let mut world = World::new(ExternalKind::Value, None, Some((1.5, None)));
    let several = Gap { kind: GapKind::SeveralSeries, text: "canary: 2 series".to_owned() };
    let one = world.look(vec![Reading::Values([Some(1.0), None], Some(several))]);
    assert_eq!((one.verdict, one.text.as_str()), (Verdict::Unknown, "several series: canary: 2 series"));
}

#[test]
fn the_threshold_judge_takes_measurements_as_they_stand() {
    for kind in [ExternalKind::Ratio, ExternalKind::Value] {
        let mut threshold = plan(vec![criterion(metric(kind), Some(0.1), None)], vec![]);
        (threshold.analysis.judge, threshold.analysis.poll_ms) = (JudgeKind::Threshold, Some(POLL_MS));
        let mut world = World::of(threshold);
        let reading = |percent: u32| match kind {
            ExternalKind::Ratio => counts([1_000, 0], [100, percent.into()]),
            ExternalKind::Value => Reading::Values([Some(0.0), Some(f64::from(percent) / 100.0)], None),
        };
        assert_eq!(world.look(vec![reading(5)]).verdict, Verdict::Pass);
        world.now_ms += 60_000;
        assert_eq!(world.look(vec![reading(50)]).verdict, Verdict::Fail);
        let lost = world.look(vec![gap(GapKind::NotANumber)]);
        assert!(lost.verdict == Verdict::Unknown && lost.text.starts_with("not a number: "), "{lost:?}");
    }
}

#[test]
fn evidence_survives_a_restart_and_what_was_said_last_does_not() {
    let mut world = World::new(ExternalKind::Ratio, None, Some((1.5, None)));
    for _ in 0..3 {
        world.look(vec![counts([1_000, 10], [50, 2])]);
    }
    let before = world.trial.assessment().criteria[0].evidence.unwrap().harm;
    let stored = serde_json::to_string(&world.trial.checkpoint()).unwrap();
    let checkpoint: Checkpoint = serde_json::from_str(&stored).unwrap();
    let mut restored = Trial::new(&world.plan);
    assert!(restored.recall(&checkpoint));
    restored.resume_stage(&world.plan, &checkpoint, 0, bps(500));
    world.trial = restored;
    let after = world.see(vec![]);
    assert!(after.verdict == Verdict::Unknown && after.text.starts_with("not yet: "), "{after:?}");
    let harm = world.look(vec![counts([0, 0], [0, 0])]).evidence.unwrap().harm;
    assert_eq!(harm, before);
}

/// Equal arms that are sampled at different moments, and fail together for a while again and again.
#[test]
#[allow(clippy::cast_possible_truncation, reason = "seconds of half an hour")]
fn shared_outages_roll_back_nobody_however_the_arms_are_scraped() {
    for run in 0..30_u64 {
        let mut world = World::new(ExternalKind::Ratio, None, Some((1.5, None)));
        let mut aligner = Aligner::default();
        let [stable_offset, canary_offset] = [run % 15, run * 7 % 15];
        let is_outage = |second: u64| (second + run * 37) % 400 < 90;
        // Sums by second: requests and failures, stable's first.
        let mut sums = vec![[(0.0, 0.0); 2]];
        let mut random = run.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for second in 0..1_800 {
            let mut next = sums[second as usize];
            for (arm, rps) in next.iter_mut().zip([95_u32, 5]) {
                for _ in 0..rps {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let fails = (random >> 11) as f64 / (1_u64 << 53) as f64 <= if is_outage(second) { 0.2 } else { 0.005 };
                    arm.0 += 1.0;
                    arm.1 += f64::from(u8::from(fails));
                }
            }
            sums.push(next);
        }
        for now in (0..1_800_u64).step_by(15) {
            let series = |arm: Arm, part: Part| {
                let offset = [stable_offset, canary_offset][arm.index()];
                let sampled = (now.saturating_sub(120)..=now).filter(move |second| second % 15 == offset);
                let sample = |second: u64| {
                    let (all, bad) = sums[second as usize][arm.index()];
                    Sample { at_ms: second * 1_000, value: if part == Part::All { all } else { bad } }
                };
                let target = arm.as_str().to_owned();
                Series { arm, part, id: format!("{arm}{part:?}"), target, samples: sampled.map(sample).collect() }
            };
            let all = [
                series(Arm::Stable, Part::All),
                series(Arm::Canary, Part::All),
                series(Arm::Stable, Part::Bad),
                series(Arm::Canary, Part::Bad),
            ];
            let counts = aligner.take(&all).unwrap().unwrap_or_default();
            let seen = world.look(vec![Reading::Counts(counts)]);
            assert_ne!(seen.verdict, Verdict::Fail, "run {run} at {now} s: {seen:?}");
        }
    }
}
