//! Tables 5.1 to 5.3: every rule on every combination of traffic, base rate and fault.

use anyhow::Result;

use super::{Bench, Findings, Part, amount, decided, median, row};
use crate::bounds;
use crate::random::Random;
use crate::rules::{Argo, Flagger, GrowthBook, Kayenta, LindonMalek, Oracle, Ours, Pace, PooledZ, Rule, SeedCheck};
use crate::summary::{Cell, HEALTHY};
use crate::table::Table;
use crate::traffic::{Rates, STAGE_S, WEIGHT, play};
use crate::wiring::{ALPHA, ln_single};

/// The name of these cells.
pub(crate) const GRID: &str = "grid";

const RPS: [f64; 3] = [10.0, 100.0, 1_000.0];
const BASES: [f64; 5] = [0.0005, 0.001, 0.005, 0.01, 0.02];
/// The canary's error rate from stable's.
type CanaryError = fn(f64) -> f64;
const FAULTS: [(&str, CanaryError); 6] = [
    (HEALTHY, |base| base),
    ("1.5x", |base| 1.5 * base),
    ("2x", |base| 2.0 * base),
    ("5x", |base| 5.0 * base),
    ("+5%", |base| base + 0.05),
    ("outage", |_| 1.0),
];

/// Every rule: single E at `1/alpha`, and as wired in a release (`Rel`), per event and at 50 ms ticks.
const RULES: [&str; 18] = [
    "F60x5", "F10x1", "Argo5m", "Argo1m", "seed1m", "seed5m", "zpeek", "kayenta", "GBook", "LM1s", "LM", "E15", "E50ms", "E", "Rel50ms",
    "Rel", "E.05", "SPRT",
];

/// Simulates the cells that the wanted tables need.
///
/// # Errors
/// If a test refuses its configuration.
pub(super) fn run(bench: &Bench, wanted: &[Part]) -> Result<Findings> {
    let mut cells = Vec::new();
    let mut number = 0;
    for rps in RPS {
        for base in BASES {
            for (fault, canary_error) in FAULTS {
                number += 1;
                let needed = if fault == HEALTHY { Part::FalseRollbacks } else { Part::Failed };
                if wanted.contains(&needed) || (wanted.contains(&Part::Times) && fault != HEALTHY) {
                    let rates = Rates { rps, weight: WEIGHT, stable_error: base, canary_error: canary_error(base) };
                    cells.push(simulate(bench, number, &rates, fault)?);
                }
            }
        }
    }
    let draw = |part, table: &dyn Fn(&[Cell]) -> String| if wanted.contains(&part) { table(&cells) } else { String::new() };
    let text = draw(Part::FalseRollbacks, &false_rollbacks) + &draw(Part::Times, &times) + &draw(Part::Failed, &failed);
    Ok(Findings { cells, text })
}

fn simulate(bench: &Bench, number: u64, rates: &Rates, fault: &str) -> Result<Cell> {
    let runs = if fault == HEALTHY { bench.healthy_runs() } else { bench.runs };
    let runs = bench.cell(1, number, runs, |random| play(STAGE_S, |_| *rates, &mut rules(rates, random)?, random))?;
    let labels = [("rps", format!("{}", rates.rps)), ("base", format!("{:.2}%", 100.0 * rates.stable_error)), ("fault", fault.to_owned())];
    let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut cell = Cell::new(GRID, &labels, &RULES, &runs);
    let (unknown, known) = bounds::failed_requests(rates, ALPHA);
    cell.values.insert("canary errors per s", rates.rps * rates.weight * rates.canary_error);
    if fault != HEALTHY {
        cell.values.extend([("KL p_s unknown", unknown), ("KL p_s known", known)]);
    } else {
        // The oracle knows the fault; without one it is not defined.
        cell.columns.retain(|column| column.rule != "SPRT");
    }
    Ok(cell)
}

fn rules(rates: &Rates, random: &mut Random) -> Result<Vec<Box<dyn Rule>>> {
    let single = ln_single();
    Ok(vec![
        Box::new(Flagger::new(60, 5, 0.01)),
        Box::new(Flagger::new(10, 1, 0.01)),
        Box::new(Argo::new(300, 0.05, 3)),
        Box::new(Argo::new(60, 0.01, 3)),
        Box::new(SeedCheck::new(60)),
        Box::new(SeedCheck::new(300)),
        Box::new(PooledZ::default()),
        Box::new(Kayenta::new(rates, random)?),
        Box::new(GrowthBook::new(ALPHA)),
        Box::new(LindonMalek::new(single, true)),
        Box::new(LindonMalek::new(single, false)),
        Box::new(Ours::new(Pace::Scrape(15), single)?),
        Box::new(Ours::new(Pace::Tick, single)?),
        Box::new(Ours::new(Pace::Event, single)?),
        Box::new(Ours::in_release(Pace::Tick)?),
        Box::new(Ours::in_release(Pace::Event)?),
        Box::new(Ours::new(Pace::Event, 20_f64.ln())?),
        Box::new(Oracle::new(rates.canary_error / rates.stable_error, single)),
    ])
}

fn false_rollbacks(cells: &[Cell]) -> String {
    let mut table = Table::new("5.1 False rollbacks of equal arms within 30 min", &header(&["rps", "base"], &RULES[..17]));
    for cell in cells.iter().filter(|cell| cell.is_healthy()) {
        table.row(row(cell, &["rps", "base"], decided));
    }
    table.draw()
}

fn times(cells: &[Cell]) -> String {
    let mut table =
        Table::new("5.2 Median seconds to rollback (> : most runs not within 30 min)", &header(&["rps", "base", "fault"], &RULES));
    for cell in cells.iter().filter(|cell| !cell.is_healthy()) {
        table.row(row(cell, &["rps", "base", "fault"], median));
    }
    table.draw()
}

fn failed(cells: &[Cell]) -> String {
    let names = [&RULES[..], &["KL", "KL p_s"]].concat();
    let mut table = Table::new(
        "5.3 Mean failed canary requests before rollback (to the end of the 30 min without one)",
        &header(&["rps", "base", "fault"], &names),
    );
    for cell in cells.iter().filter(|cell| !cell.is_healthy()) {
        let bounds = ["KL p_s unknown", "KL p_s known"].map(|name| cell.values.get(name).map_or_else(String::new, |bound| amount(*bound)));
        let means = row(cell, &["rps", "base", "fault"], |column| amount(column.tally.mean_failed));
        table.row(means.into_iter().chain(bounds).collect());
    }
    table.draw()
}

fn header<'a>(labels: &[&'a str], rules: &[&'a str]) -> Vec<&'a str> {
    [labels, rules].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_do_not_depend_on_threads() {
        let rates = Rates { rps: 100.0, weight: WEIGHT, stable_error: 0.005, canary_error: 0.025 };
        let cell = |threads, seed| serde_json::to_string(&simulate(&Bench { seed, runs: 9, threads }, 3, &rates, "5x").unwrap()).unwrap();
        assert_eq!(cell(1, 7), cell(2, 7));
        assert_ne!(cell(1, 7), cell(1, 8));
    }

    #[test]
    fn rules_and_their_names_are_as_many() {
        let rates = Rates { rps: 100.0, weight: WEIGHT, stable_error: 0.005, canary_error: 0.005 };
        assert_eq!(rules(&rates, &mut Random::new(1, 0, 0, 0)).unwrap().len(), RULES.len());
    }
}
