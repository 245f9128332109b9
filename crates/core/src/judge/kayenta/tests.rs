//! The judge by data, one observation per step: steps of a minute, a judgement every five.

use super::super::{
    Trial, Verdict,
    Verdict::{Environment, Fail, Inconclusive, Pass, Unknown},
    tests::{Seen, bps, cell, plan, versus},
};
use crate::{
    Timestamp,
    plan::{Combine, Criterion, Guard, JudgeKind, KayentaRules, Metric, OnBreach, Plan, Quantile},
    traffic::{Arm, ArmGauges, Assignment, Observation, Outcome},
};

const MINUTE: u64 = 60_000;

fn rules(criteria: Vec<Criterion>, guards: Vec<Guard>) -> Plan {
    let mut plan = plan(criteria, guards);
    plan.analysis.judge = JudgeKind::Kayenta(KayentaRules::default());
    plan
}

fn rises(name: &str, metric: Metric) -> Criterion {
    Criterion { name: name.to_owned(), ..versus(metric, Some(1.0), None, None, Combine::Both) }
}

/// A trial at 20 % that is observed once at the beginning of the stage, without any request.
fn trial(criteria: Vec<Criterion>) -> Trial {
    let plan = rules(criteria, vec![]);
    let mut trial = Trial::new(&plan);
    trial.begin_stage(&plan, 0, bps(2_000));
    trial.observe(&Observation::default());
    trial
}

/// What one minute brings.
#[derive(Clone, Copy)]
struct Minute {
    stable: Seen,
    canary: Seen,
    /// Latency of stable's and the canary's requests in milliseconds.
    latency_ms: [u64; 2],
    cpu: [f64; 2],
    memory: [f64; 2],
}

/// Equal arms, slightly different from minute to minute.
fn equal(minute: u64) -> Minute {
    let (a, b) = (minute * 7 % 5, minute * 3 % 5);
    Minute {
        stable: (4_000, 40 + 4 * a),
        canary: (1_000, 10 + b),
        latency_ms: [100 + 2 * a, 100 + 2 * b],
        cpu: [40.0 + a as f64, 40.0 + b as f64],
        memory: [1e8 + a as f64, 1e8 + b as f64],
    }
}

fn observed(minute: u64, seen: Minute, assignment: Assignment) -> Observation {
    let mut cells = vec![cell(2_000, Arm::Stable, assignment, seen.stable), cell(2_000, Arm::Canary, assignment, seen.canary)];
    for (cell, latency_ms) in cells.iter_mut().zip(seen.latency_ms) {
        let good = cell.counts.of(Outcome::Success);
        cell.counts.by_outcome[Outcome::Success.index()] = 0;
        (0..good).for_each(|_| cell.counts.record(Outcome::Success, latency_ms * 1_000));
    }
    let gauges = [0, 1].map(|arm| ArmGauges { cpu_percent: Some(seen.cpu[arm]), memory_bytes: Some(seen.memory[arm]), restarts: None });
    Observation { at: Timestamp(minute * MINUTE), cells, gauges, ..Observation::default() }
}

/// Plays minutes, counted from 1, and gives the verdicts after each judgement.
fn judged(trial: &mut Trial, minutes: std::ops::RangeInclusive<u64>, seen: impl Fn(u64) -> Minute) -> Vec<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    for minute in minutes {
        trial.observe(&observed(minute, seen(minute), Assignment::Random));
        if minute % 5 == 0 {
            verdicts.push(trial.assessment().criteria.iter().map(|one| one.verdict).collect());
        }
    }
    verdicts
}

fn text(trial: &Trial, index: usize) -> &str {
    &trial.assessment().criteria[index].text
}

fn four() -> Vec<Criterion> {
    vec![
        rises("errors", Metric::ErrorRate),
        rises("latency", Metric::Latency(Quantile::P99)),
        rises("cpu", Metric::Cpu),
        rises("memory", Metric::Memory),
    ]
}

#[test]
fn nothing_passes_before_the_first_judgement() {
    let mut trial = trial(vec![rises("errors", Metric::ErrorRate)]);
    trial.observe(&Observation { at: Timestamp(50_000), ..Observation::default() });
    let one = &trial.assessment().criteria[0];
    assert_eq!((one.verdict, one.text.as_str(), one.pressure), (Inconclusive, "first judgement in 4m 10s", None));
    judged(&mut trial, 1..=4, equal);
    let one = &trial.assessment().criteria[0];
    assert_eq!((one.verdict, one.text.as_str()), (Inconclusive, "first judgement in 1m 00s"));
    assert!(one.canary.is_some() && one.stable.is_some(), "the values so far are shown");
    assert!(!trial.assessment().all_pass());
    trial.observe(&observed(5, equal(5), Assignment::Random));
    assert!(trial.assessment().all_pass(), "{}", text(&trial, 0));
    assert_eq!(text(&trial, 0), "1.2 % against 1.2 %, Pass; score 100 of 95");
    // It stands until the next one, and is as old as what was observed last.
    trial.observe(&observed(7, equal(7), Assignment::Random));
    assert_eq!(text(&trial, 0), "1.2 % against 1.2 %, Pass; score 100 of 95");
    assert_eq!(trial.assessment().evaluated_at, Some(Timestamp(7 * MINUTE)));
}

#[test]
fn equal_arms_pass() {
    let mut trial = trial(four());
    for verdicts in judged(&mut trial, 1..=60, equal) {
        assert_eq!(verdicts, [Pass; 4]);
    }
    assert_eq!(trial.assessment().health(), Some(100));
}

#[test]
fn a_canary_that_is_slower_from_its_second_minute_fails_at_the_second_judgement() {
    let slow = |minute| Minute { latency_ms: [equal(minute).latency_ms[0], if minute == 1 { 90 } else { 150 }], ..equal(minute) };
    let mut trial = trial(vec![rises("errors", Metric::ErrorRate), rises("latency", Metric::Latency(Quantile::P99))]);
    assert_eq!(judged(&mut trial, 1..=10, slow), [[Pass, Pass], [Pass, Fail]]);
    assert_eq!(text(&trial, 0), "1.2 % against 1.2 %, Pass; score 50 of 95");
    let parts: Vec<&str> = text(&trial, 1).split([',', ';']).collect();
    assert!(parts[1].starts_with(" High: +") && parts[1].ends_with(" ms"), "{}", text(&trial, 1));
    assert_eq!(parts[3], " score 50 of 95");
    assert_eq!(trial.assessment().first_with(Fail, OnBreach::Rollback).unwrap().name, "latency");
    assert_eq!(trial.assessment().health(), Some(50));
}

#[test]
fn a_fall_counts_only_where_it_is_asked_for_and_a_ratio_is_the_least_effect() {
    let idle = |minute| Minute { cpu: [40.0, 20.0 + minute as f64 / 100.0], ..equal(minute) };
    let cpu = |ratio, decrease| versus(Metric::Cpu, ratio, None, decrease, Combine::Both);
    let mut falls = trial(vec![cpu(None, Some(0.25)), cpu(None, Some(0.6)), cpu(Some(1.5), None)]);
    assert_eq!(judged(&mut falls, 1..=5, idle), [[Fail, Pass, Pass]]);
    assert!(text(&falls, 0).contains("Low: -20 percentage points, 0.5×"), "{}", text(&falls, 0));
    let busy = |minute| Minute { cpu: [40.0, 80.0 + minute as f64 / 100.0], ..equal(minute) };
    let mut rises = trial(vec![cpu(Some(1.5), None), cpu(Some(2.5), None)]);
    assert_eq!(judged(&mut rises, 1..=5, busy), [[Fail, Pass]]);
}

/// The known weakness of this judge: most steps have no error, so that the median shift is 0.
#[test]
fn sparse_errors_pass_although_there_are_four_times_as_many() {
    let sparse = |minute| {
        let errors = u64::from(minute % 4 == 0);
        Minute { stable: (4_000, 4 * errors), canary: (1_000, 4 * errors), ..equal(minute) }
    };
    let mut trial = trial(vec![rises("errors", Metric::ErrorRate)]);
    assert!(judged(&mut trial, 1..=60, sparse).iter().flatten().all(|verdict| *verdict == Pass));
    let one = &trial.assessment().criteria[0];
    assert!((one.canary.unwrap() / one.stable.unwrap() - 4.0).abs() < 1e-9, "{}", one.text);
}

#[test]
fn without_data_in_either_arm_nothing_is_known() {
    let nothing = |minute: u64| Minute { canary: (0, 0), ..equal(minute) };
    let mut trial = trial(vec![rises("errors", Metric::ErrorRate), rises("cpu", Metric::Cpu)]);
    assert_eq!(judged(&mut trial, 1..=5, nothing), [[Unknown, Pass]]);
    assert_eq!(text(&trial, 0), "no data about the canary's error-rate; next judgement in 5m 00s");
    // Kayenta's rule for half of the metrics without data.
    assert!(text(&trial, 1).ends_with("score 0 of 95"), "{}", text(&trial, 1));
    let busy = |minute| Minute { cpu: [40.0, 80.0], ..nothing(minute) };
    let mut trial = self::trial(vec![rises("errors", Metric::ErrorRate), rises("cpu", Metric::Cpu)]);
    assert_eq!(judged(&mut trial, 1..=5, busy), [[Unknown, Fail]]);
    // What is not compared is no data, however much of it there is.
    let plan = rules(vec![rises("errors", Metric::ErrorRate)], vec![]);
    for assignment in [Assignment::Forced, Assignment::Matched, Assignment::Rescue, Assignment::Mirror] {
        trial.begin_stage(&plan, 0, bps(2_000));
        (20..=25).for_each(|minute| trial.observe(&observed(minute, equal(minute), assignment)));
        assert_eq!(text(&trial, 0), "no data about error-rate in either version; next judgement in 5m 00s");
        assert_eq!(trial.assessment().criteria[0].verdict, Unknown);
    }
}

#[test]
fn fewer_than_five_values_are_not_compared() {
    // Not a request in the third minute, and far more errors in every other one.
    let seen = |minute| Minute { canary: if minute == 3 { (0, 0) } else { (1_000, 900) }, ..equal(minute) };
    let mut trial = trial(vec![rises("errors", Metric::ErrorRate), rises("cpu", Metric::Cpu)]);
    assert_eq!(judged(&mut trial, 1..=5, seen), [[Inconclusive, Pass]]);
    assert_eq!(text(&trial, 0), "4 of the 5 values per version that are needed to compare; next judgement in 5m 00s");
    assert!(text(&trial, 1).ends_with("score 100 of 95"), "{}", text(&trial, 1));
    assert_eq!(judged(&mut trial, 6..=10, seen), [[Fail, Pass]]);
}

#[test]
fn the_share_of_criteria_that_pass_decides_which_of_the_others_fail() {
    let mut first = trial(four());
    let hot = |minute| Minute { cpu: [40.0, 80.0], ..equal(minute) };
    assert_eq!(judged(&mut first, 1..=5, hot), [[Pass, Pass, Inconclusive, Pass]]);
    let words = "80 % against 40 %, High: +40 percentage points, 2×; score 75 of 95; next judgement in 5m 00s";
    assert_eq!(text(&first, 2), words);
    assert!(!first.assessment().all_pass());
    // A score of exactly the lower mark is enough to go on; the last one has to reach the upper mark.
    let cool = |minute| Minute { cpu: [40.0, 10.0], ..equal(minute) };
    assert_eq!(judged(&mut first, 6..=10, cool), [[Pass; 4]]);
    assert!(first.assessment().all_pass());
    let mut second = trial(four());
    let hot_and_big = |minute| Minute { memory: [1e8, 2e8], ..hot(minute) };
    assert_eq!(judged(&mut second, 1..=5, hot_and_big), [[Pass, Pass, Fail, Fail]]);
    assert!(text(&second, 3).ends_with("High: +95.4 MiB, 2×; score 50 of 95"), "{}", text(&second, 3));
}

#[test]
fn a_score_of_the_upper_mark_passes_whatever_differs() {
    let mut plan = rules(four(), vec![]);
    plan.analysis.judge = JudgeKind::Kayenta(KayentaRules { pass: 75.0, marginal: 50.0, ..KayentaRules::default() });
    let mut trial = Trial::new(&plan);
    trial.begin_stage(&plan, 0, bps(2_000));
    trial.observe(&Observation::default());
    let hot = |minute| Minute { cpu: [40.0, 80.0], ..equal(minute) };
    assert_eq!(judged(&mut trial, 1..=5, hot), [[Pass; 4]]);
    assert!(text(&trial, 2).ends_with("High: +40 percentage points, 2×; score 75 of 75"), "{}", text(&trial, 2));
}

#[test]
fn a_failed_judgement_fails_the_stage_also_when_a_later_one_passes() {
    let pauses = Criterion { on_breach: OnBreach::Pause, ..rises("cpu", Metric::Cpu) };
    let mut trial = trial(vec![pauses.clone()]);
    let seen = |minute| Minute { cpu: [40.0, if minute <= 5 { 80.0 } else { 10.0 }], ..equal(minute) };
    assert_eq!(judged(&mut trial, 1..=10, seen), [[Fail], [Fail]]);
    assert!(text(&trial, 0).ends_with("Pass; score 100 of 95; a score of 0 failed this stage before, 75 needed"), "{}", text(&trial, 0));
    let plan = rules(vec![pauses], vec![]);
    trial.begin_stage(&plan, 1, bps(2_000));
    assert_eq!(judged(&mut trial, 10..=15, seen).last().unwrap(), &[Pass]);
}

#[test]
fn criteria_that_only_warn_are_judged_but_not_scored() {
    let warns = Criterion { on_breach: OnBreach::Warn, ..rises("cpu", Metric::Cpu) };
    let seen = |minute| Minute { cpu: [40.0, if minute <= 5 { 80.0 } else { 10.0 }], ..equal(minute) };
    let mut both = trial(vec![rises("errors", Metric::ErrorRate), warns.clone()]);
    assert_eq!(judged(&mut both, 1..=5, seen), [[Pass, Fail]]);
    assert!(text(&both, 0).ends_with("score 100 of 95") && !text(&both, 1).contains("score"), "{}", text(&both, 1));
    assert!(both.assessment().all_pass());
    assert_eq!(judged(&mut both, 6..=10, seen), [[Pass, Pass]]);
    let mut alone = trial(vec![warns]);
    assert_eq!(judged(&mut alone, 1..=5, seen), [[Fail]]);
    assert!(alone.assessment().all_pass());
}

#[test]
fn without_a_limit_against_stable_or_with_one_arm_nothing_is_compared() {
    let absolute = Criterion { max: Some(0.05), versus_stable: None, ..rises("errors", Metric::ErrorRate) };
    let mut trial = trial(vec![absolute]);
    assert_eq!(judged(&mut trial, 1..=5, equal), [[Unknown]]);
    let plan = rules(four(), vec![]);
    for weight in [0, 10_000] {
        trial.begin_stage(&plan, 0, bps(weight));
        assert!(!trial.assessment().all_pass());
        trial.observe(&observed(6, equal(6), Assignment::Forced));
        assert!(trial.assessment().criteria.is_empty() && trial.assessment().all_pass());
    }
}

#[test]
fn guards_act_at_once_and_are_what_a_retreat_watches() {
    let guard = Guard { name: "outage".to_owned(), metric: Metric::ErrorRate, max: 0.5, window_ms: 10_000, min_sample: 10 };
    let plan = rules(four(), vec![guard]);
    let mut trial = Trial::new(&plan);
    trial.begin_stage(&plan, 0, bps(2_000));
    for (at, stable, expected) in [(0, (100, 0), Fail), (1, (4_000, 4_000), Environment)] {
        trial.observe(&observed(at, Minute { stable, canary: (100, 90), ..equal(0) }, Assignment::Random));
        assert_eq!(trial.assessment().broken_guards[0].verdict, expected);
    }
    trial.begin_retreat();
    let keeps = |trial: &Trial, minute: u64| trial.stable_keeps_limits(Some("outage"), Timestamp(minute * MINUTE));
    assert_eq!(keeps(&trial, 1), None);
    for (at, errors, expected) in [(2, 30, Some(false)), (3, 1, Some(true))] {
        trial.observe(&observed(at, Minute { stable: (40, errors), canary: (0, 0), ..equal(0) }, Assignment::Forced));
        assert_eq!(keeps(&trial, at), expected);
        assert!(trial.assessment().criteria.is_empty());
    }
    assert_eq!(keeps(&trial, 4), None, "that was long ago");
}

#[test]
fn values_of_any_size_do_no_harm() {
    let mut plan = rules(four(), vec![]);
    for (interval_ms, step_ms) in [(5 * MINUTE, MINUTE), (0, 0), (u64::MAX, u64::MAX), (MINUTE, 5 * MINUTE)] {
        plan.analysis.judge = JudgeKind::Kayenta(KayentaRules { interval_ms, step_ms, ..KayentaRules::default() });
        let mut trial = Trial::new(&plan);
        trial.begin_stage(&plan, 0, bps(2_000));
        for minute in (0..=10).chain([u64::MAX / MINUTE, 3]) {
            let gauge = if minute % 2 == 0 { f64::MAX } else { 0.0 };
            let seen = Minute { cpu: [gauge, f64::NAN], memory: [f64::INFINITY, gauge], ..equal(minute) };
            trial.observe(&observed(minute, seen, Assignment::Random));
            assert!(
                trial
                    .assessment()
                    .criteria
                    .iter()
                    .all(|one| one.metric.source() == crate::plan::MetricSource::Traffic || one.verdict != Pass)
            );
        }
    }
}
