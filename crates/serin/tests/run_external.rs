//! Servers that run already: Serin sends them traffic and neither starts nor stops them.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    net::SocketAddr,
    process::{Child, Stdio},
};

use serde_json::json;
use serin_testkit::{Document, Place, free_address, http, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// A server of the test's own. The place kills it at the end, if nobody did.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(place: &Place, version: &str) -> Self {
        let address = free_address();
        let (port, version) = (format!("--port={}", address.port()), format!("--version={version}"));
        let mut command = place.command(&["sample-app", &port, &version]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait::until("the server", || http::get(address, "/ready", &[]).ok().filter(|answer| answer.status == 200));
        Self { child, address }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_good_release_succeeds() {
    let place = Place::new(SERIN);
    let (mut stable, mut canary) = (Server::start(&place, "v1"), Server::start(&place, "v2"));
    let document = Document::external("external", stable.address, canary.address).stage(10.0, "1s", 20).stage(50.0, "1s", 50);
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, 300, &[]);
    run.event("succeeded");
    let report = load.stop();
    report.assert_nothing_lost();
    let after = place.load(&document, 100, &["--duration", "500ms"]).end();
    assert_eq!(after.count("by_version.v2"), after.count("sent"), "{:#}", after.value);
    run.interrupt();
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    assert!(stable.is_running() && canary.is_running(), "servers of others are not Serin's to stop");
}

#[test]
fn a_canary_that_dies_is_rolled_back() {
    let place = Place::new(SERIN);
    let (mut stable, mut canary) = (Server::start(&place, "v1"), Server::start(&place, "v2"));
    let document = Document::external("external", stable.address, canary.address)
        .stage(30.0, "60s", 20)
        .criteria(json!([{"metric": "request-rate", "max": "1000000rps"}]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]));
    let run = place.run(&document, &["--keep-serving"]);
    let load = place.load(&document, 300, &[]);
    run.stage(1);
    canary.kill();
    run.event("rolled-back");
    let report = load.stop();
    report.assert_nothing_lost();
    let after = place.load(&document, 100, &["--duration", "500ms"]).end();
    after.assert_nothing_lost();
    assert_eq!(after.count("by_version.v1"), after.count("sent"), "{:#}", after.value);
    run.interrupt();
    let ended = run.end();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    let cause = ended.cause();
    assert!(cause.starts_with("no canary server is healthy") && cause.contains(&canary.address.to_string()), "{cause}");
    assert_eq!(ended.last["report"]["own_errors"], 0, "{}", ended.last);
    assert!(stable.is_running(), "stable was stopped");
}
