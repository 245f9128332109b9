//! Whole releases under the sequential judge, in the same small world.

mod world;

use serin_core::{
    plan::{ExternalKind, ExternalMetric, JudgeKind, Metric, MetricName, OnInconclusive, Plan, SequentialRules},
    release::{Event, Input},
    traffic::{Arm, Measured, Observation, Reading},
};
use serin_stats::ArmCounts;
use world::{
    Answers, World,
    plans::{outage_guard, plan},
};

const STABLE: usize = 0;
const CANARY: usize = 1;

/// At most 5 % errors, and not both 1.5 times and one percentage point more than stable; a guard at 10 %.
fn sequential() -> Plan {
    let mut plan = plan();
    plan.analysis.judge = JudgeKind::Sequential(SequentialRules::default());
    plan.analysis.criteria[0].consecutive = 1;
    plan.analysis.guards = vec![outage_guard()];
    plan.analysis.guards[0].max = 0.1;
    plan
}

fn busy(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.rps = 2_000.0;
    world
}

#[test]
fn a_good_canary_passes_with_its_evidence_in_the_journal() {
    let mut world = busy(sequential());
    world.errors = [0.01, 0.01];
    world.until_phase("succeeded");
    let evidence: Vec<String> = world
        .events()
        .filter_map(|event| if let Event::StagePassed { evidence, .. } = event { Some(evidence.clone()) } else { None })
        .collect();
    assert_eq!(evidence.len(), 3);
    assert!(evidence.iter().all(|text| text.contains("× stable (99 % interval") && text.contains("surely below")), "{evidence:?}");
    assert_eq!(world.count(|event| matches!(event, Event::Warned { .. } | Event::Paused { .. })), 0);
}

#[test]
fn too_little_traffic_is_no_pass_and_says_what_it_needs() {
    let mut world = World::new(sequential());
    world.rps = 40.0;
    world.until_observing(0);
    world.run_for(30_000);
    assert!(world.wait().why.contains("more requests to pass"), "{}", world.wait().why);
    world.until("paused", |world| world.release.state().paused.is_some());
    let reason = world.release.state().paused.as_ref().unwrap().reason.clone();
    assert!(reason.contains("no verdict at 5 %"), "{reason}");
    assert_eq!(world.count(|event| matches!(event, Event::StagePassed { .. })), 0);
}

#[test]
fn undecided_stages_go_on_only_where_the_document_says_so() {
    let mut config = sequential();
    config.analysis.on_inconclusive = OnInconclusive::Advance;
    let mut world = World::new(config);
    world.rps = 40.0;
    world.until_observing(1);
    assert_eq!(world.count(|event| matches!(event, Event::StageWaived { .. })), 1);
}

#[test]
fn a_bad_canary_is_rolled_back_with_its_numbers() {
    let mut world = busy(sequential());
    world.errors = [0.01, 0.01];
    world.until_observing(1);
    world.errors[CANARY] = 0.05;
    let broke_at = world.now;
    world.until_phase("rolled back");
    let cause = world.rollback_cause();
    assert!(cause.contains("× stable (99 % interval") && cause.contains("of 100 needed"), "{cause}");
    assert!(world.now.ms_since(broke_at) <= 10_000, "{}", world.now.ms_since(broke_at));
    assert!(world.routers["main"].weight.is_zero());
}

#[test]
fn evidence_survives_a_crash_of_the_control_process() {
    // Slowly enough that no single life of the control process would have decided.
    let decided_after = |crashes: bool| {
        let mut config = sequential();
        config.steps[0].max_hold_ms = 3_600_000;
        let mut world = busy(config);
        world.rps = 400.0;
        world.errors = [0.01, 0.05];
        world.until_observing(0);
        let began = world.now;
        while world.phase() == "in a stage" {
            world.run_for(2_000);
            if crashes {
                world.crash(0, None, false);
                world.settle();
            }
            assert!(world.now.ms_since(began) < 300_000, "{:?}", world.wait());
        }
        world.until_phase("rolled back");
        (world.now.ms_since(began), world.rollback_cause())
    };
    let (whole, broken) = (decided_after(false), decided_after(true));
    assert!(whole.0 > 6_000, "{whole:?}");
    assert!(broken.0.abs_diff(whole.0) <= 4_000, "{whole:?} {broken:?}");
}

/// A source that goes on answering does not stand in for a proxy that fell silent, also if control was restarted since the proxy was last heard of.
#[test]
fn a_restart_forgets_no_proxy_that_fell_silent() {
    let mut config = sequential();
    config.steps[0].hold_ms = 60_000;
    config.steps[0].max_hold_ms = 120_000;
    for gap_ms in [None, Some(0), Some(600_000)] {
        let mut world = busy(config.clone());
        world.errors = [0.01, 0.01];
        world.until_observing(0);
        world.run_for(30_000);
        if let Some(gap_ms) = gap_ms {
            world.crash(gap_ms, None, false);
            world.settle();
            world.source_answers();
            assert!(!world.wait().why.contains("nothing was measured"), "nobody was there to hear: {:?}", world.wait());
        }
        world.observing = false;
        while world.observes() == Some(0) && world.release.state().paused.is_none() {
            world.run_for(1_000);
            world.source_answers();
        }
        assert_eq!(world.count(|event| matches!(event, Event::StagePassed { .. })), 0, "gap: {gap_ms:?}");
        assert!(world.wait().why.contains("nothing was measured for"), "gap: {gap_ms:?}: {:?}", world.wait());
    }
}

#[test]
fn the_canary_gets_no_traffic_next_to_a_stable_that_breaks_a_guard_by_itself() {
    let deploying = || {
        let mut world = busy(sequential());
        world.errors[STABLE] = 0.3;
        // The canary takes its time to start.
        world.answers.insert("deploy", Answers::Lost);
        world.run_for(5_000);
        world.answers.insert("deploy", Answers::Good);
        world.crash(0, None, false);
        world
    };
    let mut world = deploying();
    world.until("a look at stable", |world| world.wait().why.contains("stable to keep its limits") || world.observes().is_some());
    assert_eq!(world.observes(), None, "stable was not looked at before the stage");
    assert!(world.wait().why.contains("limit 5 %"), "{}", world.wait().why);
    world.errors[STABLE] = 0.0;
    world.until_observing(0);

    let mut hopeless = deploying();
    hopeless.until_phase("rolled back");
    assert!(hopeless.rollback_cause().contains("stable still broke a limit by itself"), "{}", hopeless.rollback_cause());
}

#[test]
fn what_harms_both_is_the_canary_if_it_ends_without_it() {
    let mut world = busy(sequential());
    world.until_observing(1);
    (world.canary_harms_stable, world.errors[Arm::Canary.index()]) = (0.3, 0.3);
    let broke_at = world.now;
    world.until_phase("retreated");
    assert!(world.now.ms_since(broke_at) <= 5_000);
    world.until_phase("rolled back");
    assert!(world.rollback_cause().starts_with("interference"), "{}", world.rollback_cause());
}

#[test]
fn trouble_that_stays_without_the_canary_is_not_its_fault() {
    let mut world = busy(sequential());
    world.until_observing(1);
    world.errors = [0.3, 0.3];
    world.until_phase("retreated");
    world.until("paused", |world| world.release.state().paused.is_some());
    assert_eq!(world.phase(), "retreated");
    assert!(world.wait().why.contains("the cause lies outside"), "{}", world.wait().why);
}

/// The run before had its canary under the same name, and what it counted last arrives late.
#[test]
fn what_a_source_counted_of_a_canary_before_it_got_traffic_counts_for_nothing() {
    let name = MetricName::new("orders").unwrap();
    let mut plan = sequential();
    plan.analysis.criteria[0].metric = Metric::External(ExternalMetric { name, kind: ExternalKind::Ratio });
    plan.analysis.poll_ms = Some(1_000);
    let mut world = busy(plan);
    let see = |world: &mut World, requests: u64, events: u64| {
        let reading = Reading::Counts([ArmCounts { requests: 1_000, events: 0 }, ArmCounts { requests, events }]);
        let at = world.release.now();
        let measured = vec![Measured { metric: name, reading }];
        world.release.handle(Input::Observed(Observation { at, measured, ..Observation::default() }), at);
    };
    assert_eq!(world.phase(), "preflight");
    see(&mut world, 1_000, 900);
    world.until_observing(0);
    see(&mut world, 100, 0);
    world.run_for(1_000);
    assert_eq!((world.phase(), world.rollback_cause()), ("in a stage", String::new()));
    // The same counts of a canary with traffic are evidence at once.
    see(&mut world, 1_000, 900);
    assert!(world.rollback_cause().contains("errors"), "{}", world.rollback_cause());
}
