//! How soon an abort takes the canary's traffic away while other things go wrong.
//!
//! A service at a weight of 50 % is aborted again and again: first with nothing else going on, then with each trouble in turn. Its
//! versions are sample apps that run already. Two times are measured: in the journal, from the decision to the proof that routers send
//! the canary nothing; and by requests, from the decision to the beginning of the last request that the canary answered.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    Findings,
    app::App,
    daemon::{self, Daemon, PATIENCE},
    findings::quantile,
    over::Over,
    traffic::{Clock, Traffic},
};
use crate::{Disk, Document, Place, free_address, processes, wait};

/// How to torture.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Aborts per trouble.
    pub aborts: u32,
}

/// The most that a trouble may add, and the most on a quiet machine, in milliseconds.
const MOST_ADDED_MS: f64 = 10.0;
const MOST_MS: f64 = 100.0;
/// Requests per second that prove the weight from outside.
const RPS: u32 = 200;
/// Services that decide at the same time as the one that is measured.
const OTHERS: usize = 4;
const SERVICE: &str = "aborted";
/// The small disk of the state folder, in MiB: somewhat more than a release asks for.
const DISK_MIB: u32 = 256;
/// Clients that read nothing of the event stream.
const DEAF: usize = 24;
const FLOODERS: usize = 8;
const SLOW: usize = 100;

/// What goes on beside the aborts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Nothing,
    Flood,
    Deciding,
    DiskFull,
    Deaf,
}

const TROUBLES: [(Trouble, &str); 5] = [
    (Trouble::Nothing, "healthy"),
    (Trouble::Flood, "the API is flooded, with tokens and without, beside slow clients"),
    (Trouble::Deciding, "four other releases decide at the same time"),
    (Trouble::DiskFull, "the journal's disk is full"),
    (Trouble::Deaf, "clients of the event stream do not read, some of them stopped"),
];

/// One abort, in milliseconds.
struct Timed {
    journal: f64,
    requests: f64,
}

struct Bench<'a> {
    place: &'a Place,
    daemon: &'a Daemon,
    tcp: SocketAddr,
    token: String,
    listen: SocketAddr,
    apps: [SocketAddr; 2],
    traffic: &'a Traffic,
    /// Of the state folder, where one could be mounted.
    disk: Option<&'a Disk>,
}

/// Runs the campaign.
///
/// # Panics
/// If the server or the apps cannot be started at all.
#[must_use]
pub fn run(serin: &str, options: Options) -> Findings {
    let place = Place::new(serin);
    let mut findings = Findings::default();
    let state = place.path().join("disk");
    let disk = Disk::mount(&state, DISK_MIB);
    let words = match &disk {
        Ok(_) => format!("tmpfs of {DISK_MIB} MiB that a file fills"),
        Err(why) => format!("none, because nothing can be mounted here: {why}"),
    };
    findings.tell("the full disk", words);
    let apps = ["v1", "v2"].map(|version| App::start(&place, version));
    let tcp = free_address();
    let (config, token) = configuration(&place, tcp);
    let mut daemon = Daemon::start(&place, &state, Some(&config));
    daemon.wait_for_api();
    let listen = free_address();
    // The service is there before the requests are.
    let traffic = Traffic::start(Clock::default(), &[listen], RPS);
    let bench = Bench {
        place: &place,
        daemon: &daemon,
        tcp,
        token,
        listen,
        apps: [apps[0].address, apps[1].address],
        traffic: &traffic,
        disk: disk.as_ref().ok(),
    };
    let mut healthy = None;
    let mut number = 0;
    for (trouble, name) in TROUBLES {
        if trouble == Trouble::DiskFull && bench.disk.is_none() {
            findings.tell(name, "not measured: no small disk could be mounted here");
            continue;
        }
        let mut times = Vec::new();
        let is_over = AtomicBool::new(false);
        let (start, flooded) = (Instant::now(), AtomicU64::new(0));
        thread::scope(|scope| {
            let over = Over(&is_over);
            let nuisances = bench.begin(trouble, scope, &is_over, &flooded);
            for _ in 0..options.aborts {
                number += 1;
                match bench.abort_once(number, trouble) {
                    Ok(timed) => times.push(timed),
                    Err(why) => {
                        findings.broken(format!("{name}: {why}"));
                        break;
                    }
                }
            }
            drop((over, nuisances));
        });
        if trouble == Trouble::Flood {
            let per_s = flooded.into_inner() as f64 / start.elapsed().as_secs_f64();
            findings.tell("the flood", format!("{per_s:.0} requests per second with and without a token, beside {SLOW} slow clients"));
        }
        judge(trouble, name, &times, &mut healthy, &mut findings);
        eprintln!("{name}: {} aborts", times.len());
    }
    let _ = traffic.stop();
    daemon.stop();
    drop(apps);
    findings.nothing_left(&place);
    findings
}

fn judge(trouble: Trouble, name: &str, times: &[Timed], healthy: &mut Option<[f64; 2]>, findings: &mut Findings) {
    if times.is_empty() {
        return;
    }
    let of = |pick: fn(&Timed) -> f64| times.iter().map(pick).collect::<Vec<_>>();
    let all = [("the proof", of(|timed| timed.journal)), ("the canary's last request", of(|timed| timed.requests))];
    let mut p99s = [0.0; 2];
    for (index, (until, values)) in all.iter().enumerate() {
        let at = |q| quantile(values, q).unwrap_or(f64::NAN);
        p99s[index] = at(0.99);
        let what = format!("from the decision to {until}, {name}");
        let shown = format!("median {:.0} ms, p99 {:.0} ms, max {:.0} ms of {}", at(0.5), at(0.99), at(1.0), values.len());
        let most = healthy.map_or(MOST_MS, |healthy| (healthy[index] + MOST_ADDED_MS).min(MOST_MS));
        if trouble == Trouble::DiskFull && index == 0 {
            findings.tell(&what, format!("{shown}; the proof is asked for once the journal can be written"));
        } else {
            findings.aim(&what, shown, &format!("p99 at most {most:.0} ms"), at(0.99) <= most);
        }
    }
    healthy.get_or_insert(p99s);
}

impl Bench<'_> {
    /// One release to its weight, its abort, and what its journal and the requests say of it.
    fn abort_once(&self, number: u32, trouble: Trouble) -> Result<Timed, String> {
        let socket = self.daemon.socket();
        let mut services = vec![(SERVICE.to_owned(), self.listen)];
        if trouble == Trouble::Deciding {
            services.extend((0..OTHERS).map(|other| (format!("other{other}"), other_address(other))));
        }
        for (service, listen) in &services {
            daemon::apply(&socket, self.place.path(), &self.document(service, *listen, number))?;
        }
        for (service, _) in &services {
            let has_weight = |event: &Value| event["type"] == "weight-proven" && event["weight"] != 0;
            daemon::journal_until(&socket, service, "the weight", has_weight)?;
        }
        // The canary has answered somebody, so that its last request is seen.
        let position = self.traffic.count();
        self.canary_answers(position)?;
        let full = self.disk.filter(|_| trouble == Trouble::DiskFull);
        if let Some(disk) = full {
            disk.fill();
        }
        let answers: Vec<Result<(), String>> = thread::scope(|scope| {
            let ask = |service: &str| {
                let path = format!("/v1/services/{service}/abort");
                match daemon::insist(&socket, "POST", &path, &json!({})) {
                    Ok((200..=299, _)) => Ok(()),
                    Ok((status, body)) => Err(format!("abort: {status} {body}")),
                    Err(why) => Err(why),
                }
            };
            let asked: Vec<_> = services.iter().map(|(service, _)| scope.spawn(move || ask(service))).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        answers.into_iter().collect::<Result<(), String>>()?;
        if let Some(disk) = full {
            // The proof must not wait for the disk: the requests tell. Only then the journal may be written.
            let silent = self.canary_is_silent();
            disk.free();
            silent?;
        }
        let end_of = |service: &str| daemon::journal_until(&socket, service, "the end", |event| event["type"] == "rolled-back");
        let entries = end_of(SERVICE)?;
        for (service, _) in &services {
            end_of(service)?;
        }
        let at = |kind: &str| {
            let entry = entries.iter().find(|entry| entry["event"]["type"] == kind);
            entry.and_then(|entry| entry["at"].as_u64()).ok_or_else(|| format!("no {kind} in the journal")).map(|at| at as f64)
        };
        let (decided, returned) = (at("rollback-decided")?, at("traffic-returned")?);
        let last = self.traffic.since(position).iter().filter(|shot| shot.outcome.version() == Some("v2")).map(|shot| shot.begun_us).max();
        let last_ms = last.map_or(decided, |us| us as f64 / 1_000.0);
        Ok(Timed { journal: returned - decided, requests: (last_ms - decided).max(0.0) })
    }

    fn document(&self, service: &str, listen: SocketAddr, number: u32) -> Document {
        Document::external(service, self.apps[0], self.apps[1]).at(listen).stage(50.0, &format!("{}m", 60 + number), 1_000_000)
    }

    fn canary_answers(&self, position: usize) -> Result<(), String> {
        self.shots_until("the canary to answer", position, |versions| versions.contains(&"v2"))
    }

    /// Twenty answers in a row that are not the canary's: at 50 % that is no chance.
    fn canary_is_silent(&self) -> Result<(), String> {
        self.shots_until("the canary to fall silent", self.traffic.count(), |versions| {
            versions.len() >= 20 && !versions[versions.len() - 20..].contains(&"v2")
        })
    }

    fn shots_until(&self, what: &str, position: usize, fits: impl Fn(&[&str]) -> bool) -> Result<(), String> {
        let look = || {
            let shots = self.traffic.since(position);
            let versions: Vec<&str> = shots.iter().filter_map(|shot| shot.outcome.version()).collect();
            fits(&versions).then_some(())
        };
        wait::paced(Duration::from_millis(10), PATIENCE, look).ok_or_else(|| format!("waited in vain for {what}"))
    }

    /// Begins a trouble, which goes on until it is over and what is returned is dropped.
    fn begin<'scope>(
        &'scope self,
        trouble: Trouble,
        scope: &'scope thread::Scope<'scope, '_>,
        is_over: &'scope AtomicBool,
        flooded: &'scope AtomicU64,
    ) -> Nuisances {
        let mut nuisances = Nuisances::default();
        match trouble {
            Trouble::Nothing | Trouble::Deciding | Trouble::DiskFull => {}
            Trouble::Flood => {
                for number in 0..FLOODERS {
                    scope.spawn(move || {
                        while !is_over.load(Relaxed) {
                            let _ = flood(self.tcp, (number % 2 == 0).then_some(self.token.as_str()), flooded);
                        }
                    });
                }
                scope.spawn(move || {
                    let mut slow: Vec<TcpStream> = Vec::new();
                    while !is_over.load(Relaxed) {
                        slow.retain_mut(|stream| stream.write_all(b"x").is_ok());
                        while slow.len() < SLOW
                            && let Ok(mut stream) = TcpStream::connect_timeout(&self.tcp, Duration::from_secs(1))
                        {
                            let _ = stream.write_all(b"GET /v1/services HTTP/1.1\r\nx-");
                            slow.push(stream);
                        }
                        thread::sleep(Duration::from_millis(200));
                    }
                });
            }
            Trouble::Deaf => {
                let socket = self.daemon.socket();
                let streams = (0..DEAF).map(|_| {
                    let mut stream = UnixStream::connect(&socket).unwrap();
                    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: serin\r\n\r\n").unwrap();
                    stream
                });
                nuisances.streams = streams.collect();
                let state = socket.parent().unwrap().to_str().unwrap();
                for _ in 0..4 {
                    let mut command = self.place.command(&["watch", "--state", state]);
                    nuisances.children.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
                }
                // They are to have begun to read before they are stopped.
                thread::sleep(Duration::from_secs(1));
                nuisances.children.iter().for_each(|child| processes::signal(child.id(), Signal::STOP));
            }
        }
        nuisances
    }
}

/// What a trouble holds.
#[derive(Default)]
struct Nuisances {
    streams: Vec<UnixStream>,
    children: Vec<Child>,
}

impl Drop for Nuisances {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Some requests on one connection.
fn flood(server: SocketAddr, token: Option<&str>, answered: &AtomicU64) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let mut answer = [0; 16 * 1024];
    for _ in 0..20 {
        write!(stream, "GET /v1/services HTTP/1.1\r\nhost: serin\r\n{token}\r\n")?;
        if stream.read(&mut answer)? == 0 {
            break;
        }
        answered.fetch_add(1, Relaxed);
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Addresses of the other services, the same each time.
fn other_address(other: usize) -> SocketAddr {
    static ADDRESSES: std::sync::LazyLock<[SocketAddr; OTHERS]> = std::sync::LazyLock::new(|| std::array::from_fn(|_| free_address()));
    ADDRESSES[other]
}

fn configuration(place: &Place, tcp: SocketAddr) -> (PathBuf, String) {
    let made = place.serin(&["--output", "json", "token", "flood", "--role", "viewer"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap_or_else(|error| panic!("{error}: {made:?}"));
    let token = json!({"name": "flood", "role": "viewer", "hash": made["hash"]});
    let config = json!({
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "Server",
        "spec": {"api": {"tcp": {"listen": tcp.to_string(), "tokens": [token]}}},
    });
    let path = place.path().join("server.yaml");
    fs::write(&path, config.to_string()).unwrap();
    (path, made["token"].as_str().unwrap().to_owned())
}
