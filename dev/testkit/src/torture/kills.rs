//! `kill -9` at random moments of running releases under load.
//!
//! Several services of one server release one version after the other, good ones and bad ones. Control, a proxy, or control together
//! with a proxy is killed at random moments; control is started again each time. Every second service listens at a socket that is held
//! from outside, as systemd does; the others' sockets are Serin's own. What must hold:
//!
//! - Control dies: no request is lost. A proxy dies: only requests that were on their way through it at that moment, and nobody is
//!   refused. Both die together: the same if the socket is held; if it is not, it dies with them, so clients are refused until control is
//!   back, and no longer.
//! - No answer is ever made up by a proxy: the versions themselves are never killed.
//! - Every release that was accepted ends, and as its canary deserves. A version whose rollback has proven that it has no traffic
//!   never gets any again.
//! - Between releases each service has one process of the version that serves, none of any other, and one proxy.
//! - Every journal folds.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    panic::resume_unwind,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    Findings,
    daemon::{self, Daemon, PATIENCE},
    dice::Dice,
    over::Over,
    traffic::{self, Clock, Outcome, Shot, Traffic},
    usage,
};
use crate::{
    Document, Held, Place,
    document::sample_app,
    processes::{self, holds_listener, listening_inode},
    wait,
};

/// How to torture.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Kills.
    pub kills: u32,
    /// Repeats victims and pauses, though not what they meet.
    pub seed: u64,
    /// Services of the server, two at least: every second one has a socket that is held from outside.
    pub services: usize,
    /// Requests per second, of all services together.
    pub rps: u32,
    /// The most time between two kills, in milliseconds.
    pub pause_ms: u64,
}

/// Errors of a bad canary.
const BAD: &str = "--error-rate=60%";
/// Between two looks at the API, and at processes.
const LOOK: Duration = Duration::from_millis(400);
const TURN: Duration = Duration::from_millis(5);

/// A version that was released.
#[derive(Debug)]
struct Release {
    version: String,
    is_bad: bool,
    /// The journal's entries.
    entries: Vec<Value>,
}

/// A service that releases one version after the other.
struct Service<'a> {
    name: String,
    listen: SocketAddr,
    socket: &'a Path,
    folder: &'a Path,
    /// The version that serves, as the document of the next release has to say it.
    serving: (String, Value),
    dice: Dice,
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Control,
    Proxy,
    /// Control and a proxy whose socket somebody else holds.
    BothHeld,
    /// Control and a proxy, and with them the socket.
    Both,
}

/// The first kills are of each kind, in this order, so that few of them are a test of all.
const KINDS: [Victim; 4] = [Victim::BothHeld, Victim::Control, Victim::Both, Victim::Proxy];

/// When what died. Requests begun later than `over_us` must not notice any more.
#[derive(Debug)]
struct Death {
    victim: Victim,
    /// The service whose proxy died; none with control alone.
    target: Option<usize>,
    begun_us: u64,
    over_us: u64,
}

/// Tortures and tells what was found.
///
/// # Panics
/// If the server cannot be started at all.
#[must_use]
pub fn run(serin: &str, options: Options) -> Findings {
    let place = Place::new(serin);
    let (clock, mut findings) = (Clock::default(), Findings::default());
    let targets: Vec<SocketAddr> = (0..options.services).map(|_| crate::free_address()).collect();
    let held = Held::listen(
        &targets.iter().copied().enumerate().filter(|(index, _)| is_held(*index)).map(|(_, listen)| listen).collect::<Vec<_>>(),
    );
    let mut daemon = Daemon::start_with(&place, &place.state(), None, Some(&held));
    daemon.wait_for_api();
    let socket = daemon.socket();
    let mut dice = Dice::new(options.seed);
    let service = |(index, listen): (usize, &SocketAddr)| Service::new(index, *listen, &socket, place.path(), dice.below(u64::MAX));
    let services: Vec<Service<'_>> = targets.iter().enumerate().map(service).collect();
    let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
    let is_over = AtomicBool::new(false);
    let broken = Mutex::new(Vec::new());
    let (mut deaths, mut shots) = (Vec::new(), Vec::new());
    let released: Vec<Vec<Release>> = thread::scope(|scope| {
        let over = Over(&is_over);
        let drivers: Vec<_> = services.into_iter().map(|service| scope.spawn(|| service.release_on(&is_over, &broken))).collect();
        // Requests begin when every service has begun to serve; the releases go on meanwhile.
        for target in &targets {
            let context = || format!("{broken:?}\n{}", daemon.log());
            wait::until_or("the services", PATIENCE, || traffic::one(*target).is_answered().then_some(()), context);
        }
        let traffic = Traffic::start(clock, &targets, options.rps / u32::try_from(targets.len()).unwrap());
        for number in 0..options.kills {
            thread::sleep(Duration::from_millis(dice.below(options.pause_ms)));
            let grim = Grim { place: &place, clock, names: &names, targets: &targets, held: &held, broken: &broken };
            let kind = KINDS.get(usize::try_from(number).unwrap()).copied();
            match grim.kill(&mut daemon, &mut dice, kind) {
                Ok(more) => deaths.extend(more),
                Err(why) => {
                    broken.lock().unwrap_or_else(PoisonError::into_inner).push(format!("after {number} kills: {why}"));
                    break;
                }
            }
            if number % 50 == 49 {
                eprintln!("{} of {} kills", number + 1, options.kills);
            }
        }
        drop(over);
        let released = drivers.into_iter().map(|driver| driver.join().unwrap_or_else(|panic| resume_unwind(panic))).collect();
        shots = traffic.stop();
        released
    });
    for what in broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        findings.broken(what);
    }
    if let Some(how) = daemon.ended() {
        findings.broken(how);
    }
    let mut died: BTreeMap<Victim, usize> = BTreeMap::new();
    for death in &deaths {
        *died.entry(death.victim).or_default() += 1;
    }
    findings.tell("kills", format!("{died:?}"));
    judge_shots(&shots, &deaths, &targets, &mut findings);
    for (target, releases) in released.iter().enumerate() {
        judge_releases(target, releases, &shots, &mut findings);
    }
    let all = released.iter().flatten();
    let (good, bad): (Vec<&Release>, Vec<&Release>) = all.partition(|release| !release.is_bad);
    findings.tell("releases that ended, good and bad canary", format!("{} and {}", good.len(), bad.len()));
    let check = place.serin(&["--output", "json", "store", "check", "--state", place.state().to_str().unwrap()]);
    let stores = String::from_utf8_lossy(&check.stdout).lines().count();
    findings.aim("stores whose journals fold", stores, "all", check.status.success() && stores == options.services);
    if !check.status.success() {
        findings.broken(format!("store check: {}", String::from_utf8_lossy(&check.stdout)));
    }
    daemon.stop();
    findings.nothing_left(&place);
    findings
}

/// Who kills.
struct Grim<'a> {
    place: &'a Place,
    clock: Clock,
    names: &'a [String],
    targets: &'a [SocketAddr],
    held: &'a Held,
    broken: &'a Mutex<Vec<String>>,
}

impl Grim<'_> {
    fn kill(&self, daemon: &mut Daemon, dice: &mut Dice, kind: Option<Victim>) -> Result<Vec<Death>, String> {
        let mut target = usize::try_from(dice.below(self.targets.len() as u64)).unwrap();
        let victim = kind.unwrap_or(match dice.below(20) {
            0..=10 => Victim::Control,
            11..=16 => Victim::Proxy,
            _ if is_held(target) => Victim::BothHeld,
            _ => Victim::Both,
        });
        if matches!(victim, Victim::Both | Victim::BothHeld) && is_held(target) != (victim == Victim::BothHeld) {
            // The one beside it is of the other kind.
            target = if target + 1 < self.targets.len() { target + 1 } else { target - 1 };
        }
        let begun_us = self.clock.now_us();
        let death = |target, begun_us| Death { victim, target, begun_us, over_us: self.clock.now_us() };
        match victim {
            Victim::Control => {
                // A proxy that is being started dies with control, as it were: there is only its socket, which control holds.
                self.every_proxy()?;
                let sockets = self.sockets();
                let begun_us = self.clock.now_us();
                daemon.kill();
                let dead = death(None, begun_us);
                self.must_be(&sockets, "control");
                self.revive(daemon, dice);
                Ok(vec![dead])
            }
            Victim::Proxy => {
                let control = daemon.pid();
                let held = || holds_listener(control, self.targets[target]);
                let pid = self.until("control to hold the socket", || self.proxy_of(target).filter(|_| held()), daemon)?;
                let sockets = self.sockets();
                let begun_us = self.clock.now_us();
                self.end(pid)?;
                let dead = death(Some(target), begun_us);
                self.until("another proxy", || self.proxy_of(target), daemon)?;
                self.must_be(&sockets, "a proxy");
                Ok(vec![dead])
            }
            Victim::BothHeld | Victim::Both => {
                self.every_proxy()?;
                let Some(pid) = self.proxy_of(target) else { return Ok(Vec::new()) };
                let sockets = self.sockets();
                processes::signal(pid, Signal::KILL);
                daemon.kill();
                self.end(pid)?;
                if victim == Victim::BothHeld {
                    // Who connects from here on waits in the socket's queue for the next proxy.
                    let dead = death(Some(target), begun_us);
                    self.must_be(&sockets, "control and a proxy");
                    self.revive(daemon, dice);
                    return Ok(vec![dead]);
                }
                self.revive(daemon, dice);
                // The socket is gone too: until somebody listens again, clients are refused.
                let listen = self.targets[target];
                self.until("somebody to listen again", || listening_inode(listen), daemon)?;
                Ok(vec![death(Some(target), begun_us)])
            }
        }
    }

    /// The listening sockets by their inodes.
    fn sockets(&self) -> Vec<Option<u64>> {
        self.targets.iter().map(|target| listening_inode(*target)).collect()
    }

    /// Nobody can be refused as long as the sockets are the same ones: few requests would notice a moment without.
    fn must_be(&self, before: &[Option<u64>], died: &str) {
        let now = self.sockets();
        if now != before || now.contains(&None) {
            let what = format!("listening sockets were given up when {died} died, or before: {before:?}, then {now:?}");
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        }
    }

    /// Starts control again, at once or after a while.
    fn revive(&self, daemon: &mut Daemon, dice: &mut Dice) {
        if dice.below(3) == 0 {
            thread::sleep(Duration::from_millis(dice.below(1_000)));
        }
        *daemon = Daemon::start_with(self.place, &self.place.state(), None, Some(self.held));
    }

    /// The proxy that serves a service.
    fn proxy_of(&self, target: usize) -> Option<u32> {
        // With a slash at its end, so that it is not the beginning of another's name.
        let folder = self.place.state().join("services").join(&self.names[target]).join("");
        processes::proxy(&folder).filter(|pid| holds_listener(*pid, self.targets[target]))
    }

    /// Kills a process and returns when it is gone, with its sockets.
    fn end(&self, pid: u32) -> Result<(), String> {
        processes::signal(pid, Signal::KILL);
        let gone = wait::paced(Duration::from_millis(1), PATIENCE, || (!usage::runs(pid)).then_some(()));
        gone.ok_or_else(|| format!("the proxy {pid} outlives SIGKILL"))
    }

    /// Waits until every service has a proxy.
    fn every_proxy(&self) -> Result<(), String> {
        let all = || (0..self.targets.len()).all(|target| self.proxy_of(target).is_some()).then_some(());
        wait::paced(TURN, PATIENCE, all).ok_or_else(|| "waited in vain for every service to have a proxy".to_owned())
    }

    /// Waits for something, as long as the server runs.
    fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>, daemon: &mut Daemon) -> Result<T, String> {
        let found = wait::paced(TURN, PATIENCE, || condition().map(Ok).or_else(|| daemon.ended().map(Err)));
        found.unwrap_or_else(|| Err(format!("waited in vain for {what}\n{}", daemon.log())))
    }
}

impl<'a> Service<'a> {
    fn new(index: usize, listen: SocketAddr, socket: &'a Path, folder: &'a Path, seed: u64) -> Self {
        let name = format!("s{index}");
        let version = format!("{name}.0");
        let serving = (version.clone(), sample_app(&version, &[]));
        Self { listen, socket, folder, serving, dice: Dice::new(seed), name }
    }

    /// Releases until it is over, and the last one to its end.
    fn release_on(mut self, is_over: &AtomicBool, broken: &Mutex<Vec<String>>) -> Vec<Release> {
        let mut released = Vec::new();
        while !is_over.load(Relaxed) {
            match self.release(released.len() + 1) {
                Ok(release) => released.push(release),
                Err(why) => {
                    broken.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{}: {why}", self.name));
                    break;
                }
            }
        }
        released
    }

    fn release(&mut self, number: usize) -> Result<Release, String> {
        let is_bad = self.dice.below(3) == 0;
        let version = format!("{}.{number}", self.name);
        let canary = sample_app(&version, if is_bad { &[BAD] } else { &[] });
        let document = self.document(&canary);
        let before = self.last().map_or(0, |last| last["number"].as_i64().unwrap_or_default());
        daemon::apply(self.socket, self.folder, &document)?;
        let last = self.end_of_release(before)?;
        let path = format!("/v1/services/{}/runs/{}/journal?limit=5000", self.name, last["number"]);
        let (status, journal) = daemon::insist(self.socket, "GET", &path, &Value::Null)?;
        let entries = journal["entries"].as_array().cloned().ok_or_else(|| format!("no journal: {status} {journal}"))?;
        let release = Release { version: version.clone(), is_bad, entries };
        if release.at("succeeded").is_some() {
            self.serving = (version, canary);
        }
        self.rests()?;
        Ok(release)
    }

    fn document(&self, canary: &Value) -> Document {
        Document::sample_apps(&self.name, &[], &[])
            .at(self.listen)
            .set("workload.processes", json!({"stable": self.serving.1, "canary": canary}))
            .stage(20.0, "1s", 5)
            .stage(50.0, "2s", 10)
            .bake("1s")
    }

    fn last(&self) -> Option<Value> {
        let (status, body) = daemon::insist(self.socket, "GET", &format!("/v1/services/{}", self.name), &Value::Null).ok()?;
        (status == 200).then(|| body["last"].clone())
    }

    /// The run that ended after the one with this number.
    fn end_of_release(&self, before: i64) -> Result<Value, String> {
        let path = format!("/v1/services/{}", self.name);
        let (mut idle, mut told) = (0, Value::Null);
        let look = || {
            let (status, body) = match daemon::insist(self.socket, "GET", &path, &Value::Null) {
                Ok(answer) => answer,
                Err(why) => return Some(Err(why)),
            };
            let rests = status == 200 && body["state"] == "serving" && body["release"].is_null() && body["queued"].is_null();
            if rests && body["last"]["number"].as_i64() > Some(before) {
                return Some(Ok(body["last"].clone()));
            }
            idle = if rests { idle + 1 } else { 0 };
            // What is told may be a moment old.
            if idle >= 10 {
                return Some(Err(format!("a release that was accepted did not begin, or was forgotten: {body}")));
            }
            if body["release"]["wait"]["operator"] == true {
                return Some(Err(format!("a release waits for a person: {status} {body}")));
            }
            told = body;
            None
        };
        wait::paced(LOOK, PATIENCE, look).unwrap_or_else(|| Err(format!("a release does not end: {told}")))
    }

    /// Nothing but the serving version and a proxy is there between two releases.
    fn rests(&self) -> Result<(), String> {
        let (prefix, folder) = (format!("--version={}.", self.name), format!("/services/{}/", self.name));
        let look = || {
            let all = processes::mentioning(self.folder);
            let version =
                |process: &processes::Process| process.command.split(' ').find(|part| part.starts_with(&prefix)).map(str::to_owned);
            let versions: Vec<String> = all.iter().filter_map(version).collect();
            let proxies = all.iter().filter(|process| process.command.contains(" proxy ") && process.command.contains(&folder)).count();
            (versions, proxies)
        };
        let wanted = [format!("--version={}", self.serving.0)];
        let is_so = || {
            let (versions, proxies) = look();
            (versions == wanted && proxies == 1).then_some(())
        };
        wait::paced(LOOK, PATIENCE, is_so).ok_or_else(|| {
            let (versions, proxies) = look();
            format!("{} serves and has {proxies} proxies, but these run: {versions:?}", self.serving.0)
        })
    }
}

impl Release {
    /// When something happened for the first time, in milliseconds since 1970.
    fn at(&self, kind: &str) -> Option<u64> {
        self.entries.iter().find(|entry| entry["event"]["type"] == kind)?["at"].as_u64()
    }
}

fn judge_shots(shots: &[Shot], deaths: &[Death], targets: &[SocketAddr], findings: &mut Findings) {
    let mut lost: BTreeMap<Victim, u64> = BTreeMap::new();
    let mut refused = 0;
    for shot in shots.iter().filter(|shot| !shot.outcome.is_answered()) {
        let on_its_way =
            |death: &&Death| death.target == Some(shot.target) && shot.begun_us <= death.over_us && shot.ended_us >= death.begun_us;
        let broke = matches!(shot.outcome, Outcome::Broke(_));
        let excuse =
            deaths.iter().filter(on_its_way).find(|death| broke || (shot.outcome == Outcome::Refused && death.victim == Victim::Both));
        match excuse {
            Some(_) if shot.outcome == Outcome::Refused => refused += 1,
            Some(death) => *lost.entry(death.victim).or_default() += 1,
            None => findings.broken(format!("lost without a reason: {shot:?} of {}; {}", targets[shot.target], nearest(shot, deaths))),
        }
    }
    // Those of a held socket can have no excuse, whatever died and when.
    let refused_though_held = shots.iter().filter(|shot| is_held(shot.target) && shot.outcome == Outcome::Refused).count();
    findings.tell("requests", shots.len());
    findings.tell("lost on their way through a proxy that was killed", lost.get(&Victim::Proxy).copied().unwrap_or_default());
    let both = |victim| lost.get(&victim).copied().unwrap_or_default();
    findings.tell("control and proxy killed together, socket held: lost on their way", both(Victim::BothHeld));
    findings.aim("control and proxy killed together, socket held: refused", refused_though_held, "0", refused_though_held == 0);
    findings.tell("control and proxy killed together, socket not held: lost on their way", both(Victim::Both));
    findings.tell("control and proxy killed together, socket not held: refused until control was back", refused);
    let answered = shots.iter().filter(|shot| shot.outcome.is_answered()).count() as u64;
    let unexcused = shots.len() as u64 - answered - lost.values().sum::<u64>() - refused;
    findings.aim("lost otherwise", unexcused, "0", unexcused == 0);
}

fn nearest(shot: &Shot, deaths: &[Death]) -> String {
    let before = deaths.iter().rev().find(|death| death.begun_us <= shot.ended_us);
    before.map_or_else(|| "no kill before".to_owned(), |death| format!("the kill before: {death:?}"))
}

fn judge_releases(target: usize, releases: &[Release], shots: &[Shot], findings: &mut Findings) {
    for release in releases {
        let Release { version, is_bad, entries } = release;
        let (succeeded, rolled_back) = (release.at("succeeded").is_some(), release.at("rolled-back").is_some());
        if (*is_bad && !rolled_back) || (!is_bad && !succeeded) {
            let cause = entries.iter().find(|entry| entry["event"]["type"] == "rollback-decided");
            findings
                .broken(format!("{version} (bad: {is_bad}) ended wrongly: succeeded {succeeded}, rolled back {rolled_back}, {cause:?}"));
        }
        let Some(returned_ms) = release.at("traffic-returned") else { continue };
        // Journals are kept in milliseconds.
        let after_us = (returned_ms + 1) * 1_000;
        let late = shots
            .iter()
            .filter(|shot| shot.target == target && shot.begun_us > after_us && shot.outcome.version() == Some(version.as_str()));
        for shot in late.take(3) {
            findings.broken(format!("{version} was rolled back at {returned_ms} and answered later: {shot:?}"));
        }
    }
}

/// Whether a service's socket is held from outside.
fn is_held(target: usize) -> bool {
    target.is_multiple_of(2)
}
