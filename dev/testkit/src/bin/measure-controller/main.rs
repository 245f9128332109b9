//! Measures one controller with many releases in a test cluster: memory, processor time, and what it asks the API server for, by the audit log.
//! Controllers of other projects are measured in the same way, each in a cluster of its own, one after the other.
//!
//! Idle releases have everything that a release has, and nothing to do. Active ones are in a stage that lasts, each with a pod per version,
//! judged every 15 seconds by what a Prometheus scrapes from those pods. `cargo xtask bench controller` starts it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals and CI logs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "like the tests, it is over with the first thing that cannot be")]

mod argo_rollouts;
mod compared;
mod figures;
mod flagger;
mod objects;
mod serin;
mod subject;

use std::{
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use serin_testkit::{
    cluster::{Cluster, Options, Tools},
    torture::Findings,
};

use argo_rollouts::ArgoRollouts;
use figures::Figures;
use flagger::Flagger;
use serin::Serin;
use subject::{Load, Subject};

/// What the controller may have, in MiB.
const MOST_MEMORY_MIB: f64 = 150.0;
/// What was begun last may still be under way.
const SETTLE: Duration = Duration::from_secs(15);

/// Measure one controller with many releases in a test cluster
#[derive(Parser)]
#[command(name = "measure-controller")]
struct Args {
    /// The binary to measure; a release build where numbers matter
    #[arg(long, value_name = "PATH")]
    serin: PathBuf,
    /// The folder with the built controllers of other projects; without it they are left out
    #[arg(long, value_name = "PATH")]
    peers: Option<PathBuf>,
    /// Leave the controllers of other projects out
    #[arg(long)]
    alone: bool,
    /// Releases
    #[arg(long, default_value_t = 1_000)]
    n: usize,
    /// How many of them are under way
    #[arg(long, default_value_t = 50)]
    active: usize,
    /// How long they are watched, in seconds
    #[arg(long, default_value_t = 60)]
    watch: u64,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match measure_all(&args) {
        Ok(is_ok) if is_ok => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all targets are reached.
fn measure_all(args: &Args) -> Result<bool, String> {
    let serin = args.serin.canonicalize().map_err(|error| format!("{}: {error}", args.serin.display()))?.to_string_lossy().into_owned();
    let tools = Tools::find()?;
    let load = Load { releases: args.n, active: args.active.min(args.n) };
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(Serin(serin.clone()))];
    if let Some(peers) = args.peers.as_ref().filter(|_| !args.alone) {
        subjects.push(Box::new(ArgoRollouts::at(peers.join("argo-rollouts"))?));
        subjects.push(Box::new(Flagger::at(peers.join("flagger"))?));
    }
    let mut findings = Findings::default();
    let mut measured = Vec::new();
    for (number, subject) in subjects.iter().enumerate() {
        eprintln!("measuring {}", subject.name());
        match measure(subject.as_ref(), &serin, &tools, load, args.watch) {
            Ok((took, figures)) => {
                if number == 0 {
                    tell(&mut findings, load, took, &figures);
                }
                measured.push((subject.name().to_owned(), figures));
            }
            Err(error) => findings.broken(format!("{}: {error}", subject.name())),
        }
    }
    if args.json {
        println!("{}", serde_json::json!({"serin": findings.json(), "compared": compared::json(&measured)}));
    } else {
        println!("{}", findings.table());
        if measured.len() > 1 {
            println!("{}", compared::table(&measured));
        }
    }
    Ok(findings.is_ok())
}

/// How long it took until all was where it should be, and what was seen then.
fn measure(subject: &dyn Subject, serin: &str, tools: &Tools, load: Load, seconds: u64) -> Result<(Duration, Figures), String> {
    let options = Options { has_mesh: false, scrape_interval: Some(Duration::from_secs(5)), ..Options::default() };
    let cluster = Cluster::start(tools, &options.sample_app(serin));
    let begun = Instant::now();
    let controller = subject.begin(&cluster, load)?;
    let took = begun.elapsed();
    thread::sleep(SETTLE);
    let figures =
        Figures::take(&cluster, controller.id(), subject.account(), Duration::from_secs(seconds)).ok_or("the controller is gone")?;
    match subject.phases(&cluster, load) {
        (_, true) => Ok((took, figures)),
        (phases, false) => Err(format!("releases moved meanwhile: {phases:?}")),
    }
}

fn tell(findings: &mut Findings, load: Load, took: Duration, figures: &Figures) {
    findings.tell("releases", format!("{} idle, {} in a stage", load.releases - load.active, load.active));
    findings.tell("until all was made and every status said so", format!("{:.0} s", took.as_secs_f64()));
    let memory = figures.memory_mib;
    findings.aim("memory (RSS)", format!("{memory:.0} MiB"), "below 150 MiB", memory < MOST_MEMORY_MIB);
    findings.tell("processor", format!("{:.1} % of a core over {:.0} s", figures.processor, figures.minutes * 60.0));
    findings.tell("threads, descriptors", format!("{}, {}", figures.threads, figures.descriptors));
    let per_minute = |count: usize| format!("{:.1} per minute", figures.per_minute(count));
    for (what, count) in &figures.requests {
        findings.tell(what, per_minute(*count));
    }
    findings.aim("writes for idle releases", per_minute(figures.idle_writes), "0", figures.idle_writes == 0);
    findings.tell("writes for active releases", per_minute(figures.active_writes));
    findings.aim("reads beside watches and the lease", per_minute(figures.reads), "0", figures.reads == 0);
    if let Some(write) = &figures.idle_write {
        findings.broken(format!("a write for an idle release: {write}"));
    }
}
