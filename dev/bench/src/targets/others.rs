//! Targets beyond the grid: private bursts, new classes of errors, latency, limit mode, changes of weight, an outage after a day.

use super::Target;
use crate::parts::{BURSTS, CHANGES, FINGERPRINTS, LATENCY, MODES, OUTAGE, STRESS};
use crate::summary::{Cell, Tally, share_range};

pub(super) fn judge(cells: &[Cell]) -> Vec<Target> {
    let mut targets: Vec<Target> = bursts(cells).into_iter().collect();
    targets.extend(of_rule(cells, FINGERPRINTS, "fault", "new class +.5 %", "classes Rel").map(|tally| {
        let what = "new class +.5 %: mean failed requests, release, with classes";
        Target::at_most(2, what, 13.0, tally.mean_failed).plus_minus(tally.failed_error)
    }));
    targets.extend(latency(cells));
    targets.extend(of_rule(cells, MODES, "true ratio", "1.2x", "limit Rel").map(|tally| {
        let what = "limit mode, release: canaries at 1.2x of a 1.5x limit that are rolled back in 30 min, 1000 rps, 1 %";
        Target::at_most(4, what, 10.0, 100.0 * tally.share()).unit("%").range(percents(tally.share_range()))
    }));
    targets.extend(shared_causes(cells));
    targets.extend(outages(cells));
    targets
}

fn bursts(cells: &[Cell]) -> Option<Target> {
    let healthy: Vec<&Tally> = of_part(cells, BURSTS).filter(|cell| cell.is_healthy()).filter_map(|cell| cell.rule("tempered")).collect();
    let worst = healthy.iter().max_by(|a, b| a.share().total_cmp(&b.share()))?;
    let what = format!("false rollbacks under private bursts, >= 3 stable replicas, single test, worst of {} cells", healthy.len());
    Some(Target::at_most(1, what, 2.0, 100.0 * worst.share()).unit("%").range(percents(worst.share_range())))
}

fn latency(cells: &[Cell]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (fault, rule, name, most_s) in [
        ("1.5x all", "Rel p99", "P99 only", 90.0),
        ("1.5x all", "Rel any", "any", 30.0),
        ("2x all", "Rel p99", "P99 only", 22.0),
        ("2x all", "Rel any", "any", 12.0),
    ] {
        let cell = of_part(cells, LATENCY).find(|cell| cell.is("rps", "100") && cell.is("fault", fault));
        if let Some(tally) = cell.and_then(|cell| cell.rule(rule)) {
            let what = format!("latency {fault} at 100 rps: median time to rollback, release, {name}");
            let target = Target::at_most(4, what, most_s, tally.median_s.unwrap_or(f64::INFINITY)).unit(" s");
            targets.push(target.range((tally.median_from_s.unwrap_or(0.0), tally.median_to_s.unwrap_or(f64::INFINITY))));
        }
    }
    targets
}

fn shared_causes(cells: &[Cell]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (part, rule, name) in
        [(STRESS, "Rel", "shared outage, drift and changes of weight"), (CHANGES, "assignment Rel", "weight 50 -> 5 % with slow failures")]
    {
        let disturbed = of_part(cells, part).filter(|cell| !cell.is("scenario", "constant"));
        let tallies: Vec<&Tally> = disturbed.filter_map(|cell| cell.rule(rule)).collect();
        let (decided, runs) = tallies.iter().fold((0, 0), |(decided, runs), tally| (decided + tally.decided, runs + tally.runs));
        if runs > 0 {
            let what = format!("false rollbacks, release, {name}: pooled over {} cells", tallies.len());
            let target = Target::at_most(5, what, 1.0, 100.0 * decided as f64 / runs as f64).unit("%");
            targets.push(target.range(percents(share_range(decided, runs))));
        }
    }
    targets
}

fn outages(cells: &[Cell]) -> Vec<Target> {
    let line = |cell: &Cell| {
        let what = format!(
            "outage after 24 h at 100 %, {} rps with {} errors: failures until LimitE decides, release, worst run",
            cell.label("rps"),
            cell.label("base")
        );
        Some(Target::at_most(5, what, 10.0, *cell.values.get("most failures Rel")?))
    };
    of_part(cells, OUTAGE).filter_map(line).collect()
}

fn of_part<'a>(cells: &'a [Cell], part: &'a str) -> impl Iterator<Item = &'a Cell> {
    cells.iter().filter(move |cell| cell.part == part)
}

fn of_rule<'a>(cells: &'a [Cell], part: &'a str, label: &str, value: &str, rule: &str) -> Option<&'a Tally> {
    of_part(cells, part).find(|cell| cell.is(label, value)).and_then(|cell| cell.rule(rule))
}

fn percents((low, high): (f64, f64)) -> (f64, f64) {
    (100.0 * low, 100.0 * high)
}
