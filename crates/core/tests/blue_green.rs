//! Blue-green: a preview that nobody is sent to, everything at once, and the way back for as long as stable is kept.

// Helpers are tests as much as the tests are.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use serin_core::{
    WeightBps,
    plan::{Gate, JudgeKind, Plan, SequentialRules, VersusStable},
    release::{Action, CauseKind, Effect, Event, StageStep},
};
use world::{
    World,
    plans::{criterion, outage_guard, plan, preview, step, switch},
};

fn shifts(world: &World) -> Vec<(u16, bool, bool)> {
    let shifts = world.events().filter_map(|event| match event {
        Event::Requested { effect: Effect::Shift { weight, matches, preview, .. } } => Some((weight.canary_bps(), *matches, *preview)),
        _ => None,
    });
    shifts.collect()
}

fn observing(world: &mut World) {
    world.until_observing(0);
}

#[test]
fn a_good_green_is_previewed_then_everything_is_switched_at_once_and_confirmed_by_traffic() {
    let mut world = World::new(switch());
    observing(&mut world);
    assert!(world.routers["main"].preview && world.routers["main"].weight.is_zero());
    world.until_phase("baking");
    assert_eq!(shifts(&world), [(0, false, true), (10_000, false, false)], "one step, and the preview is gone in the same");
    world.until_phase("retained");
    let confirmed: Vec<_> = world.events().filter(|event| matches!(event, Event::SwitchSeen { requests } if *requests > 0)).collect();
    assert_eq!(confirmed.len(), 1, "{:?}", world.journal);
    world.until_phase("succeeded");
}

#[test]
fn a_preview_passes_by_checks_in_a_row_its_time_its_requests_and_its_own_criteria() {
    // A check that never answers.
    let mut world = World::new(switch());
    world.checks_hang = true;
    observing(&mut world);
    world.run_for(30_000);
    assert!(world.wait().why.contains("the first answer to home"), "{:?}", world.wait());
    world.checks_hang = false;
    world.until_phase("baking");

    // Two failures in a row are tolerated, and the row of successes begins anew.
    let mut world = World::new(switch());
    observing(&mut world);
    world.run_for(19_000);
    world.checks_fail = true;
    world.run_for(2_000);
    world.checks_fail = false;
    world.run_for(1_000);
    assert!(world.wait().why.contains("home succeeded 1 of 3 times in a row"), "{:?}", world.wait());
    world.until_phase("baking");

    // Requests, and criteria of the preview's own, need traffic through the address.
    let mut plan = switch();
    plan.steps[0].min_requests = 50;
    plan.steps[0].criteria = vec![world::plans::limit("own", 0.05)];
    let mut world = World::new(plan);
    observing(&mut world);
    world.run_for(22_000);
    assert!(world.wait().why.contains("0 of 50 requests"), "{:?}", world.wait());
    world.preview_rps = 10.0;
    world.until_phase("baking");
}

#[test]
fn criteria_of_the_release_may_break_in_a_preview_and_need_not_pass() {
    let mut plan = switch();
    plan.analysis.judge = JudgeKind::Sequential(SequentialRules::default());
    plan.analysis.guards = vec![outage_guard()];
    let mut world = World::new(plan.clone());
    world.preview_rps = 1.0;
    world.until_phase("baking");
    let mut world = World::new(plan);
    world.preview_rps = 20.0;
    world.errors[1] = 1.0;
    world.until_phase("rolled back");
    assert!(world.rollback_cause().contains("preview requests"), "{}", world.rollback_cause());
    assert!(shifts(&world).iter().all(|(weight, ..)| *weight == 0), "never switched: {:?}", shifts(&world));
}

#[test]
fn a_green_that_fails_its_checks_is_never_switched_to_not_even_while_paused() {
    for pause in [false, true] {
        let mut world = World::new(switch());
        observing(&mut world);
        if pause {
            world.command(Action::Pause).unwrap();
        }
        world.checks_fail = true;
        world.until_phase("rolled back");
        let state = world.release.state();
        assert_eq!(state.rollback.as_ref().unwrap().kind, CauseKind::Check { name: "home".to_owned() });
        assert_eq!(shifts(&world), [(0, false, true), (0, false, false)]);
        assert!(!world.routers["main"].preview);
    }
}

#[test]
fn a_gate_keeps_the_preview_open_and_protected_until_a_person_decides() {
    let mut plan = switch();
    plan.steps[0].gate = Gate::Manual;
    let mut world = World::new(plan);
    world.until_phase("awaiting approval");
    assert!(world.wait().operator && world.wait().why.contains("switch all traffic"), "{:?}", world.wait());
    assert!(world.routers["main"].preview);
    world.run_for(60_000);
    assert_eq!(world.phase(), "awaiting approval");
    world.command(Action::Approve).unwrap();
    world.until_phase("baking");

    let mut plan = switch();
    plan.steps[0].gate = Gate::Manual;
    let mut world = World::new(plan);
    world.until_phase("awaiting approval");
    world.checks_fail = true;
    world.until_phase("rolled back");
}

#[test]
fn aborts_take_traffic_and_preview_back_in_one_urgent_step_wherever_the_release_is() {
    for phase in ["in a stage", "baking", "retained"] {
        let mut world = World::new(switch());
        world.until(phase, |world| world.phase() == phase && (phase != "in a stage" || world.observes().is_some()));
        world.command(Action::Abort).unwrap();
        let urgent = world.outputs.iter().flat_map(|output| &output.urgent);
        let back: Vec<_> = urgent.filter(|(_, effect)| effect.is_retreat()).collect();
        assert_eq!(back.len(), 1, "{phase}");
        world.until_phase("rolled back");
        assert_eq!((world.routers["main"].weight, world.routers["main"].preview), (WeightBps::ZERO, false), "{phase}");
    }
}

#[test]
fn people_may_override_a_preview_and_only_they() {
    let mut world = World::new(switch());
    world.checks_hang = true;
    observing(&mut world);
    world.command(Action::Weight(world::plans::bps(500))).unwrap();
    world.run_for(5_000);
    assert_eq!((world.routers["main"].weight, world.routers["main"].preview), (world::plans::bps(500), false));
    world.command(Action::Resume).unwrap();
    world.run_for(2_000);
    assert_eq!((world.routers["main"].weight, world.routers["main"].preview), (WeightBps::ZERO, true));
    world.command(Action::Promote).unwrap();
    world.until_phase("baking");
}

#[test]
fn a_green_without_replicas_is_left_at_once_for_as_long_as_stable_is_kept() {
    for phase in ["baking", "retained"] {
        let mut world = World::new(switch());
        world.until_phase(phase);
        world.answers.insert("stop-canary", world::Answers::Fails);
        world.workload_seen(|seen| seen.canary_ready = Some(0));
        let state = world.release.state();
        assert_eq!(state.rollback.as_ref().unwrap().kind, CauseKind::Workload, "{phase}");
        // Nothing of green is waited for.
        assert!(world.routers["main"].weight.is_zero(), "{phase}");
    }
    // Not onto a stable that is gone, and not in a release that went step by step.
    let mut world = World::new(switch());
    world.until_phase("baking");
    world.workload_seen(|seen| (seen.canary_ready, seen.stable_ready) = (Some(0), Some(0)));
    assert_eq!(world.phase(), "baking");
    let mut world = World::new(plan());
    world.until_phase("baking");
    world.workload_seen(|seen| seen.canary_ready = Some(0));
    assert_eq!(world.phase(), "baking");
}

#[test]
fn a_stable_that_was_hardly_seen_is_said_to_be_no_measure() {
    for (rps, warned) in [(1.0, 1), (100.0, 0)] {
        let mut plan = switch();
        plan.analysis.judge = JudgeKind::Sequential(SequentialRules::default());
        plan.analysis.criteria = vec![serin_core::plan::Criterion { max: None, ..versus() }];
        let mut world = World::new(plan);
        world.rps = rps;
        world.until_phase("baking");
        let is_blind = |event: &Event| matches!(event, Event::Warned { text } if text.contains("too little before the switch") && text.contains("errors"));
        assert_eq!(world.count(is_blind), warned, "at {rps}");
    }
}

#[test]
fn after_the_switch_green_is_held_against_what_stable_was_before() {
    let plan = Plan {
        bake_ms: 600_000,
        analysis: serin_core::plan::Analysis {
            judge: JudgeKind::Sequential(SequentialRules::default()),
            criteria: vec![serin_core::plan::Criterion { max: None, ..versus() }],
            ..switch().analysis
        },
        ..switch()
    };
    let mut world = World::new(plan);
    world.until_phase("baking");
    world.run_for(10_000);
    world.errors[1] = 0.04;
    world.until_phase("rolled back");
    assert!(world.rollback_cause().contains("from before the switch"), "{}", world.rollback_cause());
}

fn versus() -> serin_core::plan::Criterion {
    let one = criterion("errors");
    let versus = one.versus_stable.map(|versus| VersusStable { increase: Some(0.005), ..versus });
    serin_core::plan::Criterion { versus_stable: versus, ..one }
}

#[test]
fn traffic_that_contradicts_the_switch_keeps_the_bake_from_passing() {
    let mut world = World::new(switch());
    world.until_phase("baking");
    world.wrong_split = Some(0.5);
    world.until("the bake's time", |world| world.release.state().held_ms(world.now) > 20_000);
    assert_eq!(world.count(|event| matches!(event, Event::SwitchSeen { .. })), 0);
    assert!(world.wait().why.contains("instead of 100 %"), "{:?}", world.wait());
}

#[test]
fn no_control_process_goes_from_preview_to_switch_by_dying() {
    let mut world = World::new(switch());
    observing(&mut world);
    world.run_for(15_000);
    for _ in 0..3 {
        world.crash(60_000, None, false);
        world.checks_hang = true;
        world.until_observing(0);
        assert!(world.routers["main"].preview);
    }
    world.run_for(10_000);
    // What was asked before the crash is asked again.
    assert_eq!(world.observes(), Some(0));
    assert!(world.wait().why.contains("the first answer to home"), "{:?}", world.wait());
    world.checks_hang = false;
    world.until_phase("baking");
    // Between the decision and its effect.
    let decided = world.journal.iter().position(|entry| matches!(entry.event, Event::PromotionStarted)).unwrap();
    let mut world = World::new(switch());
    world.until_phase("baking");
    world.crash(0, Some(decided + 1), false);
    world.until_phase("baking");
    assert_eq!(world.routers["main"].weight, WeightBps::FULL);
}

#[test]
fn a_preview_before_stages_gives_way_to_them() {
    let mut plan = plan();
    plan.steps.insert(0, preview(&["main"]));
    plan.steps.truncate(2);
    let mut world = World::new(Plan { steps: vec![plan.steps[0].clone(), step(&[("main", 500)])], ..plan });
    world.until_observing(1);
    assert_eq!(shifts(&world), [(0, false, true), (500, true, false)]);
    let at = &world.release.state().phase;
    assert!(matches!(at, serin_core::release::Phase::Stage { step: 1, at: StageStep::Observing { .. } }));
    world.until_phase("succeeded");
    assert_eq!(world.count(|event| matches!(event, Event::SwitchSeen { .. })), 0);
}
