//! Somebody sets the clock: it jumps ahead and back while releases are under way, and while nobody has them.
//!
//! Stages and bakes last as long as they should, releases end as their canaries deserve, and what is told of them later makes sense.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use serin_testkit::{Document, Place, Release, Server, Site, WallClock, http, processes, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;
const YEAR_S: i64 = 365 * DAY_S;
/// Between the test's look at a clock and the server's.
const SLACK_MS: u64 = 1_000;

/// `None`, said loudly, where the library is missing; under `cargo xtask test` it must be there.
fn clock(folder: &Path) -> Option<WallClock> {
    let clock = WallClock::new(folder);
    if clock.is_none() {
        assert!(std::env::var_os("SERIN_TESTBED").is_none(), "libfaketime is not installed; apt-get install faketime");
        println!("left out: libfaketime is not installed");
    }
    clock
}

fn serve(site: &Site, clock: &WallClock) -> Server {
    let mut command = site.command(&["--output", "json", "serve"]);
    clock.govern(&mut command);
    site.serve_by(command)
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn document(hold_s: [u64; 2], bake_s: u64) -> Document {
    let [first, second] = hold_s.map(|seconds| format!("{seconds}s"));
    Document::sample_apps("shop", &[], &[]).stage(20.0, &first, 20).stage(50.0, &second, 20).bake(&format!("{bake_s}s"))
}

#[track_caller]
fn at(journal: &[Value], kind: &str) -> u64 {
    let entry = journal.iter().find(|entry| entry["event"]["type"] == kind);
    entry.unwrap_or_else(|| panic!("no {kind} in {journal:#?}"))["at"].as_u64().unwrap()
}

/// The journal's times go on only, and no faster than time.
#[track_caller]
fn in_order(journal: &[Value]) {
    let times: Vec<u64> = journal.iter().map(|entry| entry["at"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{journal:#?}");
}

/// What the run that ended last says of its length, against the time that really went by since it was applied.
#[track_caller]
fn told_length(status: &Value, began: Instant) {
    let last = &status["last"];
    let [from, to] = ["began_at", "ended_at"].map(|field| last[field].as_u64().unwrap());
    let most_ms = u64::try_from(began.elapsed().as_millis()).unwrap() + SLACK_MS;
    assert!(to >= from && to - from <= most_ms, "at most {most_ms} ms: {last:#}");
}

/// Every journal folds, and every run that is told of has begun before it ended.
#[track_caller]
fn history_makes_sense(site: &Site, runs: usize) {
    let _ = site.say(&["store", "check"]).expect_code(0);
    let told = site.read("/v1/services/shop/runs").unwrap();
    let rows = told["runs"].as_array().unwrap_or_else(|| panic!("{told:#}"));
    assert_eq!(rows.len(), runs, "{told:#}");
    for row in rows {
        let [from, to] = ["began_at", "ended_at"].map(|field| row[field].as_u64().unwrap());
        assert!(to >= from && to - from <= 600_000, "{row:#}");
    }
    let _ = site.say(&["history", "shop"]).expect_code(0);
}

#[test]
fn steps_while_a_release_is_under_way() {
    let site = Site::new(SERIN);
    let Some(clock) = clock(site.place().path()) else { return };
    let server = serve(&site, &clock);
    let document = document([4, 3], 3);
    let load = site.place().load(&document, 100, &[]);
    let (began, began_ms) = (Instant::now(), now_ms());
    let _ = site.apply(&document).expect_code(0);
    site.stage("shop", 1);
    clock.set_offset_s(HOUR_S);
    site.stage("shop", 2);
    clock.set_offset_s(-HOUR_S);
    site.entry("shop", "the bake", |entry| entry["event"]["type"] == "bake-started");
    clock.set_offset_s(-DAY_S);
    let status = site.over("shop", 1);
    assert_eq!(status["last"]["end"]["result"], "succeeded", "{status:#}");
    // The stages and the bake, by a clock that nobody has set.
    assert!(began.elapsed() >= Duration::from_secs(4 + 3 + 3), "{:?}", began.elapsed());
    told_length(&status, began);
    let journal = site.journal("shop");
    in_order(&journal);
    let [first, last] = [&journal[0], journal.last().unwrap()].map(|entry| entry["at"].as_u64().unwrap());
    assert!(first + SLACK_MS >= began_ms && last <= now_ms() + SLACK_MS, "from {began_ms}: {journal:#?}");
    site.serving("shop");

    // A release that begins under a clock that is an hour ahead, and whose canary turns bad when that is corrected.
    clock.set_offset_s(HOUR_S);
    let second = document_of_next(&document, "v2", "v3");
    let began = Instant::now();
    let _ = site.apply(&second).expect_code(0);
    site.stage("shop", 1);
    clock.set_offset_s(0);
    site.place().behave("v2-", &json!({"error_rate": 1.0}));
    let status = site.over("shop", 2);
    assert_eq!(status["last"]["end"]["result"], "rolled-back", "{status:#}");
    told_length(&status, began);
    in_order(&site.journal("shop"));
    stable_alone(&document, "v2");

    // The same with a year, and a person who takes it back.
    site.serving("shop");
    clock.set_offset_s(YEAR_S);
    let third = document_of_next(&document, "v2", "v4").set("strategy.canary.stages", json!([{"weight": 20, "hold": "10m"}]));
    let began = Instant::now();
    let _ = site.apply(&third).expect_code(0);
    site.stage("shop", 1);
    clock.set_offset_s(0);
    let _ = site.say(&["abort", "shop"]).expect_code(0);
    let status = site.over("shop", 3);
    assert_eq!(status["last"]["end"]["result"], "rolled-back", "{status:#}");
    told_length(&status, began);
    stable_alone(&document, "v2");
    history_makes_sense(&site, 3);
    load.stop().assert_nothing_lost();
    site.stopped(server);
}

#[test]
fn a_process_that_died_after_a_step_did_not_run_for_a_year() {
    let site = Site::new(SERIN);
    let Some(clock) = clock(site.place().path()) else { return };
    let server = serve(&site, &clock);
    let document = Document::sample_apps("shop", &[], &[])
        .criteria(json!([{"metric": "request-rate", "max": "1000000rps"}]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]))
        .set("workload.processes.canary.restart", json!({"limit": 1, "backoff": "100ms"}))
        .set("strategy.canary.stages", json!([{"weight": 20, "hold": "10m"}]));
    let _ = site.apply(&document).expect_code(0);
    site.stage("shop", 1);
    clock.set_offset_s(YEAR_S);
    wait::until("the end of the release", || {
        site.place().pids("v1-").into_iter().for_each(|pid| processes::signal(pid, Signal::KILL));
        (site.status("shop")["last"]["number"] == 1).then_some(())
    });
    let status = site.over("shop", 1);
    let text = status["last"]["end"]["cause"]["text"].as_str().unwrap();
    let ran_for = text.split_once(" after ").unwrap().1.split(" (").next().unwrap();
    assert!(ran_for.ends_with('s') && !ran_for.contains('d') && !ran_for.contains('h'), "{text}");
    site.stopped(server);
}

/// The next release of the same service.
fn document_of_next(first: &Document, stable: &str, canary: &str) -> Document {
    document([4, 3], 3).versions(stable, canary).at(first.listen)
}

#[track_caller]
fn stable_alone(document: &Document, version: &str) {
    let answered = || http::get(document.listen, "/", &[]).unwrap().version().to_owned();
    assert_eq!((0..40).filter(|_| answered() == version).count(), 40, "somebody else than {version} gets traffic");
}

#[test]
fn ahead_by_an_hour_while_nobody_has_the_release() {
    stepped_without_an_owner(HOUR_S);
}

#[test]
fn ahead_by_a_year_while_nobody_has_the_release() {
    stepped_without_an_owner(YEAR_S);
}

#[test]
fn back_by_a_day_while_nobody_has_the_release() {
    stepped_without_an_owner(-DAY_S);
}

/// Killed in a stage; the clock is another one when it is started again, and the right one when it is started once more.
#[track_caller]
fn stepped_without_an_owner(offset_s: i64) {
    const HOLD_S: u64 = 10;
    let site = Site::new(SERIN);
    let Some(clock) = clock(site.place().path()) else { return };
    let mut server = serve(&site, &clock);
    let document = document([HOLD_S, 1], 1);
    let load = site.place().load(&document, 100, &[]);
    let began = Instant::now();
    let _ = site.apply(&document).expect_code(0);
    site.stage("shop", 1);
    // While somebody had the release: the most that can count as held.
    let mut owned = Duration::ZERO;
    let mut since = began;
    for (owners, offset_s) in [(1, offset_s), (2, 0)] {
        // Some of the hold is over, and remembered.
        let proven = at(&site.journal("shop"), "weight-proven");
        wait::until("a checkpoint", || (is_past(&site) || remembered_at(&site) >= Some(proven + 1_500 * owners as u64)).then_some(()));
        server.kill();
        owned += since.elapsed();
        let remembered = remembered_at(&site);
        clock.set_offset_s(offset_s);
        since = Instant::now();
        server = serve(&site, &clock);
        let taken_over = || site.journal("shop").into_iter().filter(|entry| entry["event"]["type"] == "taken-over").nth(owners - 1);
        let taken = wait::until("a new owner", || taken_over().or_else(|| is_past(&site).then_some(Value::Null)));
        // Otherwise what was held since the last entry would have to be held again.
        assert!(taken.is_null() || taken["at"].as_u64() >= remembered, "{remembered:?}: {taken:#}");
    }
    site.entry("shop", "the pass of the stage", |entry| entry["event"]["type"] == "stage-passed");
    owned += since.elapsed();
    assert!(owned >= Duration::from_secs(HOLD_S), "passed after {owned:?}: {:#?}", site.journal("shop"));
    let status = site.over("shop", 1);
    assert_eq!(status["last"]["end"]["result"], "succeeded", "{status:#}");
    let journal = site.journal("shop");
    in_order(&journal);
    let entered = |step: u64| {
        let is_it = |entry: &&Value| entry["event"]["type"] == "stage-entered" && entry["event"]["step"] == step;
        journal.iter().filter(is_it).count()
    };
    assert_eq!((entered(0), entered(1)), (1, 1), "{journal:#?}");
    stable_alone(&document, "v2");
    load.stop().assert_nothing_lost();

    // The next one begins at the right time, whatever the one before says.
    site.serving("shop");
    let second = document_of_next(&document, "v2", "v3").set("strategy.canary.stages", json!([{"weight": 20, "hold": "10m"}]));
    let before = now_ms();
    let began = Instant::now();
    let _ = site.apply(&second).expect_code(0);
    site.stage("shop", 1);
    let _ = site.say(&["abort", "shop"]).expect_code(0);
    told_length(&site.over("shop", 2), began);
    let journal = site.journal("shop");
    in_order(&journal);
    assert!(journal[0]["at"].as_u64().unwrap() + SLACK_MS >= before && at(&journal, "rolled-back") <= now_ms() + SLACK_MS, "{journal:#?}");
    stable_alone(&document, "v2");
    let _ = site.say(&["store", "check"]).expect_code(0);
    site.stopped(server);
}

/// When the newest checkpoint was made, by the server's clock.
fn remembered_at(site: &Site) -> Option<u64> {
    let text = fs::read(site.service_dir("shop").join("checkpoint.json")).ok()?;
    serde_json::from_slice::<Value>(&text).ok()?["at"].as_u64()
}

fn is_past(site: &Site) -> bool {
    !site.journaled("shop", "stage-passed").is_empty()
}

#[test]
fn steps_while_a_run_in_the_foreground_is_under_way() {
    let place = Place::new(SERIN);
    let Some(clock) = clock(place.path()) else { return };
    let document = document([4, 3], 3);
    let file = place.write(&document);
    let mut command = place.command(&["--output", "json", "run", file.to_str().unwrap(), "--keep-serving"]);
    clock.govern(&mut command);
    let (began, began_ms) = (Instant::now(), now_ms());
    let run = Release::start(command);
    let load = place.load(&document, 100, &[]);
    run.stage(1);
    clock.set_offset_s(HOUR_S);
    run.stage(2);
    clock.set_offset_s(-HOUR_S);
    run.event("bake-started");
    clock.set_offset_s(-DAY_S);
    run.event("succeeded");
    assert!(began.elapsed() >= Duration::from_secs(4 + 3 + 3), "{:?}", began.elapsed());
    load.stop().assert_nothing_lost();
    run.interrupt();
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    let events: Vec<u64> = ended.lines.iter().filter(|line| line["type"] == "event").map(|line| line["at_ms"].as_u64().unwrap()).collect();
    assert!(events.is_sorted() && events[0] + SLACK_MS >= began_ms && *events.last().unwrap() <= now_ms() + SLACK_MS, "{}", ended.story());
    let check = place.serin(&["store", "check"]);
    assert!(check.status.success(), "{check:?}");
    processes::assert_none_left(place.path());
}
