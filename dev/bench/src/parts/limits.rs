//! Table 5.6: an absolute limit of 5 % on the canary's errors, at 5 canary requests per second: LimitE against a check per minute.

use anyhow::Result;
use serin_stats::{ArmCounts, LimitE};

use super::{Bench, Findings, cost, row};
use crate::random::Random;
use crate::summary::{Cell, Outcome};
use crate::table::Table;
use crate::traffic::STAGE_S;
use crate::wiring::{ln_single, release_thresholds};

const CANARY_RPS: f64 = 5.0;
const LIMIT: f64 = 0.05;
const CHECK_S: f64 = 60.0;
const RULES: [&str; 3] = ["check 1m", "E", "Rel"];

/// Simulates the table.
///
/// # Errors
/// If a test refuses its configuration.
pub(super) fn run(bench: &Bench) -> Result<Findings> {
    let mut cells = Vec::new();
    let title = "5.6 Errors limited to 5 %, 5 canary rps: found in 30 min, median s, mean failed requests";
    let mut table = Table::new(title, &[&["true"], &RULES[..]].concat());
    for (number, rate) in (0..).zip([0.04, 0.05, 0.1, 0.2, 1.0]) {
        let runs = bench.cell(9, number, bench.runs, |random| stage(rate, random))?;
        let name = format!("{} %", 100.0 * rate);
        let cell = Cell::new("limits", &[("true rate", &name)], &RULES, &runs);
        table.row(row(&cell, &["true rate"], cost));
        cells.push(cell);
    }
    Ok(Findings { cells, text: table.draw() })
}

fn stage(rate: f64, random: &mut Random) -> Result<Vec<Outcome>> {
    let mut test = LimitE::above(LIMIT)?;
    let thresholds = [ln_single(), release_thresholds()?.limits];
    let mut decided = [None; 3];
    let (mut now_s, mut checked_s) = (0.0, 0.0);
    let (mut minute, mut seen) = (ArmCounts::default(), ArmCounts::default());
    while decided.iter().any(Option::is_none) {
        now_s += random.waiting(1.0 / CANARY_RPS);
        while now_s >= checked_s + CHECK_S {
            checked_s += CHECK_S;
            let breached = minute.requests > 0 && minute.events as f64 > LIMIT * minute.requests as f64;
            let outcome = Outcome { decided_s: Some(checked_s), requests: seen.requests as f64, failed: seen.events as f64 };
            decided[0] = decided[0].or(breached.then_some(outcome));
            minute = ArmCounts::default();
        }
        if now_s >= f64::from(STAGE_S) {
            break;
        }
        let request = ArmCounts { requests: 1, events: u64::from(random.chance(rate)) };
        minute.add(request);
        seen.add(request);
        test.update(request);
        let outcome = Outcome { decided_s: Some(now_s), requests: seen.requests as f64, failed: seen.events as f64 };
        for (decided, threshold) in decided[1..].iter_mut().zip(thresholds) {
            *decided = decided.or((test.ln_e() >= threshold).then_some(outcome));
        }
    }
    let undecided = Outcome { decided_s: None, requests: seen.requests as f64, failed: seen.events as f64 };
    Ok(decided.map(|outcome| outcome.unwrap_or(undecided)).to_vec())
}
