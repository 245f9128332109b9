//! Sticky clients are judged as clients: one whose requests all fail is one failure, however many it sends.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;
use serin_testkit::{Document, Place, http, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
/// Threads that send requests.
const SENDERS: usize = 4;
/// Clients beside the one that always fails.
const CLIENTS: usize = 400;
/// Clients that are always the same ones: far more than a verdict needs, because those whose first request comes before control
/// has seen the weight in force do not count towards a pass.
const CIRCLE: usize = 300;
/// Between two requests of one of the [`SENDERS`]. Where a canary fails three requests in ten, about 16 fail each second: a pause of
/// the machine between decision and switch costs few.
const PACE: Duration = Duration::from_millis(12);
/// The same for clients that come in turn: what a busy machine does with ease.
const CIRCLE_PACE: Duration = Duration::from_millis(40);
/// So many failed requests would be an outage if they were not of one client.
const TELLING_ERRORS: usize = 1_000;

/// Ends the senders, also after a panic: their thread's scope waits for them.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Requests of many clients, and between them those of `failing` if there is one, until `done`.
fn send(listen: SocketAddr, failing: Option<&str>, seen: &AtomicUsize, done: &AtomicBool) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    while !done.load(Ordering::Relaxed) {
        let client = format!("client-{}", NEXT.fetch_add(1, Ordering::Relaxed) % CLIENTS);
        let _ = http::get(listen, "/", &[("x-user-id", &client)]);
        if let Some(failing) = failing
            && http::get(listen, "/", &[("x-user-id", failing), ("x-broken", "1")]).is_ok_and(|answer| answer.status == 500)
        {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        thread::park_timeout(PACE);
    }
}

fn document(name: &str, canary: &[&str]) -> Document {
    Document::sample_apps(name, &[], canary)
        .judge("sequential")
        .set("traffic.embedded.sticky", json!({"header": "x-user-id"}))
        .stage(20.0, "10m", 1000)
}

/// A client that the weights sent to the canary.
fn client_of_canary(listen: SocketAddr) -> String {
    let mut names = (0..).map(|number| format!("broken-{number}"));
    wait::until("a client on the canary", || {
        let name = names.next()?;
        (http::get(listen, "/", &[("x-user-id", &name)]).ok()?.version() == "v2").then_some(name)
    })
}

#[test]
fn one_client_is_one_failure() {
    let place = Place::new(SERIN);
    let document = document("one", &["--fail-header=x-broken=1"]);
    let run = place.run(&document, &["--keep-serving"]);
    run.stage(1);
    let failing = client_of_canary(document.listen);
    let (seen, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let end = End(&done);
        for _ in 0..SENDERS {
            scope.spawn(|| send(document.listen, Some(&failing), &seen, &done));
        }
        let enough = wait::until("failures of one client", || {
            let rolled_back = !run.events("rollback-decided").is_empty();
            (rolled_back || seen.load(Ordering::Relaxed) >= TELLING_ERRORS).then_some(!rolled_back)
        });
        drop(end);
        assert!(enough, "{}", run.story());
    });
    assert!(place.serin(&["abort"]).status.success());
    run.event("rolled-back");
    run.interrupt();
    let ended = run.end();
    assert!(ended.last["report"]["end"]["cause"]["kind"].get("person").is_some(), "{}", ended.cause());
    assert!(ended.canary_errors() >= TELLING_ERRORS as u64, "{}", ended.canary_errors());
}

#[test]
fn many_clients_are_many_failures() {
    let place = Place::new(SERIN);
    let document = document("many", &["--error-rate=30%"]);
    let run = place.run(&document, &["--keep-serving"]);
    run.stage(1);
    let (seen, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let end = End(&done);
        for _ in 0..SENDERS {
            scope.spawn(|| send(document.listen, None, &seen, &done));
        }
        run.event("rolled-back");
        drop(end);
    });
    run.interrupt();
    let ended = run.end();
    assert!(["error-rate", "outage"].contains(&ended.decided_by().as_str()), "{}", ended.cause());
    assert!(ended.canary_errors() <= 60, "{} failed requests: {}", ended.canary_errors(), ended.cause());
}

/// Everybody has long sent a first request when the second stage begins.
#[test]
fn a_closed_circle_of_clients_passes_stage_after_stage() {
    let place = Place::new(SERIN);
    // Held for long enough that the first stage meets all of them, and patient for much longer than passing takes.
    let stage = |weight: f64| json!({"weight": weight, "hold": "4s", "minRequests": 100, "maxHold": "20s"});
    let document = Document::sample_apps("circle", &[], &[])
        .judge("sequential")
        .criteria(json!([{"metric": "error-rate", "versusStable": {"increase": "50pp"}}]))
        .set("traffic.embedded.sticky", json!({"header": "x-user-id"}))
        .stage_with(stage(40.0))
        .stage_with(stage(60.0));
    let run = place.run(&document, &["--keep-serving"]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = End(&done);
        for sender in 0..SENDERS {
            let (listen, done) = (document.listen, &done);
            scope.spawn(move || send_in_turn(listen, sender, done));
        }
        for number in [1, 2] {
            let ends = ["stage-passed", "stage-waived", "paused", "rollback-decided"];
            run.stage(number);
            let left = run.wait_for(&format!("the end of stage {number}"), |line| {
                let kind = line["event"]["type"].as_str().unwrap_or_default();
                ends.contains(&kind) && line["event"]["step"].as_u64().is_none_or(|step| step == number as u64 - 1)
            });
            assert_eq!(left["event"]["type"], "stage-passed", "{}", run.story());
        }
        run.event("succeeded");
        drop(end);
    });
    run.interrupt();
    assert_eq!(run.end().code, Some(0));
}

/// One sender's part of the circle: every client comes again about every three seconds.
fn send_in_turn(listen: SocketAddr, sender: usize, done: &AtomicBool) {
    for client in (0..CIRCLE).filter(|client| client % SENDERS == sender).cycle() {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let _ = http::get(listen, "/", &[("x-user-id", &format!("client-{client}"))]);
        thread::park_timeout(CIRCLE_PACE);
    }
}
