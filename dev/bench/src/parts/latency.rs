//! Table 5.4: latency faults at 100 rps, and how detection scales with traffic.

use anyhow::Result;

use super::{Bench, Findings, amount, percent, seconds};
use crate::latency::{Fault, LatencySecond, LatencyTraffic, P99_US};
use crate::random::Random;
use crate::rules::{BandTest, LatencyCheck, LatencyKayenta, LatencyLimit, LatencyOracle, LatencyRule, OurLatency, ScrapedBucket};
use crate::summary::{Cell, HEALTHY, Outcome};
use crate::table::Table;
use crate::traffic::{STAGE_S, TICKS};
use crate::wiring::{ALPHA, ln_single, release_thresholds};

/// The name of these cells.
pub(crate) const LATENCY: &str = "latency";

const RULES: [&str; 11] =
    ["F60x5 500ms", "F60x5 1.2x", "seed1m", "kayenta", "KDD band", "E prom15", "oracle p99", "E p99", "E any", "Rel p99", "Rel any"];

/// Traffic, name and fault.
const CASES: [(f64, &str, Fault); 9] = [
    (100.0, HEALTHY, Fault::All(1.0)),
    (100.0, "1.2x all", Fault::All(1.2)),
    (100.0, "1.5x all", Fault::All(1.5)),
    (100.0, "2x all", Fault::All(2.0)),
    (100.0, "1.5x tail", Fault::Tail(1.5)),
    (100.0, "2x tail", Fault::Tail(2.0)),
    (100.0, "hang 1%", Fault::Hang(0.01)),
    (10.0, "1.5x all", Fault::All(1.5)),
    (1_000.0, "1.5x all", Fault::All(1.5)),
];

/// Simulates the table.
///
/// # Errors
/// If a test refuses its configuration.
pub(super) fn run(bench: &Bench) -> Result<Findings> {
    let mut cells = Vec::new();
    let title = "5.4 Latency: rolled back in 30 min, median s, mean requests slower than the old P99";
    let mut table = Table::new(title, &[&["rps", "fault"], &RULES[..]].concat());
    for (number, (rps, name, fault)) in (0..).zip(CASES) {
        let runs = bench.cell(4, number, bench.runs, |random| stage(rps, fault, random))?;
        let mut cell = Cell::new(LATENCY, &[("rps", &rps.to_string()), ("fault", name)], &RULES, &runs);
        if name == HEALTHY {
            // The oracle knows the fault; without one it is not defined.
            cell.columns.retain(|column| column.rule != "oracle p99");
        }
        let words = RULES.iter().map(|rule| {
            let tally = cell.rule(rule);
            let row = |tally: &crate::summary::Tally| {
                format!("{:>4.0}% {:>4} {:>4}", 100.0 * tally.share(), seconds(tally.median_s), amount(tally.mean_failed))
            };
            match tally {
                None => "-".to_owned(),
                Some(tally) if name == HEALTHY => percent(tally.share()),
                Some(tally) => row(tally),
            }
        });
        table.row([cell.label("rps"), name].map(str::to_owned).into_iter().chain(words).collect());
        cells.push(cell);
    }
    Ok(Findings { cells, text: table.draw() })
}

fn stage(rps: f64, fault: Fault, random: &mut Random) -> Result<Vec<Outcome>> {
    let mut others: Vec<Box<dyn LatencyRule>> = vec![
        Box::new(LatencyCheck::flagger(5, LatencyLimit::Absolute(500_000.0))),
        Box::new(LatencyCheck::flagger(5, LatencyLimit::Relative(1.2))),
        Box::new(LatencyCheck::at_once(LatencyLimit::Relative(1.2))),
        Box::new(LatencyKayenta::default()),
        Box::new(BandTest::new(ALPHA)),
        Box::new(ScrapedBucket::new(ln_single())?),
        Box::new(LatencyOracle::new(fault.slow_part(), ln_single())),
    ];
    let mut ours = OurLatency::new([ln_single(), release_thresholds()?.latency])?;
    let mut traffic = LatencyTraffic::new(rps, fault, random)?;
    let mut outcomes = [None; RULES.len()];
    let (mut requests, mut slow) = (0.0, 0.0);
    for _ in 0..STAGE_S {
        traffic.next(random, |second| {
            ours.observe(second);
            let theirs =
                others.iter_mut().zip(&outcomes).map(|(rule, outcome)| if outcome.is_none() { rule.observe(second) } else { None });
            let decided: Vec<Option<f64>> = theirs.chain(ours.decided).collect();
            for (outcome, at_s) in outcomes.iter_mut().zip(decided) {
                *outcome = outcome.or_else(|| at_s.map(|at_s| upto(at_s, second, requests, slow)));
            }
            requests += second.canary.len() as f64;
            slow += slow_until(f64::INFINITY, second);
        });
        if outcomes.iter().all(Option::is_some) {
            break;
        }
    }
    let undecided = Outcome { decided_s: None, requests, failed: slow };
    Ok(outcomes.map(|outcome| outcome.unwrap_or(undecided)).to_vec())
}

fn upto(at_s: f64, second: &LatencySecond<'_>, requests: f64, slow: f64) -> Outcome {
    Outcome { decided_s: Some(at_s), requests: requests + second.canary.len() as f64, failed: slow + slow_until(at_s, second) }
}

/// The canary's slow requests in this second up to the end of the deciding tick.
fn slow_until(at_s: f64, second: &LatencySecond<'_>) -> f64 {
    let start_s = f64::from(second.end_s - 1);
    let until = |tick: u8| start_s + f64::from(tick + 1) / f64::from(TICKS) <= at_s + 1e-9;
    second.canary.iter().filter(|sample| sample.latency_us as f64 > P99_US && until(sample.tick)).count() as f64
}
