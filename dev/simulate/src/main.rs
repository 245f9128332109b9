//! Simulation of releases: one seed is one release, with a plan and a bad day made from the seed. What goes wrong is in
//! `scenario`, what it goes wrong in is in `world`, and what must hold all the same is in `rules`.
//!
//! Nothing here depends on time, threads or addresses: a seed that breaks a rule breaks it again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals and CI logs")]

mod campaign;
mod random;
mod report;
mod rules;
mod scenario;
mod shrink;
mod transcript;
mod world;

use std::{process::ExitCode, thread, time::Instant};

use anyhow::{Context as _, Result};
use clap::Parser;

use scenario::{Cut, Kind, Kinds};

#[derive(Parser)]
#[command(name = "serin-simulate", about = "Simulates releases on bad days and checks the rules that no release may break")]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this seed alone and tell its story
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// With --seed: only these kinds of faults
    #[arg(long, value_delimiter = ',', value_name = "KIND,…", requires = "seed")]
    only: Option<Vec<String>>,
    /// With --seed: the world turns good after this share of its bad time, in percent
    #[arg(long, default_value_t = 100, requires = "seed", value_parser = clap::value_parser!(u64).range(0..=100))]
    horizon: u64,
    /// Stop at the first seed that breaks a rule
    #[arg(long)]
    fail_fast: bool,
    /// One JSON document instead of words
    #[arg(long)]
    json: bool,
    /// Threads [default: all cores]; results do not depend on it
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every rule held.
fn run(args: &Args) -> Result<bool> {
    if let Some(seed) = args.seed {
        let cut = Cut { allowed: allowed(args.only.as_deref())?, horizon_percent: args.horizon };
        let (story, held) = report::story(seed, cut, None);
        print!("{story}");
        return Ok(held);
    }
    let threads = args.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let started = Instant::now();
    let results = campaign::run(args.from..args.from.saturating_add(args.seeds), threads, args.fail_fast);
    let took = started.elapsed();
    if args.json {
        println!("{}", report::json(args.from, &results, took, threads)?);
    } else {
        print!("{}{}", report::words(args.from, &results, took, threads), report::broken(&results));
    }
    Ok(results.broken.is_empty())
}

fn allowed(only: Option<&[String]>) -> Result<Kinds> {
    let Some(names) = only else { return Ok(Kinds::ALL) };
    names.iter().filter(|name| !name.is_empty()).try_fold(Kinds::NONE, |kinds, name| {
        Ok(kinds.with(Kind::from_name(name).with_context(|| format!("no kind of fault is called {name}"))?))
    })
}
