//! Absolute limits: "errors at most 5 %", "p99 at most 500 ms" (ANALYSIS 2.4).
//!
//! Looks at the canary alone, so that it goes on at 100 %. Requests by weight and matched ones are judged apart: they are
//! different people. Half a second in which both arms break a limit is nobody's proof of the canary's guilt, therefore
//! stable is held to the same limit: if it breaks it too, by its own evidence or by what the last minute shows, the verdict is
//! *environment*. Once that was the verdict, the canary's evidence of that time says nothing about the time after it: the test
//! starts anew with a smaller share of the alarm budget.

use serde::{Deserialize, Serialize};
use serin_stats::{ArmCounts, ConfigError, LimitE, bin_bounds_us, bin_of_us, rate_interval};

use super::{
    Evidence,
    feed::{Feed, Population, Seen},
    recent::Recent,
    words,
};
use crate::{Unit, format_value, judge::Verdict, plan::Metric, traffic::Arm};

/// Stable breaks the limit if its own `E` reaches this: it only has to be likely, since nothing happens to stable.
const STABLE_EVIDENCE: f64 = 20.0;
/// Fewer failing requests, or clients where they are sticky, never set off an alarm.
const LEAST_FAILURES: u64 = 3;
/// How the limit's share of the alarm is split between requests by weight and matched ones.
const SHARE_BY_WEIGHT: f64 = 0.8;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LimitTest {
    metric: Metric,
    /// The limit in the metric's unit.
    max: f64,
    events: Events,
    /// The limit as a share of requests.
    share: f64,
    by_weight: Side,
    matched: Side,
    stable: LimitE,
    stable_recent: Recent,
    /// How often the test started anew after trouble that both arms had.
    restarts: u32,
    shared: bool,
}

/// What counts against the limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Events {
    Rate,
    /// Answers that take this bin edge or longer.
    Slower {
        edge_us: u64,
    },
}

/// The canary's requests of one population.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Side {
    fail: LimitE,
    units: u64,
    pass: Option<LimitE<3>>,
    passed: bool,
    stage: ArmCounts,
}

impl LimitTest {
    /// `max` in the metric's unit.
    pub(super) fn new(metric: Metric, max: f64) -> Result<Self, ConfigError> {
        let (events, share) = match metric {
            Metric::Latency(quantile) => (Events::Slower { edge_us: edge_above(max * 1_000.0) }, 1.0 - quantile.q()),
            _ => (Events::Rate, max),
        };
        let side = Side { fail: LimitE::above(share)?, units: 0, pass: None, passed: false, stage: ArmCounts::default() };
        Ok(Self {
            metric,
            max,
            events,
            share,
            by_weight: side.clone(),
            matched: side,
            stable: LimitE::above(share)?,
            stable_recent: Recent::default(),
            restarts: 0,
            shared: false,
        })
    }

    pub(super) fn begin_stage(&mut self) {
        if self.shared {
            self.restart();
        }
        for side in [&mut self.by_weight, &mut self.matched] {
            // The limit was in range for the other direction already.
            side.pass = LimitE::below(self.share).ok();
            side.passed = false;
            side.stage = ArmCounts::default();
        }
    }

    /// From here on only stable is looked at, by what it does without the canary.
    pub(super) fn begin_retreat(&mut self) {
        self.stable_recent.clear();
        if let Ok(fresh) = LimitE::above(self.share) {
            self.stable = fresh;
        }
    }

    pub(super) fn observe(&mut self, feed: &Feed<'_>, in_stage: bool, ln_pass: f64) {
        let stable = self.seen(feed, Population::ByWeight(Arm::Stable));
        self.stable.update(stable.counts);
        self.stable_recent.add(feed.observation.at, stable.counts);
        let by_weight = self.seen(feed, Population::ByWeight(Arm::Canary));
        self.by_weight.add(by_weight, in_stage, ln_pass);
        let matched = self.seen(feed, Population::Matched);
        self.matched.add(matched, in_stage, ln_pass);
    }

    /// The stronger evidence of the two populations; what its share of the limit's budget costs is taken off.
    pub(super) fn ln_e(&self) -> f64 {
        let restarts = f64::from(self.restarts);
        let penalty = if self.restarts == 0 { 0.0 } else { ((restarts + 1.0) * (restarts + 2.0)).ln() };
        let weighed = |side: &Side, share: f64| if side.units < LEAST_FAILURES { f64::NEG_INFINITY } else { side.fail.ln_e() + share.ln() };
        weighed(&self.by_weight, SHARE_BY_WEIGHT).max(weighed(&self.matched, 1.0 - SHARE_BY_WEIGHT)) - penalty
    }

    pub(super) fn verdict(&mut self, ln_threshold: f64, is_matched_stage: bool) -> Verdict {
        let side = if is_matched_stage { &self.matched } else { &self.by_weight };
        if self.ln_e() >= ln_threshold {
            self.shared = self.stable_breaks();
            if self.shared { Verdict::Environment } else { Verdict::Fail }
        } else if side.passed {
            Verdict::Pass
        } else if side.stage.requests == 0 {
            Verdict::Unknown
        } else {
            Verdict::Inconclusive
        }
    }

    /// During a retreat: whether stable alone keeps the limit; `None` while there is too little data.
    pub(super) fn stable_keeps(&self) -> Option<bool> {
        match self.stable.ln_e() >= STABLE_EVIDENCE.ln() {
            true if self.stable_recent.keeps(self.share) != Some(true) => Some(false),
            _ => self.stable_recent.keeps(self.share),
        }
    }

    /// Whether stable breaks the limit by its own evidence, whatever the canary does.
    pub(super) fn stable_breaks(&self) -> bool {
        !self.stable_recent.is_empty() && (self.stable.ln_e() >= STABLE_EVIDENCE.ln() || self.stable_recent.breaks(self.share))
    }

    /// The share of events of the canary and of stable; `None` for limits that are not about a rate.
    pub(super) fn values(&self, is_matched_stage: bool) -> [Option<f64>; 2] {
        if self.events != Events::Rate {
            return [None, None];
        }
        let side = if is_matched_stage { &self.matched } else { &self.by_weight };
        [side.fail.seen(), self.stable.seen()].map(|counts| (counts.requests > 0).then(|| counts.events as f64 / counts.requests as f64))
    }

    pub(super) fn text(&self, evidence: &Evidence, verdict: Verdict, is_matched_stage: bool) -> String {
        let guilty = |side: &Side, share: f64| side.fail.ln_e() + share.ln();
        let matched_is_worse = guilty(&self.matched, 1.0 - SHARE_BY_WEIGHT) > guilty(&self.by_weight, SHARE_BY_WEIGHT);
        let breaking = matches!(verdict, Verdict::Fail | Verdict::Environment);
        let is_matched = if breaking { matched_is_worse } else { is_matched_stage };
        let side = if is_matched { &self.matched } else { &self.by_weight };
        let who = if is_matched { "matched requests: " } else { "" };
        let limit = format!("limit at most {}", format_value(self.max, self.metric.unit()));
        if verdict == Verdict::Unknown {
            return "no request in this stage".to_owned();
        }
        let values = format!("{who}{}", self.describe(side.fail.seen(), evidence.alpha));
        match verdict {
            Verdict::Fail => format!("{values}; {limit}; {}", evidence.needed(self.ln_e())),
            Verdict::Environment => {
                let stable = self.describe(self.stable.seen(), evidence.alpha);
                format!("{values}; {limit}; stable breaks it too: {stable}")
            }
            Verdict::Pass => format!("{values}; surely within the {limit}"),
            _ => {
                let left = side.pass.as_ref().and_then(|pass| {
                    let seen = side.stage.requests as f64;
                    words::requests_left(pass.ln_e(), evidence.ln_pass, seen)
                });
                let patience = left.map(|left| format!("{}; ", evidence.needs_more(left))).unwrap_or_default();
                format!("{patience}{values}; {limit}; {}", evidence.of_harm(self.ln_e()))
            }
        }
    }

    /// Canary requests by weight until the limit is expected to pass.
    pub(super) fn requests_to_pass(&self, ln_pass: f64) -> Option<f64> {
        let side = &self.by_weight;
        let pass = side.pass.as_ref().filter(|_| !side.passed)?;
        words::requests_left(pass.ln_e(), ln_pass, side.stage.requests as f64)
    }

    /// What stable shows, and the limit.
    pub(super) fn stable_text(&self, alpha: f64) -> String {
        format!("{}; limit at most {}", self.describe(self.stable.seen(), alpha), format_value(self.max, self.metric.unit()))
    }

    fn describe(&self, counts: ArmCounts, alpha: f64) -> String {
        match self.events {
            Events::Rate => {
                let rate = counts.events as f64 / counts.requests.max(1) as f64;
                let interval = rate_interval(counts, alpha).map(|interval| {
                    let (low, high) = (words::number(interval.low * 100.0), words::number(interval.high * 100.0));
                    format!(", {} % interval {low}–{high} %", words::number(100.0 * (1.0 - alpha)))
                });
                format!("{} ({}{})", format_value(rate, Unit::Share), words::share_of(counts), interval.unwrap_or_default())
            }
            Events::Slower { .. } => {
                let limit = format_value(self.max, Unit::Milliseconds);
                format!("{} slower than {limit} ({} % may be)", words::share_of(counts), words::number(self.share * 100.0))
            }
        }
    }

    fn seen(&self, feed: &Feed<'_>, population: Population) -> Seen {
        match self.events {
            Events::Rate => feed.rate_of(self.metric, population),
            Events::Slower { edge_us } => feed.slow_of(edge_us, population),
        }
    }

    fn restart(&mut self) {
        self.shared = false;
        self.restarts = self.restarts.saturating_add(1);
        for side in [&mut self.by_weight, &mut self.matched] {
            if let Ok(fresh) = LimitE::above(self.share) {
                side.fail = fresh;
                side.units = 0;
            }
        }
    }
}

impl Side {
    fn add(&mut self, seen: Seen, in_stage: bool, ln_pass: f64) {
        self.fail.update(seen.counts);
        self.units = self.units.saturating_add(seen.units);
        if in_stage && let Some(pass) = &mut self.pass {
            pass.update(seen.counts);
            self.passed |= pass.ln_e() >= ln_pass;
            self.stage.add(seen.counts);
        }
    }
}

/// The first bin edge at or above a latency: what is counted as slower surely is.
pub(super) fn edge_above(latency_us: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = latency_us.clamp(0.0, 1e15).ceil() as u64;
    let (low, high) = bin_bounds_us(bin_of_us(whole));
    if low == whole { low } else { high }
}
