//! The control process is killed with -9 in every phase of a release and started again: no request is lost, nothing is started
//! twice, and the release goes on where it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::{Value, json};
use serin_testkit::{Document, Place, Release, http, processes, prompt, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// A first stage that is long enough to be killed in.
fn document(name: &str) -> Document {
    Document::sample_apps(name, &[], &[]).stage(20.0, "3s", 20).stage(50.0, "1s", 20)
}

/// What must be the same before and after.
#[derive(Debug, PartialEq)]
struct Running {
    replicas: std::collections::BTreeMap<String, u32>,
    proxy: Option<u32>,
}

fn running(place: &Place) -> Running {
    Running { replicas: place.replicas(), proxy: processes::proxy(place.path()) }
}

/// Starts the run once more, as the people do whose first one was killed: with the same command.
fn again(place: &Place, document: &Document) -> Release {
    place.run(document, &["--keep-serving"])
}

#[track_caller]
fn say(place: &Place, args: &[&str]) -> prompt::Finished {
    let mut command = place.command(args);
    prompt::clean(&mut command);
    prompt::finish(command, None)
}

/// Requests that the canary takes its time for. They are under way on it, and hold a rollback up while it drains. The document must
/// send requests with the header `x-canary: true` to the canary.
fn slow_on_canary(place: &Place, listen: SocketAddr, path: &'static str) -> Vec<thread::JoinHandle<io::Result<http::Answer>>> {
    let slow: Vec<_> = (0..8).map(|_| thread::spawn(move || http::get(listen, path, &[("x-canary", "true")]))).collect();
    let canary = processes::address(place.path(), "canary-1").unwrap();
    wait::until("slow requests on the canary", || {
        let metrics = http::get(canary, "/metrics", &[]).ok()?.text();
        let in_flight =
            metrics.lines().find_map(|line| line.strip_prefix("http_requests_in_flight")?.split(' ').next_back()?.parse::<f64>().ok())?;
        (in_flight >= 8.0).then_some(())
    });
    slow
}

#[track_caller]
fn assert_answered(slow: Vec<thread::JoinHandle<io::Result<http::Answer>>>) {
    for answer in slow {
        assert_eq!(answer.join().unwrap().unwrap().status, 200, "a request under way was cut off");
    }
}

/// The same document with a rollback that waits for [`slow_on_canary`].
fn draining(name: &str) -> Document {
    let document = document(name).set("traffic.embedded.drain", json!("10s"));
    document.set("traffic.embedded.match", json!([{"header": {"x-canary": "true"}}]))
}

fn sequence(lines: &[Value]) -> Vec<u64> {
    lines.iter().filter_map(|line| line["seq"].as_u64()).collect()
}

#[test]
fn killed_in_a_stage_and_started_again() {
    let place = Place::new(SERIN);
    let document = Document::sample_apps("stage", &[], &[]).stage(20.0, "6s", 20).stage(50.0, "1s", 20);
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    let totals = |status: &Value| [0, 1].map(|arm| status["status"]["arms"][arm]["totals"]["by_weight"].as_u64().unwrap_or(0));
    let before_kill = wait::until("most of the stage with traffic", || {
        let status = place.status();
        (status["status"]["stages"][0]["held_ms"].as_u64() > Some(3_600)).then(|| totals(&status))
    });
    let before = running(&place);
    let first = release.kill();
    assert_eq!(running(&place), before, "something died with the control process");
    let text = say(&place, &["status"]).expect_code(5);
    assert!(text.stdout.contains("interrupted while in a stage; `serin run` goes on with it"), "{}", text.stdout);

    let release = again(&place, &document);
    let taken_over = release.event("taken-over");
    assert_eq!(taken_over["epoch"], json!(2));
    assert_eq!(running(&place), before, "adopted, not started anew");
    let passed = release.event("stage-passed");
    assert_eq!(passed["event"]["step"], json!(0));
    assert_eq!(release.events("stage-entered").iter().filter(|entry| entry["event"]["step"] == 0).count(), 0, "the stage was begun anew");
    // What was held and seen before counts: nothing credited would be 6 s; a checkpoint is at most 1.25 s old.
    let rest_ms = passed["at_ms"].as_u64().unwrap() - taken_over["at_ms"].as_u64().unwrap();
    assert!(rest_ms < 5_000, "{rest_ms} ms more, as if nothing had been held before");
    assert!(totals(&place.status())[0] >= before_kill[0], "the counts went back");

    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    let whole: Vec<_> = sequence(&first).into_iter().chain(sequence(&ended.lines)).collect();
    let journal = say(&place, &["history", "--output", "json"]).json_lines();
    assert_eq!(sequence(&journal), (1..=*whole.last().unwrap()).collect::<Vec<_>>(), "the journal has a gap");
    processes::assert_none_left(place.path());
}

#[test]
fn killed_again_and_again() {
    let place = Place::new(SERIN);
    let document = document("again");
    let load = place.load(&document, 200, &[]);
    let mut release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    let before = running(&place);
    for round in 2..=6 {
        drop(release.kill());
        release = again(&place, &document);
        assert_eq!(release.event("taken-over")["epoch"], json!(round));
    }
    assert_eq!(running(&place), before);
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    processes::assert_none_left(place.path());
}

#[test]
fn killed_while_the_canary_starts() {
    let place = Place::new(SERIN);
    let document = Document::sample_apps("deploy", &[], &["--start-delay=2s"]).stage(50.0, "1s", 20);
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.event("preflight-passed");
    wait::until("the canary's process", || (!place.pids("canary").is_empty()).then_some(()));
    let before = running(&place);
    drop(release.kill());
    // As if it had died between the start of the canary and the note of its pid.
    let store = rusqlite::Connection::open(place.state().join("serin.db")).unwrap();
    let noted = "UPDATE process SET record = json_set(record, '$.pid', 0, '$.start_time', 0) WHERE id = 'canary-1'";
    assert_eq!(store.execute(noted, []).unwrap(), 1);
    drop(store);
    // Without a file: the state folder knows what was interrupted.
    let release = Release::start(place.command(&["--output", "json", "run", "--keep-serving"]));
    let _ = release.event("taken-over");
    let _ = release.event("deployed");
    assert_eq!(running(&place), before);
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    processes::assert_none_left(place.path());
}

#[test]
fn killed_while_baking_and_while_the_old_version_is_kept() {
    let place = Place::new(SERIN);
    let document = document("bake").set("strategy.canary.stages", json!([])).stage(50.0, "500ms", 20);
    let document = document.bake("2s").set("strategy.canary.retain", json!("2s"));
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.event("bake-started");
    let before = running(&place);
    drop(release.kill());

    let release = again(&place, &document);
    let _ = release.event("taken-over");
    let _ = release.event("retain-started");
    assert_eq!(running(&place), before);
    drop(release.kill());

    let release = again(&place, &document);
    let _ = release.event("taken-over");
    assert_eq!(release.events("bake-started").len(), 0);
    assert_eq!(http::get(document.listen, "/", &[]).unwrap().version(), "v2", "the promoted version went away");
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    processes::assert_none_left(place.path());
}

#[test]
fn killed_while_rolling_back() {
    let place = Place::new(SERIN);
    let document = draining("rollback");
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    let slow = slow_on_canary(&place, document.listen, "/sleep/2500");
    let _ = say(&place, &["abort", "--reason", "test"]).expect_code(0);
    let _ = release.event("traffic-returned");
    let first = release.kill();
    let after = Witness::start(document.listen);

    let release = again(&place, &document);
    let _ = release.event("taken-over");
    let _ = release.event("rolled-back");
    assert_eq!(after.stop(), ["v1"], "the canary got requests after the rollback");
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert!(ended.cause().contains(&format!("aborted by {}", serin_testkit::prompt::me("tester"))), "{}", ended.cause());
    assert_answered(slow);
    assert_eq!(first.iter().chain(&ended.lines).filter(|line| line["event"]["type"] == "rollback-decided").count(), 1);
    processes::assert_none_left(place.path());
}

#[test]
fn killed_right_after_the_decision_to_roll_back() {
    let place = Place::new(SERIN);
    let document = draining("decision");
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    // The rollback must not be over before the kill.
    let slow = slow_on_canary(&place, document.listen, "/sleep/4000");
    let _ = say(&place, &["abort"]).expect_code(0);
    drop(release.kill());
    let release = again(&place, &document);
    let taken_over = release.event("taken-over");
    let shifts = release.wait_for("the end", |line| line["event"]["type"] == "rolled-back");
    assert!(shifts["seq"].as_u64() > taken_over["seq"].as_u64());
    let raised = release.events("weight-proven").into_iter().filter(|line| line["event"]["weight"] != 0).count();
    assert_eq!(raised, 0, "the canary's share rose after the decision");
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert_answered(slow);
    processes::assert_none_left(place.path());
}

#[test]
fn a_decision_that_only_the_latch_knows_is_kept() {
    let place = Place::new(SERIN);
    let document = document("latch");
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.stage(1);
    drop(release.kill());
    // As if the crash had come between the latch and the journal.
    let latch = fs::read_dir(place.state()).unwrap().map(|entry| entry.unwrap().path());
    let latch: Vec<_> = latch.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("latch-")).collect();
    assert_eq!(latch.len(), 1);
    fs::write(&latch[0], "retreated").unwrap();

    let release = again(&place, &document);
    let decided = release.event("rollback-decided");
    assert_eq!(decided["event"]["cause"]["kind"], json!("latched"));
    assert_eq!(release.event("weight-proven")["event"]["weight"], json!(0));
    let after = Witness::start(document.listen);
    let _ = release.event("rolled-back");
    assert_eq!(after.stop(), ["v1"]);
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    let raised = ended.events("weight-proven").into_iter().filter(|line| line["event"]["weight"] != 0).count();
    assert_eq!(raised, 0, "{}", ended.story());
    processes::assert_none_left(place.path());
}

/// Asks for the page again and again from the moment it is started, and remembers who answered.
struct Witness {
    over: Arc<AtomicBool>,
    asking: thread::JoinHandle<Vec<String>>,
}

impl Witness {
    /// Starts after one answer of the first request, so that there is at least one.
    fn start(server: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let asking = thread::spawn(move || {
            let mut seen = Vec::new();
            loop {
                let version = http::get(server, "/", &[]).unwrap().version().to_owned();
                if !seen.contains(&version) {
                    seen.push(version);
                }
                if until.load(Ordering::Relaxed) {
                    return seen;
                }
            }
        });
        Self { over, asking }
    }

    fn stop(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.asking.join().unwrap()
    }
}
