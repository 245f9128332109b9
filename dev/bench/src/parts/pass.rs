//! Table 5.6: how soon a healthy canary passes, and how often one that is exactly at the tolerance does.
//!
//! Both halves of the PASS process on their own and together as they are used, second by second, with ten minutes of stable before.

use anyhow::Result;
use serin_stats::{ArmsBatch, Batch, DEFAULT_BETA, DEFAULT_MARGIN, DiffE, PassE, RatioConfig, RatioE, StableRate};

use super::{Bench, Findings, decided, median, row};
use crate::random::Random;
use crate::summary::{Cell, Column, HEALTHY, Outcome};
use crate::table::Table;
use crate::traffic::{BEFORE_S, Rates, STAGE_S, Sampler, WEIGHT};

const RULES: [&str; 4] = ["<1.5x", "<2x", "<+0.5 pp", "either"];

/// Traffic per second and base rate.
const TRAFFIC: [(f64, f64); 8] =
    [(100.0, 0.0005), (100.0, 0.005), (100.0, 0.01), (100.0, 0.02), (1_000.0, 0.0005), (1_000.0, 0.005), (1_000.0, 0.01), (1_000.0, 0.02)];

/// Simulates the tables.
///
/// # Errors
/// If a test refuses its configuration.
pub(super) fn run(bench: &Bench) -> Result<Findings> {
    let mut cells = Vec::new();
    let mut table = Table::new("5.6 Median seconds until a healthy canary passes", &[&["rps", "base"], &RULES[..]].concat());
    for (number, (rps, base)) in (0..).zip(TRAFFIC) {
        let cell = simulate(bench, number, bench.runs, &equal(rps, base), HEALTHY)?;
        table.row(row(&cell, &["rps", "base"], median));
        cells.push(cell);
    }
    let mut text = table.draw();
    let mut table =
        Table::new("5.6 Canaries exactly at a tolerance that pass within 30 min", &[&["rps", "base", "canary"], &RULES[..]].concat());
    for (number, (rps, base)) in (100..).step_by(3).zip(TRAFFIC.into_iter().filter(|(_, base)| *base >= 0.005)) {
        // The tolerance of both halves together is the larger of the two.
        let either = (1.5 * base).max(base + DEFAULT_MARGIN);
        for (more, (fault, canary_error)) in
            [("1.5x", 1.5 * base), ("+0.5 pp", base + DEFAULT_MARGIN), ("the larger", either)].into_iter().enumerate()
        {
            let rates = Rates { canary_error, ..equal(rps, base) };
            let cell = simulate(bench, number + more as u64, 3 * bench.runs, &rates, fault)?;
            let own = |rule: &str| matches!((fault, rule), ("1.5x", "<1.5x") | ("+0.5 pp", "<+0.5 pp") | ("the larger", "either"));
            let words = |column: &Column| if own(column.rule) { decided(column) } else { "-".to_owned() };
            table.row(row(&cell, &["rps", "base", "fault"], words));
            cells.push(cell);
        }
    }
    text.push_str(&table.draw());
    Ok(Findings { cells, text })
}

fn equal(rps: f64, base: f64) -> Rates {
    Rates { rps, weight: WEIGHT, stable_error: base, canary_error: base }
}

fn simulate(bench: &Bench, number: u64, runs: usize, rates: &Rates, fault: &str) -> Result<Cell> {
    let runs = bench.cell(7, number, runs, |random| stage(rates, random))?;
    let labels = [("rps", rates.rps.to_string()), ("base", format!("{:.2}%", 100.0 * rates.stable_error)), ("fault", fault.to_owned())];
    Ok(Cell::new("pass", &labels.each_ref().map(|(name, value)| (*name, value.as_str())), &RULES, &runs))
}

fn stage(rates: &Rates, random: &mut Random) -> Result<Vec<Outcome>> {
    let (sampler, weight) = (Sampler::new(*rates)?, rates.share()?);
    let mut past = StableRate::default();
    for _ in 0..BEFORE_S {
        past.add(sampler.draw(random).1);
    }
    let [mut narrow, mut wide] = [RatioE::new(&RatioConfig::pass(1.5))?, RatioE::new(&RatioConfig::pass(2.0))?];
    let mut difference = DiffE::pass_below(DEFAULT_MARGIN, past)?;
    let mut either = PassE::new(1.5, DEFAULT_MARGIN, past)?;
    let ln_threshold = -DEFAULT_BETA.ln();
    let mut decided = [None; 4];
    for second in 1..=STAGE_S {
        let (canary, stable) = sampler.draw(random);
        let arms = ArmsBatch { canary, stable, weight };
        let batch = Batch { canary_events: canary.events, stable_events: stable.events, weight };
        narrow.update(batch);
        wide.update(batch);
        difference.update(arms);
        either.update(arms);
        for (decided, ln_e) in decided.iter_mut().zip([narrow.ln_e(), wide.ln_e(), difference.ln_e(), either.ln_e()]) {
            *decided = decided.or((ln_e >= ln_threshold).then_some(f64::from(second)));
        }
        if decided.iter().all(Option::is_some) {
            break;
        }
    }
    Ok(decided.map(Outcome::at).to_vec())
}
