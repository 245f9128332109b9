//! A weight that falls from 50 to 5 % while failures take seconds to be known: equal arms, weights taken at assignment or at completion.
//!
//! Failures that were assigned at 50 % and come to light at 5 % look like ten times too many. Counting them at the weight of their
//! assignment is what the proxy does; the other column shows why.

use anyhow::Result;
use serin_stats::{Batch, RatioConfig, RatioE, Share};

use super::{Bench, Findings, decided, row};
use crate::random::Random;
use crate::summary::{Cell, HEALTHY, Outcome};
use crate::table::Table;
use crate::traffic::{Event, Rates, STAGE_S, Sampler, spread};
use crate::wiring::{ReleaseErrors, ln_single};

/// The name of these cells.
pub(crate) const CHANGES: &str = "changes";

const BASE: f64 = 0.01;
/// When the weight falls.
const FALLS_AT_S: f64 = 300.0;
const RULES: [&str; 3] = ["completion", "assignment", "assignment Rel"];

/// Simulates the table.
///
/// # Errors
/// If a test refuses its configuration.
pub(super) fn run(bench: &Bench) -> Result<Findings> {
    let mut cells = Vec::new();
    let title = "Weight 50 -> 5 % after 300 s, equal arms with 1 % errors: false rollbacks by the moment whose weight is taken";
    let mut table = Table::new(title, &[&["rps", "failures take"], &RULES[..]].concat());
    let cases = [100.0, 1_000.0].into_iter().flat_map(|rps| [5.0, 10.0, 30.0].map(|delay_s| (rps, delay_s)));
    for (number, (rps, delay_s)) in (0..).zip(cases) {
        let runs = bench.cell(11, number, bench.runs, |random| stage(rps, delay_s, random))?;
        let (rps, delay) = (rps.to_string(), format!("{delay_s} s"));
        let cell = Cell::new(CHANGES, &[("rps", &rps), ("failures take", &delay), ("fault", HEALTHY)], &RULES, &runs);
        table.row(row(&cell, &["rps", "failures take"], decided));
        cells.push(cell);
    }
    Ok(Findings { cells, text: table.draw() })
}

fn stage(rps: f64, delay_s: f64, random: &mut Random) -> Result<Vec<Outcome>> {
    let weight_at = |at_s: f64| if at_s < FALLS_AT_S { 0.5 } else { 0.05 };
    let sampler = |weight| Sampler::new(Rates { rps, weight, stable_error: BASE, canary_error: BASE });
    let samplers = [sampler(0.5)?, sampler(0.05)?];
    let mut tests = [RatioE::new(&RatioConfig::fail(1.0, 1.5))?, RatioE::new(&RatioConfig::fail(1.0, 1.5))?];
    let mut release = ReleaseErrors::new()?;
    let mut decided = [None; 3];
    let mut events: Vec<Event> = Vec::new();
    for second in 0..STAGE_S {
        let start_s = f64::from(second);
        let (canary, stable) = samplers[usize::from(start_s >= FALLS_AT_S)].draw(random);
        events.clear();
        // With one delay for all, failures come to light in the order in which they were assigned.
        spread(start_s, canary.events, stable.events, random, &mut events);
        for event in &events {
            let batch = |moment_s| -> Result<Batch> {
                let weight = Share::new(weight_at(moment_s))?;
                Ok(Batch { canary_events: u64::from(event.is_canary), stable_events: u64::from(!event.is_canary), weight })
            };
            let (completion, assignment) = (batch(event.at_s + delay_s)?, batch(event.at_s)?);
            tests[0].update(completion);
            tests[1].update(assignment);
            let is_enough = [tests[0].ln_e() >= ln_single(), tests[1].ln_e() >= ln_single(), release.update(assignment)];
            for (decided, is_enough) in decided.iter_mut().zip(is_enough) {
                *decided = decided.or(is_enough.then_some(event.at_s + delay_s));
            }
        }
    }
    Ok(decided.map(Outcome::at).to_vec())
}
