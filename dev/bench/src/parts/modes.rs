//! `limit` mode against `harm` mode: a limit of 1.5 times stable's errors, 1000 rps, 1 % errors, 30 minutes, 50 ms ticks.
//!
//! Harm mode rolls back whatever is surely worse than stable, also what the limit allows. Limit mode wants the estimate beyond the
//! limit too; what that costs at and above the limit is in this table.

use anyhow::Result;
use serin_stats::{ArmCounts, ArmsBatch, Batch, RatioCriterion, RatioLimits, RatioMode, StableRate};

use super::{Bench, Findings, cost, row};
use crate::random::Random;
use crate::summary::{Cell, Outcome};
use crate::table::Table;
use crate::traffic::{Rates, STAGE_S, Sampler, WEIGHT, by_tick, spread};
use crate::wiring::{ReleaseErrors, ln_single};

/// The name of these cells.
pub(crate) const MODES: &str = "modes";

const LIMIT: f64 = 1.5;
const BASE: f64 = 0.01;
const RULES: [&str; 4] = ["harm", "limit", "harm Rel", "limit Rel"];

/// Simulates the table.
///
/// # Errors
/// If a test refuses its configuration.
pub(super) fn run(bench: &Bench) -> Result<Findings> {
    let mut cells = Vec::new();
    let title = "Limit mode against harm mode (limit 1.5x): rolled back in 30 min, median s, mean failed requests";
    let mut table = Table::new(title, &[&["true"], &RULES[..], &["limit/harm Rel"]].concat());
    for (number, ratio) in (0..).zip([1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 5.0]) {
        let runs = bench.cell(10, number, bench.runs, |random| stage(ratio, random))?;
        let name = format!("{ratio}x");
        let cell = Cell::new(MODES, &[("true ratio", &name)], &RULES, &runs);
        // What limit mode costs, in failed requests.
        let failed = |rule| cell.rule(rule).map_or(f64::NAN, |tally| tally.mean_failed);
        let more = format!("{:.2}x", failed("limit Rel") / failed("harm Rel"));
        table.row(row(&cell, &["true ratio"], cost).into_iter().chain([more]).collect());
        cells.push(cell);
    }
    Ok(Findings { cells, text: table.draw() })
}

fn stage(ratio: f64, random: &mut Random) -> Result<Vec<Outcome>> {
    let rates = Rates { rps: 1_000.0, weight: WEIGHT, stable_error: BASE, canary_error: BASE * ratio };
    let (sampler, weight) = (Sampler::new(rates)?, rates.share()?);
    let limits = RatioLimits { ratio: Some(LIMIT), increase: None };
    let criterion = |mode| RatioCriterion::new(mode, limits, StableRate::default());
    let mut criteria = [criterion(RatioMode::Harm)?, criterion(RatioMode::Limit)?];
    let mut release = ReleaseErrors::new()?;
    let mut decided = [None; 4];
    let mut events = Vec::new();
    let mut seen = ArmCounts::default();
    for second in 0..STAGE_S {
        let (canary, stable) = sampler.draw(random);
        events.clear();
        spread(f64::from(second), canary.events, stable.events, random, &mut events);
        for (end_s, batch) in by_tick(&events) {
            let canary_events = batch.iter().filter(|event| event.is_canary).count() as u64;
            let stable_events = batch.len() as u64 - canary_events;
            let arm = |events| ArmCounts { requests: events, events };
            for criterion in &mut criteria {
                criterion.update(ArmsBatch { canary: arm(canary_events), stable: arm(stable_events), weight });
            }
            release.update(Batch { canary_events, stable_events, weight });
            seen.add(arm(canary_events));
            if canary_events > 0 {
                // Neither evidence nor estimate rises without a canary event.
                let outcome = Outcome { decided_s: Some(end_s), requests: seen.requests as f64, failed: seen.events as f64 };
                let [alone, in_release] = [[0, 1].map(|mode| criteria[mode].ln_e() >= ln_single()), [release.decides(); 2]];
                for (index, decided) in decided.iter_mut().enumerate().filter(|(_, decided)| decided.is_none()) {
                    let is_enough = [alone, in_release][index / 2][index % 2];
                    *decided = (is_enough && criteria[index % 2].guards_open()).then_some(outcome);
                }
            }
        }
        // The good requests of the second: they only count, for the estimate of stable's rate.
        let good = |counts: ArmCounts| ArmCounts { requests: counts.quiet(), events: 0 };
        for criterion in &mut criteria {
            criterion.update(ArmsBatch { canary: good(canary), stable: good(stable), weight });
        }
        seen.add(good(canary));
        if decided.iter().all(Option::is_some) {
            break;
        }
    }
    let undecided = Outcome { decided_s: None, requests: seen.requests as f64, failed: seen.events as f64 };
    Ok(decided.map(|outcome| outcome.unwrap_or(undecided)).to_vec())
}
