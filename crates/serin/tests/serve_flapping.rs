//! Upstreams that come and go in `serin serve`, faster than a release goes on: the canary, stable, and both at once.
//!
//! The upstreams here are servers of the tests' own whose listening sockets are closed and opened again, with every connection that they
//! have. How long they are up and down is what goes wrong, not what is waited for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use serin_testkit::{Document, Load, Site, http, processes, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
const UP: Duration = Duration::from_millis(300);
const DOWN: Duration = Duration::from_millis(300);
const TURN: Duration = Duration::from_millis(2);
/// Failed checks in a row that these outages never reach: nothing but requests can tell.
const UNSEEN: u32 = 50;

/// A server that is up or down, as it is told. Its version is what it answers with.
struct Upstream {
    address: SocketAddr,
    is_up: Arc<AtomicBool>,
    is_bad: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    fn start(version: &'static str) -> Self {
        let [is_up, is_bad, is_over] = [true, false, false].map(|is| Arc::new(AtomicBool::new(is)));
        let first = lasting_listener();
        let address = first.local_addr().unwrap();
        let (up, bad, over) = (is_up.clone(), is_bad.clone(), is_over.clone());
        let thread = thread::spawn(move || {
            let mut listener = Some(first);
            while !over.load(SeqCst) {
                if !up.load(SeqCst) {
                    thread::sleep(TURN);
                    continue;
                }
                // Nobody else takes the port meanwhile: the system gives none of these to anybody.
                let listening = listener.take().unwrap_or_else(|| TcpListener::bind(address).unwrap());
                serve(&listening, version, &bad, || up.load(SeqCst) && !over.load(SeqCst));
            }
        });
        Self { address, is_up, is_bad, is_over, thread: Some(thread) }
    }

    fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, SeqCst);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Accepts as long as it may; then nothing listens, and every connection is broken.
fn serve(listener: &TcpListener, version: &'static str, is_bad: &Arc<AtomicBool>, goes_on: impl Fn() -> bool) {
    listener.set_nonblocking(true).unwrap();
    let mut streams: Vec<TcpStream> = Vec::new();
    while goes_on() {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(TURN);
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        streams.extend(stream.try_clone());
        let is_bad = is_bad.clone();
        thread::spawn(move || answer(&stream, version, &is_bad));
    }
    for stream in streams {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Requests without bodies, one after the other.
fn answer(stream: &TcpStream, version: &str, is_bad: &AtomicBool) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        let status = if is_bad.load(SeqCst) && !request.contains("/health") { "500 Bad" } else { "200 OK" };
        let text = format!("HTTP/1.1 {status}\r\nx-app-version: {version}\r\ncontent-length: 3\r\n\r\nok\n");
        (&mut &*stream).write_all(text.as_bytes()).ok()?;
    }
}

/// On a port that the system does not give to outgoing connections, which could have it while nothing listens there.
fn lasting_listener() -> TcpListener {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % 8_000).unwrap();
    let port = || 20_000 + (begin + NEXT.fetch_add(1, SeqCst)) % 8_000;
    (0..1_000).find_map(|_| TcpListener::bind(("127.0.0.1", port())).ok()).unwrap()
}

/// Makes upstreams flap, all of them at the same moments, until it is stopped; then all are up.
struct Flapping {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    upstreams: Vec<Arc<AtomicBool>>,
}

impl Flapping {
    fn of(upstreams: &[&Upstream]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let upstreams: Vec<_> = upstreams.iter().map(|upstream| upstream.is_up.clone()).collect();
        let (stopped, all) = (stop.clone(), upstreams.clone());
        let thread = thread::spawn(move || {
            for (is_up, lasts) in [(false, DOWN), (true, UP)].into_iter().cycle() {
                if stopped.load(SeqCst) {
                    return;
                }
                all.iter().for_each(|upstream| upstream.store(is_up, SeqCst));
                thread::sleep(lasts);
            }
        });
        Self { stop, thread, upstreams }
    }

    fn stop(self) {
        self.stop.store(true, SeqCst);
        self.thread.join().unwrap();
        self.upstreams.iter().for_each(|upstream| upstream.store(true, SeqCst));
    }
}

/// A server with a release of two upstreams in its first stage, under load.
struct Scene {
    stable: Upstream,
    canary: Upstream,
    site: Site,
    server: serin_testkit::Server,
    document: Document,
    load: Load,
}

impl Scene {
    /// `failures`: failed checks in a row until stable and the canary count as down.
    fn begin(failures: [u32; 2], stages: &Value) -> Self {
        let (stable, canary) = (Upstream::start("v1"), Upstream::start("v2"));
        let document = Document::external("shop", stable.address, canary.address)
            .judge("sequential")
            .set("analysis.retreat", json!({"recoverWithin": "4s", "otherwise": "pause"}))
            .set("workload.external.stable.health.failures", json!(failures[0]))
            .set("workload.external.canary.health.failures", json!(failures[1]))
            .set("strategy.canary.stages", stages.clone());
        let site = Site::new(SERIN);
        let server = site.serve();
        let load = site.place().load(&document, 150, &[]);
        let _ = site.apply(&document).expect_code(0);
        site.stage("shop", 1);
        Self { stable, canary, site, server, document, load }
    }

    /// Waits until the release is over or asks for a person, and gives how the service is then.
    #[track_caller]
    fn settled(&self) -> Value {
        self.site.until("shop", "an end, or a question", |status| {
            status["last"]["number"].as_i64() >= Some(1) || status["release"]["wait"]["operator"] == true
        })
    }

    fn said(&self, kind: &str) -> usize {
        self.site.journaled("shop", kind).len()
    }

    /// Stable has just come back for good: what was sent to it a moment before may still be on its way to nobody.
    #[track_caller]
    fn stable_alone(&self) {
        let version = || http::get(self.document.listen, "/", &[]).unwrap().version().to_owned();
        wait::until("stable to be seen again", || (self.site.status("shop")["ready"] == 1 && version() == "v1").then_some(()));
        assert_eq!((0..50).map(|_| version()).filter(|version| version == "v1").count(), 50);
    }

    fn end(self) -> serin_testkit::LoadReport {
        let report = self.load.stop();
        self.site.stopped(self.server);
        report
    }
}

#[track_caller]
fn rolled_back(status: &Value) -> (String, String) {
    let end = &status["last"]["end"];
    assert_eq!(end["result"], "rolled-back", "{status:#}");
    let cause = &end["cause"];
    (cause["kind"].to_string(), cause["text"].as_str().unwrap().to_owned())
}

/// The canary flaps: it is rolled back, whoever notices, and stable carries out what it lets fall.
#[track_caller]
fn flapping_canary(failures: u32) -> String {
    let scene = Scene::begin([UNSEEN, failures], &json!([{"weight": 30, "hold": "10m"}]));
    let flapping = Flapping::of(&[&scene.canary]);
    let status = scene.site.over("shop", 1);
    let (kind, text) = rolled_back(&status);
    // It is up again every now and then, and gets nothing all the same.
    scene.stable_alone();
    assert_eq!((scene.said("rollback-decided"), scene.said("succeeded")), (1, 0));
    flapping.stop();
    scene.end().assert_nothing_lost();
    format!("{kind} {text}")
}

#[test]
fn a_canary_that_flaps_is_found_by_checks() {
    let cause = flapping_canary(1);
    assert!(cause.contains("no canary server is healthy") || cause.contains("outage") || cause.contains("error-rate"), "{cause}");
}

#[test]
fn a_canary_that_flaps_too_fast_for_checks_is_found_by_its_requests() {
    let cause = flapping_canary(UNSEEN);
    assert!(cause.contains("outage") || cause.contains("error-rate"), "{cause}");
}

#[test]
fn a_canary_whose_process_dies_whenever_it_is_there_is_rolled_back() {
    let site = Site::new(SERIN);
    let server = site.serve();
    // Nobody but the supervisor of its process may find it out.
    let document = Document::sample_apps("shop", &[], &[])
        .criteria(json!([{"metric": "request-rate", "max": "1000000rps"}]))
        .set("analysis.guards", json!([{"name": "outage", "off": true}]))
        .set("workload.processes.canary.restart", json!({"backoff": "300ms", "maxBackoff": "300ms"}))
        .set("strategy.canary.stages", json!([{"weight": 30, "hold": "10m"}]));
    let load = site.place().load(&document, 150, &[]);
    let _ = site.apply(&document).expect_code(0);
    site.stage("shop", 1);
    let is_canary = |process: &processes::Process| process.command.contains("--version=v2");
    let mut killed = 0;
    wait::until("the end of the release", || {
        for process in processes::mentioning(site.place().path()).iter().filter(|process| is_canary(process)) {
            processes::signal(process.pid, Signal::KILL);
            killed += 1;
        }
        thread::sleep(DOWN);
        (site.status("shop")["last"]["number"] == 1).then_some(())
    });
    let (kind, text) = rolled_back(&site.over("shop", 1));
    assert!(kind.contains("workload") && killed >= 3, "{kind} {text}, after {killed} kills");
    wait::until("no process of the canary", || (!processes::mentioning(site.place().path()).iter().any(is_canary)).then_some(()));
    load.stop().assert_nothing_lost();
    site.stopped(server);
}

#[test]
fn a_stable_that_flaps_is_not_held_against_the_canary() {
    let stages =
        [(30, "2s"), (60, "1s")].map(|(weight, hold)| json!({"weight": weight, "hold": hold, "minRequests": 50, "maxHold": "20s"}));
    // The canary's checks notice nothing of a machine that is starved.
    let scene = Scene::begin([1, UNSEEN], &json!(stages));
    let flapping = Flapping::of(&[&scene.stable]);
    let status = scene.settled();
    for blame in ["rollback-decided", "retreated", "operator-needed"] {
        assert_eq!(scene.said(blame), 0, "{blame}: {:#?}", scene.site.journal("shop"));
    }
    // However often it goes.
    assert!(scene.said("warned") <= 3, "{:#?}", scene.site.journal("shop"));
    if status["last"].is_null() {
        let why = status["release"]["wait"]["why"].as_str().unwrap();
        assert!(why.contains("no verdict"), "{status:#}");
    } else {
        assert_eq!(status["last"]["end"]["result"], "succeeded", "{status:#}");
    }
    flapping.stop();
    let report = scene.end();
    assert!(report.count("by_version.v1") > 0 && report.count("by_version.v2") > 0, "{:#}", report.value);
}

#[test]
fn a_bad_canary_keeps_its_traffic_while_nobody_else_could_take_it() {
    keeps_its_traffic(|canary| canary.is_bad.store(true, SeqCst));
}

#[test]
fn a_canary_that_is_down_keeps_its_traffic_while_nobody_else_could_take_it() {
    keeps_its_traffic(|canary| canary.set_up(false));
}

/// Stable goes, then the canary has trouble, then stable flaps: traffic goes back once there is somebody to take it.
#[track_caller]
fn keeps_its_traffic(trouble: impl FnOnce(&Upstream)) {
    let scene = Scene::begin([2, 2], &json!([{"weight": 50, "hold": "10m"}]));
    scene.stable.set_up(false);
    scene.site.until("shop", "stable to be missed", |status| status["ready"] == 0);
    trouble(&scene.canary);
    let status = scene.settled();
    let why = status["release"]["wait"]["why"].as_str().unwrap();
    assert!(why.contains("stable has no ready replica"), "{status:#}");
    assert_eq!((scene.said("rollback-decided"), scene.said("retreated")), (0, 0), "{:#?}", scene.site.journal("shop"));
    assert_eq!(status["release"]["weight"], 5_000, "{status:#}");

    let before = unix_ms();
    let flapping = Flapping::of(&[&scene.stable]);
    let left = scene.site.entry("shop", "the canary's traffic to go", |entry| {
        ["rollback-decided", "retreated"].contains(&entry["event"]["type"].as_str().unwrap())
    });
    assert!(left["at"].as_u64().unwrap() >= before, "{left:#}");
    flapping.stop();
    // A retreat after a pause waits for a person.
    if left["event"]["type"] == "retreated" {
        let _ = scene.site.say(&["abort", "shop"]).expect_code(0);
    }
    let (_, text) = rolled_back(&scene.site.over("shop", 1));
    assert!(!text.is_empty());
    scene.stable_alone();
    let _ = scene.end();
}

#[test]
fn both_flap_and_nothing_succeeds() {
    // Without the trouble it would be over in a few seconds.
    let stages = json!([{"weight": 30, "hold": "3s"}, {"weight": 60, "hold": "1s"}]);
    let scene = Scene::begin([UNSEEN, UNSEEN], &stages);
    let flapping = Flapping::of(&[&scene.stable, &scene.canary]);
    let status = scene.settled();
    assert_eq!((scene.said("succeeded"), scene.said("promotion-started")), (0, 0), "{:#?}", scene.site.journal("shop"));
    if status["last"].is_null() {
        let release = &status["release"];
        assert!(release["wait"]["why"].as_str().unwrap().contains("stable did not recover"), "{status:#}");
        assert_eq!((&release["weight"], &release["phase"]), (&json!(0), &json!("retreated")), "{status:#}");
        assert_eq!(scene.said("retreated"), 1);
    } else {
        // A moment in which only the canary was down is one.
        assert!(!rolled_back(&status).1.is_empty());
    }
    scene.stable.set_up(true);
    flapping.stop();
    if status["last"].is_null() {
        let _ = scene.site.say(&["abort", "shop"]).expect_code(0);
    }
    let _ = rolled_back(&scene.site.over("shop", 1));
    scene.stable_alone();
    let _ = scene.end();
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
