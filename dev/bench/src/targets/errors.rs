//! Targets on the grid of error rates: false rollbacks, failed requests, and both against the other rules.

use super::Target;
use crate::comparison::{Ratio, ratio};
use crate::parts::{GRID, STRESS};
use crate::summary::{Cell, Tally, share_range};
use crate::traffic::TICK_S;

/// Fault, most failed requests in a release, and with a single test.
const FAILED: [(&str, f64, f64); 5] =
    [("outage", 5.0, 4.0), ("+5%", 7.5, 6.0), ("5x", 12.0, 10.0), ("2x", 41.0, 34.0), ("1.5x", 106.0, 88.0)];

pub(super) fn judge(cells: &[Cell]) -> Vec<Target> {
    let mut targets = false_rollbacks(cells);
    let grid: Vec<&Cell> = cells.iter().filter(|cell| cell.part == GRID).collect();
    targets.extend(failed_requests(&grid));
    targets.extend(against_others(cells));
    targets.extend(against_the_oracle(&grid));
    targets
}

fn false_rollbacks(cells: &[Cell]) -> Vec<Target> {
    let healthy: Vec<&Cell> = cells.iter().filter(|cell| (cell.part == GRID || cell.part == STRESS) && cell.is_healthy()).collect();
    let mut targets = Vec::new();
    for (rule, name) in [("Rel", "release"), ("E", "single test")] {
        let tallies: Vec<&Tally> = healthy.iter().filter_map(|cell| cell.rule(rule)).collect();
        let (decided, runs) = tallies.iter().fold((0, 0), |(decided, runs), tally| (decided + tally.decided, runs + tally.runs));
        if runs == 0 {
            continue;
        }
        let percent = |share: f64| 100.0 * share;
        let (low, high) = share_range(decided, runs);
        let pooled = Target::at_most(
            1,
            format!("false rollbacks, {name}, pooled over {} cells", tallies.len()),
            1.0,
            percent(decided as f64 / runs as f64),
        );
        targets.push(pooled.unit("%").range((percent(low), percent(high))));
        let worst = tallies.iter().map(|tally| tally.share_range().0).fold(0.0, f64::max);
        targets.push(
            Target::at_most(1, format!("false rollbacks, {name}, 95 % lower bound of the worst cell"), 1.0, percent(worst)).unit("%"),
        );
    }
    targets
}

/// Cells of a fault that the oracle, which knows it, nearly always finds in time.
fn decidable<'a>(grid: &[&'a Cell], fault: &str) -> Vec<&'a Cell> {
    let found = |cell: &Cell| cell.rule("SPRT").is_some_and(|oracle| oracle.share() >= 0.99);
    grid.iter().copied().filter(|cell| cell.is("fault", fault) && found(cell)).collect()
}

fn failed_requests(grid: &[&Cell]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (fault, most_in_release, most_alone) in FAILED {
        let busy = |cell: &&Cell| !cell.is("rps", "10") && (fault != "+5%" || !matches!(cell.label("base"), "1.00%" | "2.00%"));
        let cells: Vec<&Cell> = decidable(grid, fault).into_iter().filter(busy).collect();
        let mut add = |rule: &str, limit: f64, wiring: &str, allowed_s: f64| {
            // What a tick may add depends on the traffic, so that it is taken off before the worst cell is looked for.
            let net = |cell: &Cell| {
                let tally = *cell.rule(rule)?;
                Some((tally.failed_error, tally.mean_failed - allowed_s * cell.values.get("canary errors per s")?))
            };
            if let Some((error, worst)) = cells.iter().filter_map(|cell| net(cell)).max_by(|a, b| a.1.total_cmp(&b.1)) {
                let what = format!("{fault}: mean failed requests, {wiring}, worst of {} cells", cells.len());
                targets.push(Target::at_most(2, what, limit, worst).plus_minus(error));
            }
        };
        add("Rel", most_in_release, "release", 0.0);
        add("Rel50ms", most_in_release, "release at 50 ms ticks, less one tick", TICK_S);
        add("E", most_alone, "single test", 0.0);
    }
    targets
}

fn against_others(cells: &[Cell]) -> Vec<Target> {
    let mut targets = Vec::new();
    // Failed requests are counted up to one tick beyond the decision. With 250 ms they are in the table of all rules, for information.
    for (other, ours, wiring, charged_s, least) in [
        ("F60x5", "Rel", "release plus one tick", TICK_S, 30.0),
        ("kayenta", "Rel", "release plus one tick", TICK_S, 30.0),
        ("GBook", "Rel", "release plus one tick", TICK_S, 4.0),
        ("LM", "E", "single test, so at equal alpha, both per event", 0.0, 1.15),
    ] {
        if let Some(ratio) = ratio(cells, other, ours, charged_s, None) {
            let what = format!("failed requests of {other} / ours ({wiring}), geometric mean of {} cells", ratio.cells);
            targets.push(Target::at_least(2, what, least, ratio.mean).unit("x").plus_minus(ratio.error));
        }
    }
    targets
}

fn against_the_oracle(grid: &[&Cell]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (fault, most) in [("1.5x", 1.2), ("2x", 1.2), ("5x", 1.35), ("+5%", 1.35)] {
        let ratio = |cell: &&Cell| {
            let (ours, oracle) = (cell.rule("E")?, cell.rule("SPRT")?);
            // Failed requests scatter like requests.
            let relative = (ours.failed_error / ours.mean_failed).hypot(oracle.failed_error / oracle.mean_failed);
            (ours.share() >= 0.99).then(|| (ours.mean_requests / oracle.mean_requests, relative))
        };
        if let Some(ratio) = Ratio::of(&decidable(grid, fault).iter().filter_map(ratio).collect::<Vec<_>>()) {
            let what = format!("{fault}: canary requests, single test / oracle, geometric mean of {} cells", ratio.cells);
            targets.push(Target::at_most(3, what, most, ratio.mean).unit("x").plus_minus(ratio.error));
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{HEALTHY, Outcome};

    fn cell(fault: &str, rps: &str, base: &str, oracle_finds: bool, failed: f64) -> Cell {
        let run = vec![Outcome { decided_s: Some(1.0), requests: failed, failed }, Outcome::of(oracle_finds)];
        let mut cell = Cell::new(GRID, &[("rps", rps), ("base", base), ("fault", fault)], &["E", "SPRT"], &vec![run; 50]);
        cell.values.insert("canary errors per s", 1.0);
        cell
    }

    #[test]
    fn the_worst_of_the_cells_that_can_be_decided_counts() {
        let measured = |cells: &[Cell]| failed_requests(&cells.iter().collect::<Vec<_>>());
        let good = cell("+5%", "100", "0.50%", true, 5.5);
        // Too little traffic, a base above the target's, and a fault that not even the oracle finds.
        let left_out =
            [cell("+5%", "10", "0.50%", true, 99.0), cell("+5%", "100", "1.00%", true, 99.0), cell("+5%", "100", "0.10%", false, 99.0)];
        let mut cells = vec![good];
        cells.extend(left_out);
        assert!(matches!(&measured(&cells)[..], [target] if target.ok && target.measured == 5.5));
        cells.push(cell("+5%", "1000", "0.10%", true, 6.5));
        assert!(matches!(&measured(&cells)[..], [target] if !target.ok && target.measured == 6.5));
    }

    #[test]
    fn healthy_cells_are_pooled_and_the_worst_is_judged_by_its_lower_bound() {
        let of = |alarms: usize| {
            let runs: Vec<Vec<Outcome>> = (0..1_000).map(|run| vec![Outcome::of(run < alarms)]).collect();
            Cell::new(GRID, &[("fault", HEALTHY)], &["Rel"], &runs)
        };
        let ok = |cells: &[Cell]| false_rollbacks(cells).iter().map(|target| target.ok).collect::<Vec<_>>();
        assert_eq!(ok(&[of(0), of(12)]), [true, true]);
        assert_eq!(ok(&[of(0), of(19)]), [true, false]);
        assert_eq!(ok(&[of(9), of(15)]), [false, true]);
    }
}
