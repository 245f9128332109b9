//! Our tests against the rules of other tools, over the grid: failed requests of the other as multiples of ours.
//!
//! A cell counts if the other rule keeps the false rollbacks of equal arms with the same traffic and base rate at 5 % (a rule that rolls
//! back everything is fast), and if both find the fault in more than 90 % of the runs. Ours is charged the failures of the time until the
//! route table has changed; the others are not.

use crate::parts::GRID;
use crate::summary::Cell;
use crate::table::Table;
use crate::traffic::TICK_S;

/// Time that a decision takes to reach the route table where it does not come from the built-in proxy, charged to ours.
const ACTUATION_S: f64 = 0.25;

const OTHERS: [&str; 11] = ["F60x5", "F10x1", "Argo5m", "Argo1m", "seed1m", "seed5m", "zpeek", "kayenta", "GBook", "LM", "E15"];
const FAULTS: [&str; 5] = ["1.5x", "2x", "5x", "+5%", "outage"];

/// A geometric mean of ratios and what it is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    /// The mean.
    pub(crate) mean: f64,
    /// Its standard error by the errors of both rules, as if these were independent (they see the same traffic, so that it is less).
    pub(crate) error: f64,
    /// Number of cells.
    pub(crate) cells: usize,
}

impl Ratio {
    /// From the ratio of each cell and its relative standard error; `None` without cells.
    pub(crate) fn of(parts: &[(f64, f64)]) -> Option<Self> {
        let count = parts.len() as f64;
        let mean = (parts.iter().map(|(ratio, _)| ratio.ln()).sum::<f64>() / count).exp();
        let error = mean * parts.iter().map(|(_, relative)| relative * relative).sum::<f64>().sqrt() / count;
        (!parts.is_empty()).then_some(Self { mean, error, cells: parts.len() })
    }
}

/// Failed requests of another rule as multiples of ours, which is charged so many seconds of failures; all faults, or one.
pub(crate) fn ratio(cells: &[Cell], other: &str, ours: &str, charged_s: f64, fault: Option<&str>) -> Option<Ratio> {
    let grid = || cells.iter().filter(|cell| cell.part == GRID);
    let keeps_quiet = |cell: &Cell| {
        let same = |healthy: &&Cell| healthy.is_healthy() && ["rps", "base"].iter().all(|name| healthy.label(name) == cell.label(name));
        grid().find(same).and_then(|healthy| healthy.rule(other)).is_some_and(|tally| tally.share() <= 0.05)
    };
    let part = |cell: &Cell| {
        let (theirs, ours) = (cell.rule(other)?, cell.rule(ours)?);
        let charged = charged_s * cell.values.get("canary errors per s")?;
        let both = theirs.share() > 0.9 && ours.share() > 0.9;
        let ratio = theirs.mean_failed / (ours.mean_failed + charged);
        let relative = (theirs.failed_error / theirs.mean_failed).hypot(ours.failed_error / (ours.mean_failed + charged));
        (both && keeps_quiet(cell)).then_some((ratio, relative))
    };
    let faulty = grid().filter(|cell| if let Some(fault) = fault { cell.is("fault", fault) } else { !cell.is_healthy() });
    Ratio::of(&faulty.filter_map(part).collect::<Vec<_>>())
}

/// The table of all rules; nothing without the grid.
pub(crate) fn draw(cells: &[Cell]) -> String {
    let title = "Failed requests of other rules as multiples of ours (geometric means; false rollbacks <= 5 %, both find > 90 %)";
    let header = ["rule", "cells", "E + 250 ms", "release + 250 ms", "release + 50 ms"];
    let mut table = Table::new(title, &[&header[..], &FAULTS].concat());
    let words = |ratio: Option<Ratio>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.mean));
    let mut found = false;
    for other in OTHERS {
        let all = |ours, charged_s| ratio(cells, other, ours, charged_s, None);
        let single = all("E", ACTUATION_S);
        found |= single.is_some();
        let mut row = vec![other.to_owned(), single.map_or(0, |ratio| ratio.cells).to_string()];
        row.extend([single, all("Rel", ACTUATION_S), all("Rel", TICK_S)].map(words));
        row.extend(FAULTS.map(|fault| words(ratio(cells, other, "E", ACTUATION_S, Some(fault)))));
        table.row(row);
    }
    if found { table.draw() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{HEALTHY, Outcome};

    fn cell(fault: &str, outcomes: [(f64, f64); 2], errors_per_s: f64) -> Cell {
        let runs: Vec<Vec<Outcome>> = (0..20)
            .map(|_| {
                let of = |(failed, at_s): (f64, f64)| Outcome { decided_s: (at_s < 1e3).then_some(at_s), requests: 10.0 * failed, failed };
                outcomes.map(of).to_vec()
            })
            .collect();
        let mut cell = Cell::new(GRID, &[("rps", "100"), ("base", "0.50%"), ("fault", fault)], &["F60x5", "E"], &runs);
        cell.values.insert("canary errors per s", errors_per_s);
        cell
    }

    #[test]
    fn ratios_charge_actuation_and_leave_out_who_cries_wolf_or_misses() {
        let mean = |cells: &[Cell]| ratio(cells, "F60x5", "E", ACTUATION_S, None).map(|ratio| ratio.mean);
        let quiet = cell(HEALTHY, [(0.0, 1e9), (0.0, 1e9)], 0.0);
        let outage = cell("outage", [(90.0, 360.0), (4.0, 1.0)], 20.0);
        assert!((mean(&[quiet.clone(), outage.clone()]).unwrap() - 10.0).abs() < 1e-12);
        let noisy = cell(HEALTHY, [(0.0, 60.0), (0.0, 1e9)], 0.0);
        assert_eq!(mean(&[noisy, outage]), None);
        assert_eq!(mean(&[quiet, cell("2x", [(90.0, 1e9), (4.0, 1.0)], 20.0)]), None);
        assert_eq!(draw(&[]), "");
    }

    #[test]
    fn means_are_geometric_and_errors_add_up_in_squares() {
        let found = Ratio::of(&[(1.0, 0.3), (4.0, 0.4)]).unwrap();
        assert!((found.mean - 2.0).abs() < 1e-12 && (found.error - 0.5).abs() < 1e-12);
        assert_eq!(Ratio::of(&[]), None);
    }
}
