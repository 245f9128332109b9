//! Table 5.6: errors by class. A new kind of error, or a rare one that becomes frequent, hides in the total.
//!
//! Stable's 0.5 % of errors is four known classes; the last of them makes 2 % of the errors.

use anyhow::Result;
use serin_stats::{ClassEvents, FingerprintE, RatioConfig, Share};

use super::{Bench, Findings, cost, row};
use crate::random::Random;
use crate::summary::{Cell, HEALTHY, Outcome};
use crate::table::Table;
use crate::traffic::{STAGE_S, WEIGHT};
use crate::wiring::{ln_single, release_thresholds};

/// The name of these cells.
pub(crate) const FINGERPRINTS: &str = "fingerprints";

const RPS: f64 = 100.0;
/// Stable's rate of each known class, the most frequent first; the fifth place is for a class that it does not have.
const STABLE: [f64; 5] = [0.003, 0.00125, 0.00065, 0.0001, 0.0];
const RULES: [&str; 3] = ["total", "classes", "classes Rel"];

/// Simulates the table.
///
/// # Errors
/// If a test refuses its configuration.
pub(super) fn run(bench: &Bench) -> Result<Findings> {
    let [a, b, c, rare, _] = STABLE;
    let faults = [
        (HEALTHY, STABLE),
        ("new class +.5 %", [a, b, c, rare, 0.005]),
        ("new class +.25 %", [a, b, c, rare, 0.0025]),
        ("rare class x20", [a, b, c, 20.0 * rare, 0.0]),
        ("2x uniform", STABLE.map(|rate| 2.0 * rate)),
    ];
    let mut cells = Vec::new();
    let mut table = Table::new(
        "5.6 Errors by class, 100 rps, 0.5 % errors: found in 30 min, median s, mean failed requests",
        &[&["fault"], &RULES[..]].concat(),
    );
    for (number, (fault, canary)) in (0..).zip(faults) {
        let runs = bench.cell(8, number, bench.runs, |random| stage(&canary, random))?;
        let cell = Cell::new(FINGERPRINTS, &[("fault", fault)], &RULES, &runs);
        table.row(row(&cell, &["fault"], cost));
        cells.push(cell);
    }
    Ok(Findings { cells, text: table.draw() })
}

fn stage(canary: &[f64; 5], random: &mut Random) -> Result<Vec<Outcome>> {
    let mut test = FingerprintE::new(&RatioConfig::fail(1.0, 1.5), &[0, 1, 2, 3])?;
    let weight = Share::new(WEIGHT)?;
    // Events per second by arm and class.
    let rates = [STABLE.map(|rate| rate * RPS * (1.0 - WEIGHT)), canary.map(|rate| rate * RPS * WEIGHT)];
    let total: f64 = rates.iter().flatten().sum();
    let thresholds = [ln_single(), ln_single(), release_thresholds()?.errors];
    let mut decided = [None; 3];
    let (mut now_s, mut failed) = (0.0, 0.0);
    loop {
        now_s += random.waiting(1.0 / total);
        if now_s > f64::from(STAGE_S) || decided.iter().all(Option::is_some) {
            break;
        }
        let (is_canary, class) = pick(&rates, random.unit() * total);
        failed += f64::from(u8::from(is_canary));
        test.update(weight, &[ClassEvents { class, canary_events: u64::from(is_canary), stable_events: u64::from(!is_canary) }]);
        let outcome = Outcome { decided_s: Some(now_s), requests: now_s * RPS * WEIGHT, failed };
        for ((decided, threshold), ln_e) in decided.iter_mut().zip(thresholds).zip([test.ln_e_total(), test.ln_e(), test.ln_e()]) {
            *decided = decided.or((ln_e >= threshold).then_some(outcome));
        }
    }
    let undecided = Outcome { decided_s: None, requests: f64::from(STAGE_S) * RPS * WEIGHT, failed };
    Ok(decided.map(|outcome| outcome.unwrap_or(undecided)).to_vec())
}

/// The arm and class at a position within the summed rates.
fn pick(rates: &[[f64; 5]; 2], mut position: f64) -> (bool, u64) {
    let mut last = (false, 0);
    for (arm, classes) in rates.iter().enumerate() {
        for (class, rate) in (0..).zip(classes) {
            if *rate > 0.0 {
                last = (arm == 1, class);
                if position < *rate {
                    return last;
                }
                position -= rate;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_fall_into_arms_and_classes_and_rounding_into_the_last() {
        let rates = [[1.0, 0.0, 0.0, 2.0, 0.0], [0.0, 3.0, 0.0, 0.0, 0.0]];
        for (position, expected) in [(0.5, (false, 0)), (2.9, (false, 3)), (3.5, (true, 1)), (6.0, (true, 1))] {
            assert_eq!(pick(&rates, position), expected);
        }
    }
}
