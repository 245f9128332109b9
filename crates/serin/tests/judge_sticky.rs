//! Sticky clients are judged as clients: one whose requests all fail is one failure, however many it sends.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use serde_json::json;
use serin_testkit::{Document, Place, http, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
/// Threads that send requests.
const SENDERS: usize = 4;
/// Clients beside the one that always fails.
const CLIENTS: usize = 400;
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
