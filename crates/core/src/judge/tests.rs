//! The judge by data: what was seen, and what it says.

mod piling;

use super::*;
use crate::{
    Timestamp, WeightBps,
    plan::{
        Analysis, Combine, Criterion, Expectation, Guard, JudgeKind, Metric, OnBreach, OnInconclusive, OnNoData, Plan, Quantile,
        RetreatEnd, RetreatPolicy, Severity, VersusStable,
    },
    traffic::{Arm, ArmGauges, Assignment, Counts, Observation, Outcome, TrafficCell},
};
use Verdict::{Environment, Fail, Inconclusive, Pass, Unknown};

pub(super) fn bps(weight: u16) -> WeightBps {
    WeightBps::new(weight).unwrap()
}

pub(super) fn criterion() -> Criterion {
    Criterion { name: "errors".to_owned(), min_sample: 50, ..Criterion::of(Metric::ErrorRate) }
}

fn max(metric: Metric, max: f64) -> Criterion {
    Criterion { metric, max: Some(max), ..criterion() }
}

pub(super) fn versus(metric: Metric, ratio: Option<f64>, increase: Option<f64>, decrease: Option<f64>, combine: Combine) -> Criterion {
    Criterion { metric, versus_stable: Some(VersusStable { ratio, increase, decrease, combine }), ..criterion() }
}

pub(super) fn plan(criteria: Vec<Criterion>, guards: Vec<Guard>) -> Plan {
    Plan {
        release: "r".to_owned(),
        targets: vec!["main".to_owned()],
        steps: vec![],
        bake_ms: 0,
        retain_ms: 0,
        analysis: Analysis {
            judge: JudgeKind::Threshold,
            expect: Expectation::default(),
            interval_ms: 1_000,
            window_ms: 10_000,
            poll_ms: None,
            on_no_data: OnNoData::Hold,
            on_inconclusive: OnInconclusive::Hold,
            retreat: RetreatPolicy { recover_within_ms: 10_000, otherwise: RetreatEnd::Pause },
            criteria,
            guards,
        },
        deploy_timeout_ms: 0,
        sticky: false,
    }
}

fn trial(criteria: Vec<Criterion>, guards: Vec<Guard>, weight: u16) -> Trial {
    let plan = plan(criteria, guards);
    let mut trial = Trial::new(&plan);
    trial.begin_stage(&plan, 0, bps(weight));
    trial
}

/// Requests and errors of an arm.
pub(super) type Seen = (u64, u64);

pub(super) fn cell(weight: u16, arm: Arm, assignment: Assignment, (requests, errors): Seen) -> TrafficCell {
    let mut counts = Counts::default();
    counts.by_outcome[Outcome::Success.index()] = requests - errors;
    counts.by_outcome[Outcome::ServerError.index()] = errors;
    TrafficCell { weight: bps(weight), arm, assignment, counts, sessions: None }
}

fn seen_at(at_ms: u64, weight: u16, assignment: Assignment, stable: Seen, canary: Seen) -> Observation {
    let cells = vec![cell(weight, Arm::Stable, assignment, stable), cell(weight, Arm::Canary, assignment, canary)];
    Observation { at: Timestamp(at_ms), cells, ..Observation::default() }
}

fn gauges(at_ms: u64, stable: ArmGauges, canary: ArmGauges) -> Observation {
    Observation { at: Timestamp(at_ms), gauges: [stable, canary], ..Observation::default() }
}

/// The verdict on one criterion after one observation at 20 %.
#[track_caller]
fn check(criterion: &Criterion, stable: Seen, canary: Seen, expected: Verdict) {
    let mut trial = trial(vec![criterion.clone()], vec![], 2_000);
    trial.observe(&seen_at(1_000, 2_000, Assignment::Random, stable, canary));
    let one = &trial.assessment().criteria[0];
    assert_eq!(one.verdict, expected, "{}", one.text);
    assert!(one.pressure.is_none_or(|pressure| (0.0..=1.0).contains(&pressure)));
}

#[test]
fn absolute_limits() {
    let limit = max(Metric::ErrorRate, 0.05);
    check(&limit, (800, 0), (200, 10), Pass);
    check(&limit, (800, 0), (200, 11), Fail);
    check(&limit, (800, 80), (200, 20), Environment);
    check(&limit, (49, 40), (200, 20), Fail);
    check(&limit, (800, 0), (49, 49), Inconclusive);
    check(&limit, (800, 0), (0, 0), Unknown);
    let least = Criterion { min: Some(0.5), ..criterion() };
    check(&least, (800, 400), (200, 99), Fail);
    check(&least, (800, 400), (200, 100), Pass);
}

#[test]
fn limits_against_stable() {
    let ratio = versus(Metric::ErrorRate, Some(1.5), None, None, Combine::Both);
    check(&ratio, (8_000, 80), (2_000, 29), Pass);
    check(&ratio, (8_000, 80), (2_000, 32), Fail);
    // Without a single error a canary is never worse, however small its sample.
    check(&ratio, (100_000, 0), (50, 0), Pass);
    check(&ratio, (100_000, 3), (50, 0), Pass);
    check(&ratio, (100_000, 0), (50, 1), Fail);
    // Equal rates are equal, whatever the sizes.
    check(&ratio, (100_000, 2_000), (50, 1), Pass);
    check(&ratio, (49, 0), (200, 20), Inconclusive);
    check(&ratio, (0, 0), (200, 20), Unknown);
    let increase = versus(Metric::ErrorRate, None, Some(0.005), None, Combine::Both);
    check(&increase, (8_000, 80), (2_000, 30), Pass);
    check(&increase, (8_000, 80), (2_000, 31), Fail);
    let decrease = versus(Metric::ErrorRate, None, None, Some(0.02), Combine::Both);
    check(&decrease, (8_000, 4_000), (2_000, 981), Pass);
    check(&decrease, (8_000, 4_000), (2_000, 979), Fail);
    check(&decrease, (8_000, 4_000), (2_000, 1_500), Pass);
}

#[test]
fn ratio_and_increase_work_together_as_asked() {
    // Twice stable's rate but only 0.1 percentage points more; and the other way round.
    for (stable, canary, both, either) in
        [((8_000, 8), (2_000, 4), Pass, Fail), ((8_000, 4_000), (2_000, 1_100), Pass, Fail), ((8_000, 80), (2_000, 60), Fail, Fail)]
    {
        check(&versus(Metric::ErrorRate, Some(1.5), Some(0.005), None, Combine::Both), stable, canary, both);
        check(&versus(Metric::ErrorRate, Some(1.5), Some(0.005), None, Combine::Either), stable, canary, either);
    }
}

#[test]
fn latency_is_that_of_requests_that_did_not_fail() {
    let limit = max(Metric::Latency(Quantile::P99), 500.0);
    for (slow_ms, errors, expected) in [(400, 0, Pass), (600, 0, Fail), (400, 900, Pass)] {
        let mut trial = trial(vec![limit.clone()], vec![], 2_000);
        let mut observation = seen_at(1_000, 2_000, Assignment::Random, (0, 0), (errors, errors));
        (0..100).for_each(|_| observation.cells[1].counts.record(Outcome::Success, slow_ms * 1_000));
        trial.observe(&observation);
        assert_eq!(trial.assessment().criteria[0].verdict, expected, "{slow_ms}");
    }
    // Enough requests, but too few with a latency.
    check(&limit, (0, 0), (200, 180), Unknown);
}

#[test]
fn request_rates_are_compared_per_share() {
    let rate = versus(Metric::RequestRate, None, None, Some(0.1), Combine::Both);
    for (canary, expected) in [(200, Pass), (150, Fail)] {
        let mut trial = trial(vec![rate.clone(), Criterion { min: Some(300.0), ..max(Metric::RequestRate, 1e6) }], vec![], 2_000);
        trial.observe(&seen_at(1_000, 2_000, Assignment::Random, (800, 0), (canary, 0)));
        assert!(trial.assessment().criteria.iter().all(|one| one.verdict == Unknown), "no time has passed: no rate");
        trial.observe(&seen_at(2_000, 2_000, Assignment::Random, (800, 0), (canary, 0)));
        let verdicts: Vec<_> = trial.assessment().criteria.iter().map(|one| one.verdict).collect();
        // Both observations within one second of known length: 400 and 300 per second.
        assert_eq!(verdicts, [expected, Pass]);
    }
}

#[test]
fn gauges_that_cannot_be_are_no_measurement() {
    let limit = max(Metric::Cpu, 70.0);
    let against = versus(Metric::Memory, Some(1.2), None, None, Combine::Both);
    let gauge = |cpu: f64, memory: f64| ArmGauges { cpu_percent: Some(cpu), memory_bytes: Some(memory), restarts: None };
    for (canary, cpu, memory) in [
        (gauge(60.0, 100.0), Pass, Pass),
        (gauge(80.0, 130.0), Fail, Fail),
        (gauge(f64::NAN, f64::NAN), Unknown, Unknown),
        (gauge(f64::INFINITY, f64::NEG_INFINITY), Unknown, Unknown),
        (gauge(-1.0, -1.0), Unknown, Unknown),
        (gauge(f64::MAX, f64::MAX), Fail, Fail),
        (ArmGauges::default(), Unknown, Unknown),
    ] {
        let mut trial = trial(vec![limit.clone(), against.clone()], vec![], 2_000);
        trial.observe(&gauges(1_000, gauge(10.0, 100.0), canary));
        let verdicts: Vec<_> = trial.assessment().criteria.iter().map(|one| one.verdict).collect();
        assert_eq!(verdicts, [cpu, memory], "{canary:?}");
        assert!(!trial.assessment().all_pass() || (cpu, memory) == (Pass, Pass));
        assert!(trial.assessment().health().is_none_or(|health| health <= 100));
    }
    let mut trial = trial(vec![against], vec![], 2_000);
    trial.observe(&gauges(1_000, gauge(10.0, f64::NAN), gauge(10.0, 100.0)));
    assert_eq!(trial.assessment().criteria[0].verdict, Unknown, "stable's value is missing");
}

#[test]
fn at_full_weight_forced_requests_count_and_nothing_is_compared() {
    let both = Criterion { max: Some(0.05), ..versus(Metric::ErrorRate, Some(1.5), None, None, Combine::Both) };
    let relative = versus(Metric::ErrorRate, Some(1.5), None, None, Combine::Both);
    let mut trial = trial(vec![both, relative], vec![], 10_000);
    trial.observe(&seen_at(1_000, 10_000, Assignment::Forced, (0, 0), (1_000, 40)));
    let criteria = &trial.assessment().criteria;
    assert_eq!((criteria.len(), criteria[0].verdict), (1, Pass));
    assert_eq!(trial.canary_requests(bps(10_000)), 1_000);
    trial.observe(&seen_at(2_000, 10_000, Assignment::Forced, (0, 0), (1_000, 400)));
    assert_eq!(trial.assessment().criteria[0].verdict, Fail);
}

#[test]
fn matched_requests_are_judged_by_absolute_limits_alone() {
    let limit = Criterion { max: Some(0.05), ..versus(Metric::ErrorRate, Some(1.5), Some(0.0), None, Combine::Both) };
    for (matched, expected) in [((200, 8), Pass), ((200, 11), Fail), ((49, 49), Pass)] {
        let mut trial = trial(vec![limit.clone()], vec![], 2_000);
        let mut observation = seen_at(1_000, 2_000, Assignment::Random, (8_000, 8), (2_000, 2));
        observation.cells.push(cell(2_000, Arm::Canary, Assignment::Matched, matched));
        trial.observe(&observation);
        let one = &trial.assessment().criteria[0];
        assert_eq!(one.verdict, expected, "{}", one.text);
        assert_eq!((trial.canary_requests(bps(2_000)), trial.tally().matched), (2_000, matched.0));
    }
    // A breach that has not lasted yet is no pass either.
    let mut trial = trial(vec![Criterion { consecutive: 2, ..limit }], vec![], 2_000);
    for (at_ms, expected) in [(1_000, Inconclusive), (2_000, Fail)] {
        let mut observation = seen_at(at_ms, 2_000, Assignment::Random, (8_000, 8), (2_000, 2));
        observation.cells.push(cell(2_000, Arm::Canary, Assignment::Matched, (100, 50)));
        trial.observe(&observation);
        assert_eq!(trial.assessment().criteria[0].verdict, expected);
    }
}

#[test]
fn a_window_with_too_few_requests_reaches_back_to_the_stages_beginning() {
    let mut trial = trial(vec![max(Metric::ErrorRate, 0.05)], vec![], 50);
    let verdicts: Vec<_> = (1..=8)
        .map(|look| {
            // The window of ten seconds holds 20 requests, the sample is 50.
            trial.observe(&seen_at(look * 5_000, 50, Assignment::Random, (990, 0), (10, 0)));
            trial.assessment().criteria[0].verdict
        })
        .collect();
    assert_eq!(verdicts, [vec![Inconclusive; 4], vec![Pass; 4]].concat());
    trial.observe(&seen_at(200_000, 50, Assignment::Random, (990, 0), (0, 0)));
    assert_eq!(trial.assessment().criteria[0].verdict, Unknown, "old data stands in for little data, not for none");
    trial.observe(&seen_at(205_000, 50, Assignment::Random, (990, 0), (10, 10)));
    assert_eq!(trial.assessment().criteria[0].verdict, Fail, "10 of 90");
}

#[test]
fn a_shared_breach_does_not_hide_a_canary_that_is_far_worse() {
    let both = Criterion { max: Some(0.05), ..versus(Metric::ErrorRate, Some(1.5), None, None, Combine::Both) };
    check(&both, (800, 48), (200, 12), Environment);
    check(&both, (800, 48), (200, 120), Fail);
}

#[test]
fn absolute_limits_hold_also_where_nothing_can_be_compared() {
    let both = Criterion { max: Some(0.05), ..versus(Metric::ErrorRate, Some(1.5), None, None, Combine::Both) };
    for (errors, expected) in [(30, Fail), (0, Unknown)] {
        let mut trial = trial(vec![both.clone()], vec![], 2_000);
        trial.observe(&seen_at(1_000, 2_000, Assignment::Forced, (0, 0), (100, errors)));
        assert_eq!(trial.assessment().criteria[0].verdict, expected);
    }
}

#[test]
fn clients_that_give_up_on_the_canary_are_noticed() {
    for (canary, stable, noticed) in [(50, 5, true), (5, 20, false), (3, 5, false), (0, 0, false)] {
        let mut trial = trial(vec![], vec![], 2_000);
        let mut observation = seen_at(1_000, 2_000, Assignment::Random, (800, 0), (200, 0));
        observation.cells[0].counts.by_outcome[Outcome::ClientAborted.index()] = stable;
        observation.cells[1].counts.by_outcome[Outcome::ClientAborted.index()] = canary;
        trial.observe(&observation);
        assert_eq!(trial.tally().driven_away().is_some(), noticed, "{canary} of 200 against {stable} of 800");
    }
}

#[test]
fn rescues_and_mirrors_count_for_nobody() {
    let mut trial = trial(vec![max(Metric::ErrorRate, 0.05)], vec![], 2_000);
    for (at_ms, assignment) in [(1_000, Assignment::Rescue), (2_000, Assignment::Mirror)] {
        trial.observe(&seen_at(at_ms, 2_000, assignment, (100, 100), (100, 100)));
        assert_eq!(trial.assessment().criteria[0].verdict, Unknown);
    }
    assert_eq!(*trial.tally(), Tally::default());
}

/// Verdicts of a criterion over seconds with these shares of errors; `None`: nothing seen.
fn verdicts(criterion: Criterion, seconds: &[Option<u64>]) -> Vec<Verdict> {
    let mut trial = trial(vec![criterion], vec![], 2_000);
    let mut given = Vec::new();
    for (second, percent) in seconds.iter().enumerate() {
        // Far enough apart for every look to see its own traffic only.
        let at_ms = second as u64 * 11_000;
        let canary = percent.map_or((0, 0), |percent| (100, percent));
        trial.observe(&seen_at(at_ms, 2_000, Assignment::Random, (400, 0), canary));
        given.push(trial.assessment().criteria[0].verdict);
    }
    given
}

#[test]
fn a_breach_counts_after_enough_looks_in_a_row() {
    let limit = Criterion { consecutive: 3, ..max(Metric::ErrorRate, 0.05) };
    let (bad, good, none) = (Some(50), Some(0), None);
    assert_eq!(verdicts(limit.clone(), &[bad, bad, bad, good, bad]), [Inconclusive, Inconclusive, Fail, Pass, Inconclusive]);
    // Missing data neither heals a breach nor adds to it.
    assert_eq!(verdicts(limit, &[bad, bad, none, bad]), [Inconclusive, Inconclusive, Unknown, Fail]);
}

#[test]
fn breaches_add_up_over_a_stage_and_good_looks_take_nothing_back() {
    let limit = Criterion { cumulative: Some(3), ..max(Metric::ErrorRate, 0.05) };
    let (bad, good, none) = (Some(50), Some(0), None);
    assert_eq!(
        verdicts(limit.clone(), &[bad, good, bad, none, good, bad, good, none]),
        [Inconclusive, Pass, Inconclusive, Unknown, Pass, Fail, Fail, Fail]
    );
    let plan = plan(vec![limit], vec![]);
    let mut trial = Trial::new(&plan);
    trial.begin_stage(&plan, 0, bps(2_000));
    let look = |trial: &mut Trial, at_ms: u64, canary: u64, stable: u64| {
        trial.observe(&seen_at(at_ms, 2_000, Assignment::Random, (400, stable), (100, canary)));
        let one = &trial.assessment().criteria[0];
        (one.verdict, one.text.rsplit_once("; broken in ").map_or("", |(_, text)| text).to_owned())
    };
    let text = |looks: &str| format!("{looks} of this stage, fails at 3");
    assert_eq!(look(&mut trial, 0, 0, 0), (Pass, String::new()));
    assert_eq!(look(&mut trial, 11_000, 9, 0), (Inconclusive, text("1 look")));
    assert_eq!(look(&mut trial, 22_000, 0, 0), (Pass, text("1 look")));
    assert_eq!(look(&mut trial, 33_000, 9, 0), (Inconclusive, text("2 looks")));
    // Trouble that both have is counted, but it is not what the canary fails by.
    assert_eq!(look(&mut trial, 44_000, 9, 40), (Environment, text("3 looks")));
    assert_eq!(look(&mut trial, 55_000, 0, 0), (Pass, text("3 looks")));
    assert_eq!(look(&mut trial, 66_000, 9, 0), (Fail, text("4 looks")));
    trial.begin_stage(&plan, 1, bps(2_000));
    assert_eq!(look(&mut trial, 77_000, 9, 0), (Inconclusive, text("1 look")));
}

#[test]
fn an_evaluation_counts_once_whether_it_sees_a_breach_by_weight_or_by_rule() {
    let mut trial = trial(vec![Criterion { cumulative: Some(3), ..max(Metric::ErrorRate, 0.05) }], vec![], 2_000);
    for (at_ms, by_weight, matched, expected) in [(0, 9, 50, Inconclusive), (11_000, 0, 50, Inconclusive), (22_000, 9, 0, Fail)] {
        let mut observation = seen_at(at_ms, 2_000, Assignment::Random, (400, 0), (100, by_weight));
        observation.cells.push(cell(2_000, Arm::Canary, Assignment::Matched, (100, matched)));
        trial.observe(&observation);
        assert_eq!(trial.assessment().criteria[0].verdict, expected, "at {at_ms}");
    }
}

#[test]
fn a_breach_counts_once_it_lasted() {
    let limit = Criterion { for_ms: 20_000, ..max(Metric::ErrorRate, 0.05) };
    let (bad, good) = (Some(50), Some(0));
    assert_eq!(verdicts(limit, &[bad, bad, good, bad, bad, bad]), [Inconclusive, Inconclusive, Pass, Inconclusive, Inconclusive, Fail]);
}

#[test]
fn criteria_are_looked_at_every_interval_and_start_afresh_with_a_stage() {
    let mut trial = trial(vec![Criterion { consecutive: 2, ..max(Metric::ErrorRate, 0.05) }], vec![], 2_000);
    assert!(!trial.assessment().all_pass(), "nothing was evaluated yet");
    for (at_ms, expected) in [(1_000, Inconclusive), (1_500, Inconclusive), (1_999, Inconclusive), (2_000, Fail)] {
        trial.observe(&seen_at(at_ms, 2_000, Assignment::Random, (400, 0), (100, 50)));
        assert_eq!(trial.assessment().criteria[0].verdict, expected, "at {at_ms}");
    }
}

#[test]
fn guards_look_at_every_observation_and_have_no_patience() {
    let guard = Guard { name: "outage".to_owned(), metric: Metric::ErrorRate, max: 0.5, window_ms: 2_000, min_sample: 10 };
    let mut trial = trial(vec![], vec![guard], 2_000);
    for (at_ms, canary, broken) in [(0, (9, 9), 0), (50, (1, 1), 1), (100, (20, 0), 0), (5_000, (10, 10), 1)] {
        trial.observe(&seen_at(at_ms, 2_000, Assignment::Random, (400, 0), canary));
        assert_eq!(trial.assessment().broken_guards.len(), broken, "at {at_ms}");
    }
    assert_eq!(trial.assessment().first_with(Fail, OnBreach::Rollback).unwrap().name, "outage");
    assert!(!trial.assessment().all_pass());
    trial.observe(&seen_at(5_100, 2_000, Assignment::Random, (4_000, 4_000), (10, 10)));
    assert_eq!(trial.assessment().broken_guards[0].verdict, Environment);
}

#[test]
fn stable_alone_must_be_seen_to_keep_the_limit_that_was_broken() {
    let cpu = Criterion { name: "cpu".to_owned(), ..max(Metric::Cpu, 70.0) };
    let mut trial = trial(vec![max(Metric::ErrorRate, 0.05), cpu], vec![], 2_000);
    trial.observe(&seen_at(1_000, 2_000, Assignment::Random, (400, 100), (100, 30)));
    trial.begin_retreat();
    let at = Timestamp(2_000);
    assert_eq!(trial.stable_keeps_limits(Some("errors"), at), None);
    let gauge = |cpu| ArmGauges { cpu_percent: Some(cpu), ..ArmGauges::default() };
    trial.observe(&gauges(2_000, gauge(10.0), gauge(0.0)));
    assert_eq!(trial.stable_keeps_limits(Some("errors"), at), None, "another limit says nothing about the broken one");
    assert_eq!(trial.stable_keeps_limits(None, at), Some(true));
    let mut good = seen_at(3_000, 0, Assignment::Forced, (500, 0), (0, 0));
    good.gauges = [gauge(10.0), gauge(0.0)];
    trial.observe(&good);
    assert_eq!(trial.stable_keeps_limits(Some("errors"), Timestamp(3_000)), Some(true));
    assert_eq!(trial.stable_keeps_limits(Some("errors"), Timestamp(30_000)), None, "that was long ago");
    good.gauges = [gauge(90.0), gauge(0.0)];
    trial.observe(&good);
    assert_eq!(trial.stable_keeps_limits(Some("errors"), Timestamp(3_000)), Some(false));
}

#[test]
fn the_split_is_checked_by_requests_of_the_stages_own_weight() {
    for (stable, canary, expected) in [
        (79, 20, "too few"),
        (80, 20, "agrees"),
        (8_000, 2_000, "agrees"),
        (8_150, 1_850, "agrees"),
        (7_000, 3_000, "differs"),
        (10_000, 0, "differs"),
        (u64::MAX, u64::MAX, "differs"),
    ] {
        let mut trial = trial(vec![], vec![], 2_000);
        // Late answers to requests of the stage before.
        trial.observe(&seen_at(500, 500, Assignment::Random, (0, 0), (5_000, 0)));
        trial.observe(&seen_at(1_000, 2_000, Assignment::Random, (stable, 0), (canary, 0)));
        let found = match trial.tally().split(bps(2_000)) {
            SplitCheck::TooFew => "too few",
            SplitCheck::Agrees { .. } => "agrees",
            SplitCheck::Differs { .. } => "differs",
        };
        assert_eq!(found, expected, "{stable} and {canary}");
    }
}

#[test]
fn counts_of_any_size_do_no_harm() {
    let mut trial =
        trial(vec![Criterion { max: Some(0.05), ..versus(Metric::ErrorRate, Some(1.5), None, None, Combine::Both) }], vec![], 2_000);
    for at_ms in [1_000, 2_000, 3_000] {
        trial.observe(&seen_at(at_ms, 2_000, Assignment::Random, (u64::MAX, 0), (u64::MAX, u64::MAX / 2)));
        assert_ne!(trial.assessment().criteria[0].verdict, Pass);
    }
}

#[test]
fn a_checkpoint_belongs_to_one_stage() {
    let mut old = trial(vec![], vec![], 2_000);
    old.observe(&seen_at(1_000, 2_000, Assignment::Random, (800, 0), (200, 0)));
    let checkpoint = old.checkpoint();
    let plan = plan(vec![], vec![]);
    for (step, weight, expected) in [(0, 2_000, 200), (1, 2_000, 0), (0, 2_500, 0)] {
        let mut trial = Trial::new(&plan);
        assert!(trial.recall(&checkpoint));
        trial.resume_stage(&plan, &checkpoint, step, bps(weight));
        assert_eq!(trial.canary_requests(bps(weight)), expected);
    }
}

#[test]
fn health_weighs_how_close_the_limits_are() {
    let one = |pressure, severity| CriterionAssessment {
        name: String::new(),
        metric: Metric::ErrorRate,
        verdict: Pass,
        canary: None,
        stable: None,
        on_breach: OnBreach::Warn,
        severity,
        pressure,
        evidence: None,
        text: String::new(),
    };
    use Severity::{Critical, Warning};
    for (criteria, expected) in [
        (vec![], None),
        (vec![one(None, Critical)], None),
        (vec![one(Some(0.0), Critical)], Some(100)),
        (vec![one(Some(1.0), Warning)], Some(0)),
        (vec![one(Some(1.0), Critical), one(Some(0.0), Warning)], Some(33)),
        (vec![one(Some(0.0), Critical), one(Some(1.0), Warning)], Some(67)),
        (vec![one(Some(0.5), Critical), one(None, Critical)], Some(50)),
    ] {
        let assessment = Assessment { criteria, ..Assessment::default() };
        assert_eq!(assessment.health(), expected);
    }
}
