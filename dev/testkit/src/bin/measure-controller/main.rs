//! Measures one controller with many releases in a test cluster: memory, processor time, and what it asks the API server for, by the audit log.
//!
//! Idle releases have everything that a release has, and both their versions are the same. Active ones are in a stage that lasts, each with a pod
//! per version, judged every few seconds by what a Prometheus scrapes from those pods. `cargo xtask bench controller` starts it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals and CI logs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "like the tests, it is over with the first thing that cannot be")]

mod objects;

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    process::{Child, Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use serin_testkit::{
    cluster::{AuditEntry, Cluster, Options, Tools},
    http, processes,
    torture::{Findings, usage},
    wait,
};

use objects::{ACTIVE, NAMESPACE};

/// What the controller may have, in KiB.
const MOST_MEMORY_KIB: u64 = 150 * 1024;
/// How long the cluster may take to have everything on a busy machine.
const PATIENCE: Duration = Duration::from_mins(10);
/// What was begun last may still be under way.
const SETTLE: Duration = Duration::from_secs(15);

/// Measure one controller with many releases in a test cluster
#[derive(Parser)]
#[command(name = "measure-controller")]
struct Args {
    /// The binary to measure; a release build where numbers matter
    #[arg(long, value_name = "PATH")]
    serin: PathBuf,
    /// Releases
    #[arg(long, default_value_t = 1_000)]
    n: usize,
    /// How many of them are under way
    #[arg(long, default_value_t = 50)]
    active: usize,
    /// How long they are watched, in seconds
    #[arg(long, default_value_t = 60)]
    watch: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let serin = match args.serin.canonicalize() {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(error) => {
            eprintln!("error: {}: {error}", args.serin.display());
            return ExitCode::from(2);
        }
    };
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let findings = measure(&serin, &tools, &args);
    if args.json {
        println!("{}", findings.json());
    } else {
        println!("{}", findings.table());
    }
    if findings.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(serin: &str, tools: &Tools, args: &Args) -> Findings {
    let mut findings = Findings::default();
    let options = Options { has_mesh: false, scrape_interval: Some(Duration::from_secs(5)), ..Options::default() };
    let cluster = Cluster::start(tools, &options.sample_app(serin));
    objects::install(&cluster);
    let active = args.active.min(args.n);
    objects::make(&cluster, args.n, active);
    let pods = |cluster: &Cluster, arm: &str| cluster.pods(NAMESPACE, &format!("arm={arm}"));
    let is_ready = |pod: &serin_testkit::cluster::Pod| pod.object["status"]["containerStatuses"][0]["ready"] == true;
    until("a pod of stable for each active release", || pods(&cluster, "stable").iter().filter(|pod| is_ready(pod)).count() >= active);
    // Counters are there from the first request on.
    pods(&cluster, "stable").iter().for_each(|pod| drop(http::get(pod.address, "/", &[])));
    until("scraped counters", || cluster.prometheus().query("http_requests_total").len() >= active);

    let controller = Controller::start(serin, &cluster);
    let begun = Instant::now();
    let phases = |cluster: &Cluster| {
        let mut phases: BTreeMap<String, usize> = BTreeMap::new();
        for release in cluster.list("serin.dev/v1alpha1", "Release", NAMESPACE) {
            *phases.entry(release["status"]["phase"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
        }
        phases
    };
    let is_all = |phases: &BTreeMap<String, usize>| {
        let of = |phase: &str| phases.get(phase).copied().unwrap_or(0);
        of("Idle") == args.n - active && of("Progressing") == active
    };
    if wait::paced(Duration::from_secs(1), PATIENCE, || is_all(&phases(&cluster)).then_some(())).is_none() {
        findings.broken(format!("not all releases are where they should be: {:?}\n{}", phases(&cluster), controller.said()));
        return findings;
    }
    findings.tell("releases", format!("{} idle, {active} in a stage", args.n - active));
    findings.tell("from the start until every status said so", format!("{:.0} s", begun.elapsed().as_secs_f64()));
    pods(&cluster, "canary").iter().for_each(|pod| drop(http::get(pod.address, "/", &[])));
    thread::sleep(SETTLE);
    watch(&cluster, &controller, Duration::from_secs(args.watch), &mut findings);
    if !is_all(&phases(&cluster)) {
        findings.broken(format!("releases moved meanwhile: {:?}", phases(&cluster)));
    }
    findings
}

fn watch(cluster: &Cluster, controller: &Controller, time: Duration, findings: &mut Findings) {
    let (_, mark) = cluster.audit(0);
    let (Some(before), start) = (usage::of(controller.0.id()), Instant::now()) else { return findings.broken("the controller is gone") };
    thread::sleep(time);
    let Some(after) = usage::of(controller.0.id()) else { return findings.broken("the controller is gone") };
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let (entries, _) = cluster.audit(mark);
    let ours: Vec<&AuditEntry> = entries.iter().filter(|entry| entry.user.starts_with("system:serviceaccount:serin:")).collect();
    findings.aim("memory (RSS)", format!("{} MiB", after.rss_kib / 1024), "below 150 MiB", after.rss_kib < MOST_MEMORY_KIB);
    let cpu = (after.cpu_ms - before.cpu_ms) as f64 / 600.0 / minutes;
    findings.tell("processor", format!("{cpu:.1} % of a core over {:.0} s", minutes * 60.0));
    findings.tell("threads, descriptors", format!("{}, {}", after.threads, after.descriptors));
    let per_minute = |count: usize| format!("{:.1} per minute", count as f64 / minutes);
    let mut kinds: BTreeMap<(String, String), usize> = BTreeMap::new();
    for entry in &ours {
        *kinds.entry((entry.resource.clone(), entry.verb.clone())).or_default() += 1;
    }
    for ((resource, verb), count) in &kinds {
        findings.tell(&format!("{verb} {resource}"), per_minute(*count));
    }
    let writes = ours.iter().copied().filter(|entry| entry.is_write() && entry.resource != "leases");
    // Events have names of their own, and name their release within.
    let (of_active, of_idle): (Vec<&AuditEntry>, Vec<&AuditEntry>) = writes.partition(|entry| {
        entry.name.starts_with(ACTIVE) || entry.body["involvedObject"]["name"].as_str().is_some_and(|name| name.starts_with(ACTIVE))
    });
    findings.aim("writes for idle releases", per_minute(of_idle.len()), "0", of_idle.is_empty());
    findings.tell("writes for active releases", per_minute(of_active.len()));
    let polls = ours.iter().filter(|entry| matches!(entry.verb.as_str(), "get" | "list") && entry.resource != "leases").count();
    findings.aim("reads beside watches and the lease", per_minute(polls), "0", polls == 0);
    if let Some(entry) = of_idle.first() {
        findings.broken(format!("a write for an idle release: {} {} {}", entry.verb, entry.resource, entry.name));
    }
}

/// The controller, until dropped.
struct Controller(Child, PathBuf);

impl Controller {
    fn start(serin: &str, cluster: &Cluster) -> Self {
        let log = cluster.path().join("controller.log");
        let file = File::create(&log).unwrap();
        let child = Command::new(serin)
            .args(["controller", "--all-namespaces", "--lease-namespace=serin"])
            .env("KUBECONFIG", cluster.service_account("serin", "controller"))
            .env(processes::MARKER, cluster.path())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self(child, log)
    }

    fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.1).unwrap_or_default();
        text.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let is_so = wait::paced(Duration::from_millis(500), PATIENCE, || condition().then_some(()));
    assert!(is_so.is_some(), "waited in vain for {what}");
}
