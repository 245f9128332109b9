//! What people do to a release, and that it does what they mean.

// Helpers are tests as much as the tests are.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use serin_core::{
    plan::Gate,
    release::{Action, Effect, Event},
    traffic::Arm,
};
use world::{
    Answers, World,
    plans::{bps, plan},
};

#[test]
fn a_pause_stands_still_and_its_time_does_not_count_but_protection_goes_on() {
    let mut world = World::new(plan());
    world.until_observing(0);
    world.run_for(10_000);
    world.command(Action::Pause).unwrap();
    assert!(world.command(Action::Pause).is_err());
    world.run_for(300_000);
    assert_eq!(world.release.state().held_ms(world.now), 10_000);
    assert!(world.wait().operator && world.wait().why.starts_with("paused: "));
    world.command(Action::Resume).unwrap();
    assert!(world.command(Action::Resume).is_err());
    let resumed = world.now;
    world.until_observing(1);
    assert_eq!(world.now.ms_since(resumed), 10_000);

    world.command(Action::Pause).unwrap();
    world.errors[Arm::Canary.index()] = 0.5;
    world.until_phase("rolled back");
}

#[test]
fn a_gap_between_owners_does_not_count_as_held() {
    for pause in [false, true] {
        let mut world = World::new(plan());
        world.until_observing(0);
        world.run_for(10_000);
        if pause {
            world.command(Action::Pause).unwrap();
        }
        world.crash(600_000, None, false);
        world.settle();
        assert_eq!(world.release.state().held_ms(world.now), 10_000, "paused: {pause}");
        if pause {
            world.command(Action::Resume).unwrap();
        }
        let resumed = world.now;
        world.until_observing(1);
        assert_eq!(world.now.ms_since(resumed), 10_000, "paused: {pause}");
    }
}

#[test]
fn a_gap_between_owners_does_not_end_a_deployment_or_bake() {
    let mut world = World::new(plan());
    world.answers.insert("deploy", Answers::Lost);
    world.until_phase("deploying");
    world.crash(600_000, None, false);
    world.answers.clear();
    world.until_phase("baking");
    world.run_for(10_000);
    let held_ms = world.release.state().held_ms(world.now);
    world.crash(600_000, None, false);
    world.settle();
    assert_eq!((world.phase(), world.release.state().held_ms(world.now)), ("baking", held_ms));
    world.until_phase("succeeded");
}

#[test]
fn a_weight_by_hand_pauses_there_and_resume_starts_the_stage_again() {
    // The same weight as the stage's as well: going back must not wait for a change that never comes.
    for weight in [0, 500, 4_000] {
        let mut world = World::new(plan());
        world.until_observing(0);
        world.run_for(15_000);
        world.command(Action::Weight(bps(weight))).unwrap();
        world.run_for(30_000);
        assert_eq!(world.routers["main"].weight, bps(weight));
        assert_eq!(world.routers["main"].matches, weight > 0);
        assert!(world.release.state().paused.is_some());
        world.command(Action::Resume).unwrap();
        let resumed = world.now;
        assert_eq!(world.routers["main"].weight, bps(500));
        world.until_observing(1);
        assert_eq!(world.now.ms_since(resumed), 20_000, "the whole hold, by traffic of the stage's own weight");
        world.until_phase("succeeded");
    }
}

#[test]
fn a_weight_by_hand_survives_a_restart_also_when_it_is_zero() {
    for weight in [0, 4_000] {
        let mut world = World::new(plan());
        world.until_observing(0);
        world.command(Action::Weight(bps(weight))).unwrap();
        world.crash(1_000, None, weight == 0);
        world.run_for(5_000);
        assert_eq!((world.phase(), world.routers["main"].weight), ("in a stage", bps(weight)));
        world.command(Action::Resume).unwrap();
        world.until_phase("succeeded");
    }
}

#[test]
fn a_gate_waits_for_approval_and_rejection_rolls_back() {
    let mut config = plan();
    config.steps[1].gate = Gate::Manual;
    let mut world = World::new(config.clone());
    assert!(world.command(Action::Approve).is_err());
    assert!(world.command(Action::Reject).is_err());
    world.until_phase("awaiting approval");
    assert_eq!(world.routers["main"].weight, bps(2_500));
    world.command(Action::Pause).unwrap();
    let refusal = world.command(Action::Approve).unwrap_err().to_string();
    assert!(refusal.contains("`resume` first"), "{refusal}");
    world.command(Action::Resume).unwrap();
    world.command(Action::Approve).unwrap();
    world.until_phase("succeeded");

    let mut world = World::new(config.clone());
    world.until_phase("awaiting approval");
    world.command(Action::Reject).unwrap();
    world.until_phase("rolled back");
    assert!(world.rollback_cause().starts_with("rejected by ann"));

    // A breach while people think about it.
    let mut world = World::new(config);
    world.until_phase("awaiting approval");
    world.errors[Arm::Canary.index()] = 0.5;
    world.until_phase("rolled back");
}

#[test]
fn a_person_may_skip_the_rest_but_not_the_bake() {
    let mut world = World::new(plan());
    assert!(world.command(Action::Promote).is_err());
    world.until_observing(0);
    world.command(Action::Pause).unwrap();
    world.command(Action::Promote).unwrap();
    world.until_phase("baking");
    assert!(!world.routers["main"].matches);
    let baked = world.now;
    world.until_phase("retained");
    assert_eq!(world.now.ms_since(baked), 30_000);
    assert_eq!(world.count(|event| matches!(event, Event::StageEntered { .. })), 1);

    let mut world = World::new(plan());
    world.until_observing(0);
    world.command(Action::Promote).unwrap();
    world.errors[Arm::Canary.index()] = 0.5;
    world.until_phase("rolled back");
}

/// Brings a release into the phase and aborts it there.
fn abort_in(phase: &str, prepare: impl Fn(&mut World)) {
    let mut config = plan();
    config.steps[1].gate = Gate::Manual;
    let mut world = World::new(config);
    prepare(&mut world);
    world.until(phase, |world| world.wait().why.contains(phase) || world.phase() == phase);
    let before = world.outputs.len();
    world.command(Action::Abort).unwrap();
    let had_traffic = world.outputs[..before].iter().any(|output| output.effects.iter().any(|(_, effect)| effect.target().is_some()));
    let first = world.outputs[before..].iter().find(|output| !output.entries.is_empty()).unwrap();
    let needs_move = had_traffic && phase != "watching stable";
    assert_eq!(first.urgent.is_empty(), !needs_move, "{phase}: {first:?}");
    world.answers.clear();
    world.until_phase("rolled back");
    assert!(world.routers["main"].weight.is_zero() && !world.routers["main"].matches, "{phase}");
    assert!(world.rollback_cause().starts_with("aborted by ann"), "{phase}: {}", world.rollback_cause());
    let deployed = world.count(|event| matches!(event, Event::Requested { effect: Effect::Deploy })) > 0;
    let stopped = world.count(|event| matches!(event, Event::Requested { effect: Effect::StopCanary })) > 0;
    assert_eq!(deployed, stopped, "{phase}: what was started is stopped");
    assert!(world.command(Action::Abort).is_err(), "it is over");
}

#[test]
fn an_abort_works_in_every_phase() {
    abort_in("preflight", |world| world.answers = [("preflight", Answers::Lost)].into());
    abort_in("deploying", |world| world.answers = [("deploy", Answers::Lost)].into());
    abort_in("the router to take 5 %", |world| world.answers = [("shift", Answers::Lost)].into());
    abort_in("(reading back)", |world| world.answers = [("read-back", Answers::Lost)].into());
    abort_in("holding at 5 %", |_| {});
    abort_in("awaiting approval", |_| {});
    abort_in("paused", |world| {
        world.until_observing(1);
        world.command(Action::Pause).unwrap();
    });
    abort_in("paused", |world| {
        world.until_observing(0);
        world.command(Action::Weight(bps(9_000))).unwrap();
    });
    abort_in("watching stable", |world| {
        world.until_observing(0);
        world.errors = [0.5, 0.5];
        world.until_phase("retreated");
    });
    let promote = |world: &mut World| {
        world.until_observing(0);
        world.command(Action::Promote).unwrap();
    };
    abort_in("promoting", |world| {
        world.until_observing(0);
        world.answers.insert("shift", Answers::Lost);
        world.command(Action::Promote).unwrap();
    });
    abort_in("baking", promote);
    abort_in("finishing", |world| {
        promote(world);
        world.answers.insert("finalize", Answers::Lost);
    });
    abort_in("retained", promote);
    abort_in("needs an operator", |world| {
        world.until_observing(0);
        world.workload_seen(|seen| seen.stable_ready = Some(0));
        world.errors[1] = 0.9;
    });
}

#[test]
fn an_abort_is_refused_only_where_nothing_is_left_to_go_back_to() {
    let mut world = World::new(plan());
    world.answers.insert("retire", Answers::Lost);
    world.until_phase("retiring");
    let refusal = world.command(Action::Abort).unwrap_err().to_string();
    assert!(refusal.contains("nothing to go back to"), "{refusal}");
    world.answers.clear();
    world.until_phase("succeeded");
}

#[test]
fn nothing_stops_a_rollback() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.answers.insert("stop-canary", Answers::Lost);
    world.command(Action::Abort).unwrap();
    for action in [Action::Resume, Action::Pause, Action::Promote, Action::Approve, Action::Weight(bps(100))] {
        assert!(world.command(action).is_err());
    }
    world.command(Action::Abort).unwrap();
    assert_eq!(world.count(|event| matches!(event, Event::RollbackDecided { .. })), 1);
}
