//! `cargo xtask test`: everything that a change must pass, step by step, cheap steps first.
//!
//! A step that fails ends the run (unless told to go on); the steps after it are shown as not run. What a step prints streams
//! through, so that the tests' own closing lines stand in the log. The table at the end is for people; the exit code is for machines.

mod deny;
mod leftovers;
mod packages;
mod policy;
mod steps;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::tree;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run these steps only (in the usual order)
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STEP,…")]
    only: Vec<Step>,
    /// Run the other steps too when one fails
    #[arg(long)]
    keep_going: bool,
}

/// The steps, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// cargo fmt --check
    Fmt,
    /// The project's own rules
    Tidy,
    /// Licences, banned packages and sources of all dependencies (installs cargo-deny)
    Deny,
    /// Debian packages of the real servers and tools that the tests use
    Packages,
    /// Programs of the test cluster (built by Go once and kept in a cache) and Envoy
    Cluster,
    /// clippy, warnings are errors
    Clippy,
    /// Documentation of all crates, warnings are errors
    Doc,
    /// All tests, with real servers; then nothing of ours may be left running
    Test,
    /// Ten thousand simulated releases on bad days, from a release build
    Simulate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed(Duration),
    Failed(Duration),
    NotRun,
}

/// Runs the steps.
///
/// # Errors
/// If one fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = tree::root()?;
    let wanted = |step: &Step| args.only.is_empty() || args.only.contains(step);
    let mut outcomes = Vec::new();
    let mut goes_on = true;
    for step in Step::value_variants().iter().copied().filter(wanted) {
        if !goes_on {
            outcomes.push((step, Outcome::NotRun));
            continue;
        }
        println!("\n=== {} ===", name(step));
        let started = Instant::now();
        let result = steps::run(step, &root);
        let took = started.elapsed();
        let outcome = if result.is_ok() { Outcome::Passed(took) } else { Outcome::Failed(took) };
        if let Err(error) = result {
            println!("{} failed: {error:#}", name(step));
            goes_on = args.keep_going;
        }
        outcomes.push((step, outcome));
    }
    print!("\n{}", table(&outcomes));
    let failed: Vec<&str> =
        outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_))).map(|(step, _)| name(*step)).collect();
    if !failed.is_empty() {
        bail!("failed: {} (again: `cargo xtask test --only {}`)", failed.join(", "), failed.join(","));
    }
    println!("all steps passed");
    Ok(())
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Fmt => "fmt",
        Step::Tidy => "tidy",
        Step::Deny => "deny",
        Step::Packages => "packages",
        Step::Cluster => "cluster",
        Step::Clippy => "clippy",
        Step::Doc => "doc",
        Step::Test => "test",
        Step::Simulate => "simulate",
    }
}

fn table(outcomes: &[(Step, Outcome)]) -> String {
    let mut table = row("step", "result", "time");
    let mut total = Duration::ZERO;
    for (step, outcome) in outcomes {
        let (word, took) = match outcome {
            Outcome::Passed(took) => ("passed", Some(*took)),
            Outcome::Failed(took) => ("FAILED", Some(*took)),
            Outcome::NotRun => ("not run", None),
        };
        total += took.unwrap_or_default();
        table += &row(name(*step), word, &took.map_or_else(|| "-".to_owned(), in_seconds));
    }
    table + &row("total", "", &in_seconds(total))
}

fn row(step: &str, result: &str, time: &str) -> String {
    format!("{step:<10}{result:<9}{time:>9}\n")
}

fn in_seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for step in Step::value_variants() {
            assert_eq!(step.to_possible_value().unwrap().get_name(), name(*step));
        }
    }

    #[test]
    fn the_table_shows_each_step_and_the_sum() {
        let outcomes = [
            (Step::Fmt, Outcome::Passed(Duration::from_millis(1500))),
            (Step::Clippy, Outcome::Failed(Duration::from_secs(100))),
            (Step::Test, Outcome::NotRun),
        ];
        let expected = "\
step      result        time
fmt       passed       1.5 s
clippy    FAILED     100.0 s
test      not run          -
total                101.5 s
";
        assert_eq!(table(&outcomes), expected);
    }
}
