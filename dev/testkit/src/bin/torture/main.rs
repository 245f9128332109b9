//! Long campaigns against a real `serin serve`; `cargo xtask torture` starts them. See `serin_testkit::torture`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals and CI logs")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use serin_testkit::torture::{Findings, aborts, kills, many, usage};

/// Torture a real `serin serve`
#[derive(Parser)]
#[command(name = "torture")]
struct Args {
    /// The binary to torture; a release build where times matter
    #[arg(long, value_name = "PATH")]
    serin: PathBuf,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Subcommand)]
enum Campaign {
    /// kill -9 of control and proxies at random moments of running releases under load
    Kills {
        /// How many
        #[arg(long, default_value_t = 500)]
        n: u32,
        /// Repeats victims and pauses
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Aborts while other things go wrong: how soon the canary has no traffic
    Aborts {
        /// Aborts per trouble
        #[arg(long, default_value_t = 200)]
        n: u32,
    },
    /// Many services with a release each: memory, processor time, and how soon a bad canary is found among them
    Many {
        /// Services
        #[arg(long, default_value_t = 200)]
        n: usize,
        /// How long the idle server and the one under load are watched, in seconds
        #[arg(long, default_value_t = 30)]
        watch: u64,
        /// How often a canary turns bad, alone and beside the others
        #[arg(long, default_value_t = 10)]
        faults: u32,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Everything is started in other folders.
    let serin = match args.serin.canonicalize() {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(error) => {
            eprintln!("error: {}: {error}", args.serin.display());
            return ExitCode::from(2);
        }
    };
    let (load, median_ms, max_ms) = usage::machine();
    let mut findings: Findings = match args.campaign {
        Campaign::Kills { n, seed } => kills::run(&serin, kills::Options { kills: n, seed, services: 4, rps: 200, pause_ms: 1_500 }),
        Campaign::Aborts { n } => aborts::run(&serin, aborts::Options { aborts: n }),
        Campaign::Many { n, watch, faults } => {
            many::run(&serin, many::Options { services: n, watch: Duration::from_secs(watch), faults, structure_only: false })
        }
    };
    findings.tell("the machine at the start", format!("load {load:.1}; sleeps of 1 ms end {median_ms:.2} ms late, at most {max_ms:.1} ms"));
    if args.json {
        println!("{}", findings.json());
    } else {
        println!("{}", findings.table());
    }
    if findings.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
