//! Rates against stable: errors, 5xx and 4xx (ANALYSIS 2.2, 2.3, 2.9 and 2.10).
//!
//! FAIL is one process for the whole release. For `error-rate` its evidence is spread over the total and every class of
//! errors, so that a new kind of error is seen although it hides in the noise of the total; the guards of limit mode look at
//! the total. PASS starts afresh in every stage: the canary's rate is surely below stable's times the ratio, or below stable's
//! plus the increase (half a percentage point if the document names none). Events that come in clusters are tempered by what
//! stable's replicas show among themselves.

use serde::{Deserialize, Serialize};
use serin_stats::{
    ArmCounts, ConfigError, DEFAULT_MARGIN, DiffE, FingerprintE, PassE, RatioConfig, RatioCriterion, RatioLimits, RatioMode, StableRate,
};

use super::{Evidence, feed::Feed, placebo::Placebo, words};
use crate::{
    judge::{EvidenceLevel, Verdict},
    plan::{Criterion, Metric},
};

/// The alternatives of the classes follow the tolerance in steps of this size: older ones are just as valid.
const RETUNE_STEP: f64 = 1.02;
/// The guard for people that the test has.
const LEAST_CANARY_EVENTS: u64 = 3;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RateTest {
    metric: Metric,
    mode: RatioMode,
    ratio: Option<f64>,
    increase: Option<f64>,
    total: RatioCriterion,
    classes: Option<FingerprintE>,
    /// Names of the classes by their number.
    names: Vec<String>,
    /// Stable's errors by class before anything was compared: what kinds of errors are known.
    before: Vec<u64>,
    is_comparing: bool,
    /// The smallest ratio that the classes bet on.
    tuned_for: f64,
    eta: f64,
    /// Strict mode with an increase: FAIL needs both.
    above: Option<DiffE>,
    past: StableRate,
    placebo: Placebo,
    pass: Option<PassE>,
    passed: bool,
    /// Compared requests of this stage by arm, stable's first.
    stage: [ArmCounts; 2],
}

impl RateTest {
    /// For one limit or for two that must both be exceeded.
    pub(super) fn new(criterion: &Criterion, ratio: Option<f64>, increase: Option<f64>) -> Result<Self, ConfigError> {
        let past = criterion.expected.map_or_else(|| Ok(StableRate::default()), StableRate::expecting)?;
        let mode = criterion.mode;
        let strict_ratio = if mode == RatioMode::Strict && ratio.is_none() { RatioMode::Harm } else { mode };
        let limits = RatioLimits { ratio, increase: increase.filter(|_| mode != RatioMode::Strict || ratio.is_none()) };
        let spread = criterion.metric == Metric::ErrorRate && mode != RatioMode::Strict;
        let smallest = ratio.unwrap_or(1.5);
        Ok(Self {
            metric: criterion.metric,
            mode,
            ratio,
            increase,
            total: RatioCriterion::new(strict_ratio, limits, past)?,
            classes: spread.then(|| FingerprintE::new(&RatioConfig::fail(1.0, smallest), &[])).transpose()?,
            names: Vec::new(),
            before: Vec::new(),
            is_comparing: false,
            tuned_for: smallest,
            eta: 1.0,
            above: increase.filter(|_| mode == RatioMode::Strict).map(|increase| DiffE::fail_above(increase, past)).transpose()?,
            past,
            placebo: Placebo::default(),
            pass: None,
            passed: false,
            stage: [ArmCounts::default(); 2],
        })
    }

    pub(super) fn begin_stage(&mut self) {
        self.pass = self.fresh_pass().ok();
        self.passed = false;
        self.stage = [ArmCounts::default(); 2];
    }

    /// Evidence of harm begins anew; what is known of stable and its errors stays.
    pub(super) fn acknowledge(&mut self) {
        self.total.restart();
        if self.is_comparing {
            self.classes = self.fresh_classes().or(self.classes.take());
        }
        if let Some(above) = &mut self.above {
            above.restart();
        }
    }

    /// `in_stage`: the weight of the stage is proven, so that this counts towards its PASS.
    pub(super) fn observe(&mut self, feed: &Feed<'_>, in_stage: bool, ln_pass: f64) {
        let metric = self.metric;
        self.placebo.observe(feed.observation, |counts| super::feed::rate_events(metric, counts));
        self.temper(self.placebo.eta());
        if self.classes.is_some() {
            self.observe_classes(feed);
        }
        for batch in feed.rates(metric) {
            self.total.update(batch.fail);
            if let Some(above) = &mut self.above {
                above.update(batch.pass);
            }
            if in_stage && let Some(pass) = &mut self.pass {
                pass.update(batch.pass);
                self.passed |= pass.ln_e() >= ln_pass;
                if batch.fail.weight.is_split() {
                    self.stage[0].add(batch.fail.stable);
                    self.stage[1].add(batch.fail.canary);
                }
            }
            self.past.add(batch.pass.stable);
        }
    }

    /// Evidence of harm; in strict mode that the limits themselves are exceeded.
    pub(super) fn ln_e(&self) -> f64 {
        let total = self.classes.as_ref().map_or_else(|| self.total.ln_e(), FingerprintE::ln_e);
        match &self.above {
            Some(above) if self.ratio.is_some() => total.min(above.ln_e()),
            Some(above) => above.ln_e(),
            None => total,
        }
    }

    pub(super) fn verdict(&self, ln_threshold: f64) -> Verdict {
        if self.ln_e() >= ln_threshold && self.total.guards_open() {
            Verdict::Fail
        } else if self.passed {
            Verdict::Pass
        } else if self.stage[1].requests == 0 && self.stage[1].events == 0 {
            Verdict::Unknown
        } else {
            Verdict::Inconclusive
        }
    }

    /// Rates of canary and stable over all compared traffic of the release.
    pub(super) fn values(&self) -> [Option<f64>; 2] {
        let [stable, canary] = self.total.seen();
        [canary, stable].map(|counts| (counts.requests > 0).then(|| counts.events as f64 / counts.requests as f64))
    }

    pub(super) fn text(&self, evidence: &Evidence, verdict: Verdict) -> String {
        let [stable, canary] = self.total.seen();
        let seen = format!("{} against {}", words::share_of(canary), words::share_of(stable));
        let ratio = self.total.evidence();
        let compared = match (ratio.ratio(), ratio.ratio_interval(evidence.alpha)) {
            (Some(ratio), Ok(interval)) => format!("{}, {seen}", words::times_stable(ratio, interval, evidence.alpha)),
            _ => seen,
        };
        match verdict {
            Verdict::Unknown => "no compared request in this stage".to_owned(),
            Verdict::Fail => {
                let harm = match self.mode {
                    RatioMode::Limit => format!("limit {}", self.limit()),
                    RatioMode::Harm => "surely worse than stable".to_owned(),
                    RatioMode::Strict => format!("surely above {}", self.limit()),
                };
                format!("{compared}; {harm}; {}{}", evidence.needed(self.ln_e()), self.mostly())
            }
            Verdict::Pass => format!("{compared}; surely below {}", self.tolerance()),
            _ if self.ln_e() >= evidence.ln_threshold && canary.events < LEAST_CANARY_EVENTS => {
                format!("{compared}; fewer than {LEAST_CANARY_EVENTS} failures so far; {}", evidence.of_harm(self.ln_e()))
            }
            _ => {
                let harm = evidence.of_harm(self.ln_e());
                match self.needed_to_pass(evidence.ln_pass) {
                    _ if self.ln_e() >= evidence.ln_threshold => {
                        format!("{compared}; surely worse than stable, but not above {}; {harm}{}", self.limit(), self.mostly())
                    }
                    Some(needed) => format!("{}; {compared}; {harm}", evidence.needs_more(needed)),
                    None => format!("{compared}; {harm}"),
                }
            }
        }
    }

    pub(super) fn level(&self, level: EvidenceLevel, evidence: &Evidence) -> EvidenceLevel {
        let known = self.total.evidence();
        let between = known.ratio_interval(evidence.alpha).ok().filter(|_| known.ratio().is_some());
        EvidenceLevel {
            ratio: known.ratio(),
            ratio_between: between.map(|interval| (interval.low, Some(interval.high).filter(|high| high.is_finite()))),
            requests_to_pass: self.needed_to_pass(evidence.ln_pass),
            ..level
        }
    }

    /// Canary requests until an equal canary is expected to pass.
    fn needed_to_pass(&self, ln_pass: f64) -> Option<f64> {
        let pass = self.pass.as_ref().filter(|_| !self.passed)?;
        words::requests_left(pass.ln_e(), ln_pass, self.stage[1].requests as f64)
    }

    fn observe_classes(&mut self, feed: &Feed<'_>) {
        if !self.is_comparing {
            if !feed.compares() {
                return self.remember_classes(feed);
            }
            self.is_comparing = true;
            self.classes = self.fresh_classes().or(self.classes.take());
        }
        self.follow_tolerance();
        let Some(classes) = &mut self.classes else { return };
        let names = &mut self.names;
        for (weight, events) in feed.classes(|name| number_of(names, name)) {
            classes.update(weight, &events);
        }
    }

    fn remember_classes(&mut self, feed: &Feed<'_>) {
        for (name, count) in feed.classes_of_stable() {
            let Ok(number) = usize::try_from(number_of(&mut self.names, name)) else { continue };
            if self.before.len() <= number {
                self.before.resize(number + 1, 0);
            }
            self.before[number] = self.before[number].saturating_add(count);
        }
    }

    /// Tests with the classes that stable had before, most frequent first.
    fn fresh_classes(&self) -> Option<FingerprintE> {
        let mut known: Vec<(u64, u64)> = self.before.iter().enumerate().map(|(number, count)| (*count, number as u64)).collect();
        known.retain(|(count, _)| *count > 0);
        known.sort_unstable_by_key(|(count, number)| (std::cmp::Reverse(*count), *number));
        let known: Vec<u64> = known.into_iter().take(MOST_KNOWN).map(|(_, number)| number).collect();
        let mut classes = FingerprintE::new(&RatioConfig::fail(1.0, self.tuned_for), &known).ok()?;
        classes.tune(self.tuned_for, self.eta).ok()?;
        Some(classes)
    }

    /// Tests of classes use the tolerance of the total, from stable's past alone.
    fn follow_tolerance(&mut self) {
        let wanted = self.smallest_harm();
        let (low, high) = (self.tuned_for / RETUNE_STEP, self.tuned_for * RETUNE_STEP);
        if (low..high).contains(&wanted) {
            return;
        }
        if let Some(classes) = &mut self.classes
            && classes.tune(wanted, self.eta).is_ok()
        {
            self.tuned_for = wanted;
        }
    }

    fn temper(&mut self, eta: f64) {
        if eta == self.eta {
            return;
        }
        self.eta = eta;
        // In range by construction of the estimate.
        let _ = self.total.set_tempering(eta);
        if let Some(classes) = &mut self.classes {
            let _ = classes.tune(self.tuned_for, eta);
        }
        if let Some(pass) = &mut self.pass {
            let _ = pass.set_tempering(eta);
        }
    }

    fn smallest_harm(&self) -> f64 {
        let ratio = self.ratio.unwrap_or(if self.increase.is_some() { 1.0 } else { 1.5 });
        let above = self.increase.map_or(0.0, |increase| 1.0 + increase / self.past.estimate());
        ratio.max(above).max(1.01)
    }

    fn fresh_pass(&self) -> Result<PassE, ConfigError> {
        let margin = self.increase.unwrap_or(DEFAULT_MARGIN);
        let mut pass = match self.ratio {
            Some(ratio) => PassE::new(ratio, margin, self.past)?,
            None => PassE::of_difference(margin, self.past)?,
        };
        pass.set_tempering(self.eta)?;
        Ok(pass)
    }

    fn limit(&self) -> String {
        words::limit(self.ratio, self.increase.map(words::points))
    }

    /// What PASS shows: within the ratio, or within the increase.
    fn tolerance(&self) -> String {
        words::limit(self.ratio, Some(words::points(self.increase.unwrap_or(DEFAULT_MARGIN))))
    }

    /// The class that is to blame as the end of a sentence.
    fn mostly(&self) -> String {
        self.guilty_class().map(|class| format!("; mostly {class}")).unwrap_or_default()
    }

    /// The class that is to blame, if one stands out against the total.
    fn guilty_class(&self) -> Option<&str> {
        let classes = self.classes.as_ref()?;
        let (class, ln_e) = classes.strongest()?;
        let name = self.names.get(usize::try_from(class).ok()?)?;
        (ln_e >= classes.ln_e_total() && name != "unnamed").then_some(name.as_str())
    }
}

/// Most names that are remembered: the tests keep fewer classes apart.
const MOST_NAMES: usize = 256;
/// Most classes that count as known from before; the rest of the places are for new ones.
const MOST_KNOWN: usize = 32;

fn number_of(names: &mut Vec<String>, name: &str) -> u64 {
    let position = names.iter().position(|known| known == name).unwrap_or_else(|| {
        if names.len() < MOST_NAMES {
            names.push(name.to_owned());
            names.len() - 1
        } else {
            MOST_NAMES
        }
    });
    position as u64
}
