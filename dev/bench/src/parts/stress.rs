//! Table 5.5: equal arms under what production does to them, and events that come in clusters private to a pod.
//!
//! Drift, shared outages and changes of weight hit both arms alike and must cost nothing. Private bursts (one pod pauses, its requests
//! are slow together) break the independence that every test assumes; there the tests are tempered by the dispersion among stable pods,
//! which is measured from ten minutes before the stage on.

use anyhow::Result;
use serin_stats::{Batch, Dispersion, RatioConfig, RatioE, Share};

use super::{Bench, Findings, decided, percent, row, seconds};
use crate::random::{Counts, Random};
use crate::rules::{Flagger, Ours, Pace, PooledZ, Rule, SeedCheck};
use crate::summary::{Cell, HEALTHY, Outcome};
use crate::table::Table;
use crate::traffic::{BEFORE_S, Rates, STAGE_S, WEIGHT, play};
use crate::wiring::{ln_single, release_thresholds};

/// The name of the cells of shared causes.
pub(crate) const STRESS: &str = "stress";
/// The name of the cells with private bursts.
pub(crate) const BURSTS: &str = "bursts";

const RPS: f64 = 100.0;
const BASE: f64 = 0.005;
/// Mean seconds from one burst of a pod to its next.
const BURST_EVERY_S: f64 = 120.0;
/// Part of a pod's requests that are events during its burst.
const BURST_RATE: f64 = 0.3;

type Scenario = (&'static str, fn(u32) -> Rates);

const SCENARIOS: [Scenario; 6] = [
    ("constant", |_| rates(RPS, WEIGHT, BASE)),
    ("diurnal rate +-50 %, errors 0.2..1.5 %", |second| rates(RPS * drift(second), WEIGHT, drifting_base(second))),
    ("shared outage: 20 % errors for 90 s", |second| rates(RPS, WEIGHT, with_outage(second, BASE))),
    ("weight 5 -> 10 -> 25 -> 50 %", |second| rates(RPS, rising(second), BASE)),
    ("weight 50 -> 25 -> 10 -> 5 %", |second| rates(RPS, rising(STAGE_S - 1 - second), BASE)),
    ("weights, drift and outage", |second| rates(RPS * drift(second), rising(second), with_outage(second, drifting_base(second)))),
];

const RULES: [&str; 8] = ["F60x5", "F10x1", "seed1m", "zpeek", "E15", "E", "E.05", "Rel"];
const BURST_RULES: [&str; 3] = ["plain", "tempered", "tempered Rel"];

/// Simulates both tables.
///
/// # Errors
/// If a test refuses its configuration.
pub(super) fn run(bench: &Bench) -> Result<Findings> {
    let mut cells = Vec::new();
    let mut table =
        Table::new("5.5 False rollbacks of equal arms within 30 min, 100 rps, 0.5 % errors", &[&["scenario"], &RULES[..]].concat());
    for (number, (name, rates)) in (1..).zip(SCENARIOS) {
        let runs = bench.cell(5, number, bench.healthy_runs(), |random| play(STAGE_S, rates, &mut rules()?, random))?;
        let cell = Cell::new(STRESS, &[("scenario", name), ("fault", HEALTHY)], &RULES, &runs);
        table.row(row(&cell, &["scenario"], decided));
        cells.push(cell);
    }
    let mut text = table.draw();
    let header = ["bursts", "stable pods", "plain A/A", "tempered A/A", "release A/A", "mean phi", "2x, tempered", "median s"];
    let mut table = Table::new("5.5 Private bursts: 30 % of a pod's requests are events, every 120 s on average", &header);
    for (number, (burst_s, pods)) in (1..).zip([(0.0, 19), (3.0, 19), (20.0, 19), (3.0, 3), (20.0, 3)]) {
        let [healthy, twice] =
            [(1.0, HEALTHY), (2.0, "2x")].map(|(ratio, fault)| burst_cell(bench, number, &Burst { burst_s, pods, ratio }, fault));
        let (healthy, twice) = (healthy?, twice?);
        let share = |cell: &Cell, rule| cell.rule(rule).map_or_else(String::new, |tally| percent(tally.share()));
        table.row(vec![
            healthy.label("bursts").to_owned(),
            pods.to_string(),
            share(&healthy, "plain"),
            share(&healthy, "tempered"),
            share(&healthy, "tempered Rel"),
            format!("{:.1}", healthy.values.get("mean phi").copied().unwrap_or(f64::NAN)),
            share(&twice, "tempered"),
            seconds(twice.rule("tempered").and_then(|tally| tally.median_s)),
        ]);
        cells.extend([healthy, twice]);
    }
    text.push_str(&table.draw());
    Ok(Findings { cells, text })
}

fn rules() -> Result<Vec<Box<dyn Rule>>> {
    Ok(vec![
        Box::new(Flagger::new(60, 5, 0.01)),
        Box::new(Flagger::new(10, 1, 0.01)),
        Box::new(SeedCheck::new(60)),
        Box::new(PooledZ::default()),
        Box::new(Ours::new(Pace::Scrape(15), ln_single())?),
        Box::new(Ours::new(Pace::Event, ln_single())?),
        Box::new(Ours::new(Pace::Event, 20_f64.ln())?),
        Box::new(Ours::in_release(Pace::Event)?),
    ])
}

fn rates(rps: f64, weight: f64, error: f64) -> Rates {
    Rates { rps, weight, stable_error: error, canary_error: error }
}

fn drift(second: u32) -> f64 {
    1.0 + 0.5 * (std::f64::consts::TAU * f64::from(second) / 900.0).sin()
}

fn drifting_base(second: u32) -> f64 {
    0.0085 + 0.0065 * (std::f64::consts::TAU * f64::from(second) / 1_200.0).sin()
}

fn with_outage(second: u32, base: f64) -> f64 {
    if (600..690).contains(&second) { 0.2 } else { base }
}

fn rising(second: u32) -> f64 {
    match second {
        0..450 => 0.05,
        450..900 => 0.1,
        900..1_350 => 0.25,
        _ => 0.5,
    }
}

/// Pods that pause on their own.
#[derive(Debug, Clone, Copy)]
struct Burst {
    burst_s: f64,
    /// Stable's; the canary has one.
    pods: usize,
    /// The canary's rate of events as a multiple of stable's, bursts included.
    ratio: f64,
}

fn burst_cell(bench: &Bench, number: u64, burst: &Burst, fault: &str) -> Result<Cell> {
    let number = 100 + 2 * number + u64::from(fault == HEALTHY);
    let runs = bench.cell(5, number, bench.runs, |random| burst.play(random))?;
    let outcomes: Vec<Vec<Outcome>> = runs.iter().map(|(outcomes, _)| outcomes.clone()).collect();
    let name = if burst.burst_s > 0.0 { format!("{} s", burst.burst_s) } else { "none".to_owned() };
    let mut cell =
        Cell::new(BURSTS, &[("bursts", &name), ("stable pods", &burst.pods.to_string()), ("fault", fault)], &BURST_RULES, &outcomes);
    cell.values.insert("mean phi", runs.iter().map(|(_, phi)| phi).sum::<f64>() / runs.len().max(1) as f64);
    Ok(cell)
}

impl Burst {
    /// The outcomes of the rules, and the dispersion at the end.
    fn play(&self, random: &mut Random) -> Result<(Vec<Outcome>, f64)> {
        let pod_rps = RPS * (1.0 - WEIGHT) / self.pods as f64;
        let mut stable: Vec<Pod> = (0..self.pods).map(|_| Pod::new(pod_rps, self.burst_s, 1.0, random)).collect();
        let mut canary = Pod::new(RPS * WEIGHT, self.burst_s, self.ratio, random);
        let mut dispersion = Dispersion::new(self.pods)?;
        let [mut plain, mut tempered] = [RatioE::new(&RatioConfig::fail(1.0, 1.5))?, RatioE::new(&RatioConfig::fail(1.0, 1.5))?];
        let weight = Share::new(WEIGHT)?;
        let mut decided = [None; 3];
        let mut loads = Vec::with_capacity(self.pods);
        for second in 0..BEFORE_S + STAGE_S {
            loads.clear();
            loads.extend(stable.iter_mut().map(|pod| pod.second(random)));
            let (_, canary_events) = canary.second(random);
            if second >= BEFORE_S {
                let stable_events = loads.iter().map(|(_, events)| events).sum();
                let batch = Batch { canary_events, stable_events, weight };
                plain.update(batch);
                // The dispersion of the past only.
                tempered.set_tempering(dispersion.eta())?;
                tempered.update(batch);
                let at_s = f64::from(second - BEFORE_S + 1);
                let thresholds =
                    [(plain.ln_e(), ln_single()), (tempered.ln_e(), ln_single()), (tempered.ln_e(), release_thresholds()?.latency)];
                for (decided, (ln_e, threshold)) in decided.iter_mut().zip(thresholds) {
                    *decided = decided.or((ln_e >= threshold).then_some(at_s));
                }
            }
            dispersion.add_second(&loads)?;
        }
        Ok((decided.map(Outcome::at).to_vec(), dispersion.phi()))
    }
}

/// One pod and its next burst.
#[derive(Debug, Clone)]
struct Pod {
    rps: f64,
    ratio: f64,
    requests: Counts,
    quiet_events: Counts,
    burst_s: f64,
    now_s: f64,
    burst_from_s: f64,
}

impl Pod {
    fn new(rps: f64, burst_s: f64, ratio: f64, random: &mut Random) -> Self {
        let burst_from_s = if burst_s > 0.0 { random.waiting(BURST_EVERY_S) } else { f64::INFINITY };
        let [requests, quiet_events] = [rps, rps * BASE * ratio].map(Counts::new);
        Self { rps, ratio, requests, quiet_events, burst_s, now_s: 0.0, burst_from_s }
    }

    /// Requests and events of the next second.
    fn second(&mut self, random: &mut Random) -> (u64, u64) {
        let end_s = self.now_s + 1.0;
        let burst_to_s = self.burst_from_s + self.burst_s;
        let part = (burst_to_s.min(end_s) - self.burst_from_s.max(self.now_s)).max(0.0);
        if burst_to_s <= end_s {
            self.burst_from_s = burst_to_s + random.waiting(BURST_EVERY_S - self.burst_s);
        }
        self.now_s = end_s;
        let mut events = self.quiet_events.draw(random);
        if part > 0.0 {
            events += Counts::new(self.rps * self.ratio * BURST_RATE * part).draw(random);
        }
        // Events come on top, so that a burst does not change how many requests there are otherwise.
        (self.requests.draw(random).max(events), events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_burst_as_often_and_as_long_as_they_should() {
        let mut random = Random::new(1, 0, 0, 0);
        let mut pod = Pod::new(5.0, 20.0, 1.0, &mut random);
        let events: u64 = (0..600_000).map(|_| pod.second(&mut random).1).sum();
        // 0.5 % of 5 rps and 30 % of 5 rps in 20 s of 120 s.
        let expected = 600_000.0 * 5.0 * (BASE + BURST_RATE / 6.0);
        assert!((events as f64 / expected - 1.0).abs() < 0.05, "{events} {expected}");
    }

    #[test]
    fn scenarios_stay_within_their_ranges() {
        for (name, rates) in SCENARIOS {
            for second in 0..STAGE_S {
                let now = rates(second);
                assert!((0.001..=0.2).contains(&now.stable_error) && now.canary_error == now.stable_error, "{name}");
                assert!((0.05..=0.5).contains(&now.weight) && (50.0..=150.0).contains(&now.rps), "{name}");
            }
        }
    }
}
