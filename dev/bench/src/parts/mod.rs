//! What is simulated: one file per table. A part turns seeded runs into cells and draws them as text.

mod changes;
mod fingerprints;
mod gauges;
mod grid;
mod latency;
mod limits;
mod modes;
mod onset;
mod outage;
mod pass;
mod stress;

use anyhow::Result;
use clap::ValueEnum;

use crate::parallel;
use crate::random::Random;
use crate::summary::{Cell, Column, Outcome};

pub(crate) use changes::CHANGES;
pub(crate) use fingerprints::FINGERPRINTS;
pub(crate) use grid::GRID;
pub(crate) use latency::LATENCY;
pub(crate) use modes::MODES;
pub(crate) use outage::OUTAGE;
pub(crate) use stress::{BURSTS, STRESS};

/// The parts that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// False rollbacks of equal arms
    #[value(name = "5.1")]
    FalseRollbacks,
    /// Time to rollback
    #[value(name = "5.2")]
    Times,
    /// Failed requests before rollback
    #[value(name = "5.3")]
    Failed,
    /// Latency
    #[value(name = "5.4")]
    Latency,
    /// Drift, shared outages, changing weights, private bursts
    #[value(name = "5.5")]
    Stress,
    /// Late onset, early pass, fingerprints, absolute limits
    #[value(name = "5.6")]
    Onset,
    /// Gauges
    #[value(name = "5.7")]
    Gauges,
    /// Limit mode against harm mode
    #[value(name = "modes")]
    Modes,
    /// Falling weight with slow failures
    #[value(name = "changes")]
    Changes,
    /// An outage after a healthy day at full weight
    #[value(name = "outage")]
    Outage,
}

/// What a part found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    /// Everything, for machines and for the targets.
    pub(crate) cells: Vec<Cell>,
    /// Tables, for people.
    pub(crate) text: String,
}

/// How much is simulated, and from which seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bench {
    /// Seed of all generators.
    pub(crate) seed: u64,
    /// Runs of a cell.
    pub(crate) runs: usize,
    /// Threads to use; results do not depend on it.
    pub(crate) threads: usize,
}

impl Bench {
    /// The runs of one cell, each with a generator of its own.
    ///
    /// # Errors
    /// The error of a run.
    pub(crate) fn cell<T: Send>(
        &self,
        part: u64,
        cell: u64,
        runs: usize,
        body: impl Fn(&mut Random) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        parallel::map(self.threads, runs, |run| body(&mut Random::new(self.seed, part, cell, run as u64)))
    }

    /// A part of the runs for cells that take long: at least 20.
    pub(crate) fn fewer(&self, divisor: usize) -> usize {
        (self.runs / divisor).max(self.runs.min(20))
    }

    /// More runs for cells of equal arms, where the events to count are rare.
    pub(crate) fn healthy_runs(&self) -> usize {
        4 * self.runs
    }
}

/// Simulates the wanted parts, in their order.
///
/// # Errors
/// If a test refuses its configuration.
pub(crate) fn run(bench: &Bench, wanted: &[Part]) -> Result<Findings> {
    let wants = |part| wanted.contains(&part);
    let mut all = Findings::default();
    let mut add = |found: Result<Findings>| -> Result<()> {
        let found = found?;
        all.cells.extend(found.cells);
        all.text.push_str(&found.text);
        Ok(())
    };
    if wants(Part::FalseRollbacks) || wants(Part::Times) || wants(Part::Failed) {
        add(grid::run(bench, wanted))?;
    }
    for (part, run) in SINGLE {
        if wants(*part) {
            for one in *run {
                add(one(bench))?;
            }
        }
    }
    Ok(all)
}

type Run = fn(&Bench) -> Result<Findings>;

const SINGLE: &[(Part, &[Run])] = &[
    (Part::Latency, &[latency::run]),
    (Part::Stress, &[stress::run]),
    (Part::Onset, &[onset::run, pass::run, fingerprints::run, limits::run]),
    (Part::Gauges, &[gauges::run]),
    (Part::Modes, &[modes::run]),
    (Part::Changes, &[changes::run]),
    (Part::Outage, &[outage::run]),
];

/// A share of runs as people read it.
fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// A median as people read it: `>` if most runs did not decide.
fn seconds(median_s: Option<f64>) -> String {
    match median_s {
        None => ">".to_owned(),
        Some(s) if s < 10.0 => format!("{s:.1}"),
        Some(s) => format!("{s:.0}"),
    }
}

/// A mean count as people read it.
fn amount(mean: f64) -> String {
    if mean >= 1_000.0 { format!("{mean:.0}") } else { format!("{mean:.1}") }
}

/// A row of a table: these labels of the cell, then what each of its rules came to.
fn row(cell: &Cell, labels: &[&str], words: impl Fn(&Column) -> String) -> Vec<String> {
    labels.iter().map(|name| cell.label(name).to_owned()).chain(cell.columns.iter().map(words)).collect()
}

/// The share of runs in which a rule decided.
fn decided(column: &Column) -> String {
    percent(column.tally.share())
}

/// The median time to a decision.
fn median(column: &Column) -> String {
    seconds(column.tally.median_s)
}

/// The share of runs with a decision, the median time to it, and the mean of failed requests.
fn cost(column: &Column) -> String {
    format!("{} {:>5} {:>6}", decided(column), median(column), amount(column.tally.mean_failed))
}

/// One outcome per rule from plain decisions.
fn decisions(decided: &[bool]) -> Vec<Outcome> {
    decided.iter().map(|decided| Outcome::of(*decided)).collect()
}
