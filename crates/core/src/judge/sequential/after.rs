//! Criteria against stable once the canary serves everything and there is no stable to compare with (ANALYSIS 2.9).
//!
//! Stable's last known rate stands in for it, with half as much again for what may have changed since: an absolute limit that
//! nobody had to write down. So errors and hangs that begin in the bake are found although they stay below the guards. It only
//! ever accuses: a canary that served next to stable has passed already.

use serde::{Deserialize, Serialize};
use serin_stats::{ArmCounts, DecayedHistogram, HIGHEST_RATE, LimitE, StableRate};

use super::{
    Evidence,
    feed::{Feed, Population},
    limit::edge_above,
    words,
};
use crate::{
    Unit, WeightBps, format_value,
    judge::Verdict,
    plan::{Criterion, Metric, Quantile, VersusStable},
    traffic::Arm,
};

/// How much more than the tolerance is put down to the time that has passed.
const DRIFT: f64 = 1.5;
/// Stable must have been seen this often.
const LEAST_REQUESTS: u64 = 200;
/// Fewer failures never set off an alarm.
const LEAST_FAILURES: u64 = 5;
/// Limits below this would make a handful of failures in a row, such as one client's retries, a reason for a rollback.
const LEAST_LIMIT: f64 = 0.005;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AfterTest {
    metric: Metric,
    versus: VersusStable,
    stable: StableRate,
    limit: Option<Limit>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Limit {
    test: LimitE,
    /// For latencies: slower than this bin edge.
    edge_us: Option<u64>,
}

impl AfterTest {
    pub(super) fn new(criterion: &Criterion, versus: VersusStable) -> Self {
        let metric = match criterion.metric {
            Metric::LatencyAny => Metric::Latency(Quantile::P99),
            metric => metric,
        };
        Self { metric, versus, stable: StableRate::default(), limit: None }
    }

    /// Fixes the limit when the canary first gets everything.
    pub(super) fn begin_stage(&mut self, weight: WeightBps, past: &DecayedHistogram) {
        if weight != WeightBps::FULL || self.limit.is_some() || self.stable.requests() < LEAST_REQUESTS {
            return;
        }
        let (share, edge_us) = match self.metric {
            Metric::Latency(quantile) => match past.edge_at_quantile(quantile.q()) {
                Some((quantile_us, _)) => {
                    (DRIFT * (1.0 - quantile.q()), Some(edge_above(self.allowed(quantile_us as f64 / 1_000.0) * 1_000.0)))
                }
                None => return,
            },
            _ => (DRIFT * self.allowed(self.stable.estimate()), None),
        };
        self.limit = LimitE::above(share.clamp(LEAST_LIMIT, HIGHEST_RATE)).ok().map(|test| Limit { test, edge_us });
    }

    /// Whether stable was seen too little to say what it was like.
    pub(super) fn is_blind(&self) -> bool {
        self.limit.is_none()
    }

    /// Evidence against the canary begins anew; the limit stays.
    pub(super) fn acknowledge(&mut self) {
        if let Some(limit) = &mut self.limit {
            limit.test.restart();
        }
    }

    pub(super) fn observe(&mut self, feed: &Feed<'_>, weight: Option<WeightBps>) {
        self.stable.add(feed.rate_of(self.metric, Population::ByWeight(Arm::Stable)).counts);
        let Some(limit) = self.limit.as_mut().filter(|_| weight == Some(WeightBps::FULL)) else { return };
        let seen = match limit.edge_us {
            Some(edge_us) => feed.slow_of(edge_us, Population::ByWeight(Arm::Canary)),
            None => feed.rate_of(self.metric, Population::ByWeight(Arm::Canary)),
        };
        limit.test.update(seen.counts);
    }

    pub(super) fn ln_e(&self) -> f64 {
        self.limit.as_ref().map_or(0.0, |limit| limit.test.ln_e())
    }

    /// `None` unless the canary serves everything.
    pub(super) fn verdict(&self, ln_threshold: f64, weight: WeightBps) -> Option<Verdict> {
        let limit = self.limit.as_ref().filter(|_| weight == WeightBps::FULL)?;
        let fails = limit.test.ln_e() >= ln_threshold && limit.test.seen().events >= LEAST_FAILURES;
        Some(if fails { Verdict::Fail } else { Verdict::Pass })
    }

    pub(super) fn text(&self, evidence: &Evidence, verdict: Verdict) -> String {
        let Some(limit) = &self.limit else { return String::new() };
        let seen = limit.test.seen();
        let most = format_value(limit.test.limit(), Unit::Share);
        let measured = match limit.edge_us {
            Some(edge_us) => {
                let edge = format_value(edge_us as f64 / 1_000.0, Unit::Milliseconds);
                format!("{} slower than {edge}, from before the switch at most {most} are expected", words::share_of(seen))
            }
            None => format!("{}, from before the switch at most {most} are expected", shown(seen)),
        };
        match verdict {
            Verdict::Fail => format!("{measured}; {}", evidence.needed(self.ln_e())),
            _ => format!("{measured}; {}", evidence.of_harm(self.ln_e())),
        }
    }

    /// The most that a value may be next to stable's.
    fn allowed(&self, stable: f64) -> f64 {
        let ratio = self.versus.ratio.map(|ratio| stable * ratio);
        ratio.into_iter().chain(self.versus.increase.map(|increase| stable + increase)).fold(stable, f64::max)
    }
}

fn shown(seen: ArmCounts) -> String {
    let rate = seen.events as f64 / seen.requests.max(1) as f64;
    format!("{} ({})", format_value(rate, Unit::Share), words::share_of(seen))
}
