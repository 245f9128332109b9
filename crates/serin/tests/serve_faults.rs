//! `serin serve` on disks and stores that fail, and without file descriptors: traffic is where it should be, others go on, and it heals.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use serin_testkit::{Disk, Document, Load, Server, Site, http, processes, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
/// More than a release wants to be free, and little enough to be filled at once.
const DISK_MIB: u32 = 96;

/// A stage that nothing but a person ends. Requests with `x-canary: true` go to the canary as long as it may have any.
fn document(name: &str) -> Document {
    let document = Document::sample_apps(name, &[], &[]).set("strategy.canary.stages", json!([{"weight": 20, "hold": "10m"}]));
    document.set("traffic.embedded.match", json!([{"header": {"x-canary": "true"}}]))
}

/// A server whose state is on a small disk. `None`, said loudly, where that is not allowed; under `cargo xtask test` it must be.
#[track_caller]
fn on_a_small_disk() -> Option<(Site, Disk, Server)> {
    let site = Site::new(SERIN);
    let disk = Disk::mount(&site.place().state(), DISK_MIB).map_err(|why| left_out(&why)).ok()?;
    let server = site.serve();
    Some((site, disk, server))
}

fn load(site: &Site, document: &Document) -> Load {
    site.place().load(document, 100, &[])
}

/// Who gets the requests that would go to the canary if it got any.
fn canary_goes_to(listen: SocketAddr) -> String {
    http::get(listen, "/", &[("x-canary", "true")]).unwrap().version().to_owned()
}

#[track_caller]
fn stable_alone(listen: SocketAddr) {
    wait::until("the canary to have no traffic", || (canary_goes_to(listen) == "v1").then_some(()));
    for _ in 0..50 {
        assert_eq!((canary_goes_to(listen).as_str(), http::get(listen, "/", &[]).unwrap().version()), ("v1", "v1"));
    }
}

#[track_caller]
fn in_a_stage(site: &Site, document: &Document) {
    in_a_stage_of(site, document, "v2");
}

#[track_caller]
fn in_a_stage_of(site: &Site, document: &Document, version: &str) {
    let name = document.value["metadata"]["name"].as_str().unwrap();
    let _ = site.apply(document).expect_code(0);
    site.stage(name, 1);
    assert_eq!(canary_goes_to(document.listen), version);
}

#[track_caller]
fn failed(site: &Site, service: &str, why: &str) {
    let status = site.until(service, "failure", |status| status["state"] == "failed");
    assert!(status["fault"].as_str().unwrap().contains(why), "{status:#}");
    let shown = site.say(&["get"]).expect_code(0);
    let row = shown.stdout.lines().find(|line| line.starts_with(service)).unwrap_or_else(|| panic!("{}", shown.stdout)).to_owned();
    assert!(row.contains("failed") && row.contains(why), "{row}");
}

#[test]
fn stores_that_cannot_be_used_stop_their_services_alone_and_heal() {
    let site = Site::new(SERIN);
    let server = site.serve();
    let documents = ["damaged", "newer", "locked", "good"].map(document);
    let loads = [0, 1, 2, 3].map(|n| load(&site, &documents[n]));
    for document in &documents {
        in_a_stage(&site, document);
    }
    let [damaged, newer, locked, good] = documents;
    assert_eq!(server.leave().code, Some(0));

    let store = |service: &str| site.service_dir(service).join("serin.db");
    let kept = fs::read(store("damaged")).unwrap();
    OpenOptions::new().write(true).open(store("damaged")).unwrap().write_all(&[0xAA; 4096]).unwrap();
    schema(&store("newer"), 99);
    let holder = File::open(site.service_dir("locked").join("lock")).unwrap();
    flock(&holder, FlockOperation::NonBlockingLockExclusive).unwrap();

    let server = site.serve();
    failed(&site, "damaged", "is damaged");
    failed(&site, "newer", "has schema 99");
    failed(&site, "locked", "is in use by another serin process");
    stable_alone(damaged.listen);
    stable_alone(newer.listen);
    // Somebody else has it and knows what its proxy should do.
    assert_eq!(canary_goes_to(locked.listen), "v2");
    let refused = site.say(&["abort", "damaged"]).expect_code(3);
    assert!(refused.stderr.contains("is damaged") && refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
    // Nobody else is disturbed.
    site.until("good", "its release", |status| status["state"] == "releasing");
    let _ = site.say(&["abort", "good"]).expect_code(0);
    assert_eq!(site.over("good", 1)["last"]["end"]["result"], "rolled-back");

    // What was wrong is repaired, one by one, while the server runs.
    drop(holder);
    site.until("locked", "its release", |status| status["state"] == "releasing");
    schema(&store("newer"), 0);
    fs::write(store("damaged"), kept).unwrap();
    for service in ["damaged", "locked"] {
        site.until(service, "its release", |status| status["state"] == "releasing" && status["fault"].is_null());
        let _ = site.say(&["abort", service]).expect_code(0);
        assert_eq!(site.over(service, 1)["last"]["end"]["result"], "rolled-back");
    }
    site.until("newer", "its release", |status| status["state"] == "releasing" && status["fault"].is_null());
    // A service that cannot be opened can be deleted, with all that runs of it.
    assert_eq!(server.leave().code, Some(0));
    schema(&store("newer"), 99);
    let server = site.serve();
    failed(&site, "newer", "has schema 99");
    schema(&store("newer"), 0);
    for load in loads {
        load.stop().assert_nothing_lost();
    }
    let _ = site.say(&["delete", "newer"]).expect_code(0);
    wait::until("the service to be gone", || site.say(&["get", "newer"]).stderr.contains("there is no service called newer").then_some(()));
    assert!(TcpStream::connect(newer.listen).is_err(), "somebody still listens");
    assert_eq!(http::get(good.listen, "/", &[]).unwrap().version(), "v1");
    site.stopped(server);
}

/// Says that a store is of another version, or (0) of the one that it was.
fn schema(store: &Path, version: i64) {
    let connection = rusqlite::Connection::open(store).unwrap();
    let kept = store.with_extension("schema");
    if version == 0 {
        let known: i64 = fs::read_to_string(&kept).unwrap().parse().unwrap();
        return connection.pragma_update(None, "user_version", known).unwrap();
    }
    let known: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    fs::write(kept, known.to_string()).unwrap();
    connection.pragma_update(None, "user_version", version).unwrap();
}

/// A document that waits for its store is forgotten as soon as a newer one begins, and by nothing less than that.
#[test]
fn a_document_that_cannot_begin_yet_does_not_come_after_a_newer_one() {
    let site = Site::new(SERIN);
    let _server = site.serve();
    let of = |canary: &str| document("shop").versions("v1", canary);
    let first = of("v2");
    let load = load(&site, &first);
    in_a_stage(&site, &first);
    // No run of v3 can be recorded.
    let store = rusqlite::Connection::open(site.service_dir("shop").join("serin.db")).unwrap();
    let trigger = "CREATE TRIGGER full BEFORE INSERT ON release WHEN instr(NEW.document, 'v3') BEGIN SELECT RAISE(ABORT, 'no room'); END";
    store.execute_batch(trigger).unwrap();
    let _ = site.apply(&of("v3").at(first.listen)).expect_code(0);
    site.until("shop", "what waits", |status| status["state"] == "serving" && status["queued"].is_string());
    let kept = site.service_dir("shop").join("queued.json");
    let why = site.apply(&of("v5")).expect_code(2).json();
    assert!(why["error"]["message"].as_str().unwrap().contains("a service keeps its address"), "{why}");
    assert!(kept.exists(), "a document that is refused makes a restart forget another one that waits");
    let newer = of("v4").at(first.listen);
    in_a_stage_of(&site, &newer, "v4");
    let status = site.until("shop", "its release", |status| status["state"] == "releasing");
    assert!(status["queued"].is_null() && !kept.exists(), "{status:#}");
    store.execute_batch("DROP TRIGGER full").unwrap();
    let _ = site.say(&["abort", "shop"]).expect_code(0);
    assert_eq!(site.over("shop", 2)["last"]["end"]["result"], "rolled-back");
    let listed = site.say(&["--output", "json", "history", "shop", "--list"]).expect_code(0).json_lines();
    let outcomes: Vec<_> = listed.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["rolled back", "rolled back"]);
    assert!(site.status("shop")["queued"].is_null());
    load.stop().assert_nothing_lost();
}

#[test]
fn a_state_folder_that_another_server_has_is_refused() {
    let site = Site::new(SERIN);
    let server = site.serve();
    let refused = site.say(&["serve"]).expect_code(3);
    assert!(
        refused.stderr.contains("is in use by another serin process") && refused.stderr.contains(&server.pid().to_string()),
        "{}",
        refused.stderr
    );
    assert!(site.read("/v1/services").is_some(), "the first one's socket was taken away");
}

#[test]
fn a_full_disk_holds_releases_up_and_nothing_else() {
    let Some((site, disk, server)) = on_a_small_disk() else { return };
    let document = document("shop");
    let load = load(&site, &document);
    in_a_stage(&site, &document);
    disk.fill();
    // Something to be written: the release cannot go on from here.
    let _ = site.say(&["pause", "shop"]);
    let status = site.until("shop", "the fault", |status| status["fault"].is_string());
    assert!(status["fault"].as_str().unwrap().contains("full"), "{status:#}");
    let _ = site.say(&["resume", "shop"]);
    let _ = site.say(&["promote", "shop"]);
    let waiting = site.status("shop");
    assert_eq!(waiting["release"]["phase"], "promoting", "wanted, and not done");
    assert!(waiting["release"]["journal_backlog"].as_u64() > Some(0), "{waiting:#}");
    let anybody = || http::get(document.listen, "/", &[]).unwrap().version().to_owned();
    // Of 200 requests at 20 %, some go to stable.
    assert!((0..200).any(|_| anybody() == "v1"), "a step was taken that is not in the journal");
    let refused = site.apply(&self::document("other")).expect_code(3);
    assert!(refused.stdout.contains("disk space"), "{}", refused.stdout);

    let _ = site.say(&["abort", "shop", "--reason", "no space"]).expect_code(0);
    stable_alone(document.listen);
    assert_ne!(site.status("shop")["state"], "serving", "the release is over although nobody could write that down");
    disk.free();
    let status = site.over("shop", 1);
    assert!(status["last"]["end"]["cause"]["text"].as_str().unwrap().contains("no space"), "{status:#}");
    assert!(site.serving("shop")["fault"].is_null());
    load.stop().assert_nothing_lost();
    site.stopped(server);
}

#[test]
fn what_cannot_be_recorded_is_not_deleted() {
    let Some((site, disk, server)) = on_a_small_disk() else { return };
    let document = document("shop");
    in_a_stage(&site, &document);
    let _ = site.say(&["abort", "shop"]).expect_code(0);
    site.serving("shop");
    disk.fill();
    let refused = site.say(&["delete", "shop"]);
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert!(refused.stderr.contains("nothing was deleted"), "{}", refused.stderr);
    assert_eq!(site.status("shop")["state"], "serving");
    assert_eq!(http::get(document.listen, "/", &[]).unwrap().version(), "v1");
    disk.free();
    let _ = site.say(&["delete", "shop"]).expect_code(0);
    wait::until("the service to be gone", || site.say(&["get", "shop"]).stderr.contains("there is no service called shop").then_some(()));
    site.stopped(server);
}

#[test]
fn a_server_that_starts_on_a_full_disk_goes_on_when_there_is_space() {
    let Some((site, disk, server)) = on_a_small_disk() else { return };
    let document = document("shop");
    let load = load(&site, &document);
    in_a_stage(&site, &document);
    let pids = site.place().replicas();
    server.kill();
    disk.fill();
    let server = site.serve();
    // Either it cannot be taken over, or it is and stands still.
    let status = site.until("shop", "the fault", |status| status["fault"].as_str().is_some_and(|fault| fault.contains("full")));
    if status["state"] == "failed" {
        stable_alone(document.listen);
    }
    assert_eq!(site.place().replicas(), pids);
    disk.free();
    site.until("shop", "its release", |status| status["state"] == "releasing" && status["fault"].is_null());
    assert_eq!(site.place().replicas(), pids, "adopted, not started anew");
    let _ = site.say(&["promote", "shop"]).expect_code(0);
    assert_eq!(site.over("shop", 1)["last"]["end"]["result"], "succeeded");
    load.stop().assert_nothing_lost();
    site.stopped(server);
}

#[test]
fn a_folder_that_becomes_read_only_does_not_keep_traffic_from_going_back() {
    let site = Site::new(SERIN);
    let server = site.serve();
    let document = document("shop");
    let load = load(&site, &document);
    in_a_stage(&site, &document);
    let Some(frozen) = Frozen::mount(&site.place().state()) else { return };
    let _ = site.say(&["abort", "shop"]).expect_code(0);
    stable_alone(document.listen);
    assert_eq!(site.over("shop", 1)["last"]["end"]["result"], "rolled-back");
    server.kill();
    let proxy = processes::proxy(site.place().path());
    let refused = site.say(&["serve"]).expect_code(3);
    assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
    stable_alone(document.listen);
    assert_eq!(processes::proxy(site.place().path()), proxy);
    drop(frozen);
    let server = site.serve();
    assert_eq!(site.serving("shop")["last"]["end"]["result"], "rolled-back");
    load.stop().assert_nothing_lost();
    site.stopped(server);
}

#[test]
fn a_server_without_file_descriptors_loses_no_state_and_recovers() {
    let site = Site::new(SERIN);
    let limited = ["-c", "ulimit -n 80; exec \"$0\" \"$@\"", SERIN, "--output", "json", "serve"];
    let server = site.serve_by(site.command_of(Path::new("sh"), &limited));
    let document = document("shop");
    let load = site.place().load(&document, 100, &["--connections", "4"]);
    in_a_stage(&site, &document);
    let socket = site.place().state().join("api.sock");
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    let mut held: Vec<UnixStream> = Vec::new();
    // Clients that connect and say nothing take them all; some are turned away, and come again.
    wait::until_or(
        "no descriptor to be left",
        wait::PATIENCE,
        || {
            held.extend((0..20).filter_map(|_| UnixStream::connect(&socket).ok()));
            held.drain(..held.len().saturating_sub(200));
            (descriptors() >= 79).then_some(())
        },
        || format!("{} of 80 are used", descriptors()),
    );
    // A proxy that dies now cannot be started again until there are descriptors. Its socket is there, so clients wait.
    let old = processes::proxy(site.place().path()).unwrap();
    processes::signal(old, rustix::process::Signal::KILL);
    let another = || processes::proxy(site.place().path()).filter(|pid| *pid != old);
    wait::until("the proxy to be missed", || (server.stderr().contains("the proxy does not start") || another().is_some()).then_some(()));
    drop(held);
    wait::until("another proxy", another);
    let status = site.until("shop", "its release", |status| status["state"] == "releasing" && status["fault"].is_null());
    assert_eq!(status["release"]["weight"], 2000, "{status:#}");
    let _ = site.say(&["promote", "shop"]).expect_code(0);
    let status = site.over("shop", 1);
    assert_eq!(status["last"]["end"]["result"], "succeeded", "{status:#}");
    let numbers: Vec<_> = site.journal("shop").iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let report = load.stop();
    assert_eq!(report.count("lost.connect"), 0, "connections were refused: {:#}", report.value);
    assert!(report.count("lost_total") <= 8, "more than what was in flight when the proxy was killed: {:#}", report.value);
    site.stopped(server);
}

/// A folder through which nothing can be written any more, for whoever comes by its path; files that are open stay so.
struct Frozen {
    place: PathBuf,
}

impl Frozen {
    /// `None`, said loudly, where that is not allowed; under `cargo xtask test` it must be.
    fn mount(place: &Path) -> Option<Self> {
        let mount = |args: &[&str]| Command::new("mount").args(args).arg(place).output().unwrap();
        let bound = mount(&["--bind", place.to_str().unwrap()]);
        if !bound.status.success() {
            left_out(&String::from_utf8_lossy(&bound.stderr));
            return None;
        }
        let frozen = Self { place: place.to_owned() };
        let output = mount(&["-o", "remount,bind,ro"]);
        assert!(output.status.success(), "{output:?}");
        Some(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).output();
    }
}

fn left_out(why: &str) {
    assert!(std::env::var_os("SERIN_TESTBED").is_none(), "nothing can be mounted here, which needs root: {why}");
    println!("left out: nothing can be mounted here, which needs root: {why}");
}
