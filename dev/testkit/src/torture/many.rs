//! Hundreds of services of one server, each with a release under way.
//!
//! All versions are a few sample apps that run already, so that what is measured is Serin: the control process and the proxies. One
//! service has a canary of its own, which turns bad: from its first wrong answer to the proof that it has no traffic, first with this
//! service alone, then beside all others.

use std::{
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Findings,
    app::App,
    daemon::{self, Daemon, PATIENCE},
    findings::quantile,
    traffic::{self, Clock, Outcome, Shot},
    usage,
};
use crate::{Document, Place, free_address, http, processes, wait};

/// How many, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Services, each with a release.
    pub services: usize,
    /// How long the idle server and the one under load are watched.
    pub watch: Duration,
    /// How often a canary turns bad, alone and beside the others.
    pub faults: u32,
    /// Without numbers that depend on the machine: what must be so on any.
    pub structure_only: bool,
}

/// What the control process may have, in KiB.
const MOST_MEMORY_KIB: u64 = 300 * 1024;
/// What an idle control process may use, in percent of a core.
const MOST_IDLE_CPU: f64 = 5.0;
/// A tick of the data plane and the time that a switch may take, in milliseconds: more than that is added by nothing.
const DECISION_MS: f64 = 50.0 + 100.0;
/// Requests that meet the bad canary and decide; half of them go to stable.
const BURST: usize = 60;
/// The service whose canary turns bad.
const FAULTY: &str = "faulty";
/// Services whose proxies get requests in the part under load, and requests per second of each.
const BUSY: usize = 20;
const BUSY_RPS: u32 = 10;

/// Runs the campaign.
///
/// # Panics
/// If the server or the apps cannot be started at all.
#[must_use]
pub fn run(serin: &str, options: Options) -> Findings {
    let place = Place::new(serin);
    let mut findings = Findings::default();
    let (stable, canary, faulty) = (App::start(&place, "v1"), App::start(&place, "v2"), App::start(&place, "v3"));
    let mut daemon = Daemon::start(&place, &place.state(), None);
    daemon.wait_for_api();
    let socket = daemon.socket();
    let one = Faulty { daemon: &daemon, place: &place, listen: free_address(), stable: stable.address, canary: &faulty };
    let alone: Vec<Found> = (0..options.faults).filter_map(|number| one.decide(number, &mut findings)).collect();

    let mut addresses = Vec::new();
    for index in 0..options.services {
        let document = document(&format!("m{index}"), free_address(), stable.address, canary.address, "1h");
        addresses.push(document.listen);
        if let Err(why) = daemon::apply(&socket, place.path(), &document) {
            findings.broken(why);
        }
    }
    if let Err(why) = all_hold(&socket, options.services) {
        findings.broken(why);
    }
    findings.tell("services with a release under way", options.services);
    if !options.structure_only {
        watch("idle", &place, &daemon, options.watch, Some(MOST_IDLE_CPU), &mut findings);
        let busy = &addresses[..BUSY.min(addresses.len())];
        let requests = traffic::Traffic::start(Clock::default(), busy, BUSY_RPS);
        watch("under load", &place, &daemon, options.watch, None, &mut findings);
        let lost = requests.stop().iter().filter(|shot| !shot.outcome.is_answered()).count();
        findings
            .tell("load", format!("{} requests per second over {} services", u32::try_from(busy.len()).unwrap() * BUSY_RPS, busy.len()));
        findings.aim("requests lost", lost, "0", lost == 0);
    }
    let beside: Vec<Found> = (0..options.faults).filter_map(|number| one.decide(options.faults + number, &mut findings)).collect();
    if !options.structure_only {
        times("alone", &alone, &mut findings);
        times(&format!("beside {} others", options.services), &beside, &mut findings);
    }
    findings.aim(
        "bad canaries found",
        format!("{} of {}", alone.len() + beside.len(), 2 * options.faults),
        "all",
        alone.len() + beside.len() == 2 * options.faults as usize,
    );
    // The others went on meanwhile.
    if let Err(why) = all_hold(&socket, options.services) {
        findings.broken(why);
    }
    daemon.stop();
    drop((stable, canary, faulty));
    findings.nothing_left(&place);
    findings
}

/// Waits until every release observes its first stage.
fn all_hold(socket: &Path, services: usize) -> Result<(), String> {
    let in_stage = |one: &&Value| one["service"] != FAULTY && one["release"]["stage"] == 1 && one["release"]["weight"] != 0;
    let mut all = Vec::new();
    let look = || {
        all = match daemon::insist(socket, "GET", "/v1/services", &Value::Null) {
            Ok((_, body)) => body["services"].as_array().cloned().unwrap_or_default(),
            Err(why) => return Some(Err(why)),
        };
        (all.iter().filter(in_stage).count() == services).then_some(Ok(()))
    };
    wait::paced(Duration::from_millis(250), PATIENCE, look).unwrap_or_else(|| {
        let odd: Vec<String> = all.iter().filter(|one| !in_stage(one)).take(3).map(ToString::to_string).collect();
        Err(format!("{} of {services} releases are in their stage; others: {odd:?}", all.iter().filter(in_stage).count()))
    })
}

fn document(name: &str, listen: SocketAddr, stable: SocketAddr, canary: SocketAddr, hold: &str) -> Document {
    let arm = |server: SocketAddr| json!({"urls": [format!("http://{server}")], "health": {"path": "/health", "interval": "10s"}});
    Document::external(name, stable, canary)
        .at(listen)
        .judge("sequential")
        .stage(50.0, hold, 1_000)
        .set("workload.external", json!({"stable": arm(stable), "canary": arm(canary)}))
}

/// What control and the proxies use over a while.
fn watch(when: &str, place: &Place, daemon: &Daemon, time: Duration, most_cpu: Option<f64>, findings: &mut Findings) {
    let proxies = || -> Vec<(u32, usage::Usage)> {
        let all = processes::mentioning(place.path()).into_iter();
        all.filter(|process| process.command.contains(" proxy "))
            .filter_map(|process| Some((process.pid, usage::of(process.pid)?)))
            .collect()
    };
    // What was begun with the last service may still be under way.
    thread::sleep(Duration::from_secs(3));
    let Some(before) = usage::of(daemon.pid()) else { return findings.broken("control is gone") };
    let (proxies_before, start) = (proxies(), Instant::now());
    thread::sleep(time);
    let Some(after) = usage::of(daemon.pid()) else { return findings.broken("control is gone") };
    let seconds = start.elapsed().as_secs_f64();
    let proxies_after = proxies();
    let percent = |ms: u64| ms as f64 / 10.0 / seconds;
    let cpu = percent(after.cpu_ms - before.cpu_ms);
    let shown = format!("{cpu:.2} % of a core over {seconds:.0} s");
    match most_cpu {
        Some(most) => findings.aim(&format!("control, {when}: processor"), shown, &format!("below {most} %"), cpu < most),
        None => findings.tell(&format!("control, {when}: processor"), shown),
    }
    let memory = format!("RSS {} MiB, PSS {} MiB", after.rss_kib / 1024, after.pss_kib / 1024);
    findings.aim(&format!("control, {when}: memory"), memory, "RSS below 300 MiB", after.rss_kib < MOST_MEMORY_KIB);
    findings.tell(&format!("control, {when}: threads, descriptors"), format!("{}, {}", after.threads, after.descriptors));
    let used: u64 = proxies_after
        .iter()
        .filter_map(|(pid, after)| Some(after.cpu_ms - proxies_before.iter().find(|(known, _)| known == pid)?.1.cpu_ms))
        .sum();
    let pss: u64 = proxies_after.iter().map(|(_, usage)| usage.pss_kib).sum();
    let text = format!(
        "PSS {} MiB in all ({} KiB each), {:.1} % of a core in all",
        pss / 1024,
        pss / (proxies_after.len() as u64).max(1),
        percent(used)
    );
    findings.tell(&format!("{} proxies, {when}", proxies_after.len()), text);
}

fn times(when: &str, found: &[Found], findings: &mut Findings) {
    let of = |pick: fn(&Found) -> f64| -> Vec<f64> { found.iter().map(pick).collect() };
    let shown = |values: &[f64]| {
        let at = |q| quantile(values, q).unwrap_or(f64::NAN);
        (format!("median {:.0} ms, max {:.0} ms", at(0.5), at(1.0)), at(1.0))
    };
    let (text, max) = shown(&of(|found| found.to_zero_ms));
    let target = format!("at most {DECISION_MS} ms on a quiet machine");
    findings.aim(&format!("from the last wrong answer to weight 0, {when}"), text, &target, max <= DECISION_MS);
    findings.tell(&format!("from the decision to weight 0, {when}"), shown(&of(|found| found.switch_ms)).0);
}

/// How long it took.
struct Found {
    /// From the end of the last answer that could decide to the proof; 0 if it was decided on fewer.
    to_zero_ms: f64,
    /// From the decision to the proof.
    switch_ms: f64,
}

struct Faulty<'a> {
    daemon: &'a Daemon,
    place: &'a Place,
    listen: SocketAddr,
    stable: SocketAddr,
    canary: &'a App,
}

impl Faulty<'_> {
    /// Releases, lets the canary turn bad, and sends it just enough requests to decide, all at once.
    fn decide(&self, number: u32, findings: &mut Findings) -> Option<Found> {
        let socket = self.daemon.socket();
        http::behave(self.canary.address, &json!({"error_rate": 0.0}));
        // Another hold makes another document: the same one would not be released twice.
        let document = document(FAULTY, self.listen, self.stable, self.canary.address, &format!("{}m", 60 + number));
        let outcome = daemon::apply(&socket, self.place.path(), &document).and_then(|_| self.weight_is_proven());
        if let Err(why) = outcome {
            findings.broken(why);
            return None;
        }
        http::behave(self.canary.address, &json!({"error_rate": 1.0}));
        let clock = Clock::default();
        let listen = self.listen;
        let shots: Vec<Shot> = thread::scope(|scope| {
            let shoot = || {
                let begun_us = clock.now_us();
                let outcome = traffic::one(listen);
                Shot { target: 0, begun_us, ended_us: clock.now_us(), outcome }
            };
            let all: Vec<_> = (0..BURST).map(|_| scope.spawn(shoot)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let last_us = shots.iter().filter(|shot| is_wrong(shot)).map(|shot| shot.ended_us).max();
        let found = self.traffic_is_gone().and_then(|entries| self.end().map(|()| entries));
        let entries = match found {
            Ok(entries) => entries,
            Err(why) => {
                findings.broken(why);
                return None;
            }
        };
        let at = |fits: &dyn Fn(&Value) -> bool| Some(entries.iter().find(|entry| fits(&entry["event"]))?["at"].as_u64()? as f64);
        let (decided, gone, last) = (at(&is_decision)?, at(&is_gone)?, last_us? as f64 / 1_000.0);
        Some(Found { to_zero_ms: (gone - last).max(0.0), switch_ms: gone - decided })
    }

    fn weight_is_proven(&self) -> Result<(), String> {
        self.until("the weight", |event| event["type"] == "weight-proven" && event["weight"] != 0).map(drop)
    }

    fn traffic_is_gone(&self) -> Result<Vec<Value>, String> {
        self.until("the loss of traffic", is_gone)
    }

    /// Ends what is left of the release. So few requests may leave it open whether stable is to blame as well: then traffic goes back all
    /// the same, and it waits for more requests than there are.
    fn end(&self) -> Result<(), String> {
        daemon::insist(&self.daemon.socket(), "POST", &format!("/v1/services/{FAULTY}/abort"), &json!({}))?;
        self.until("the end", |event| event["type"] == "rolled-back").map(drop)
    }

    fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Vec<Value>, String> {
        daemon::journal_until(&self.daemon.socket(), FAULTY, what, fits)
    }
}

fn is_decision(event: &Value) -> bool {
    event["type"] == "rollback-decided" || event["type"] == "retreated"
}

fn is_gone(event: &Value) -> bool {
    event["type"] == "weight-proven" && event["weight"] == 0
}

fn is_wrong(shot: &Shot) -> bool {
    matches!(shot.outcome, Outcome::Answered { status: 500, .. })
}
