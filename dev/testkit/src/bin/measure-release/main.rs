//! Measures real releases under the sequential judge: how many requests a bad canary spoils before its traffic is gone, how long
//! that takes, and whether an equal canary is ever rolled back.
//!
//! Every number comes from a release with its own proxy, apps and load on loopback; nothing is simulated, so numbers differ from
//! run to run. What runs at the same time shares the machine: too many `--jobs` show as times that are longer than they need be.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals and CI logs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "like the tests, it is over with the first thing that cannot be")]

mod equals;
mod faults;
mod table;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
};

use clap::Parser;

use self::{
    equals::{Equal, EqualRun},
    faults::{Fault, Found},
};

/// Measure real releases under the sequential judge
#[derive(Parser)]
#[command(name = "measure-release")]
struct Args {
    /// The binary to measure; a release build
    #[arg(long, value_name = "PATH")]
    serin: PathBuf,
    /// Releases per fault
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Releases at the same time
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// Only these faults, by a part of their name; may be given several times
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Without the releases of equal versions
    #[arg(long)]
    faults_only: bool,
}

/// One release to run.
#[derive(Clone, Copy)]
enum Job {
    Equal(&'static Equal),
    Fault(usize, &'static Fault, u32),
}

/// What came of everything.
#[derive(Default)]
struct Results {
    /// `None` for releases that broke off.
    equals: Vec<(&'static Equal, Option<EqualRun>)>,
    /// By the fault's position; `None` for releases that broke off or were not rolled back.
    faults: Vec<(usize, Option<Found>)>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let serin = args.serin.to_string_lossy().into_owned();
    let faults: Vec<&'static Fault> = faults::FAULTS.iter().filter(|fault| is_wanted(fault.name, &args.only)).collect();
    let mut jobs: VecDeque<Job> = VecDeque::new();
    if !args.faults_only && args.only.is_empty() {
        jobs.extend(equals::EQUALS.iter().map(Job::Equal));
    }
    let runs = faults.iter().enumerate().flat_map(|(index, fault)| (0..args.runs).map(move |number| Job::Fault(index, fault, number)));
    jobs.extend(runs);
    let results = run_all(jobs, args.jobs, &serin);
    let (text, is_ok) = table::render(&faults, &results, args.runs, args.jobs);
    println!("{text}");
    if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_wanted(name: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|part| name.contains(part.as_str()))
}

fn run_all(jobs: VecDeque<Job>, workers: u32, serin: &str) -> Results {
    let (all, queue, results) = (jobs.len(), Mutex::new(jobs), Mutex::new(Results::default()));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(job) = next else { break };
                    run_one(job, serin, &results);
                    let results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    eprintln!("{} of {all}", results.equals.len() + results.faults.len());
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A release that breaks off says why on stderr and is counted as such.
fn run_one(job: Job, serin: &str, results: &Mutex<Results>) {
    match job {
        Job::Equal(equal) => {
            let run = catch_unwind(AssertUnwindSafe(|| equals::run(equal, serin))).ok();
            results.lock().unwrap_or_else(PoisonError::into_inner).equals.push((equal, run));
        }
        Job::Fault(index, fault, number) => {
            let found = catch_unwind(AssertUnwindSafe(|| faults::run(fault, number, serin))).ok().flatten();
            results.lock().unwrap_or_else(PoisonError::into_inner).faults.push((index, found));
        }
    }
}
