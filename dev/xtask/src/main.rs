//! Tasks of the project, run as `cargo xtask …`.
//!
//! `test` is the whole check that a change must pass, on a laptop and in CI alike; `tidy` is the part of it that reads the tree
//! and knows the project's own rules; `generate` writes the documents that are made from code; `bench` measures;
//! `simulate` plays releases on bad days, `torture` does bad things to a real server, `cluster` is Kubernetes for tests. Plain `cargo test`
//! stays possible with Rust alone: it leaves out what needs real servers.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals and CI logs")]

mod bench;
mod cargo;
mod cluster;
mod exec;
mod generate;
mod metadata;
mod processes;
mod simulate;
mod test;
mod tidy;
mod torture;
mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the project")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need and run every check
    Test(test::Args),
    /// Write the documents that are made from code
    Generate,
    /// Check the tree against the project's own rules
    Tidy,
    /// Measure, with a release build: `detect`, `release` or `controller`, and its options
    Bench(cargo::HandedOn),
    /// A Kubernetes cluster of real parts: build its programs, or start one to play with
    #[command(subcommand)]
    Cluster(cluster::What),
    /// Simulate releases on bad days, with a release build; --mutations [NAME …] tests the rules
    Simulate(cargo::HandedOn),
    /// Do bad things to a real server, with a release build: `kills`, `aborts` or `many`, and its options
    Torture(cargo::HandedOn),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().task {
        Task::Test(args) => test::run(&args),
        Task::Generate => generate::run(),
        Task::Tidy => tidy::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Cluster(what) => cluster::run(&what),
        Task::Simulate(args) => simulate::run(&args),
        Task::Torture(args) => torture::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
