//! What the judge remembers when a person goes on, and across restarts.

use super::{
    default_plan, errors,
    traffic::{Behaviour, HEALTHY, World, bps, criterion, guard, plan},
    with_canary,
};
use crate::{
    Timestamp,
    judge::{Checkpoint, Trial, Verdict},
    plan::{Criterion, Metric, OnBreach},
};

#[test]
fn trouble_of_both_arms_that_pauses_is_dealt_with_as_well() {
    let limit = Criterion { on_breach: OnBreach::Pause, ..criterion(Metric::ErrorRate, Some(0.05), None) };
    let mut world = World::new(6, plan(vec![limit], vec![]));
    world.warm_up(5_000);
    world.stage(500);
    (world.stable.errors, world.canary.errors) = (0.3, 0.3);
    assert_eq!(world.run(60_000).expect("noticed").1.verdict, Verdict::Environment);
    assert_eq!(world.trial.acknowledge(), ["error-rate"]);
    (world.stable, world.canary) = (HEALTHY, HEALTHY);
    assert_eq!(world.run(60_000).map(|broken| broken.1), None);
}

#[test]
fn who_goes_on_after_a_pause_is_not_stopped_by_the_same_evidence() {
    let mut one = errors();
    one.on_breach = OnBreach::Pause;
    let mut world = World::new(8, plan(vec![one], vec![]));
    world.warm_up(5_000);
    world.canary.errors = 0.1;
    world.stage(500);
    world.run(60_000).expect("fails");
    world.canary.errors = 0.005;
    world.trial.acknowledge();
    assert!(world.run_to_pass(900_000).is_some());
    world.canary.errors = 0.1;
    world.run(60_000).expect("fails again");
}

#[test]
fn who_goes_on_after_a_pause_keeps_what_is_known_of_stable() {
    let mut world = World::new(8, plan(vec![Criterion { on_breach: OnBreach::Pause, ..errors() }], vec![]));
    world.warm_up(5_000);
    world.canary.errors = 0.1;
    world.stage(500);
    world.run(60_000).expect("fails");
    world.trial.acknowledge();
    world.canary.errors = 0.03;
    world.stage(10_000);
    let (_, broken) = world.run(120_000).expect("fails against what stable was");
    assert!(broken.text.contains("before the switch"), "{}", broken.text);
}

#[test]
fn a_restored_checkpoint_goes_on_as_if_nothing_had_happened() {
    for seed in 1..=6 {
        let canary = Behaviour { errors: if seed % 2 == 0 { 0.02 } else { 0.005 }, hangs: 0.01, ..HEALTHY };
        let mut world = with_canary(seed, canary);
        world.replicas = 4;
        let mut twin: Option<Trial> = None;
        for tick in 0..1_500_u64 {
            let observation = world.observation();
            world.trial.observe(&observation);
            if let Some(twin) = &mut twin {
                twin.observe(&observation);
                // Words are renewed twice a second, so those of a restored judge may come a tick earlier.
                let verdicts = |trial: &Trial| trial.assessment().criteria.iter().map(|one| one.verdict).collect::<Vec<_>>();
                assert_eq!(verdicts(twin), verdicts(&world.trial), "seed {seed} tick {tick}");
                assert!(twin.checkpoint() == world.trial.checkpoint(), "seed {seed} tick {tick}: the evidence differs");
            }
            if tick % 311 == 100 * seed % 311 {
                let stored = serde_json::to_string(&world.trial.checkpoint()).unwrap();
                let read: Checkpoint = serde_json::from_str(&stored).unwrap();
                let mut restored = Trial::new(&world.plan);
                assert!(restored.recall(&read));
                restored.resume_stage(&world.plan, &read, 0, bps(500));
                // Its words come with the next observation.
                twin = Some(restored);
            }
        }
    }
}

#[test]
fn a_restart_during_a_retreat_goes_on_with_it() {
    let mut world = with_canary(1, HEALTHY);
    world.run(30_000);
    (world.stable.errors, world.canary.errors) = (0.3, 0.3);
    world.run(30_000).expect("noticed");
    let restarted = |world: &World, step: usize| {
        let checkpoint = world.trial.checkpoint();
        let mut restored = Trial::new(&world.plan);
        assert!(restored.recall(&checkpoint));
        restored.resume_retreat(&world.plan, step);
        restored
    };
    world.weight = 0;
    // The last checkpoint is from before the retreat, then one from within it.
    let begun = restarted(&world, 0);
    world.trial.begin_retreat();
    assert!(begun.checkpoint() == world.trial.checkpoint());
    world.stable = HEALTHY;
    world.warm_up(3_000);
    assert_eq!(world.trial.stable_keeps_limits(Some("outage"), Timestamp(world.now_ms)), Some(true));
    assert!(restarted(&world, 0).checkpoint() == world.trial.checkpoint());
}

#[test]
fn evidence_of_other_criteria_is_of_no_use() {
    let checkpoint = with_canary(1, HEALTHY).trial.checkpoint();
    assert!(!Trial::new(&plan(vec![errors()], vec![guard(0.05)])).recall(&checkpoint));
    assert!(Trial::new(&default_plan()).recall(&checkpoint));
}
