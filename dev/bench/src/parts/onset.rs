//! Table 5.6: faults that begin late. The reserve pays for them; without it the test has to earn back what it lost while all was well.

use anyhow::Result;
use serin_stats::RatioConfig;

use super::{Bench, Findings, median, row};
use crate::rules::{Ours, Pace, Rule};
use crate::summary::{Cell, Outcome};
use crate::table::Table;
use crate::traffic::{Rates, STAGE_S, WEIGHT, play};
use crate::wiring::ln_single;

const BASE: f64 = 0.005;
const RULES: [&str; 3] = ["E", "E without reserve", "Rel"];

/// Simulates the table.
///
/// # Errors
/// If a test refuses its configuration.
pub(super) fn run(bench: &Bench) -> Result<Findings> {
    let mut cells = Vec::new();
    let mut table =
        Table::new("5.6 Late onset: median seconds from the onset, 100 rps, 0.5 % errors", &[&["fault", "onset s"], &RULES[..]].concat());
    for (index, ratio) in [2.0, 5.0, 20.0].into_iter().enumerate() {
        for onset_s in [0, 300, 900] {
            let runs = bench.cell(6, u64::from(onset_s) + index as u64, bench.runs, |random| late(ratio, onset_s, random))?;
            let (fault, onset) = (format!("{ratio}x"), onset_s.to_string());
            let cell = Cell::new("onset", &[("fault", &fault), ("onset s", &onset)], &RULES, &runs);
            table.row(row(&cell, &["fault", "onset s"], median));
            cells.push(cell);
        }
    }
    Ok(Findings { cells, text: table.draw() })
}

/// Times from the onset; a rollback before it counts as none.
fn late(ratio: f64, onset_s: u32, random: &mut crate::random::Random) -> Result<Vec<Outcome>> {
    let rates = |second| {
        let canary_error = if second < onset_s { BASE } else { BASE * ratio };
        Rates { rps: 100.0, weight: WEIGHT, stable_error: BASE, canary_error }
    };
    let config = RatioConfig::fail(1.0, 1.5);
    let mut rules: Vec<Box<dyn Rule>> = vec![
        Box::new(Ours::new(Pace::Event, ln_single())?),
        Box::new(Ours::with(&RatioConfig { at_once: 1.0, ..config }, Pace::Event, ln_single())?),
        Box::new(Ours::in_release(Pace::Event)?),
    ];
    let outcomes = play(onset_s + STAGE_S, rates, &mut rules, random)?;
    let from_onset = |at_s: f64| (at_s >= f64::from(onset_s)).then_some(at_s - f64::from(onset_s));
    Ok(outcomes.into_iter().map(|outcome| Outcome { decided_s: outcome.decided_s.and_then(from_onset), ..outcome }).collect())
}
