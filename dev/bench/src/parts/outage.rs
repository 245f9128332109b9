//! An outage after a healthy day at full weight, where only the absolute limit is left; and the least failures that can decide.
//!
//! LimitE at 5 % sees 24 hours of healthy traffic, then nothing but failures. Without a reserve the evidence would have to climb back
//! from where the healthy day has put it.

use anyhow::Result;
use serin_stats::{ArmCounts, Batch, LimitE, Share, least_failures};

use super::{Bench, Findings};
use crate::random::{Counts, Random};
use crate::summary::{Cell, Outcome};
use crate::table::Table;
use crate::wiring::{ReleaseErrors, ln_single, release_thresholds};

/// The name of these cells.
pub(crate) const OUTAGE: &str = "outage after a day";

const DAY_S: u32 = 24 * 3_600;
const LIMIT: f64 = 0.05;
const RULES: [&str; 2] = ["E", "Rel"];
/// More failures than that are not counted.
const MOST_FAILURES: u32 = 100_000;

/// Simulates the tables.
///
/// # Errors
/// If a test refuses its configuration.
pub(super) fn run(bench: &Bench) -> Result<Findings> {
    let mut cells = Vec::new();
    let header = ["rps", "base", "E mean", "E most", "Rel mean", "Rel most"];
    let mut table = Table::new("An outage after a healthy day at 100 %: failures until LimitE at 5 % decides", &header);
    for (number, (rps, base)) in (0..).zip([(10.0, 0.005), (100.0, 0.0005), (100.0, 0.005), (100.0, 0.04), (1_000.0, 0.005)]) {
        let runs = bench.cell(12, number, bench.fewer(4), |random| day(rps, base, random))?;
        let labels = [rps.to_string(), format!("{:.2}%", 100.0 * base)];
        let mut cell = Cell::new(OUTAGE, &[("rps", &labels[0]), ("base", &labels[1])], &RULES, &runs);
        let mut row = labels.to_vec();
        for (index, (rule, name)) in RULES.into_iter().zip(["most failures E", "most failures Rel"]).enumerate() {
            let most = runs.iter().map(|run| run[index].failed).fold(0.0, f64::max);
            cell.values.insert(name, most);
            row.extend([format!("{:.1}", cell.rule(rule).map_or(f64::NAN, |tally| tally.mean_failed)), format!("{most:.0}")]);
        }
        table.row(row);
        cells.push(cell);
    }
    let mut text = table.draw();
    let mut table = Table::new("Least canary failures in a row that decide against a stable without errors", &["weight", "E", "Rel"]);
    for weight in [0.01, 0.05, 0.1, 0.25, 0.5, 0.8, 0.95] {
        let weight_share = Share::new(weight)?;
        let mut release = ReleaseErrors::new()?;
        let in_release = (1..=MOST_FAILURES).find(|_| release.update(Batch { canary_events: 1, stable_events: 0, weight: weight_share }));
        let words = |least: Option<u32>| least.map_or_else(|| "never".to_owned(), |failures| failures.to_string());
        table.row(vec![format!("{} %", 100.0 * weight), words(least_failures(weight_share, ln_single())?), words(in_release)]);
    }
    text.push_str(&table.draw());
    Ok(Findings { cells, text })
}

fn day(rps: f64, base: f64, random: &mut Random) -> Result<Vec<Outcome>> {
    let mut test = LimitE::above(LIMIT)?;
    let (good, bad) = (Counts::new(rps * (1.0 - base)), Counts::new(rps * base));
    for _ in 0..DAY_S {
        let events = bad.draw(random);
        test.update(ArmCounts { requests: good.draw(random) + events, events });
    }
    let thresholds = [ln_single(), release_thresholds()?.limits];
    let mut decided = [None; 2];
    for failures in 1..=MOST_FAILURES {
        test.update(ArmCounts { requests: 1, events: 1 });
        let failed = f64::from(failures);
        let outcome = Outcome { decided_s: Some(failed / rps), requests: failed, failed };
        for (decided, threshold) in decided.iter_mut().zip(thresholds) {
            *decided = decided.or((test.ln_e() >= threshold).then_some(outcome));
        }
        if decided.iter().all(Option::is_some) {
            break;
        }
    }
    let undecided = Outcome { decided_s: None, requests: f64::from(MOST_FAILURES), failed: f64::from(MOST_FAILURES) };
    Ok(decided.map(|outcome| outcome.unwrap_or(undecided)).to_vec())
}
