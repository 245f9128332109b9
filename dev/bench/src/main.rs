//! Benchmarks of detection: how soon a bad canary is found, at what cost in failed requests, and how often a good one is blamed.
//!
//! Simulated traffic with a fixed seed, so that anyone can repeat the numbers. The definition is in `docs/benchmark-detection.md`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals and CI logs")]

mod bounds;
mod comparison;
mod latency;
mod parallel;
mod parts;
mod random;
mod rules;
mod summary;
mod table;
mod targets;
mod traffic;
mod wiring;

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum as _};
use serde::Serialize;

use crate::parts::{Bench, Part};
use crate::summary::Cell;
use crate::targets::Target;

#[derive(Parser)]
#[command(name = "serin-bench", about = "Benchmarks of detection")]
struct Args {
    #[command(subcommand)]
    bench: What,
}

#[derive(Subcommand)]
enum What {
    /// Simulate releases and compare rollback rules
    Detect(Detect),
}

#[derive(clap::Args)]
struct Detect {
    /// Fewer runs: under two minutes on two cores, error bars three times as wide
    #[arg(long)]
    quick: bool,
    /// One JSON document with every cell instead of tables
    #[arg(long)]
    json: bool,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs of a cell [default: 1000, with --quick 100]
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..))]
    runs: Option<u32>,
    /// Threads [default: all cores]; results do not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// Only these parts; may be given several times
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    /// Exit with 1 if a target is short
    #[arg(long)]
    strict: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    seed: u64,
    runs: usize,
    targets: &'a [Target],
    cells: &'a [Cell],
}

fn main() -> ExitCode {
    let What::Detect(args) = Args::parse().bench;
    match detect(&args) {
        Ok(short) if short && args.strict => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a target is short.
fn detect(args: &Detect) -> Result<bool> {
    let started = Instant::now();
    let runs = args.runs.map_or(if args.quick { 100 } else { 1_000 }, |runs| runs as usize);
    let threads = args.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let bench = Bench { seed: args.seed, runs, threads };
    let wanted = if args.part.is_empty() { Part::value_variants() } else { &args.part };
    let found = parts::run(&bench, wanted)?;
    let targets = targets::judge(&found.cells);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&Document { seed: bench.seed, runs, targets: &targets, cells: &found.cells })?);
    } else {
        println!(
            "seed {}, {runs} runs a cell; {} for equal arms in 5.1 and 5.5 (not under private bursts)\n",
            bench.seed,
            bench.healthy_runs()
        );
        print!("{}", found.text);
        print!("{}", comparison::draw(&found.cells));
        print!("{}", targets::draw(&targets));
    }
    eprintln!("{:.0} s on {threads} threads", started.elapsed().as_secs_f64());
    Ok(targets.iter().any(|target| !target.ok))
}
