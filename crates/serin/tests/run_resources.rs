//! Limits on what the canary's processes use.

use rustix::process::Signal;
use serde_json::{Value, json};
use serin_testkit::{Document, Ended, Place, Release, processes};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn rolled_back(criterion: &Value, meddle: impl FnOnce(&Place, &Release)) -> Ended {
    let place = Place::new(SERIN);
    let document = Document::sample_apps("greedy", &[], &[]).criteria(json!([criterion])).stage(50.0, "60s", 20);
    let run = place.run(&document, &[]);
    let load = place.load(&document, 100, &[]);
    run.event("deployed");
    let stable = place.pids("stable");
    meddle(&place, &run);
    run.event("traffic-returned");
    load.stop().assert_nothing_lost();
    assert!(!run.events("stage-entered").is_empty());
    let ended = run.end();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_eq!(ended.last["report"]["end"]["cause"]["kind"], json!({"criterion": {"name": criterion["metric"]}}));
    println!("{}", ended.cause());
    assert_eq!(stable.len(), 1);
    ended
}

#[test]
fn memory() {
    let ended = rolled_back(&json!({"metric": "memory", "max": "1MiB", "consecutive": 2}), |_, _| {});
    let cause = ended.cause();
    assert!(cause.starts_with("memory: canary ") && cause.contains(" MiB") && cause.ends_with("limit 1 MiB"), "{cause}");
    // A process needs more than this, and not a gigabyte: the value is one that was measured.
    let mib: f64 = cause.split(' ').nth(2).unwrap().parse().unwrap();
    assert!((1.0..1000.0).contains(&mib), "{cause}");
}

#[test]
fn cpu() {
    let ended = rolled_back(&json!({"metric": "cpu", "max": "0.01%", "consecutive": 2}), |_, _| {});
    let cause = ended.cause();
    assert!(cause.starts_with("cpu: canary ") && cause.contains("% of a core") || cause.contains(" %"), "{cause}");
}

#[test]
fn restarts() {
    let ended = rolled_back(&json!({"metric": "restarts", "max": 0}), |place, run| {
        run.stage(1);
        processes::signal(place.replicas()["canary-1"], Signal::KILL);
    });
    assert!(ended.cause().starts_with("restarts: canary 1"), "{}", ended.cause());
}
