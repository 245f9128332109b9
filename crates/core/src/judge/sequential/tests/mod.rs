//! The judge against made-up traffic. Seeds are fixed, so that a failure is one that can be looked at.

mod gauges;
mod measured;
mod memory;
mod traffic;

use traffic::{Behaviour, HEALTHY, World, criterion, guard, median, plan};

use crate::{
    judge::Verdict,
    plan::{Criterion, Metric, OnBreach, Plan, Quantile, RatioMode},
};

const RUNS: u64 = 20;

fn errors() -> Criterion {
    criterion(Metric::ErrorRate, None, Some((1.5, Some(0.005))))
}

fn latency() -> Criterion {
    criterion(Metric::LatencyAny, None, Some((1.5, None)))
}

/// What a document gets that names no criteria.
fn default_plan() -> Plan {
    plan(vec![errors(), latency()], vec![guard(0.05)])
}

fn with_canary(seed: u64, canary: Behaviour) -> World {
    let mut world = World::new(seed, default_plan());
    world.warm_up(10_000);
    world.canary = canary;
    world.stage(500);
    world
}

/// Milliseconds and failed requests until the rollback, in the median of all runs.
fn detected(canary: Behaviour, within_ms: u64, criterion: &str) -> (u64, u64) {
    let (mut times, mut failures) = (vec![], vec![]);
    for seed in 1..=RUNS {
        let mut world = with_canary(seed, canary);
        let (ms, broken) = world.run(within_ms).unwrap_or_else(|| panic!("seed {seed}: {:?}", world.trial.assessment()));
        assert_eq!(broken.verdict, Verdict::Fail, "seed {seed}: {broken:?}");
        assert!(criterion.is_empty() || broken.name == criterion, "seed {seed}: {broken:?}");
        times.push(ms);
        failures.push(world.failed_on_canary);
    }
    (median(times), median(failures))
}

#[test]
fn equal_versions_pass_every_stage_and_are_never_rolled_back() {
    for seed in 1..=RUNS {
        let mut world = with_canary(seed, HEALTHY);
        for (stage, weight) in [500, 500, 1_000, 2_500, 5_000].into_iter().enumerate() {
            if stage > 0 {
                world.stage(weight);
            }
            // A shared outage in the second stage, and errors that drift.
            let (in_outage, drift) = (stage == 1, 0.002 + 0.002 * stage as f64);
            for second in 0..120 {
                let errors = if in_outage && (20..50).contains(&second) { 0.04 } else { drift };
                (world.stable.errors, world.canary.errors) = (errors, errors);
                assert_eq!(world.run(1_000).map(|broken| broken.1), None, "seed {seed} in stage {stage}");
            }
        }
    }
}

#[test]
fn equal_versions_pass() {
    let mut times = vec![];
    for seed in 1..=RUNS {
        times.push(with_canary(seed, HEALTHY).run_to_pass(1_800_000).unwrap_or_else(|| panic!("seed {seed}")));
    }
    assert!(median(times.clone()) < 600_000, "{times:?}");
}

#[test]
fn five_times_the_errors_and_an_outage() {
    let (ms, failed) = detected(Behaviour { errors: 0.025, ..HEALTHY }, 600_000, "error-rate");
    assert!(failed <= 20, "{failed} failed in {ms} ms");
    let (ms, failed) = detected(Behaviour { errors: 1.0, ..HEALTHY }, 60_000, "");
    assert!(failed <= 6 && ms <= 1_500, "{failed} failed in {ms} ms");
}

#[test]
fn slowness_in_the_tail_in_the_whole_and_hangs() {
    for canary in [
        Behaviour { tail: 2.5, ..HEALTHY },
        Behaviour { median_ms: 100.0, ..HEALTHY },
        Behaviour { hangs: 0.05, ..HEALTHY },
        Behaviour { hangs: 1.0, ..HEALTHY },
    ] {
        let (ms, _) = detected(canary, 600_000, "latency-any");
        assert!(ms <= 120_000, "{canary:?}: {ms} ms");
    }
}

#[test]
fn fast_failures_do_not_make_the_canary_look_fast() {
    let mut only_latency = plan(vec![latency()], vec![]);
    only_latency.analysis.criteria[0].mode = RatioMode::Harm;
    let mut world = World::new(3, only_latency);
    world.warm_up(10_000);
    world.canary = Behaviour { errors: 0.2, error_ms: 0.1, ..HEALTHY };
    world.stage(500);
    let (_, broken) = world.run(600_000).expect("found");
    assert_eq!(broken.verdict, Verdict::Fail);
}

#[test]
fn a_new_kind_of_error_on_one_route_is_found_earlier_than_in_the_total() {
    let noisy = Behaviour { errors: 0.01, ..HEALTHY };
    let failed_until = |classes: bool| {
        let mut failed = vec![];
        for seed in 1..=RUNS {
            let mut config = plan(vec![errors()], vec![]);
            config.analysis.criteria[0].mode = RatioMode::Harm;
            config.analysis.criteria[0].versus_stable.as_mut().unwrap().increase = None;
            if !classes {
                config.analysis.criteria[0].metric = Metric::ServerErrorRate;
            }
            let mut world = World::new(seed, config);
            world.rps = 1_000.0;
            world.stable = noisy;
            world.warm_up(10_000);
            world.canary = Behaviour { new_class: 0.01, ..noisy };
            world.stage(500);
            let (_, broken) = world.run(1_800_000).unwrap_or_else(|| panic!("seed {seed}"));
            if classes && seed == 1 {
                assert!(broken.text.contains("mostly 500 GET /new"), "{}", broken.text);
            }
            failed.push(world.failed_on_canary);
        }
        median(failed)
    };
    let (with, without) = (failed_until(true), failed_until(false));
    assert!(with < without, "{with} with classes, {without} without");
}

#[test]
fn failures_that_take_long_belong_to_the_weight_that_sent_them() {
    let slow = Behaviour { failure_delay_ms: 10_000, errors: 0.01, ..HEALTHY };
    for seed in 1..=RUNS {
        let mut world = World::new(seed, default_plan());
        (world.stable, world.rps) = (slow, 400.0);
        world.warm_up(15_000);
        world.canary = slow;
        world.stage(5_000);
        assert_eq!(world.run(60_000).map(|broken| broken.1), None, "seed {seed} at 50 %");
        world.stage(500);
        assert_eq!(world.run(120_000).map(|broken| broken.1), None, "seed {seed} at 5 %");
    }
}

#[test]
fn matched_requests_are_held_against_absolute_limits_only() {
    for seed in 1..=RUNS {
        let mut world = with_canary(seed, HEALTHY);
        world.matched = Some((50.0, Behaviour { errors: 0.035, median_ms: 500.0, ..HEALTHY }));
        assert_eq!(world.run(300_000).map(|broken| broken.1), None, "seed {seed}");
        world.matched = Some((10.0, Behaviour { errors: 1.0, ..HEALTHY }));
        let (ms, broken) = world.run(20_000).expect("an outage of the matched ones");
        assert!(broken.name == "outage" && broken.text.contains("matched requests") && ms < 10_000, "{ms} {broken:?}");
    }
}

#[test]
fn a_stable_without_errors_lets_healthy_canaries_pass() {
    let clean = Behaviour { errors: 0.0, ..HEALTHY };
    let mut world = World::new(5, default_plan());
    world.stable = clean;
    world.warm_up(10_000);
    world.canary = clean;
    world.stage(500);
    let ms = world.run_to_pass(600_000).expect("passes");
    assert!(ms < 300_000, "{ms}");
    // And one with errors is found at once.
    world.canary = HEALTHY;
    world.canary.errors = 0.05;
    assert_eq!(world.run(60_000).expect("found").1.verdict, Verdict::Fail);
}

#[test]
fn what_breaks_both_is_the_environment() {
    for seed in 1..=RUNS {
        let mut world = with_canary(seed, HEALTHY);
        world.run(30_000);
        (world.stable.errors, world.canary.errors) = (0.3, 0.3);
        let (ms, broken) = world.run(30_000).expect("found");
        assert_eq!(broken.verdict, Verdict::Environment, "seed {seed}: {broken:?}");
        assert!(ms < 15_000, "{ms}");
        // Without the canary stable recovers, or does not.
        for (errors, keeps) in [(0.3, Some(false)), (0.005, Some(true))] {
            world.weight = 0;
            world.stable.errors = errors;
            world.trial.begin_retreat();
            world.warm_up(3_000);
            assert_eq!(world.trial.stable_keeps_limits(Some("outage"), crate::Timestamp(world.now_ms)), keeps, "seed {seed}");
        }
        // Back in the stage, the old trouble is not held against the canary.
        (world.stable, world.canary) = (HEALTHY, HEALTHY);
        world.stage(500);
        assert_eq!(world.run(60_000).map(|broken| broken.1), None, "seed {seed}");
    }
}

#[test]
fn a_shared_outage_is_never_the_canarys_fault_also_where_it_has_most_of_the_traffic() {
    for (weight, errors, rps) in
        [(5_000, 0.2, 200.0), (9_000, 0.2, 1_000.0), (9_500, 1.0, 200.0), (9_500, 1.0, 1_000.0), (500, 1.0, 1_000.0)]
    {
        for seed in 1..=RUNS {
            let mut world = World::new(seed, default_plan());
            world.rps = rps;
            world.warm_up(10_000);
            world.stage(weight);
            assert_eq!(world.run(20_000), None);
            (world.stable.errors, world.canary.errors) = (errors, errors);
            let (_, broken) = world.run(30_000).expect("noticed");
            assert_eq!(broken.verdict, Verdict::Environment, "seed {seed}, {weight}, {errors}: {broken:?}");
        }
    }
}

#[test]
fn coming_back_from_a_retreat_begins_with_a_clean_slate() {
    let slow = criterion(Metric::Latency(Quantile::P99), Some(1_000.0), None);
    for seed in 1..=RUNS {
        let mut world = World::new(seed, plan(vec![slow.clone()], vec![guard(0.05)]));
        world.warm_up(10_000);
        world.stage(2_500);
        assert_eq!(world.run(20_000), None);
        let broken = Behaviour { hangs: 0.2, errors: 0.2, ..HEALTHY };
        (world.stable, world.canary) = (broken, broken);
        assert_eq!(world.run(30_000).expect("noticed").1.verdict, Verdict::Environment);
        world.weight = 0;
        world.trial.begin_retreat();
        world.warm_up(30_000);
        (world.stable, world.canary) = (HEALTHY, HEALTHY);
        world.warm_up(30_000);
        world.stage(2_500);
        assert_eq!(world.run(120_000).map(|broken| broken.1), None, "seed {seed}");
    }
}

#[test]
fn an_increase_alone_does_not_let_a_canary_pass_that_exceeds_it() {
    let mut passed = 0;
    for seed in 1..=RUNS {
        let mut one = errors();
        one.versus_stable.as_mut().unwrap().ratio = None;
        one.on_breach = OnBreach::Warn;
        let mut world = World::new(seed, plan(vec![one], vec![]));
        world.rps = 1_000.0;
        world.stable.errors = 0.02;
        world.warm_up(5_000);
        world.canary.errors = 0.03;
        world.stage(500);
        for _ in 0..2_400 {
            world.tick();
            if world.trial.assessment().criteria[0].verdict == Verdict::Pass {
                passed += 1;
                break;
            }
        }
    }
    assert!(passed <= 2, "{passed} of {RUNS} passed at twice the increase");
}

#[test]
fn an_outage_after_a_day_at_full_weight_is_found_within_ten_failures() {
    let mut world = World::new(1, default_plan());
    world.warm_up(2_000);
    world.stage(10_000);
    // One request in a tick, so that no failure comes after the decision.
    world.rps = 20.0;
    // A day at 1,000 rps with 0.5 % errors in observations of ten seconds: the tests do not care how often they are asked.
    let mut observation = world.observation();
    observation.cells.clear();
    for _ in 0..8_640 {
        observation.at = crate::Timestamp(observation.at.0 + 10_000);
        let mut counts = crate::traffic::Counts::default();
        counts.by_outcome[0] = 9_950;
        counts.by_outcome[3] = 50;
        observation.cells = vec![crate::traffic::TrafficCell {
            weight: traffic::bps(10_000),
            arm: crate::traffic::Arm::Canary,
            assignment: crate::traffic::Assignment::Forced,
            counts,
            sessions: None,
        }];
        world.trial.observe(&observation);
    }
    world.now_ms = observation.at.0;
    world.canary.errors = 1.0;
    let before = world.failed_on_canary;
    let (_, broken) = world.run(60_000).expect("found");
    let failed = world.failed_on_canary - before;
    assert!(failed <= 10, "{failed} failures");
    assert_eq!(broken.name, "outage");
}

#[test]
fn what_begins_when_there_is_no_stable_left_is_held_against_what_stable_was() {
    for (canary, within_ms) in [
        (Behaviour { errors: 0.03, ..HEALTHY }, Some(60_000)),
        (Behaviour { hangs: 0.1, ..HEALTHY }, Some(30_000)),
        (Behaviour { median_ms: 200.0, ..HEALTHY }, Some(30_000)),
        (HEALTHY, None),
    ] {
        let mut world = with_canary(9, HEALTHY);
        assert_eq!(world.run(30_000), None);
        world.stage(10_000);
        assert_eq!(world.run(30_000), None);
        world.canary = canary;
        let broken = world.run(within_ms.unwrap_or(300_000));
        assert_eq!(broken.is_some(), within_ms.is_some(), "{canary:?}: {broken:?}");
        if let Some((_, broken)) = broken {
            assert!(broken.text.contains("before the switch"), "{}", broken.text);
        }
    }
}

#[test]
fn a_client_that_always_fails_counts_once() {
    use crate::traffic::{Arm, Assignment, Counts, Observation, Outcome, Sessions, TrafficCell};
    // Ten clients that always fail, all of them on the canary by chance, next to many that do not.
    let mut world = World::new(4, plan(vec![errors()], vec![guard(0.05)]));
    world.stage(500);
    for second in 0..300_u64 {
        let cell = |arm: Arm, requests: u64, failing: u64| {
            let mut counts = Counts::default();
            counts.by_outcome[Outcome::Success.index()] = requests;
            counts.by_outcome[Outcome::ServerError.index()] = failing;
            let mut sessions = Sessions::default();
            if second == 0 {
                sessions.first.by_outcome[Outcome::Success.index()] = requests;
                sessions.errors.by_outcome[Outcome::ServerError.index()] = failing;
            }
            TrafficCell { weight: traffic::bps(500), arm, assignment: Assignment::Sticky, counts, sessions: Some(sessions) }
        };
        let cells = vec![cell(Arm::Stable, 950, 0), cell(Arm::Canary, 50, 2)];
        world.trial.observe(&Observation { at: crate::Timestamp(1_000_000 + second * 1_000), cells, ..Observation::default() });
        let assessment = world.trial.assessment();
        assert!(assessment.criteria[0].verdict != Verdict::Fail, "second {second}: {:?}", assessment.criteria[0]);
        assert!(assessment.broken_guards.is_empty(), "two clients are no outage");
    }
}

#[test]
fn one_replica_that_pauses_is_not_taken_for_slowness() {
    // Three seconds in which all of the canary's requests take seconds, once, also after a long time of health.
    for (seed, healthy_ms) in [(7, 10_000), (8, 60_000), (9, 180_000), (10, 400_000), (11, 400_000)] {
        let mut world = with_canary(seed, HEALTHY);
        assert_eq!(world.run(healthy_ms).map(|broken| broken.1), None);
        world.canary.median_ms = 3_000.0;
        assert_eq!(world.run(3_000), None);
        world.canary = HEALTHY;
        assert_eq!(world.run(180_000).map(|broken| broken.1), None, "seed {seed} after {healthy_ms} ms of health");
    }
}

#[test]
fn p99_alone_and_an_absolute_limit_on_it() {
    let relative = criterion(Metric::Latency(Quantile::P99), None, Some((1.2, None)));
    let absolute = criterion(Metric::Latency(Quantile::P99), Some(500.0), None);
    for (one, canary) in [(relative, Behaviour { tail: 2.0, ..HEALTHY }), (absolute, Behaviour { median_ms: 120.0, ..HEALTHY })] {
        for (canary, fails) in [(canary, true), (HEALTHY, false)] {
            let mut world = World::new(11, plan(vec![one.clone()], vec![]));
            world.warm_up(10_000);
            world.canary = canary;
            world.stage(500);
            let broken = world.run(600_000);
            assert_eq!(broken.is_some(), fails, "{one:?} {broken:?}");
        }
    }
}

#[test]
fn a_service_whose_answers_all_take_the_same_time_can_pass_and_fail() {
    let even = Behaviour { sigma: 0.0, errors: 0.0, ..HEALTHY };
    let start = || {
        let mut world = World::new(13, default_plan());
        world.stable = even;
        world.warm_up(10_000);
        world.canary = even;
        world.stage(500);
        world
    };
    assert!(start().run_to_pass(600_000).is_some());
    let mut slower = start();
    slower.canary.median_ms = 100.0;
    assert_eq!(slower.run(120_000).expect("found").1.name, "latency-any");
}

#[test]
fn verdicts_come_with_their_numbers() {
    let mut world = with_canary(2, Behaviour { errors: 0.05, ..HEALTHY });
    world.run(2_000);
    let text =
        |world: &World| world.trial.assessment().criteria.iter().map(|one| format!("{}: {}", one.name, one.text)).collect::<Vec<_>>();
    let early = text(&world);
    let (_, broken) = world.run(600_000).expect("found");
    assert!(early[1].starts_with("latency-any: "), "{early:?}");
    assert!(broken.text.contains("× stable (99 % interval ") && broken.text.contains(" of 100 needed"), "{}", broken.text);
}
