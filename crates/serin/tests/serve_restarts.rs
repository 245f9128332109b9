//! `serin serve` ends in every way there is and is started again: clients notice nothing, nothing is started twice, releases go on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf, thread};

use rustix::process::Signal;
use serde_json::{Value, json};
use serin_testkit::{
    Document, Knocking, Load, Server, Site, http,
    processes::{self, holds_listener},
    prompt::me,
    wait,
};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// A first stage that is long enough to be killed in.
fn document(name: &str) -> Document {
    Document::sample_apps(name, &[], &[]).stage(20.0, "3s", 20).stage(50.0, "300ms", 20).bake("300ms")
}

fn load(site: &Site, document: &Document) -> Load {
    site.place().load(document, 200, &[])
}

fn version(document: &Document) -> String {
    http::get(document.listen, "/", &[]).unwrap().version().to_owned()
}

#[track_caller]
fn apply(site: &Site, document: &Document) -> Value {
    site.apply(document).expect_code(0).json()
}

/// A server whose service is in the first stage of its first release, under load.
#[track_caller]
fn in_first_stage(document: &Document) -> (Site, Server, Load) {
    let site = Site::new(SERIN);
    let server = site.serve();
    let load = load(&site, document);
    let _ = apply(&site, document);
    site.stage("shop", 1);
    (site, server, load)
}

/// Waits until the release has another owner than the one that began it.
#[track_caller]
fn taken_over(site: &Site) {
    site.entry("shop", "a new owner", |entry| entry["event"]["type"] == "taken-over");
}

/// What must be the same before and after.
#[derive(Debug, PartialEq)]
struct Running {
    replicas: BTreeMap<String, u32>,
    proxy: Option<u32>,
}

fn running(site: &Site) -> Running {
    Running { replicas: site.place().replicas(), proxy: processes::proxy(site.place().path()) }
}

#[track_caller]
fn succeeded(site: &Site, run: i64) {
    let status = site.over("shop", run);
    assert_eq!(status["last"]["end"]["result"], "succeeded", "{status:#}");
    site.serving("shop");
}

/// The newest journal has no gap, and its owners came one after the other.
#[track_caller]
fn whole(journal: &[Value]) {
    let numbers: Vec<_> = journal.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{journal:#?}");
    let epochs: Vec<_> = journal.iter().map(|entry| entry["epoch"].as_u64().unwrap()).collect();
    assert!(epochs.is_sorted(), "{epochs:?}");
}

#[test]
fn killed_between_releases_and_in_a_stage() {
    let site = Site::new(SERIN);
    let server = site.serve();
    let first = document("shop").set("strategy.canary.stages", json!([])).stage(50.0, "300ms", 20);
    let load = load(&site, &first);
    let _ = apply(&site, &first);
    succeeded(&site, 1);
    let before = running(&site);
    server.kill();
    assert_eq!((running(&site), version(&first).as_str()), (before, "v2"), "something died with the server");

    let before = running(&site);
    let server = site.serve();
    let status = site.serving("shop");
    assert_eq!((&status["last"]["number"], running(&site)), (&json!(1), before), "adopted, not started anew: {status:#}");

    let second = document("shop").versions("v2", "v3").at(first.listen);
    assert_eq!(apply(&site, &second)["result"], "begun");
    site.stage("shop", 1);
    let before = running(&site);
    server.kill();
    wait::until("an answer of each version", || (version(&first) == "v3").then_some(()));
    assert_eq!(running(&site), before, "something died with the server");
    let _server = site.serve();
    taken_over(&site);
    assert_eq!(running(&site), before, "adopted, not started anew");
    // Whoever applies it once more meanwhile changes nothing.
    assert_eq!(apply(&site, &second)["result"], "unchanged");
    succeeded(&site, 2);
    assert_eq!(version(&first), "v3");
    let journal = site.journal("shop");
    whole(&journal);
    let entered =
        |step: u64| journal.iter().filter(|entry| entry["event"]["type"] == "stage-entered" && entry["event"]["step"] == step).count();
    assert_eq!((entered(0), entered(1)), (1, 1), "a stage was begun anew");
    load.stop().assert_nothing_lost();
}

#[test]
fn killed_again_and_again() {
    let document = document("shop").set("strategy.canary.stages", json!([{"weight": 20, "hold": "10m"}]));
    let (site, mut server, load) = in_first_stage(&document);
    let before = running(&site);
    for round in 1..=4 {
        server.kill();
        server = site.serve();
        wait::until("the next owner", || (site.journaled("shop", "taken-over").len() == round).then_some(()));
    }
    assert_eq!(running(&site), before);
    let _ = site.say(&["promote", "shop"]).expect_code(0);
    succeeded(&site, 1);
    whole(&site.journal("shop"));
    load.stop().assert_nothing_lost();
    site.stopped(server);
}

#[test]
fn asked_to_end_and_started_again() {
    let document = document("shop");
    let (site, server, load) = in_first_stage(&document);
    let before = running(&site);
    let ended = server.leave();
    assert_eq!((ended.code, running(&site)), (Some(0), before), "{}", ended.stderr);
    assert!(ended.stderr.contains("go on serving"), "{}", ended.stderr);
    let before = running(&site);
    let nobody = site.say(&["get", "shop"]).expect_code(1);
    assert!(nobody.stderr.contains("is `serin serve` running"), "{}", nobody.stderr);
    let server = site.serve();
    taken_over(&site);
    assert_eq!(running(&site), before);
    succeeded(&site, 1);
    let report = load.stop();
    report.assert_nothing_lost();
    assert!(report.count("by_version.v2") > 0);
    site.stopped(server);
}

#[test]
fn interrupted_everything_stops_and_the_next_start_goes_on() {
    let document = document("shop");
    let (site, server, first) = in_first_stage(&document);
    let before = site.journal("shop").len();
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    drop(first);
    processes::assert_none_left(site.place().path());
    assert!(std::net::TcpStream::connect(document.listen).is_err(), "somebody still listens");

    let server = site.serve();
    let load = load(&site, &document);
    taken_over(&site);
    succeeded(&site, 1);
    let journal = site.journal("shop");
    whole(&journal);
    assert!(journal.len() > before);
    assert_eq!(journal.iter().filter(|entry| entry["event"]["type"] == "began").count(), 1);
    assert_eq!(version(&document), "v2");
    load.stop().assert_nothing_lost();
    // Between releases it is the same.
    site.stopped(server);
    let server = site.serve();
    site.serving("shop");
    assert_eq!(version(&document), "v2");
    site.stopped(server);
}

#[test]
fn interrupted_while_a_version_starts() {
    let site = Site::new(SERIN);
    let server = site.serve();
    let document = Document::sample_apps("shop", &["--start-delay=3s"], &[]).stage(50.0, "300ms", 20);
    let _ = apply(&site, &document);
    wait::until("the process of the version", || (!site.place().pids("v0").is_empty()).then_some(()));
    site.stopped(server);
    // What was asked for is not forgotten.
    let _server = site.serve();
    let load = load(&site, &document);
    succeeded(&site, 1);
    load.stop().assert_nothing_lost();
}

#[test]
fn a_killed_proxy_is_replaced_and_nobody_is_refused() {
    let document = document("shop").set("strategy.canary.stages", json!([{"weight": 50, "hold": "10m"}]));
    let (site, server, load) = in_first_stage(&document);
    let replicas = site.place().replicas();
    let knocking = Knocking::at(document.listen);
    kill_proxy(&site);
    // Also one that outlived the server which started it, and between releases.
    server.kill();
    let server = site.serve();
    taken_over(&site);
    wait::until("the listening socket to be handed out", || holds_listener(server.pid(), document.listen).then_some(()));
    kill_proxy(&site);
    assert_eq!(site.place().replicas(), replicas);
    let _ = site.say(&["promote", "shop"]).expect_code(0);
    succeeded(&site, 1);
    kill_proxy(&site);
    wait::until("the version that serves", || http::get(document.listen, "/", &[]).ok().filter(|answer| answer.version() == "v2"));
    knocking.was_never_refused();
    let report = load.stop();
    assert_eq!(report.count("lost.connect"), 0, "connections were refused: {:#}", report.value);
    assert_eq!(report.count("lost.made_by_proxy") + report.count("timeout"), 0, "{:#}", report.value);
    // Hardly any request of a millisecond is in flight at the three instants.
    assert!(report.count("lost_total") <= 12, "more than what was in flight: {:#}", report.value);
    assert!(report.count("by_version.v2") > 0, "{:#}", report.value);
}

fn kill_proxy(site: &Site) {
    let old = processes::proxy(site.place().path()).unwrap();
    processes::signal(old, Signal::KILL);
    wait::until("another proxy", || processes::proxy(site.place().path()).filter(|pid| *pid != old));
}

/// Requests that died with their proxy need no time to end, however long the document would give them.
#[test]
fn a_dead_proxy_is_not_given_time_to_drain() {
    let site = Site::new(SERIN);
    let binary = site.place().path().join("serin-copy");
    fs::copy(SERIN, &binary).unwrap();
    let server = site.serve_by(site.command_of(&binary, &["--output", "json", "serve"]));
    let document = document("shop").set("traffic.embedded.drain", json!("1h")).set("strategy.canary.stages", json!([]));
    let document = document.stage(50.0, "300ms", 20).bake("1h");
    let load = load(&site, &document);
    let _ = apply(&site, &document);
    site.until("shop", "the bake", |status| status["release"]["phase"] == "baking" && status["release"]["weight"] == 10_000);
    // Everyone is at the canary, with a request that would hold it for an hour, when the proxy dies and the traffic goes back.
    let listen = document.listen;
    let held = thread::spawn(move || http::get(listen, "/sleep/3600000", &[]).map(|answer| answer.status));
    wait::until("the request that takes long", || busy(&site, "v1-1").then_some(()));
    processes::signal(processes::proxy(site.place().path()).unwrap(), Signal::KILL);
    let _ = site.say(&["rollback", "shop"]).expect_code(0);
    assert_eq!(site.over("shop", 1)["last"]["end"]["result"], "rolled-back");
    site.serving("shop");
    assert!(!held.join().unwrap().is_ok_and(|status| status == 200));
    drop(load);

    // The same if no other proxy can be started.
    let proxy = processes::proxy(site.place().path()).unwrap();
    fs::remove_file(&binary).unwrap();
    processes::signal(proxy, Signal::KILL);
    wait::until("the proxy to be missed", || server.stderr().contains("the proxy does not start").then_some(()));
    site.stopped(server);
}

fn busy(site: &Site, replica: &str) -> bool {
    let metrics = processes::address(site.place().path(), replica).and_then(|address| http::get(address, "/metrics", &[]).ok());
    metrics.is_some_and(|page| page.text().lines().any(|line| line.starts_with("http_requests_in_flight") && !line.ends_with(" 0")))
}

#[test]
fn killed_together_with_the_proxy() {
    let document = document("shop");
    let (site, server, first) = in_first_stage(&document);
    let replicas = site.place().replicas();
    let proxy = processes::proxy(site.place().path()).unwrap();
    server.kill();
    processes::signal(proxy, Signal::KILL);
    wait::until("the proxy to be gone", || processes::proxy(site.place().path()).is_none().then_some(()));
    drop(first);
    let _server = site.serve();
    let load = load(&site, &document);
    taken_over(&site);
    assert_eq!(site.place().replicas(), replicas);
    succeeded(&site, 1);
    load.stop().assert_nothing_lost();
}

/// Requests that hold a rollback up: they are under way on the canary of run 1, for some seconds.
fn slow_requests(site: &Site, listen: SocketAddr) -> Vec<thread::JoinHandle<std::io::Result<http::Answer>>> {
    let slow: Vec<_> = (0..8).map(|_| thread::spawn(move || http::get(listen, "/sleep/4000", &[("x-canary", "true")]))).collect();
    let canary = processes::address(site.place().path(), "v1-1").unwrap();
    wait::until("slow requests on the canary", || {
        let metrics = http::get(canary, "/metrics", &[]).ok()?.text();
        let in_flight =
            metrics.lines().find_map(|line| line.strip_prefix("http_requests_in_flight")?.split(' ').next_back()?.parse::<f64>().ok())?;
        (in_flight >= 8.0).then_some(())
    });
    slow
}

fn slow_to_roll_back() -> Document {
    let document = document("shop").set("strategy.canary.stages", json!([{"weight": 20, "hold": "10m"}]));
    document.set("traffic.embedded.drain", json!("20s")).set("traffic.embedded.match", json!([{"header": {"x-canary": "true"}}]))
}

#[test]
fn killed_between_abort_and_its_end() {
    let document = slow_to_roll_back();
    let (site, server, load) = in_first_stage(&document);
    let slow = slow_requests(&site, document.listen);
    let _ = site.say(&["abort", "shop", "--reason", "test"]).expect_code(0);
    server.kill();
    // It was accepted, so it is durable: the canary gets nothing from here on.
    for _ in 0..20 {
        assert_eq!(http::get(document.listen, "/", &[("x-canary", "true")]).unwrap().version(), "v1");
    }
    let _server = site.serve();
    let status = site.over("shop", 1);
    assert_eq!(status["last"]["end"]["cause"]["text"], json!(format!("aborted by {}: test", me("tester"))), "{status:#}");
    let journal = site.journal("shop");
    whole(&journal);
    let decided = journal.iter().position(|entry| entry["event"]["type"] == "rollback-decided").unwrap();
    let raised = journal[decided..].iter().any(|entry| entry["event"]["type"] == "weight-proven" && entry["event"]["weight"] != 0);
    assert!(!raised, "{journal:#?}");
    for answer in slow {
        assert_eq!(answer.join().unwrap().unwrap().status, 200, "a request under way was cut off");
    }
    site.serving("shop");
    assert_eq!(site.place().replicas().keys().map(String::as_str).collect::<Vec<_>>(), ["v0-1"]);
    load.stop().assert_nothing_lost();
}

#[test]
fn a_document_that_waits_begins_after_the_server_was_killed() {
    let first = slow_to_roll_back();
    let (site, server, load) = in_first_stage(&first);
    let slow = slow_requests(&site, first.listen);
    let second = document("shop").versions("v1", "v3").at(first.listen);
    let superseding = site.apply_with(&second, &["--reason", "better"]).expect_code(0).json();
    assert_eq!(superseding["result"], "supersedes", "{superseding}");
    server.kill();
    let _server = site.serve();
    succeeded(&site, 2);
    let began = site.journaled("shop", "began");
    assert_eq!((began[0]["by"].as_str(), began[0]["reason"].as_str()), (Some(me("tester").as_str()), Some("better")), "{began:?}");
    assert_eq!(version(&first), "v3");
    assert!(!site.service_dir("shop").join("queued.json").exists(), "it would begin once more");
    for answer in slow {
        assert_eq!(answer.join().unwrap().unwrap().status, 200, "a request under way was cut off");
    }
    load.stop().assert_nothing_lost();
}

/// Also by a power failure: who was told that a service is deleted does not see it come back.
#[test]
fn killed_while_a_service_is_deleted() {
    let site = Site::new(SERIN);
    let server = site.serve();
    let document = slow_to_roll_back().set("strategy.canary.stages", json!([])).stage(50.0, "300ms", 20);
    let load = load(&site, &document);
    let _ = apply(&site, &document);
    succeeded(&site, 1);
    drop(load);
    // A request that is under way holds the deletion up.
    let listen = document.listen;
    let slow = thread::spawn(move || http::get(listen, "/sleep/6000", &[]));
    wait::until("the slow request", || busy(&site, "v1-1").then_some(()));
    let _ = site.say(&["delete", "shop"]).expect_code(0);
    let deleting = site.status("shop");
    server.kill();
    assert_eq!(deleting["state"], "deleting", "{deleting:#}");
    assert!(site.service_dir("shop").join("serin.db").exists(), "it was over before the server was killed");

    let server = site.serve();
    let refused = site.apply(&document);
    assert_eq!(refused.code, 3, "{}", refused.stdout);
    assert!(refused.stdout.contains("is being deleted"), "{}", refused.stdout);
    assert_eq!(slow.join().unwrap().unwrap().status, 200, "a request under way was cut off");
    let gone = || site.say(&["get", "shop"]).stderr.contains("there is no service called shop").then_some(());
    wait::until_or("the service to be gone", wait::PATIENCE, gone, || format!("{:#}", site.status("shop")));
    assert!(!site.service_dir("shop").exists());
    assert!(std::net::TcpStream::connect(document.listen).is_err(), "somebody still listens");
    let buried: Vec<_> = fs::read_dir(site.place().state().join("deleted")).unwrap().flatten().collect();
    assert_eq!(buried.len(), 1);
    assert!(buried[0].path().join("serin.db").exists() && !buried[0].path().join("deleted").exists());
    // The name is free again.
    let _ = apply(&site, &document);
    let load = self::load(&site, &document);
    succeeded(&site, 1);
    drop(load);
    site.stopped(server);
}

#[test]
fn upgraded_with_a_release_in_flight() {
    let site = Site::new(SERIN);
    let binary = |name: &str| -> PathBuf {
        let path = site.place().path().join(name);
        fs::copy(SERIN, &path).unwrap();
        path
    };
    let args = ["--output", "json", "serve"];
    let old = binary("serin-old");
    let server = site.serve_by(site.command_of(&old, &args));
    let document = document("shop");
    let load = load(&site, &document);
    let _ = apply(&site, &document);
    site.stage("shop", 1);
    let before = running(&site);
    assert_eq!(server.leave().code, Some(0));
    fs::remove_file(&old).unwrap();
    let new = binary("serin-new");
    let server = site.serve_by(site.command_of(&new, &args));
    taken_over(&site);
    assert_eq!(running(&site), before);
    succeeded(&site, 1);
    // The next release, and the next proxy, are of the new binary.
    let second = document.versions("v2", "v3");
    assert_eq!(apply(&site, &second)["result"], "begun");
    succeeded(&site, 2);
    kill_proxy(&site);
    let commands: Vec<_> = processes::mentioning(site.place().path()).into_iter().map(|process| process.command).collect();
    let new = new.to_str().unwrap();
    for what in ["proxy", "sample-app --version=v3"] {
        assert!(commands.iter().any(|command| command.starts_with(&format!("{new} {what}"))), "{what}: {commands:#?}");
    }
    let report = load.stop();
    assert_eq!(report.count("lost.connect"), 0, "{:#}", report.value);
    assert!(report.count("lost_total") <= 8, "more than what was in flight when the proxy was killed: {:#}", report.value);
    site.stopped(server);
}

/// As by a debugger, or by a machine that is short of memory: clients notice nothing, and the release goes on.
#[test]
fn stopped_and_continued_in_a_stage() {
    let shop = document("shop");
    let (site, server, load) = in_first_stage(&shop);
    let proxy = processes::proxy(&site.service_dir("shop"));
    server.signal(Signal::STOP);
    for _ in 0..300 {
        assert_eq!(http::get(shop.listen, "/", &[]).unwrap().status, 200);
    }
    server.signal(Signal::CONT);
    succeeded(&site, 1);
    load.stop().assert_nothing_lost();
    assert!(proxy.is_some());
    assert_eq!(processes::proxy(&site.service_dir("shop")), proxy, "the proxy was touched");
    whole(&site.journal("shop"));
    site.stopped(server);
}
