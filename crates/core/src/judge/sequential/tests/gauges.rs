//! CPU, memory and restarts under the sequential judge.

use super::{
    errors,
    traffic::{World, bps, criterion, guard, plan},
};
use crate::{
    Timestamp,
    judge::{Checkpoint, Trial, Verdict},
    plan::{Criterion, Guard, Metric, OnBreach},
    traffic::ArmGauges,
};

const MINUTE: u64 = 60_000;
const MIB: f64 = 1_048_576.0;

fn cpu(percent: f64) -> ArmGauges {
    ArmGauges { cpu_percent: Some(percent), ..ArmGauges::default() }
}

fn memory(mib: f64) -> ArmGauges {
    ArmGauges { memory_bytes: Some(mib * MIB), ..ArmGauges::default() }
}

fn restarts(restarts: u64) -> ArmGauges {
    ArmGauges { restarts: Some(restarts), ..ArmGauges::default() }
}

/// A stage at 5 % whose processes use this, stable's first; without requests.
fn idle(criteria: Vec<Criterion>, guards: Vec<Guard>, gauges: [ArmGauges; 2]) -> World {
    let mut world = World::new(1, plan(criteria, guards));
    (world.rps, world.gauges) = (0.0, gauges);
    world.stage(500);
    world
}

#[test]
fn a_guard_on_memory_acts_at_once() {
    let greedy = Guard { name: "greedy".to_owned(), metric: Metric::Memory, max: 1024.0 * MIB, ..guard(0.05) };
    let mut world = idle(vec![], vec![greedy, guard(0.05)], [memory(500.0), memory(1000.0)]);
    assert_eq!(world.run(5_000), None);
    world.gauges[1] = memory(1100.0);
    let (ms, broken) = world.run(5_000).expect("found");
    assert!(broken.name == "greedy" && broken.verdict == Verdict::Fail && ms <= 1_000, "{ms} {broken:?}");
    world.gauges[0] = memory(1100.0);
    assert_eq!(world.tick().expect("still broken").verdict, Verdict::Environment);
}

#[test]
fn memory_against_stable_passes_and_fails_by_whole_minutes() {
    let limit = criterion(Metric::Memory, None, Some((1.5, None)));
    let passed = idle(vec![limit.clone()], vec![], [memory(500.0), memory(550.0)]).run_to_pass(20 * MINUTE).expect("passes");
    assert!((8 * MINUTE..=9 * MINUTE).contains(&passed), "{passed}");
    let (ms, broken) = idle(vec![limit], vec![], [memory(500.0), memory(1000.0)]).run(30 * MINUTE).expect("found");
    assert!(broken.verdict == Verdict::Fail && ms >= 5 * MINUTE, "{ms} {broken:?}");
}

#[test]
fn a_limit_on_cpu_that_stable_breaks_too_is_the_environment() {
    let limit = criterion(Metric::Cpu, Some(70.0), None);
    let mut world = idle(vec![limit.clone()], vec![], [cpu(40.0), cpu(90.0)]);
    assert_eq!(world.run(30 * MINUTE).expect("found").1.verdict, Verdict::Fail);
    let mut world = idle(vec![limit], vec![], [cpu(95.0), cpu(90.0)]);
    let (_, broken) = world.run(30 * MINUTE).expect("found");
    assert_eq!(broken.verdict, Verdict::Environment, "{broken:?}");
    world.weight = 0;
    world.trial.begin_retreat();
    for (stable, keeps) in [(95.0, false), (40.0, true)] {
        world.gauges = [cpu(stable), cpu(1.0)];
        world.warm_up(1_000);
        assert_eq!(world.trial.stable_keeps_limits(Some("cpu"), Timestamp(world.now_ms)), Some(keeps));
    }
    // Back in the stage, the old trouble is not held against the canary, and new trouble is.
    world.gauges = [cpu(40.0), cpu(40.0)];
    world.stage(500);
    assert_eq!(world.run(10 * MINUTE), None);
    world.gauges = [cpu(40.0), cpu(90.0)];
    assert_eq!(world.run(60 * MINUTE).expect("found").1.verdict, Verdict::Fail);
}

#[test]
fn restarts_are_looked_at_beside_the_evidence() {
    let crashes = Criterion { on_breach: OnBreach::Pause, ..criterion(Metric::Restarts, Some(0.0), None) };
    let mut world = World::new(3, plan(vec![errors(), crashes], vec![guard(0.05)]));
    world.gauges = [restarts(0); 2];
    world.warm_up(10_000);
    world.stage(500);
    world.run_to_pass(1_800_000).expect("passes");
    let mut restored = Trial::new(&world.plan);
    let stored = serde_json::to_string(&world.trial.checkpoint()).unwrap();
    let checkpoint: Checkpoint = serde_json::from_str(&stored).unwrap();
    assert!(restored.recall(&checkpoint));
    restored.resume_stage(&world.plan, &checkpoint, 0, bps(500));
    // What is remembered says nothing of restarts.
    assert!(!restored.assessment().all_pass(), "{:?}", restored.assessment());
    let observation = world.observation();
    restored.observe(&observation);
    assert!(restored.assessment().all_pass(), "{:?}", restored.assessment());
    world.gauges[1] = restarts(1);
    let (ms, broken) = world.run(5_000).expect("found");
    assert!(broken.name == "restarts" && broken.verdict == Verdict::Fail && ms <= 2_000, "{ms} {broken:?}");
}

#[test]
fn stable_keeps_limits_that_are_no_matter_of_evidence() {
    let crashes = criterion(Metric::Restarts, Some(0.0), None);
    let mut world = idle(vec![errors(), crashes], vec![], [restarts(0); 2]);
    world.run(1_000);
    world.trial.begin_retreat();
    for (stable, keeps) in [(0, true), (1, false)] {
        world.gauges[0] = restarts(stable);
        world.warm_up(1_000);
        for broken in [None, Some("restarts")] {
            assert_eq!(world.trial.stable_keeps_limits(broken, Timestamp(world.now_ms)), Some(keeps), "{broken:?}");
        }
    }
}
