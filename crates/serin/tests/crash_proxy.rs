//! The proxy is killed with -9: the next one comes from the saved table, nobody is refused meanwhile, and the release goes on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::Signal;
use serin_testkit::{Document, LoadReport, Place, Release, processes, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn document(name: &str) -> Document {
    Document::sample_apps(name, &[], &[]).stage(20.0, "3s", 20).stage(50.0, "1s", 20)
}

/// Somebody who connects all the time, and how often that was refused.
struct Knocking {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Knocking {
    fn at(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut knocked, mut refused) = (0, 0);
            while !stopped.load(SeqCst) {
                knocked += 1;
                // A full queue makes the system wait; that is no refusal.
                let result = TcpStream::connect_timeout(&address, Duration::from_secs(5));
                refused += u64::from(result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
                // Ports of the client are used up otherwise.
                thread::sleep(Duration::from_millis(1));
            }
            (knocked, refused)
        });
        Self { stop, thread }
    }

    fn was_never_refused(self) {
        self.stop.store(true, SeqCst);
        let (knocked, refused) = self.thread.join().unwrap();
        assert!(knocked > 0 && refused == 0, "{refused} of {knocked} connections were refused");
    }
}

/// Whether a process holds the socket that listens at this address of IPv4.
fn holds_listener(pid: u32, address: SocketAddr) -> bool {
    let SocketAddr::V4(v4) = address else { panic!("{address} is not of IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    // Local address, state (0A: listening) and inode.
    let Some(row) = rows.find(|row| row.get(1) == Some(&local.as_str()) && row.get(3) == Some(&"0A")) else { return false };
    let socket = format!("socket:[{}]", row[9]);
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == socket.as_str()))
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
