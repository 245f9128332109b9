//! Whole releases in a small deterministic world: the good ones, and what goes wrong.

mod world;

use serin_core::{
    plan::{Gate, OnBreach, OnInconclusive, OnNoData},
    release::{Action, Effect, Event, Input},
    traffic::Arm,
};
use world::{
    Answers, World,
    plans::{bps, criterion, outage_guard, plan, step},
};

#[test]
fn a_good_release_goes_through_stages_bake_and_retention() {
    let mut world = World::new(plan());
    world.until_phase("succeeded");
    let entered: Vec<_> =
        world.events().filter_map(|event| if let Event::StageEntered { step } = event { Some(*step) } else { None }).collect();
    assert_eq!(entered, [0, 1, 2]);
    // Three holds of 20 s, a bake and a retention of 30 s, and a little for looking.
    let elapsed_ms = world.journal.last().unwrap().at.ms_since(world.journal[0].at);
    assert!((120_000..=130_000).contains(&elapsed_ms), "{elapsed_ms}");
    assert_eq!(world.routers["main"].weight, bps(10_000));
    assert_eq!(world.count(|event| matches!(event, Event::Warned { .. } | Event::Failed { .. } | Event::DriftFound { .. })), 0);
    assert_eq!(world.wait().until, None);
}

#[test]
fn a_breach_takes_traffic_back_in_the_same_output_as_the_decision() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.errors[Arm::Canary.index()] = 0.3;
    world.until_phase("rolled back");
    let output =
        world.outputs.iter().find(|output| output.entries.iter().any(|entry| matches!(entry.event, Event::RollbackDecided { .. })));
    let output = output.unwrap();
    assert!(matches!(&output.urgent[..], [(_, Effect::Shift { weight, matches: false, .. })] if weight.is_zero()), "{output:?}");
    assert!(world.rollback_cause().contains("errors: canary 32 % (16 of 50)"), "{}", world.rollback_cause());
    assert!(world.routers["main"].weight.is_zero());
    // Traffic first, scaling second.
    let position = |wanted: fn(&Event) -> bool| world.events().position(wanted).unwrap();
    assert!(
        position(|event| matches!(event, Event::TrafficReturned))
            < position(|event| matches!(event, Event::Requested { effect: Effect::StopCanary }))
    );
}

#[test]
fn a_guard_acts_before_the_criteria_are_evaluated() {
    let mut config = plan();
    config.analysis.guards = vec![outage_guard()];
    config.analysis.interval_ms = 60_000;
    let mut world = World::new(config);
    world.until_observing(0);
    world.run_for(3_000);
    world.errors[Arm::Canary.index()] = 1.0;
    let broke_at = world.now;
    world.until_phase("rolled back");
    assert!(world.rollback_cause().starts_with("outage: canary"), "{}", world.rollback_cause());
    assert!(world.now.ms_since(broke_at) <= 5_000);
}

#[test]
fn a_canary_that_never_becomes_ready_is_rolled_back() {
    let mut world = World::new(plan());
    world.answers.insert("deploy", Answers::Lost);
    world.until_phase("rolled back");
    assert!(world.rollback_cause().contains("not ready within 1m 00s"), "{}", world.rollback_cause());
    assert_eq!(world.count(|event| matches!(event, Event::Requested { effect: Effect::Shift { .. } })), 0);
    assert_eq!(world.count(|event| matches!(event, Event::Requested { effect: Effect::StopCanary })), 1);
}

#[test]
fn the_deadline_of_the_deployment_holds_during_a_pause_too() {
    let mut world = World::new(plan());
    world.answers.insert("deploy", Answers::Lost);
    world.until_phase("deploying");
    world.command(Action::Pause).unwrap();
    assert!(world.wait().until.is_some());
    world.observing = false;
    world.until_phase("rolled back");
}

#[test]
fn a_crash_loop_during_a_stage_needs_no_statistics() {
    let mut world = World::new(plan());
    world.until_observing(0);
    world.workload_seen(|seen| seen.canary_failure = Some("restarted 5 times in 10 s".to_owned()));
    world.until_phase("rolled back");
    assert!(world.rollback_cause().contains("restarted 5 times"));
}

#[test]
fn a_failed_preflight_changes_nothing() {
    let mut world = World::new(plan());
    world.preflight = serin_core::release::CheckStatus::Fail;
    world.until_phase("refused");
    assert_eq!(world.count(|event| matches!(event, Event::Requested { .. })), 1);
}

#[test]
fn a_release_goes_on_without_evidence_only_where_the_document_says_so() {
    for (policy, end) in [(OnNoData::Hold, "paused"), (OnNoData::Rollback, "rolled back"), (OnNoData::Continue, "succeeded")] {
        let mut config = plan();
        config.analysis.on_no_data = policy;
        let mut world = World::new(config);
        world.rps = 0.0;
        world.until_observing(0);
        let began = world.now;
        world.run_for(25_000);
        let why = world.wait().why;
        assert!(why.contains("holding at 5 %: 0 of 50 requests"), "{why}");
        world.until(end, |world| if end == "paused" { world.release.state().paused.is_some() } else { world.phase() == end });
        if end == "paused" {
            assert_eq!(world.now.ms_since(began), 40_000);
            assert!(world.wait().operator && world.wait().why.contains("0 of 50 requests"), "{:?}", world.wait());
            // Resuming grants the same patience once more, no more and no less.
            let resumed = world.now;
            world.command(Action::Resume).unwrap();
            world.until("paused again", |world| world.release.state().paused.is_some());
            assert_eq!(world.now.ms_since(resumed), 40_000);
            // With traffic it goes on as if nothing had been.
            world.rps = 100.0;
            world.command(Action::Resume).unwrap();
            world.until_phase("succeeded");
        }
        if policy == OnNoData::Continue {
            assert_eq!(world.count(|event| matches!(event, Event::StageWaived { .. })), 3);
            assert_eq!(world.count(|event| matches!(event, Event::StagePassed { .. })), 0);
        }
    }
}

#[test]
fn an_undecided_stage_ends_by_policy() {
    let policies = [(OnInconclusive::Hold, "paused"), (OnInconclusive::Rollback, "rolled back"), (OnInconclusive::Advance, "succeeded")];
    for (policy, end) in policies {
        let mut config = plan();
        config.analysis.on_inconclusive = policy;
        config.analysis.criteria[0].min_sample = 1_000_000;
        let mut world = World::new(config);
        world.until(end, |world| if end == "paused" { world.release.state().paused.is_some() } else { world.phase() == end });
        if end == "paused" {
            assert!(world.wait().why.contains("inconclusive"), "{:?}", world.wait());
        }
    }
}

#[test]
fn data_that_stops_is_no_pass() {
    let mut world = World::new(plan());
    world.until_observing(0);
    world.run_for(10_000);
    world.observing = false;
    world.until("paused", |world| world.release.state().paused.is_some());
    assert_eq!(world.count(|event| matches!(event, Event::StagePassed { .. })), 0);
    assert!(world.wait().why.contains("nothing was measured for"), "{:?}", world.wait());
}

/// A source that goes on answering does not stand in for a proxy that fell silent.
#[test]
fn data_that_stops_is_no_pass_beside_a_source_that_goes_on() {
    let mut world = World::new(plan());
    world.until_observing(0);
    world.run_for(10_000);
    world.observing = false;
    let mut seconds = 0;
    while world.release.state().paused.is_none() {
        world.run_for(1_000);
        world.source_answers();
        seconds += 1;
        assert!(seconds < 3_600 && world.observes() == Some(0), "{:?}", world.wait());
    }
    assert_eq!(world.count(|event| matches!(event, Event::StagePassed { .. })), 0);
    assert!(world.wait().why.contains("nothing was measured for"), "{:?}", world.wait());
}

#[test]
fn a_wrong_split_blocks_the_pass_unless_clients_are_sticky() {
    for sticky in [false, true] {
        let mut config = plan();
        config.sticky = sticky;
        let mut world = World::new(config);
        world.wrong_split = Some(0.2);
        world.until_observing(0);
        world.run_for(30_000);
        assert_eq!(world.count(|event| matches!(event, Event::StagePassed { .. })) > 0, sticky);
        if !sticky {
            assert!(world.wait().why.contains("gets 20.0 % of the requests instead of 5 %"), "{:?}", world.wait());
        }
    }
}

#[test]
fn failing_matched_requests_break_the_limit_but_do_not_count_against_stable() {
    let mut world = World::new(plan());
    (world.matched_rps, world.matched_errors) = (20.0, 0.04);
    // 4 % of failures: within the limit of 5 %, although far more than stable's.
    world.until_phase("baking");
    let mut world = World::new(plan());
    (world.matched_rps, world.matched_errors) = (20.0, 0.5);
    world.until_phase("rolled back");
    assert!(world.rollback_cause().contains("matched requests: 50 %"), "{}", world.rollback_cause());
}

#[test]
fn a_stage_at_zero_percent_is_judged_by_its_matched_requests() {
    let mut config = plan();
    config.steps.insert(0, step(&[("main", 0)]));
    let mut world = World::new(config.clone());
    world.matched_rps = 20.0;
    world.until_observing(0);
    assert!(world.routers["main"].matches && world.routers["main"].weight.is_zero());
    world.until_phase("succeeded");
    let mut world = World::new(config);
    (world.matched_rps, world.matched_errors) = (20.0, 0.5);
    world.until_phase("rolled back");
    assert_eq!(world.count(|event| matches!(event, Event::StageEntered { .. })), 1);
    assert!(!world.routers["main"].matches);
}

#[test]
fn warn_and_pause_tell_once_until_the_criterion_recovers() {
    for on_breach in [OnBreach::Warn, OnBreach::Pause] {
        let mut config = plan();
        config.steps.truncate(1);
        config.steps[0].hold_ms = 200_000;
        config.steps[0].max_hold_ms = 400_000;
        config.analysis.criteria[0].on_breach = on_breach;
        let mut world = World::new(config);
        let told = |world: &World| world.count(|event| matches!(event, Event::Warned { .. } | Event::Paused { by: None, .. }));
        world.until_observing(0);
        world.run_for(15_000);
        for round in 1..=2 {
            world.errors[Arm::Canary.index()] = 0.3;
            world.run_for(15_000);
            assert_eq!((told(&world), world.phase()), (round, "in a stage"), "{on_breach:?}");
            assert_eq!(world.release.state().paused.is_some(), on_breach == OnBreach::Pause);
            if on_breach == OnBreach::Pause {
                world.command(Action::Resume).unwrap();
                world.run_for(5_000);
                assert_eq!(told(&world), round, "resumed knowing of it");
            }
            world.errors[Arm::Canary.index()] = 0.0;
            world.run_for(15_000);
        }
        world.until_phase("succeeded");
    }
}

#[test]
fn early_stages_end_at_their_least_hold_when_everything_passes() {
    let mut config = plan();
    config.steps.iter_mut().for_each(|step| step.early = true);
    let mut world = World::new(config);
    world.until_observing(0);
    let began = world.now;
    world.until_observing(1);
    // 50 canary requests at 5 per second take 10 s, more than the least hold of 5 s and less than the hold of 20 s.
    assert_eq!(world.now.ms_since(began), 10_000);
}

#[test]
fn two_targets_have_weights_of_their_own_and_both_must_be_proven() {
    let mut config = plan();
    config.targets = vec!["east".to_owned(), "west".to_owned()];
    config.steps =
        vec![step(&[("east", 1_000), ("west", 0)]), step(&[("east", 1_000), ("west", 1_000)]), step(&[("east", 5_000), ("west", 5_000)])];
    config.analysis.criteria = vec![criterion("errors")];
    let mut world = World::new(config);
    world.until_observing(0);
    assert_eq!((world.routers["east"].weight, world.routers["west"].weight), (bps(1_000), bps(0)));
    assert!(!world.routers["west"].matches, "its turn has not come");
    world.until_observing(1);
    assert_eq!(world.routers["west"].weight, bps(1_000));
    // East asks for what it has already: that is proven anew all the same.
    world.routers.get_mut("west").unwrap().deaf = true;
    world.until("a try to shift", |world| world.release.state().step() == Some(2));
    world.run_for(2_000);
    assert_eq!(world.observes(), None);
    world.routers.get_mut("west").unwrap().deaf = false;
    world.until_phase("succeeded");
    assert!(world.routers.values().all(|router| router.weight == bps(10_000)));
}

#[test]
fn equal_weights_in_a_row_and_gates_work() {
    let mut config = plan();
    config.steps = vec![step(&[("main", 2_500)]), step(&[("main", 2_500)])];
    config.steps[0].gate = Gate::Manual;
    let mut world = World::new(config);
    world.until_phase("awaiting approval");
    assert!(world.wait().operator);
    world.run_for(60_000);
    assert_eq!(world.phase(), "awaiting approval");
    world.command(Action::Approve).unwrap();
    world.until_phase("succeeded");
}

#[test]
fn late_and_doubled_answers_change_nothing() {
    let mut world = World::new(plan());
    world.until_observing(0);
    let ids: Vec<_> = world.asked.keys().copied().collect();
    let entries = world.journal.len();
    for id in ids {
        for input in [Input::Done(id), Input::ReadBack(id, bps(77)), Input::PreflightChecked(id, vec![])] {
            world.release.handle(input, world.now);
            world.settle();
        }
    }
    assert_eq!(world.journal.len(), entries);
}
