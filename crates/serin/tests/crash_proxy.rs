//! The proxy is killed with -9: the next one comes from the saved table, nobody is refused meanwhile, and the release goes on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use rustix::process::Signal;
use serin_testkit::{
    Document, Knocking, LoadReport, Place, Release,
    processes::{self, holds_listener},
    wait,
};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn document(name: &str) -> Document {
    Document::sample_apps(name, &[], &[]).stage(20.0, "3s", 20).stage(50.0, "1s", 20)
}

fn kill_proxy(place: &Place) {
    let old = processes::proxy(place.path()).unwrap();
    processes::signal(old, Signal::KILL);
    wait::until("another proxy", || processes::proxy(place.path()).filter(|pid| *pid != old));
}

/// Ends like [`Release::end_under`], but for the requests that were in flight when the proxy died.
fn end_with_losses(release: Release, load: serin_testkit::Load) -> (serin_testkit::Ended, LoadReport) {
    let _ = release.event("succeeded");
    let report = load.stop();
    release.interrupt();
    (release.end(), report)
}

#[test]
fn killed_in_a_stage() {
    let place = Place::new(SERIN);
    let document = document("proxy");
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    let replicas = place.replicas();
    for _ in 0..3 {
        kill_proxy(&place);
        wait::until("the release to be asked again", || place.status()["status"]["own_errors"].as_u64());
    }
    assert_eq!(place.replicas(), replicas);
    let (ended, report) = end_with_losses(release, load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    assert_eq!(ended.events("stage-passed").len(), 2);
    assert_eq!(report.count("lost.connect"), 0, "connections were refused: {:#}", report.value);
    assert_eq!(report.count("lost.made_by_proxy") + report.count("timeout"), 0, "{:#}", report.value);
    // At 200 requests per second of a millisecond each, hardly any are in flight at the three instants; a machine that stalls at a
    // kill leaves more of them there. That nothing was refused is asserted above.
    assert!(report.count("lost_total") <= 120, "more than what was in flight: {:#}", report.value);
    assert!(report.count("by_version.v2") > 0);
    processes::assert_none_left(place.path());
}

#[test]
fn killed_after_the_control_process_was_replaced() {
    let place = Place::new(SERIN);
    let document = document("proxy-orphan");
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    drop(release.kill());
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.event("taken-over");
    wait::until("the listening socket to be handed out", || holds_listener(release.pid(), document.listen).then_some(()));
    let knocking = Knocking::at(document.listen);
    for _ in 0..3 {
        kill_proxy(&place);
    }
    knocking.was_never_refused();
    let (ended, report) = end_with_losses(release, load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    assert_eq!(report.count("lost.connect"), 0, "connections were refused: {:#}", report.value);
    assert_eq!(report.count("lost.made_by_proxy") + report.count("timeout"), 0, "{:#}", report.value);
    assert!(report.count("by_version.v2") > 0, "{:#}", report.value);
    processes::assert_none_left(place.path());
}

/// Clients of a proxy that hangs wait; those of the one after it do not.
#[test]
fn one_that_hangs_is_replaced() {
    let place = Place::new(SERIN);
    let document = Document::sample_apps("hangs", &[], &[]).stage(20.0, "10m", 20);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    let old = processes::proxy(place.path()).unwrap();
    processes::signal(old, Signal::STOP);
    wait::until("another proxy", || processes::proxy(place.path()).filter(|pid| *pid != old));
    let report = place.load(&document, 100, &["--duration", "2s"]).end();
    report.assert_nothing_lost();
    assert!(report.count("by_version.v1") > 0, "{:#}", report.value);
    release.interrupt();
    let _ = release.end();
    processes::assert_none_left(place.path());
}

#[test]
fn killed_together_with_the_control_process() {
    let place = Place::new(SERIN);
    let document = document("both");
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    let replicas = place.replicas();
    let proxy = processes::proxy(place.path()).unwrap();
    drop(release.kill());
    processes::signal(proxy, Signal::KILL);
    wait::until("the proxy to be gone", || processes::proxy(place.path()).is_none().then_some(()));
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.event("taken-over");
    assert_eq!(place.replicas(), replicas);
    let (ended, _) = end_with_losses(release, load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    processes::assert_none_left(place.path());
}
