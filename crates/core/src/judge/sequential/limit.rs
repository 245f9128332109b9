//! Absolute limits: "errors at most 5 %", "p99 at most 500 ms" (ANALYSIS 2.4).
//!
//! Looks at the canary alone, so that it goes on at 100 %. Requests by weight and matched ones are judged apart: they are
//! different people.
//!
//! That the canary breaks a limit is no proof of its guilt while stable may break it too. So an alarm is a *fail* only if
//! stable, over the time in which the evidence against the canary came together, looks like one that keeps the limit rather
//! than like the canary, or if there is no stable next to it. If stable looks like the canary, or if neither can be said although
//! the evidence against the canary has grown well beyond what is needed, the verdict is *environment*: the canary loses its
//! traffic either way, and what stable does without it says the rest.
//!
//! After such a retreat the evidence of that time says nothing about the time after it: every limit starts anew, with a
//! smaller share of the alarm budget. All restarts together spend at most a quarter more than the limit's share.

use serde::{Deserialize, Serialize};
use serin_stats::{ArmCounts, ConfigError, LimitE, bin_bounds_us, bin_of_us, rate_interval};

use super::{
    Evidence,
    feed::{Feed, Population, Seen},
    recent::Recent,
    words,
};
use crate::{
    Unit, WeightBps, format_value,
    judge::{Verdict, slices::choice},
    plan::Metric,
    traffic::{Arm, Assignment},
};

/// What has to be shown of stable: it only has to be likely, since nothing happens to stable.
const STABLE_EVIDENCE: f64 = 20.0;
/// Stable looks like the canary from this likelihood ratio on.
const LIKE_CANARY: f64 = 3.0;
/// How far beyond what is needed the evidence may grow while it is not clear whose fault it is: three failures or so.
const PATIENCE_NATS: f64 = 9.0;
/// Fewer failing requests, or clients where they are sticky, never set off an alarm.
const LEAST_FAILURES: u64 = 3;
/// How the limit's share of the alarm is split between requests by weight and matched ones.
pub(crate) const SHARE_BY_WEIGHT: f64 = 0.9;

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
    /// Evidence that stable keeps the limit, since the canary lost its traffic.
    recovery: Option<LimitE<3>>,
    /// How often the test started anew after trouble that both arms had.
    restarts: u32,
    /// The matched requests came through the preview.
    #[serde(default)]
    is_preview: bool,
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
    /// Since the evidence last pointed nowhere: what it came from, and what stable did meanwhile.
    run_up: RunUp,
    pass: Option<LimitE<3>>,
    passed: bool,
    stage: ArmCounts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct RunUp {
    canary: ArmCounts,
    stable: ArmCounts,
}

impl LimitTest {
    /// `max` in the metric's unit.
    pub(super) fn new(metric: Metric, max: f64) -> Result<Self, ConfigError> {
        let (events, share) = match metric {
            Metric::Latency(quantile) => (Events::Slower { edge_us: edge_above(max * 1_000.0) }, 1.0 - quantile.q()),
            _ => (Events::Rate, max),
        };
        let side = Side {
            fail: LimitE::above(share)?,
            units: 0,
            run_up: RunUp::default(),
            pass: None,
            passed: false,
            stage: ArmCounts::default(),
        };
        Ok(Self {
            metric,
            max,
            events,
            share,
            by_weight: side.clone(),
            matched: side,
            stable: LimitE::above(share)?,
            stable_recent: Recent::default(),
            recovery: None,
            restarts: 0,
            is_preview: false,
        })
    }

    pub(super) fn begin_stage(&mut self) {
        if self.recovery.take().is_some() {
            self.restart();
        }
        for side in [&mut self.by_weight, &mut self.matched] {
            // The limit was in range for the other direction already.
            side.pass = LimitE::below(self.share).ok();
            side.passed = false;
            side.stage = ArmCounts::default();
        }
    }

    /// Evidence against the canary begins anew.
    pub(super) fn acknowledge(&mut self) {
        self.by_weight.restart();
        self.matched.restart();
    }

    /// From here on only stable is looked at, by what it does without the canary.
    pub(super) fn begin_retreat(&mut self) {
        self.forget_stable();
        self.recovery = LimitE::below(self.share).ok();
    }

    pub(super) fn observe(&mut self, feed: &Feed<'_>, in_stage: bool, ln_pass: f64) {
        let stable = self.seen(feed, Population::ByWeight(Arm::Stable));
        self.stable.update(stable.counts);
        self.stable_recent.add(feed.observation.at, stable.counts);
        if let Some(recovery) = &mut self.recovery {
            recovery.update(stable.counts);
        }
        let by_weight = self.seen(feed, Population::ByWeight(Arm::Canary));
        self.by_weight.add(by_weight, stable.counts, in_stage, ln_pass);
        let matched = self.seen(feed, Population::Matched);
        if let Some(cell) = feed.observation.cells.iter().find(|cell| cell.assignment.is_by_choice()) {
            self.is_preview = cell.assignment == Assignment::Preview;
        }
        self.matched.add(matched, stable.counts, in_stage, ln_pass);
    }

    /// The stronger evidence of the two populations; what its share of the limit's budget costs is taken off.
    pub(super) fn ln_e(&self) -> f64 {
        self.by_weight.weighed(SHARE_BY_WEIGHT).max(self.matched.weighed(1.0 - SHARE_BY_WEIGHT)) - restart_penalty(self.restarts)
    }

    pub(super) fn verdict(&self, ln_threshold: f64, weight: WeightBps) -> Verdict {
        let side = self.side(weight);
        if self.ln_e() >= ln_threshold {
            // Nobody stands next to a canary that has everything.
            match self.accused().run_up.ln_for_stable(self.share) {
                _ if weight == WeightBps::FULL => Verdict::Fail,
                ln_ratio if ln_ratio >= STABLE_EVIDENCE.ln() => Verdict::Fail,
                ln_ratio if ln_ratio <= -LIKE_CANARY.ln() || self.ln_e() >= ln_threshold + PATIENCE_NATS => Verdict::Environment,
                _ => Verdict::Inconclusive,
            }
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
        if self.stable_breaks() || self.stable_recent.breaks(self.share) {
            return Some(false);
        }
        self.recovery.as_ref().filter(|recovery| recovery.ln_e() >= STABLE_EVIDENCE.ln()).map(|_| true)
    }

    /// Whether stable surely breaks the limit, and still does in the last minute.
    pub(super) fn stable_breaks(&self) -> bool {
        self.stable.ln_e() >= STABLE_EVIDENCE.ln() && self.stable_recent.keeps(self.share) == Some(false)
    }

    /// The share of events of the canary and of stable; `None` for limits that are not about a rate.
    pub(super) fn values(&self, weight: WeightBps) -> [Option<f64>; 2] {
        if self.events != Events::Rate {
            return [None, None];
        }
        let side = self.side(weight);
        [side.fail.seen(), self.stable.seen()].map(|counts| (counts.requests > 0).then(|| counts.events as f64 / counts.requests as f64))
    }

    pub(super) fn text(&self, evidence: &Evidence, verdict: Verdict, weight: WeightBps) -> String {
        let breaking = matches!(verdict, Verdict::Fail | Verdict::Environment);
        let side = match breaking {
            true => self.accused(),
            false => self.side(weight),
        };
        let who = if std::ptr::eq(side, &raw const self.matched) { format!("{}: ", choice(self.is_preview)) } else { String::new() };
        let limit = format!("limit {}", format_value(self.max, self.metric.unit()));
        if verdict == Verdict::Unknown {
            return "no request in this stage".to_owned();
        }
        // What an alarm came from is the time since the trouble began; the release's sum may look harmless.
        let values = format!("{who}{}", self.describe(if breaking { side.run_up.canary } else { side.fail.seen() }, evidence.alpha));
        match verdict {
            Verdict::Fail => format!("{values}; {limit}; {}", evidence.needed(self.ln_e())),
            Verdict::Environment => {
                let stable = self.describe(side.run_up.stable, evidence.alpha);
                format!("{values}; {limit}; stable at the same time {stable}, so that it may not be the canary's fault")
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
        let limit = format_value(self.max, self.metric.unit());
        format!("{} in the last minute; limit {limit}", self.describe(self.stable_recent.total(), alpha))
    }

    /// The population that a stage of this weight is about. Other sources do not know how a request came to its arm.
    fn side(&self, weight: WeightBps) -> &Side {
        if weight.is_zero() && self.metric.external().is_none() { &self.matched } else { &self.by_weight }
    }

    /// The population with the stronger evidence.
    fn accused(&self) -> &Side {
        let matched = self.matched.weighed(1.0 - SHARE_BY_WEIGHT) > self.by_weight.weighed(SHARE_BY_WEIGHT);
        if matched { &self.matched } else { &self.by_weight }
    }

    fn forget_stable(&mut self) {
        self.stable_recent.clear();
        self.stable.restart();
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
        self.restarts = self.restarts.saturating_add(1);
        self.forget_stable();
        self.by_weight.restart();
        self.matched.restart();
    }
}

impl Side {
    fn restart(&mut self) {
        self.fail.restart();
        self.units = 0;
        self.run_up = RunUp::default();
    }

    /// `ln E` with the population's share of the limit's budget.
    fn weighed(&self, share: f64) -> f64 {
        if self.units < LEAST_FAILURES { f64::NEG_INFINITY } else { self.fail.ln_e() + share.ln() }
    }

    fn add(&mut self, seen: Seen, stable: ArmCounts, in_stage: bool, ln_pass: f64) {
        self.fail.update(seen.counts);
        self.run_up.canary.add(seen.counts);
        self.run_up.stable.add(stable);
        if self.fail.ln_e() <= 0.0 {
            self.run_up = RunUp::default();
        }
        self.units = self.units.saturating_add(seen.units);
        if in_stage && let Some(pass) = &mut self.pass {
            pass.update(seen.counts);
            self.passed |= pass.ln_e() >= ln_pass;
            self.stage.add(seen.counts);
        }
    }
}

impl RunUp {
    /// How much likelier stable's requests are for a stable at the limit than for one like the canary: half of the canary's
    /// rate up to all of it, whatever fits stable best, since an alarm comes when the canary looks worse than it is. Not a
    /// matter of the false-alarm budget: it only tells apart what an alarm means.
    fn ln_for_stable(&self, limit: f64) -> f64 {
        let as_canary = self.canary.smoothed_rate();
        let (low, high) = ((as_canary / 2.0).clamp(limit, 0.99), as_canary.clamp(limit, 0.99));
        let broken = self.stable.smoothed_rate().clamp(low, high);
        let (events, quiet) = (self.stable.events.min(self.stable.requests) as f64, self.stable.quiet() as f64);
        events * (limit / broken).ln() + quiet * ((1.0 - limit) / (1.0 - broken)).ln()
    }
}

/// What the evidence of a test loses, in nats, once it has started anew this often: all restarts together spend at most a quarter
/// more than the test's share of the alarm budget.
pub(super) fn restart_penalty(restarts: u32) -> f64 {
    let times = f64::from(restarts);
    if restarts == 0 { 0.0 } else { (2.0 * (times + 1.0) * (times + 2.0)).ln() }
}

/// The first bin edge at or above a latency: what is counted as slower surely is.
pub(super) fn edge_above(latency_us: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = latency_us.clamp(0.0, 1e15).ceil() as u64;
    let (low, high) = bin_bounds_us(bin_of_us(whole));
    if low == whole { low } else { high }
}
