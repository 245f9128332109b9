//! Latency quantiles against stable, as exceedances of stable's own past quantile (ANALYSIS 2.5).
//!
//! Limit and strict mode bet that the canary exceeds the tolerance more often than stable exceeds its quantile; harm mode that
//! it exceeds the quantile itself more often. Failed requests count as slow, and so does a request that is still running, as
//! soon as it is older than the edge: a canary that hangs is found without waiting for its timeouts.
//!
//! With fewer than three replicas of stable there is no telling a pause of one process from slowness: an alarm then needs an
//! excess in three separate blocks of ten seconds (ANALYSIS 2.8).

use serde::{Deserialize, Serialize};
use serin_stats::{
    ArmCounts, Batch, Coding, ConfigError, DecayedHistogram, DiffE, ExceedanceE, ExcessBlocks, LEAST_BLOCKS, RatioMode, StableRate,
    ln_bonferroni, ln_mean_exp,
};

use super::{Evidence, feed::Feed, placebo::Placebo, words};
use crate::{
    Timestamp, Unit, format_value,
    judge::Verdict,
    plan::{Criterion, Metric, Quantile},
};

/// What `latency-any` looks at.
pub(crate) const QUANTILES: [Quantile; 3] = [Quantile::P50, Quantile::P90, Quantile::P99];

/// The quantiles that a test is about.
pub(crate) fn quantiles(metric: &Metric) -> &[Quantile] {
    match metric {
        Metric::Latency(quantile) => std::slice::from_ref(quantile),
        _ => &QUANTILES,
    }
}
/// Thresholds follow stable's past this often.
const RETUNE_MS: u64 = 1_000;
/// Fewer slow canary requests never set off an alarm.
const LEAST_SLOW: u64 = 3;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LatencyTest {
    ratio: Option<f64>,
    increase_ms: Option<f64>,
    parts: Vec<Part>,
    retuned_at: Option<Timestamp>,
    placebo: Placebo,
    stage_requests: u64,
}

/// The test of one quantile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Part {
    quantile: Quantile,
    fail: ExceedanceE,
    /// Until then a request that is slow by the edge in force may have been slow by the one before.
    settled_at: Option<Timestamp>,
    /// Requests and slow ones of the release, stable's first.
    seen: [ArmCounts; 2],
    past: StableRate,
    excess: ExcessBlocks,
    pass: Option<Pass>,
    passed: bool,
}

/// Either half shows it with half of the capital, as for rates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pass {
    ratio: ExceedanceE,
    difference: DiffE,
    settled_at: Option<Timestamp>,
}

impl LatencyTest {
    pub(super) fn new(criterion: &Criterion, ratio: Option<f64>, increase_ms: Option<f64>) -> Result<Self, ConfigError> {
        let coding = if criterion.mode == RatioMode::Harm { Coding::Harm } else { Coding::Strict };
        let tolerance = ratio.unwrap_or(1.5);
        let parts =
            quantiles(&criterion.metric).iter().map(|quantile| Part::new(*quantile, tolerance, coding)).collect::<Result<_, _>>()?;
        Ok(Self { ratio, increase_ms, parts, retuned_at: None, placebo: Placebo::default(), stage_requests: 0 })
    }

    pub(super) fn begin_stage(&mut self) {
        self.stage_requests = 0;
        let tolerance = self.ratio.unwrap_or(1.5);
        for part in &mut self.parts {
            part.pass = part.fresh_pass(tolerance).ok();
            part.passed = false;
        }
        self.retuned_at = None;
    }

    /// Evidence of slowness begins anew; what is known of stable stays.
    pub(super) fn acknowledge(&mut self) {
        for part in &mut self.parts {
            part.fail.restart();
            part.seen = [ArmCounts::default(); 2];
            part.excess = ExcessBlocks::new();
        }
    }

    /// `past`: stable's latencies from before this observation.
    /// `ln_threshold`: what an alarm of the whole test needs.
    pub(super) fn observe(&mut self, feed: &Feed<'_>, past: &DecayedHistogram, in_stage: bool, ln_pass: f64, ln_threshold: f64) {
        let ln_part = ln_threshold + (self.parts.len() as f64).ln();
        let at = feed.observation.at;
        // The tail is what pauses show in. Replicas are met before it is known, so that nothing else waits for it.
        let tail = self.parts.last().and_then(|part| part.fail.code());
        self.placebo.observe(feed.observation, |counts| tail.map_or(0, |code| counts.slow_or_failed(code.stable_edge_us)));
        if self.retuned_at.is_none_or(|last| at.ms_since(last) >= RETUNE_MS) {
            self.retuned_at = Some(at);
            let eta = self.placebo.eta();
            for part in &mut self.parts {
                part.retune(past, self.ratio, self.increase_ms, eta, at);
            }
        }
        for part in &mut self.parts {
            part.observe(feed, at, in_stage, ln_pass);
            part.excess.add(at.0, part.fail.ln_e(), ln_part);
        }
        if in_stage {
            let requests = feed.rates(Metric::ErrorRate).iter().map(|batch| batch.pass.canary.requests).sum::<u64>();
            self.stage_requests = self.stage_requests.saturating_add(requests);
        }
    }

    /// The weighted Bonferroni of the parts: with age coding one part may learn of a request before another does.
    pub(super) fn ln_e(&self) -> f64 {
        let share = 1.0 / self.parts.len() as f64;
        let parts: Vec<(f64, f64)> = self.parts.iter().map(|part| (share, part.fail.ln_e())).collect();
        ln_bonferroni(&parts)
    }

    pub(super) fn verdict(&self, ln_threshold: f64) -> Verdict {
        let ln_parts = (self.parts.len() as f64).ln();
        let ln_part = ln_threshold + ln_parts;
        let spread = |part: &Part| !self.placebo.is_missing() || part.excess.enough(ln_part);
        let fails = |part: &Part| part.fail.ln_e() >= ln_part && part.seen[1].events >= LEAST_SLOW && spread(part);
        if self.parts.iter().any(fails) {
            Verdict::Fail
        } else if self.parts.iter().all(|part| part.passed) {
            Verdict::Pass
        } else if self.stage_requests == 0 && self.parts.iter().all(|part| part.seen[1].events == 0) {
            Verdict::Unknown
        } else {
            Verdict::Inconclusive
        }
    }

    pub(super) fn text(&self, evidence: &Evidence, verdict: Verdict) -> String {
        let Some(part) = self.telling_part(verdict) else { return "no data".to_owned() };
        let Some(code) = part.fail.code() else {
            return "too little is known of stable's latency so far".to_owned();
        };
        let [stable, canary] = part.seen;
        let metric = Metric::Latency(part.quantile);
        let name = metric.name().trim_start_matches("latency-");
        let edge = |us: u64| format_value(us as f64 / 1_000.0, Unit::Milliseconds);
        let measured = if code.canary_edge_us == code.stable_edge_us {
            format!(
                "{} slower than stable's {name} of {}, of stable {}",
                words::share_of(canary),
                edge(code.stable_edge_us),
                words::share_of(stable)
            )
        } else {
            let (limit, own) = (edge(code.canary_edge_us), edge(code.stable_edge_us));
            format!(
                "{} slower than {limit}, of stable {} slower than its {name} of {own}",
                words::share_of(canary),
                words::share_of(stable)
            )
        };
        match verdict {
            Verdict::Unknown => "no compared request in this stage".to_owned(),
            Verdict::Fail => format!("{measured}; limit {}; {}", self.limit(), evidence.needed(self.ln_e())),
            Verdict::Pass => format!("{measured}; {name} surely below {}", self.limit()),
            _ if self.ln_e() >= evidence.ln_threshold => {
                let harm = evidence.of_harm(self.ln_e());
                format!("{measured}; {harm}, but not from {LEAST_BLOCKS} separate blocks of 10 s: it may be one pause of one process")
            }
            _ => {
                let left =
                    part.pass.as_ref().and_then(|pass| words::requests_left(pass.ln_e(), evidence.ln_pass, self.stage_requests as f64));
                let patience = left.map(|left| format!("{}; ", evidence.needs_more(left))).unwrap_or_default();
                format!("{patience}{measured}; {}", evidence.of_harm(self.ln_e()))
            }
        }
    }

    /// Canary requests until the slowest part is expected to pass.
    pub(super) fn requests_to_pass(&self, ln_pass: f64) -> Option<f64> {
        let seen = self.stage_requests as f64;
        let open = self.parts.iter().filter(|part| !part.passed).filter_map(|part| part.pass.as_ref());
        open.filter_map(|pass| words::requests_left(pass.ln_e(), ln_pass, seen)).reduce(f64::max)
    }

    /// The part that a verdict is about: the most suspicious, or the one that is furthest from passing.
    fn telling_part(&self, verdict: Verdict) -> Option<&Part> {
        let by = |key: fn(&Part) -> f64| self.parts.iter().max_by(|a, b| key(a).total_cmp(&key(b)));
        match verdict {
            Verdict::Fail => by(|part| part.fail.ln_e()),
            _ if self.parts.iter().any(|part| part.fail.ln_e() > 3.0) => by(|part| part.fail.ln_e()),
            _ => by(|part| if part.passed { f64::NEG_INFINITY } else { -part.pass.as_ref().map_or(0.0, Pass::ln_e) }),
        }
    }

    fn limit(&self) -> String {
        words::limit(self.ratio, self.increase_ms.map(|ms| format_value(ms, Unit::Milliseconds)))
    }
}

impl Part {
    fn new(quantile: Quantile, tolerance: f64, coding: Coding) -> Result<Self, ConfigError> {
        Ok(Self {
            quantile,
            fail: ExceedanceE::new(quantile.q(), tolerance, coding)?,
            settled_at: None,
            seen: [ArmCounts::default(); 2],
            past: StableRate::expecting(1.0 - quantile.q())?,
            excess: ExcessBlocks::new(),
            pass: None,
            passed: false,
        })
    }

    fn fresh_pass(&self, tolerance: f64) -> Result<Pass, ConfigError> {
        Ok(Pass {
            ratio: ExceedanceE::new(self.quantile.q(), tolerance, Coding::Pass)?,
            difference: DiffE::pass_below(pass_margin(self.quantile), self.past)?,
            settled_at: None,
        })
    }

    fn retune(&mut self, past: &DecayedHistogram, ratio: Option<f64>, increase_ms: Option<f64>, eta: f64, at: Timestamp) {
        let quantile_us = past.edge_at_quantile(self.quantile.q()).map(|(edge_us, _)| edge_us as f64);
        let above = increase_ms.zip(quantile_us).map(|(ms, us)| 1.0 + ms * 1_000.0 / us.max(1.0));
        let tolerance = ratio.into_iter().chain(above).fold(1.0, f64::max);
        retune(&mut self.fail, past, tolerance, eta, at, &mut self.settled_at);
        if let Some(pass) = &mut self.pass {
            retune(&mut pass.ratio, past, tolerance, eta, at, &mut pass.settled_at);
        }
    }

    fn observe(&mut self, feed: &Feed<'_>, at: Timestamp, in_stage: bool, ln_pass: f64) {
        if let Some(code) = self.fail.code()
            && self.settled_at.is_none_or(|settled| at >= settled)
        {
            for batch in feed.slow(code) {
                let events = Batch { canary_events: batch.canary.events, stable_events: batch.stable.events, weight: batch.weight };
                self.fail.update(events);
                if batch.weight.is_split() {
                    self.seen[0].add(batch.stable);
                    self.seen[1].add(batch.canary);
                }
            }
        }
        let Some(pass) = &mut self.pass else { return };
        let Some(code) = pass.ratio.code().filter(|_| in_stage && pass.settled_at.is_none_or(|settled| at >= settled)) else { return };
        for batch in feed.slow(code) {
            pass.ratio.update(Batch { canary_events: batch.canary.events, stable_events: batch.stable.events, weight: batch.weight });
            pass.difference.update(batch);
            self.past.add(batch.stable);
        }
        self.passed |= pass.ln_e() >= ln_pass;
    }
}

impl Pass {
    fn ln_e(&self) -> f64 {
        ln_mean_exp(&[self.ratio.ln_e(), self.difference.ln_e()])
    }
}

/// How much more often than stable's quantile says a passing canary may exceed the tolerance: without such a margin a tail
/// without events could never pass.
pub(crate) fn pass_margin(quantile: Quantile) -> f64 {
    match quantile {
        Quantile::P50 => 0.05,
        Quantile::P90 => 0.02,
        Quantile::P95 => 0.01,
        Quantile::P99 => 0.005,
    }
}

/// Moves the thresholds. A request that is open and older than the old edge but not the new one was counted and would be
/// counted again when it crosses the new one; only such requests can cross it within the difference of the edges, so nothing
/// is scored for that long. With a lower edge, requests between the two are left out on both arms alike.
fn retune(test: &mut ExceedanceE, past: &DecayedHistogram, tolerance: f64, eta: f64, at: Timestamp, settled_at: &mut Option<Timestamp>) {
    let before = test.code();
    // A tolerance that cannot be used leaves the one before; the limits were checked with the document.
    let _ = test.set_tolerance(tolerance);
    let _ = test.set_tempering(eta);
    let raised = |old: u64, new: u64| new.saturating_sub(old).div_ceil(1_000);
    if let (Some(old), Some(new)) = (before, test.retune(past)) {
        let wait_ms = raised(old.canary_edge_us, new.canary_edge_us).max(raised(old.stable_edge_us, new.stable_edge_us));
        if wait_ms > 0 {
            let settled = at.plus_ms(wait_ms);
            *settled_at = Some(settled_at.map_or(settled, |earlier| earlier.max(settled)));
        }
    }
}
