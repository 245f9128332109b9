//! What the simulation found: restarts that come at just the wrong moment, or with less of the journal than was written.

mod world;

use serin_core::release::{Action, Effect, Event};
use world::{
    World,
    plans::{bps, plan},
};

#[test]
fn the_old_version_stays_while_a_router_still_needs_it() {
    let mut world = World::new(plan());
    world.until_phase("retained");
    // An abort had reached the router when the process died, and nothing else of it was kept. Nobody was there for longer
    // than the old version is retained.
    world.routers.get_mut("main").unwrap().weight = bps(0);
    world.crash(60_000, None, false);
    assert!(world.wait().why.contains("the router to give the canary all traffic"), "{:?}", world.wait());
    world.collect();
    assert_eq!(world.phase(), "retained");
    world.until_phase("succeeded");
    let events: Vec<&Event> = world.events().collect();
    let last = |wanted: &dyn Fn(&Event) -> bool| events.iter().rposition(|event| wanted(event)).unwrap();
    let proven = last(&|event| matches!(event, Event::WeightProven { weight, .. } if *weight == bps(10_000)));
    let drifted = last(&|event| matches!(event, Event::DriftFound { .. }));
    let retired = last(&|event| matches!(event, Event::Requested { effect: Effect::Retire }));
    assert!(drifted < proven && proven < retired, "{events:?}");
}

#[test]
fn a_router_that_leaves_the_canary_keeps_the_old_version_alive() {
    let mut world = World::new(plan());
    world.until_phase("retained");
    world.answers.insert("shift", world::Answers::Lost);
    world.routers.get_mut("main").unwrap().weight = bps(0);
    let seen = serin_core::release::Input::RouterSeen { target: "main".to_owned(), weight: bps(0) };
    world.release.handle(seen, world.now);
    world.routers.get_mut("main").unwrap().deaf = true;
    world.run_for(120_000);
    assert_eq!(world.phase(), "retained");
    assert_eq!(world.count(|event| matches!(event, Event::RetainEnded { .. })), 0);
    world.answers.clear();
    world.routers.get_mut("main").unwrap().deaf = false;
    world.until_phase("succeeded");
}

#[test]
fn a_weight_set_by_hand_stands_still_also_when_its_pause_is_lost() {
    let mut world = World::new(plan());
    world.until_observing(1);
    world.command(Action::Weight(bps(3_000))).unwrap();
    let overridden = world.events().position(|event| matches!(event, Event::Overridden { .. })).unwrap();
    world.crash(1_000, Some(overridden + 1), false);
    assert!(world.wait().operator, "{:?}", world.wait());
    world.settle();
    // For much longer than the stage's patience.
    world.run_for(120_000);
    assert_eq!(world.routers["main"].weight, bps(3_000));
    world.command(Action::Resume).unwrap();
    world.until_observing(1);
    assert_eq!(world.routers["main"].weight, bps(2_500));
}
