//! What goes wrong around a release: routers, effects, stable, the control process.

mod world;

use serin_core::{
    plan::{OnNoData, RetreatEnd},
    release::{Action, Effect, Event, Input, State},
    traffic::Arm,
};
use world::{
    Answers, World,
    plans::{bps, outage_guard, plan},
};

const STABLE: usize = 0;
const CANARY: usize = 1;

#[test]
fn a_canary_that_harms_what_both_share_is_blamed() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.canary_harms_stable = 0.3;
    world.errors[CANARY] = 0.3;
    world.until_phase("retreated");
    assert!(world.routers["main"].weight.is_zero());
    world.until_phase("rolled back");
    assert!(world.rollback_cause().starts_with("interference: stable kept its limits again"), "{}", world.rollback_cause());
}

#[test]
fn a_bake_that_sees_nothing_does_not_pass() {
    for policy in [OnNoData::Hold, OnNoData::Rollback, OnNoData::Continue] {
        let mut config = plan();
        config.analysis.on_no_data = policy;
        let mut world = World::new(config);
        world.until_phase("baking");
        world.rps = 0.0;
        match policy {
            OnNoData::Hold => {
                world.until("paused", |world| world.release.state().paused.is_some());
                assert!(world.wait().why.contains("no verdict at 100 %"), "{:?}", world.wait());
                world.rps = 100.0;
                world.command(Action::Resume).unwrap();
                world.until_phase("succeeded");
            }
            OnNoData::Rollback => world.until_phase("rolled back"),
            OnNoData::Continue => {
                world.until_phase("succeeded");
                assert_eq!(world.count(|event| matches!(event, Event::Warned { .. })), 1, "it says that it went on without a verdict");
            }
        }
    }
}

#[test]
fn a_rollback_keeps_a_move_to_stable_that_is_on_its_way() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.answers.insert("shift", Answers::Fails);
    world.command(Action::Weight(bps(0))).unwrap();
    let moves = |world: &World| world.release.state().outstanding.values().filter(|effect| effect.is_retreat()).count();
    assert_eq!(moves(&world), 1);
    world.command(Action::Abort).unwrap();
    assert_eq!(moves(&world), 1, "still asked for, and still urgent");
}

#[test]
fn a_pause_by_a_person_does_not_keep_a_harmful_canary() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.command(Action::Pause).unwrap();
    (world.canary_harms_stable, world.errors[CANARY]) = (0.3, 0.3);
    world.until_phase("retreated");
    world.until_phase("rolled back");
    assert!(world.rollback_cause().starts_with("interference"), "{}", world.rollback_cause());
}

#[test]
fn a_weight_set_by_hand_is_judged_as_what_it_is() {
    let mut world = World::new(plan());
    world.until_observing(0);
    world.command(Action::Weight(bps(10_000))).unwrap();
    world.run_for(30_000);
    world.errors[CANARY] = 0.3;
    world.until_phase("rolled back");
}

#[test]
fn a_retreat_that_does_not_help_ends_by_policy() {
    for otherwise in [RetreatEnd::Pause, RetreatEnd::Resume, RetreatEnd::Rollback] {
        let mut config = plan();
        config.analysis.retreat.otherwise = otherwise;
        let mut world = World::new(config);
        world.until_observing(1);
        world.errors = [0.3, 0.3];
        world.until_phase("retreated");
        let left = world.now;
        let outage_ends = |world: &mut World| {
            world.run_for(20_000);
            world.errors = [0.0, 0.0];
        };
        match otherwise {
            RetreatEnd::Pause => {
                world.until("paused", |world| world.release.state().paused.is_some());
                assert!(world.now.ms_since(left) <= 16_000);
                outage_ends(&mut world);
                assert_eq!(world.phase(), "retreated");
                world.command(Action::Resume).unwrap();
                world.until_phase("succeeded");
            }
            RetreatEnd::Resume => {
                outage_ends(&mut world);
                world.until_observing(1);
                world.until_phase("succeeded");
            }
            RetreatEnd::Rollback => {
                world.until_phase("rolled back");
                assert!(world.rollback_cause().contains("the document says to roll back"));
            }
        }
    }
}

#[test]
fn a_retreat_ends_also_when_nothing_is_measured_any_more() {
    for otherwise in [RetreatEnd::Pause, RetreatEnd::Resume] {
        let mut config = plan();
        config.analysis.retreat.otherwise = otherwise;
        let mut world = World::new(config);
        world.until_observing(0);
        world.errors = [0.3, 0.3];
        world.until_phase("retreated");
        world.observing = false;
        world.until("paused", |world| world.release.state().paused.is_some());
        assert!(world.wait().why.contains("too little traffic to see"), "{:?}", world.wait());
    }
}

#[test]
fn coming_back_by_itself_is_bounded() {
    let mut config = plan();
    config.analysis.retreat.otherwise = RetreatEnd::Resume;
    let mut world = World::new(config);
    world.until_observing(0);
    for _ in 0..3 {
        world.errors = [0.3, 0.3];
        world.until_phase("retreated");
        world.run_for(20_000);
        world.errors = [0.0, 0.0];
        world.until_observing(0);
    }
    world.errors = [0.3, 0.3];
    world.until_phase("retreated");
    world.run_for(20_000);
    world.errors = [0.0, 0.0];
    world.until("paused", |world| world.release.state().paused.is_some());
}

#[test]
fn a_restart_during_a_retreat_goes_on_watching() {
    let mut world = World::new(plan());
    world.until_observing(1);
    (world.canary_harms_stable, world.errors[CANARY]) = (0.3, 0.3);
    world.until_phase("retreated");
    // Longer than stable may take to recover: nobody saw whether it did.
    world.crash(60_000, None, true);
    world.settle();
    assert_eq!(world.phase(), "retreated");
    world.until_phase("rolled back");
    assert!(world.rollback_cause().starts_with("interference"));
}

#[test]
fn both_arms_broken_at_full_weight_stops_and_tells() {
    let mut config = plan();
    config.analysis.criteria[0].versus_stable = None;
    let mut world = World::new(config);
    world.until_phase("baking");
    // Matched and weighted traffic is all the canary's; what stable gets is what the router leaks to it.
    (world.wrong_split, world.errors) = (Some(0.5), [0.3, 0.3]);
    world.until("paused", |world| world.release.state().paused.is_some());
    assert_eq!(world.phase(), "baking");
    assert!(world.wait().why.contains("going back may not help"), "{:?}", world.wait());
    world.errors = [0.0, 0.0];
    world.command(Action::Resume).unwrap();
    world.until_phase("succeeded");
}

#[test]
fn without_stable_a_rollback_waits_and_goes_on_when_it_returns() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.workload_seen(|seen| (seen.stable_ready, seen.stable_failure) = (Some(0), Some("crashed".to_owned())));
    world.errors[CANARY] = 0.5;
    world.until_phase("needs an operator");
    assert_eq!(world.routers["main"].weight, bps(2_500));
    assert!(world.wait().operator && world.wait().why.contains("no ready replica"), "{:?}", world.wait());
    world.run_for(60_000);
    assert!(world.command(Action::Resume).is_err());
    world.workload_seen(|seen| seen.stable_ready = None);
    assert_eq!(world.phase(), "needs an operator", "not knowing is not being back");
    // The router is kept as it is meanwhile.
    world.routers.get_mut("main").unwrap().weight = bps(0);
    world.release.handle(Input::RouterSeen { target: "main".to_owned(), weight: bps(0) }, world.now);
    world.settle();
    assert_eq!(world.routers["main"].weight, bps(2_500));
    world.workload_seen(|seen| seen.stable_ready = Some(1));
    world.until_phase("rolled back");
    assert!(world.rollback_cause().starts_with("errors: "));
}

#[test]
fn a_stable_that_comes_and_goes_is_told_of_once_a_minute() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.command(Action::Pause).unwrap();
    let began = world.now;
    for n in 0..1_000 {
        world.run_for(300);
        world.workload_seen(|seen| seen.stable_failure = Some(format!("refused {}", n % 2)));
        world.run_for(300);
        world.workload_seen(|seen| seen.stable_failure = None);
    }
    let minutes = world.now.ms_since(began) / 60_000;
    let told = |world: &World| {
        world.journal.iter().filter(|entry| matches!(&entry.event, Event::Warned { text } if text.starts_with("stable: "))).count()
    };
    let before = told(&world);
    assert!((2..=usize::try_from(minutes).unwrap() + 1).contains(&before), "{before} in {minutes} minutes");
    // One that stays is told of, if not at once.
    world.workload_seen(|seen| seen.stable_failure = Some("crashed".to_owned()));
    world.run_for(61_000);
    world.workload_seen(|_| {});
    assert_eq!(told(&world), before + 1);
    world.run_for(120_000);
    world.workload_seen(|_| {});
    assert_eq!(told(&world), before + 1, "the same again");
}

#[test]
fn a_pause_does_not_hide_that_an_operator_is_needed() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.command(Action::Pause).unwrap();
    world.workload_seen(|seen| seen.stable_ready = Some(0));
    world.errors[CANARY] = 0.5;
    world.until_phase("needs an operator");
    assert!(world.wait().why.contains("no ready replica"), "{:?}", world.wait());
}

#[test]
fn an_operators_abort_moves_at_once_whatever_stables_state() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.workload_seen(|seen| seen.stable_ready = Some(0));
    world.errors[CANARY] = 0.5;
    world.until_phase("needs an operator");
    world.command(Action::Abort).unwrap();
    assert!(world.routers["main"].weight.is_zero());
    world.until_phase("rolled back");
}

#[test]
fn traffic_does_not_retreat_to_a_stable_that_is_gone() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.workload_seen(|seen| seen.stable_ready = Some(0));
    world.errors = [1.0, 0.3];
    world.until("paused", |world| world.release.state().paused.is_some());
    assert_eq!((world.phase(), world.routers["main"].weight), ("in a stage", bps(2_500)));
    assert!(world.wait().why.contains("no ready replica"), "{:?}", world.wait());
    // As soon as stable can take it, it does.
    world.workload_seen(|seen| seen.stable_ready = Some(1));
    world.until_phase("retreated");
    assert!(world.routers["main"].weight.is_zero());
}

#[test]
fn a_hand_edit_is_noticed_and_set_right_and_its_time_does_not_count() {
    let mut world = World::new(plan());
    world.until_observing(0);
    world.run_for(10_000);
    world.answers.insert("shift", Answers::Lost);
    world.routers.get_mut("main").unwrap().deaf = true;
    world.routers.get_mut("main").unwrap().weight = bps(9_000);
    world.release.handle(Input::RouterSeen { target: "main".to_owned(), weight: bps(9_000) }, world.now);
    world.settle();
    assert_eq!(world.count(|event| matches!(event, Event::DriftFound { .. })), 1);
    // Still wrong: no new finding, and no progress.
    world.release.handle(Input::RouterSeen { target: "main".to_owned(), weight: bps(9_000) }, world.now);
    world.settle();
    world.run_for(60_000);
    assert_eq!((world.observes(), world.release.state().held_ms(world.now)), (Some(0), 10_000));
    assert_eq!(world.count(|event| matches!(event, Event::DriftFound { .. })), 1);
    world.answers.clear();
    world.routers.get_mut("main").unwrap().deaf = false;
    world.until("set right", |world| world.release.state().all_proven());
    assert_eq!(world.routers["main"].weight, bps(500));
    world.until_phase("succeeded");
}

#[test]
fn a_router_that_agrees_and_does_nothing_is_given_up_after_a_while() {
    let mut world = World::new(plan());
    world.until_observing(0);
    world.routers.get_mut("main").unwrap().deaf = true;
    let began = world.now;
    world.until("given up", |world| world.release.state().rollback.is_some());
    assert!(world.rollback_cause().contains("does not keep the weight: 5 % instead of 25 %"), "{}", world.rollback_cause());
    assert!(world.now.ms_since(began) > 25_000, "it is asked with growing waits, not in a loop");
    // Traffic to stable is never given up, and asked for without filling the journal in a loop.
    world.run_for(30_000);
    assert_eq!(world.phase(), "rolling back");
    assert!(world.journal.len() < 500, "{}", world.journal.len());
    world.routers.get_mut("main").unwrap().deaf = false;
    world.until_phase("rolled back");
    assert!(world.routers["main"].weight.is_zero());
}

#[test]
fn lost_answers_are_asked_for_again_with_the_same_id() {
    let mut world = World::new(plan());
    world.answers.insert("shift", Answers::Lost);
    world.until("asked three times", |world| world.asked.values().any(|asked| *asked >= 3));
    assert_eq!(world.count(|event| matches!(event, Event::Requested { effect: Effect::Shift { .. } })), 1);
    world.answers.clear();
    world.until_phase("succeeded");
}

#[test]
fn failing_effects_are_tried_again_and_given_up_by_kind() {
    for (kind, answers, end) in [
        ("preflight", Answers::Fails, "refused"),
        ("deploy", Answers::Fails, "rolled back"),
        ("deploy", Answers::Broken, "rolled back"),
        ("shift", Answers::Fails, "rolling back"),
        ("read-back", Answers::Fails, "rolling back"),
        ("retire", Answers::Fails, "succeeded"),
    ] {
        let mut world = World::new(plan());
        world.answers.insert(kind, answers);
        world.until_phase(end);
        let most = world.asked.values().max().unwrap();
        assert_eq!(*most > 1, answers == Answers::Fails, "{kind}");
        assert!(*most <= 10, "{kind} was asked for {most} times");
        if end == "rolling back" {
            world.run_for(60_000);
            assert!(world.wait().why.contains("does not work"), "{:?}", world.wait());
            let least = if kind == "shift" { 100 } else { 10 };
            assert!(*world.asked.values().max().unwrap() > least, "what a rollback needs is tried for ever");
            assert!(world.journal.len() < 100, "but not all journaled");
            world.answers.clear();
            world.until_phase("rolled back");
        }
    }
    let mut world = World::new(plan());
    world.answers.insert("stop-canary", Answers::Fails);
    world.until_observing(0);
    world.command(Action::Abort).unwrap();
    world.until_phase("rolled back");
    assert_eq!(world.count(|event| matches!(event, Event::Warned { .. })), 1);
}

#[test]
fn a_canary_that_cannot_be_kept_is_tried_again_and_people_are_told_once() {
    let mut world = World::new(plan());
    world.answers.insert("finalize", Answers::Fails);
    world.until_phase("finishing");
    world.run_for(120_000);
    assert_eq!((world.phase(), world.count(|event| matches!(event, Event::Warned { .. }))), ("finishing", 1));
    assert!(world.wait().why.contains("finalize does not work"), "{:?}", world.wait());
    world.answers.clear();
    world.until_phase("succeeded");
}

#[test]
fn doubled_failures_count_once() {
    let mut world = World::new(plan());
    world.answers.insert("shift", Answers::Lost);
    world.until("shifting", |world| world.asked.len() == 3);
    let id = *world.asked.keys().last().unwrap();
    for _ in 0..50 {
        let fault = serin_core::release::Fault { text: "busy".to_owned(), retryable: true };
        world.release.handle(Input::Failed(id, fault), world.now);
    }
    assert!(world.release.state().rollback.is_none());
}

#[test]
fn a_raise_that_was_due_again_does_not_follow_the_move_to_stable() {
    let mut world = World::new(plan());
    world.until_observing(0);
    world.answers.insert("shift", Answers::Lost);
    world.until("shifting up", |world| world.release.state().asked_weight() == bps(2_500));
    // The answer is overdue at the very moment of the abort.
    world.now = world.now.plus_ms(60_000);
    let command = serin_core::release::Command { action: Action::Abort, by: "ann".to_owned(), reason: None };
    world.release.command(command, world.now).unwrap();
    let output = world.release.take_output();
    assert_eq!((output.urgent.len(), output.effects.len()), (1, 0), "{output:?}");
}

#[test]
fn a_latch_without_a_reason_takes_everything_back_from_every_prefix() {
    let mut world = World::new(plan());
    world.until_observing(1);
    let full = world.journal.clone();
    for keep in 0..=full.len() {
        let mut world = World::new(plan());
        world.collect();
        world.journal = full.clone();
        world.routers.get_mut("main").unwrap().weight = bps(2_500);
        world.crash(1_000, Some(keep), true);
        world.collect();
        let urgent = world.outputs.last().unwrap().urgent.clone();
        assert!(matches!(&urgent[..], [(_, Effect::Shift { .. })]), "{keep}: {urgent:?}");
        world.until_phase("rolled back");
        assert!(world.routers["main"].weight.is_zero());
        assert!(world.count(|event| matches!(event, Event::Requested { effect: Effect::StopCanary })) == 1, "{keep}");
        assert_eq!(State::fold(&world.journal[..]), *world.release.state());
    }
}

#[test]
fn a_foreign_clock_that_is_ahead_does_not_stop_the_guards() {
    let mut config = plan();
    config.analysis.guards = vec![outage_guard()];
    let mut world = World::new(config);
    world.until_observing(0);
    let ahead = serin_core::traffic::Observation { at: world.now.plus_ms(u64::MAX), ..Default::default() };
    world.release.handle(Input::Observed(ahead), world.now);
    world.settle();
    world.errors[Arm::Canary.index()] = 0.9;
    world.until_phase("rolled back");
    assert_eq!(world.errors[STABLE], 0.0);
}

#[test]
fn durations_of_any_length_do_no_harm() {
    let mut config = plan();
    config.deploy_timeout_ms = u64::MAX;
    config.bake_ms = u64::MAX;
    config.retain_ms = u64::MAX;
    config.analysis.retreat.recover_within_ms = u64::MAX;
    config.steps[0].max_hold_ms = u64::MAX;
    config.analysis.interval_ms = 1_000;
    assert_eq!(config.expected_duration_ms(), u64::MAX);
    let mut world = World::new(config);
    world.until_phase("baking");
    world.run_for(60_000);
    assert_eq!(world.phase(), "baking");
    world.command(Action::Abort).unwrap();
    world.until_phase("rolled back");
}

#[test]
fn an_alert_takes_the_traffic_back_whenever_there_is_a_canary() {
    let fires = |world: &mut World| {
        world.release.handle(Input::AlertFired { name: "down".to_owned(), text: "the alert down fires".to_owned() }, world.now);
        world.collect();
    };
    let mut world = World::new(plan());
    fires(&mut world);
    assert!(world.release.state().rollback.is_none(), "before there is a canary it is none of its doing");
    world.until_observing(0);
    world.command(Action::Pause).unwrap();
    fires(&mut world);
    let cause = world.release.state().rollback.clone().expect("rolled back although paused");
    assert_eq!(cause.kind, serin_core::release::CauseKind::Alert { name: "down".to_owned() });
    fires(&mut world);
    world.until_phase("rolled back");
}
