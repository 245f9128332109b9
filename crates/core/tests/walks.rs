//! Random walks: random plans, and inputs as a bad day would bring them. The rules of `world::rules` are checked with every
//! output; what is checked here is what holds over a whole walk.

// Helpers are tests as much as the tests are.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use proptest::prelude::*;
use serin_core::{
    Timestamp,
    plan::{Gate, JudgeKind, OnBreach, OnInconclusive, OnNoData, Plan, RetreatEnd, SequentialRules, Step, VersusStable},
    release::{Action, Command, Entry, Fault, Input, Phase, Release, State, Wait},
};
use world::{
    Answers, World,
    plans::{bps, criterion, outage_guard, plan, preview, step},
};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Happening {
    Steps(u8),
    /// Everything arrives, in order.
    Settles,
    /// An answer on its way arrives, whichever it is.
    Arrives(usize),
    Lost(usize),
    Doubled(usize),
    FailsInstead(usize, bool),
    Command(Action),
    Errors(usize, f64),
    Harm(f64),
    Traffic(f64),
    StableReady(Option<u32>),
    CanaryFails(bool),
    AlertFires,
    CanaryReady(Option<u32>),
    ChecksFail(bool),
    Tampered(usize, u16),
    Deaf(usize, bool),
    Clock(u64),
    Observing(bool),
    Restart {
        gap_ms: u64,
        latched: bool,
    },
    LostJournal {
        keep_percent: usize,
        gap_ms: u64,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let action = prop_oneof![
        2 => Just(Action::Pause),
        5 => Just(Action::Resume),
        3 => Just(Action::Approve),
        1 => Just(Action::Reject),
        1 => Just(Action::Promote),
        3 => (0_u16..=10_000).prop_map(|weight| Action::Weight(bps(weight))),
        1 => Just(Action::Abort),
    ];
    let share = || prop_oneof![3 => Just(0.0), 1 => Just(0.04), 1 => Just(0.3), 1 => Just(1.0)];
    prop_oneof![
        12 => (1_u8..8).prop_map(Steps),
        10 => Just(Settles),
        10 => any::<usize>().prop_map(Arrives),
        2 => any::<usize>().prop_map(Lost),
        2 => any::<usize>().prop_map(Doubled),
        2 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(which, retryable)| FailsInstead(which, retryable)),
        4 => action.prop_map(Command),
        2 => (0_usize..2, share()).prop_map(|(arm, share)| Errors(arm, share)),
        1 => share().prop_map(Harm),
        1 => prop_oneof![Just(0.0), Just(5.0), Just(100.0)].prop_map(Traffic),
        1 => prop_oneof![Just(None), Just(Some(0)), Just(Some(2))].prop_map(StableReady),
        1 => prop::bool::weighted(0.2).prop_map(CanaryFails),
        1 => prop::bool::weighted(0.1).prop_map(|fires| if fires { AlertFires } else { Settles }),
        1 => prop_oneof![Just(None), Just(Some(0)), Just(Some(2))].prop_map(CanaryReady),
        1 => prop::bool::weighted(0.3).prop_map(ChecksFail),
        1 => (0_usize..2, 0_u16..=10_000).prop_map(|(target, weight)| Tampered(target, weight)),
        1 => (0_usize..2, prop::bool::weighted(0.3)).prop_map(|(target, deaf)| Deaf(target, deaf)),
        1 => prop_oneof![Just(0), 1_u64..100_000, Just(86_400_000)].prop_map(Clock),
        1 => prop::bool::weighted(0.7).prop_map(Observing),
        1 => (0_u64..100_000, prop::bool::weighted(0.2)).prop_map(|(gap_ms, latched)| Restart { gap_ms, latched }),
        1 => (0_usize..100, 0_u64..100_000).prop_map(|(keep_percent, gap_ms)| LostJournal { keep_percent, gap_ms }),
    ]
}

prop_compose! {
    fn any_plan()(
        targets in 1_usize..=2,
        mut weights in prop::collection::vec((0_u16..=10_000, 0_u16..=10_000, 0_u64..8_000, 0_u64..5_000, any::<bool>(), 0_u64..60, prop::bool::weighted(0.3)), 1..4),
        bake_ms in 0_u64..5_000,
        retain_ms in 0_u64..5_000,
        on_no_data in prop_oneof![Just(OnNoData::Hold), Just(OnNoData::Rollback), Just(OnNoData::Continue)],
        on_inconclusive in prop_oneof![Just(OnInconclusive::Hold), Just(OnInconclusive::Rollback), Just(OnInconclusive::Advance)],
        otherwise in prop_oneof![Just(RetreatEnd::Pause), Just(RetreatEnd::Resume), Just(RetreatEnd::Rollback)],
        recover_within_ms in 0_u64..6_000,
        breaches in prop::collection::vec((prop_oneof![Just(OnBreach::Rollback), Just(OnBreach::Pause), Just(OnBreach::Warn)], 0_u64..3_000, 1_u32..4, any::<bool>()), 0..3),
        (guard, sequential) in any::<(bool, bool)>(),
        sticky in any::<bool>(),
        previewed in prop_oneof![4 => Just(None), 1 => Just(Some(true)), 1 => Just(Some(false))],
        interval_ms in prop_oneof![Just(500_u64), Just(1_000), Just(3_000)],
    ) -> Plan {
        let mut plan = plan();
        let names = ["east", "west"];
        plan.targets = names[..targets].iter().map(|name| (*name).to_owned()).collect();
        let (mut east, mut west) = (0, 0);
        weights.sort_by_key(|weights| weights.0);
        plan.steps = weights
            .iter()
            .map(|(a, b, hold_ms, more_ms, early, min_requests, gate)| {
                (east, west) = (east.max(*a), west.max(*b));
                let mut step = step(&[("east", east), ("west", west)][..targets]);
                (step.hold_ms, step.max_hold_ms, step.min_hold_ms) = (*hold_ms, hold_ms + more_ms, hold_ms / 2);
                (step.early, step.min_requests) = (*early, *min_requests);
                step.gate = if *gate { Gate::Manual } else { Gate::Auto };
                step
            })
            .collect();
        // A preview before the stages, or instead of them.
        if let Some(is_switch) = previewed {
            let preview = Step { gate: plan.steps[0].gate, hold_ms: plan.steps[0].hold_ms, ..preview(&names[..targets]) };
            plan.steps.retain(|_| !is_switch);
            plan.steps.insert(0, preview);
        }
        (plan.bake_ms, plan.retain_ms, plan.deploy_timeout_ms, plan.sticky) = (bake_ms, retain_ms, 20_000, sticky);
        let analysis = &mut plan.analysis;
        if sequential {
            analysis.judge = JudgeKind::Sequential(SequentialRules::default());
        }
        (analysis.on_no_data, analysis.on_inconclusive, analysis.interval_ms) = (on_no_data, on_inconclusive, interval_ms);
        analysis.window_ms = 5_000;
        (analysis.retreat.recover_within_ms, analysis.retreat.otherwise) = (recover_within_ms, otherwise);
        analysis.guards = if guard { vec![outage_guard()] } else { vec![] };
        analysis.criteria = breaches
            .into_iter()
            .enumerate()
            .map(|(index, (on_breach, for_ms, consecutive, versus))| {
                let mut one = criterion(&format!("errors-{index}"));
                (one.on_breach, one.for_ms, one.consecutive) = (on_breach, for_ms, consecutive);
                one.versus_stable = one.versus_stable.filter(|_| versus).map(|limits| VersusStable { ..limits });
                one
            })
            .collect();
        plan
    }
}

fn happen(world: &mut World, what: &Happening) {
    let pick = |world: &World, which: usize| which % world.inbox.len().max(1);
    match what {
        Happening::Steps(steps) => {
            // Answers stay on their way until they arrive.
            for _ in 0..*steps {
                let until = world.wait().until.unwrap_or(world.now.plus_ms(1_000)).min(world.now.plus_ms(1_000));
                world.now = until.max(world.now.plus_ms(1));
                world.look();
                world.collect();
            }
        }
        Happening::Settles => world.settle(),
        Happening::Arrives(which) => {
            let at = pick(world, *which);
            if let Some(input) = world.inbox.remove(at) {
                world.release.handle(input, world.now);
            }
        }
        Happening::Lost(which) => drop(world.inbox.remove(pick(world, *which))),
        Happening::Doubled(which) => {
            let input = world.inbox.get(pick(world, *which)).cloned();
            world.inbox.extend(input);
        }
        Happening::FailsInstead(which, retryable) => {
            let at = pick(world, *which);
            if let Some(Input::Done(id) | Input::ReadBack(id, _) | Input::PreflightChecked(id, _)) = world.inbox.remove(at) {
                let fault = Fault { text: "refused".to_owned(), retryable: *retryable };
                world.release.handle(Input::Failed(id, fault), world.now);
            }
        }
        Happening::Command(action) => {
            // A refusal is an answer like any other.
            let _ = world.release.command(Command { action: *action, by: "ann".to_owned(), reason: None }, world.now);
        }
        Happening::Errors(arm, share) => world.errors[*arm] = *share,
        Happening::Harm(share) => world.canary_harms_stable = *share,
        Happening::Traffic(rps) => world.rps = *rps,
        Happening::StableReady(ready) => world.workload.stable_ready = *ready,
        Happening::AlertFires => {
            world.release.handle(Input::AlertFired { name: "down".to_owned(), text: "the alert down fires".to_owned() }, world.now);
        }
        Happening::CanaryFails(fails) => world.workload.canary_failure = fails.then(|| "crash loop".to_owned()),
        Happening::Tampered(target, weight) => {
            let Some(target) = world.release.plan().targets.get(*target).cloned() else { return };
            world.routers.get_mut(&target).unwrap().weight = bps(*weight);
            world.release.handle(Input::RouterSeen { target, weight: bps(*weight) }, world.now);
        }
        Happening::Deaf(target, deaf) => {
            let Some(target) = world.release.plan().targets.get(*target).cloned() else { return };
            world.routers.get_mut(&target).unwrap().deaf = *deaf;
        }
        Happening::CanaryReady(ready) => world.workload.canary_ready = *ready,
        Happening::ChecksFail(fail) => world.checks_fail = *fail,
        // Forwards and, for one call, backwards.
        Happening::Clock(ms) if ms % 2 == 0 => world.now = world.now.plus_ms(*ms),
        Happening::Clock(ms) => world.release.handle(Input::Tick, Timestamp(world.now.0.saturating_sub(*ms))),
        Happening::Observing(observing) => world.observing = *observing,
        Happening::Restart { gap_ms, latched } => {
            world.collect();
            world.crash(*gap_ms, None, *latched);
            assert_resumed(world, *latched);
        }
        Happening::LostJournal { keep_percent, gap_ms } => {
            world.collect();
            let keep = world.journal.len() * keep_percent / 100;
            world.crash(*gap_ms, Some(keep), true);
            assert_resumed(world, true);
        }
    }
    if matches!(what, Happening::StableReady(_) | Happening::CanaryFails(_) | Happening::CanaryReady(_)) {
        world.release.handle(Input::WorkloadSeen(world.workload.clone()), world.now);
    }
    world.collect();
}

/// A restarted release asks for exactly what is outstanding; with the latch set, the canary gets nothing that the journal
/// does not explain.
fn assert_resumed(world: &mut World, latched: bool) {
    let mut asked = world.collect_ids();
    asked.sort();
    let outstanding: Vec<_> = world.release.state().outstanding.keys().copied().collect();
    assert_eq!(asked, outstanding);
    let state = world.release.state();
    if latched && !state.is_final() && !matches!(state.phase, Phase::Retiring | Phase::NeedsOperator { .. }) {
        assert!(state.asked_weight().is_zero(), "{state:?}");
    }
}

/// The day turns good, and somebody is there who does what the release asks for.
fn finish(world: &mut World) {
    world.errors = [0.0, 0.0];
    world.canary_harms_stable = 0.0;
    world.rps = 200.0;
    world.observing = true;
    world.answers.clear();
    world.routers.values_mut().for_each(|router| router.deaf = false);
    world.workload.canary_failure = None;
    world.workload_seen(|seen| seen.stable_ready = Some(2));
    for steps in 0..2_000 {
        if world.release.state().is_final() {
            return;
        }
        for (target, router) in world.routers.clone() {
            world.release.handle(Input::RouterSeen { target, weight: router.weight }, world.now);
        }
        world.step();
        let state = world.release.state();
        if !world.wait().operator || state.is_final() {
            continue;
        }
        let action = match (&state.paused, state.phase.name()) {
            // Who has resumed a hundred times in vain ends it.
            _ if steps > 1_500 => Action::Abort,
            (Some(_), _) => Action::Resume,
            (None, "awaiting approval") => Action::Approve,
            _ => Action::Abort,
        };
        world.command(action).unwrap();
    }
    panic!("it never ends: {:?}; waits for {:?}", world.release.state(), world.wait());
}

/// Every prefix folds, twice to the same bytes, and a restart from it asks for exactly what is outstanding.
fn assert_journal(plan: &Plan, journal: &[Entry], now: Timestamp) {
    for keep in 0..=journal.len() {
        let prefix = &journal[..keep];
        let state = State::fold(prefix);
        if keep % 7 == 0 || keep == journal.len() {
            let bytes = serde_json::to_string(&state).unwrap();
            assert_eq!(bytes, serde_json::to_string(&State::fold(prefix)).unwrap());
            assert_eq!(serde_json::from_str::<State>(&bytes).unwrap(), state);
            let mut release = Release::resume(plan.clone(), prefix, None, now, false, 99, now);
            let output = release.take_output();
            let mut asked: Vec<_> = output.urgent.iter().chain(&output.effects).map(|(id, _)| *id).collect();
            asked.sort();
            assert_eq!(asked, release.state().outstanding.keys().copied().collect::<Vec<_>>());
        }
    }
    // Wherever a journal is cut, its beginning may be replaced by what it folds to, also after a way through the disk.
    let whole = serde_json::to_string(&State::fold(journal)).unwrap();
    let mut base = State::default();
    for cut in 0..=journal.len() {
        let kept: State = serde_json::from_str(&serde_json::to_string(&base).unwrap()).unwrap();
        assert_eq!(serde_json::to_string(&State::fold_from(kept, &journal[cut..])).unwrap(), whole, "cut at {cut}");
        assert!(!Wait::replayed(plan, &base).why.is_empty());
        base = State::fold_from(base, journal.get(cut));
    }
    let stored = serde_json::to_string(journal).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Entry>>(&stored).unwrap(), journal);
}

/// `PROPTEST_CASES` sets how many releases are walked: a few hundred by default, to stay quick.
fn config() -> ProptestConfig {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 1_000 };
    ProptestConfig { cases, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_walk_breaks_a_rule_and_every_walk_ends(plan in any_plan(), walk in prop::collection::vec(happening(), 0..80)) {
        let mut world = World::new(plan.clone());
        world.collect();
        for what in &walk {
            happen(&mut world, what);
        }
        // Read back, tampered with and over before anybody looks again: that is beyond any release.
        let tampered = walk.iter().any(|what| matches!(what, Happening::Tampered(..)));
        let was_final = world.release.state().is_final();
        finish(&mut world);
        assert_journal(&plan, &world.journal, world.now);
        // What the release drove last is what it says; what people do to routers afterwards is theirs.
        let state = world.release.state();
        for (name, target) in state.targets.iter().filter(|_| !was_final) {
            let end = if matches!(state.phase, Phase::RolledBack) { bps(0) } else { bps(10_000) };
            prop_assert_eq!((target.asked, target.matches), (end, false));
            prop_assert!(tampered || world.routers[name].weight == end);
        }
    }

    #[test]
    fn a_good_day_succeeds_whatever_the_plan(plan in any_plan(), lost in any::<bool>()) {
        // Even on a good day a small share may be too few requests for a stage's time.
        let mut plan = plan;
        (plan.analysis.on_no_data, plan.analysis.on_inconclusive) = (OnNoData::Continue, OnInconclusive::Advance);
        let mut world = World::new(plan);
        world.rps = 10_000.0;
        world.matched_rps = 100.0;
        if lost {
            world.answers = [("shift", Answers::Lost), ("finalize", Answers::Lost)].into();
            world.settle();
            world.run_for(3_000);
        }
        finish(&mut world);
        prop_assert!(matches!(world.release.state().phase, Phase::Succeeded), "{:?}", world.rollback_cause());
    }

    /// The fold takes whatever a broken disk gives it.
    #[test]
    fn folding_nonsense_never_panics(plan in any_plan(), walk in prop::collection::vec(happening(), 0..40), order in prop::collection::vec(any::<usize>(), 0..60)) {
        let mut world = World::new(plan);
        world.collect();
        for what in &walk {
            happen(&mut world, what);
        }
        let journal: Vec<_> = order.iter().map(|index| world.journal[index % world.journal.len()].clone()).collect();
        let state = State::fold(&journal);
        prop_assert_eq!(serde_json::to_string(&state).unwrap(), serde_json::to_string(&State::fold(&journal)).unwrap());
        prop_assert!(state.held_ms(world.now) <= world.now.0);
    }
}
