//! A criterion on a rate relative to stable, put together: RatioE, the estimate that guards it, and the tolerance that follows
//! stable's past (ANALYSIS 2.2 and 2.10).
//!
//! Three readings of "at most 1.5 times stable's errors", which reports name in different words:
//!
//! - limit (default, what people mean): FAIL needs evidence of harm *and* an estimate at or beyond the limit;
//! - harm: FAIL on evidence of harm alone, so that a canary surely 1.2 times as bad is rolled back;
//! - strict: FAIL only on evidence that the limit itself is exceeded, which needs more data.
//!
//! Guards only ever withhold a FAIL, so that the false-alarm bound stays.

use serde::{Deserialize, Serialize};

use crate::config::{ArmCounts, ConfigError, require};
use crate::difference::ArmsBatch;
use crate::exact;
use crate::interval::RatioEvidence;
use crate::ratio::{Batch, RatioConfig, RatioE};
use crate::stable_rate::StableRate;

/// Fewer canary events never set off an alarm: a courtesy to people, not needed for validity.
const LEAST_CANARY_EVENTS: u64 = 3;

/// How a limit relative to stable is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RatioMode {
    /// Evidence of harm and an estimate beyond the limit.
    Limit,
    /// Evidence of harm alone.
    Harm,
    /// Evidence that the limit is exceeded.
    Strict,
}

/// Limits relative to stable; a breach exceeds all that are given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatioLimits {
    /// At most this many times stable's rate, above 1.
    pub ratio: Option<f64>,
    /// At most this much above stable's rate (0.005 for half a percentage point), above 0.
    pub increase: Option<f64>,
}

/// The FAIL side of a criterion on a rate relative to stable. Lives as long as the release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatioCriterion {
    mode: RatioMode,
    #[serde(with = "exact")]
    ratio: f64,
    /// 0 if no increase is tolerated beyond the ratio.
    #[serde(with = "exact")]
    increase: f64,
    test: RatioE,
    evidence: RatioEvidence,
    past: StableRate,
    seen: [ArmCounts; 2],
}

impl RatioCriterion {
    /// A fresh criterion. `past` is stable's traffic before the release.
    ///
    /// In `strict` mode an `increase` needs [`DiffE::fail_above`](crate::DiffE::fail_above) beside this; FAIL is then the lesser
    /// of the two `E`.
    ///
    /// # Errors
    /// If no limit is given or one is out of range, or `strict` is asked for without a ratio.
    pub fn new(mode: RatioMode, limits: RatioLimits, past: StableRate) -> Result<Self, ConfigError> {
        let given = limits.ratio.is_some() || limits.increase.is_some();
        require(given, "number of limits relative to stable", 0.0, "a ratio, an increase or both")?;
        let ratio = limits.ratio.unwrap_or(1.0);
        let increase = limits.increase.unwrap_or(0.0);
        require(limits.ratio.is_none_or(|ratio| ratio.is_finite() && ratio > 1.0), "ratio", ratio, "a finite number above 1")?;
        require(limits.increase.is_none_or(|increase| increase > 0.0 && increase < 1.0), "increase", increase, "above 0 and below 1")?;
        let config = match mode {
            RatioMode::Limit | RatioMode::Harm => RatioConfig::fail(1.0, if ratio > 1.0 { ratio } else { 1.5 }),
            RatioMode::Strict => {
                require(limits.ratio.is_some(), "ratio", ratio, "a ratio above 1 for strict mode (for an increase use DiffE)")?;
                RatioConfig::fail(ratio, 1.5)
            }
        };
        Ok(Self {
            mode,
            ratio,
            increase,
            test: RatioE::new(&config)?,
            evidence: RatioEvidence::new(),
            past,
            seen: [ArmCounts::default(); 2],
        })
    }

    /// Scores compared traffic that was assigned at one weight, then adds it to what is known of both arms.
    pub fn update(&mut self, batch: ArmsBatch) {
        if self.mode != RatioMode::Strict && self.increase > 0.0 {
            self.test.follow_rho1(self.smallest_harm());
        }
        let events = Batch { canary_events: batch.canary.events, stable_events: batch.stable.events, weight: batch.weight };
        self.test.update(events);
        self.evidence.add(events, self.test.tempering());
        self.past.add(batch.stable);
        if batch.weight.is_split() {
            self.seen[0].add(batch.stable);
            self.seen[1].add(batch.canary);
        }
    }

    /// Tempering for clustered events from the next batch on (ANALYSIS 2.8).
    ///
    /// # Errors
    /// If `eta` is not in (0, 1].
    pub fn set_tempering(&mut self, eta: f64) -> Result<(), ConfigError> {
        self.test.set_tempering(eta)
    }

    /// Forgets all evidence; what is known of stable's rate, the alternatives and the tempering stay.
    pub fn restart(&mut self) {
        self.test.restart();
        self.evidence = RatioEvidence::new();
        self.seen = [ArmCounts::default(); 2];
    }

    /// Whether this sets off the alarm: `ln E` at least `ln_threshold`, at least three canary events, and in limit mode an
    /// estimate at or beyond every given limit.
    #[must_use]
    pub fn fails(&self, ln_threshold: f64) -> bool {
        self.ln_e() >= ln_threshold && self.guards_open()
    }

    /// Whether nothing but evidence keeps the criterion from failing.
    #[must_use]
    pub fn guards_open(&self) -> bool {
        let [stable, canary] = self.seen;
        if canary.events < LEAST_CANARY_EVENTS {
            return false;
        }
        if self.mode != RatioMode::Limit {
            return true;
        }
        // The excess is taken from the ratio, not from pooled rates, which drift and changes of weight would confound.
        let beyond = |estimate: f64| estimate >= self.ratio && (estimate - 1.0) * stable.smoothed_rate() >= self.increase;
        self.evidence.ratio().is_some_and(beyond)
    }

    /// `ln E`: evidence of harm, or in strict mode that the ratio is exceeded.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        self.test.ln_e()
    }

    /// What is known about the ratio.
    #[must_use]
    pub fn evidence(&self) -> &RatioEvidence {
        &self.evidence
    }

    /// Compared requests and events since the start: stable's, then the canary's.
    #[must_use]
    pub fn seen(&self) -> [ArmCounts; 2] {
        self.seen
    }

    /// How the limit is read.
    #[must_use]
    pub fn mode(&self) -> RatioMode {
        self.mode
    }

    /// `rho1(t) = max(ratio, 1 + increase/ps_hat)`, with stable's past only.
    fn smallest_harm(&self) -> f64 {
        self.ratio.max(1.0 + self.increase / self.past.estimate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Share;

    fn batch(canary: (u64, u64), stable: (u64, u64)) -> ArmsBatch {
        let counts = |(requests, events)| ArmCounts { requests, events };
        ArmsBatch { canary: counts(canary), stable: counts(stable), weight: Share::new(0.05).unwrap() }
    }

    fn criterion(mode: RatioMode, increase: Option<f64>) -> RatioCriterion {
        let mut past = StableRate::default();
        past.add(ArmCounts { requests: 100_000, events: 1_000 });
        RatioCriterion::new(mode, RatioLimits { ratio: Some(1.5), increase }, past).unwrap()
    }

    #[test]
    fn the_three_readings_differ_between_one_and_the_limit() {
        // 1.3 times stable's rate, for long enough.
        let failed: Vec<bool> = [RatioMode::Limit, RatioMode::Harm, RatioMode::Strict]
            .into_iter()
            .map(|mode| {
                let mut criterion = criterion(mode, None);
                for _ in 0..300 {
                    criterion.update(batch((1_000, 13), (19_000, 190)));
                }
                criterion.fails(100_f64.ln())
            })
            .collect();
        assert_eq!(failed, [false, true, false]);
    }

    #[test]
    fn beyond_the_limit_all_three_fail() {
        for mode in [RatioMode::Limit, RatioMode::Harm, RatioMode::Strict] {
            let mut criterion = criterion(mode, None);
            for _ in 0..30 {
                criterion.update(batch((1_000, 30), (19_000, 190)));
            }
            assert!(criterion.fails(100_f64.ln()), "{mode:?}");
        }
    }

    #[test]
    fn an_increase_has_to_be_exceeded_as_well() {
        // Three times stable's rate of 1 %, but only two points more.
        for (increase, fails) in [(0.005, true), (0.03, false)] {
            let mut criterion = criterion(RatioMode::Limit, Some(increase));
            for _ in 0..30 {
                criterion.update(batch((1_000, 30), (19_000, 190)));
            }
            assert_eq!(criterion.fails(100_f64.ln()), fails, "{increase}");
        }
    }

    #[test]
    fn its_state_fits_a_kibibyte() {
        assert!(size_of::<RatioCriterion>() <= 1024, "{}", size_of::<RatioCriterion>());
    }

    #[test]
    fn limits_out_of_range_are_refused() {
        let make = |mode, ratio, increase| RatioCriterion::new(mode, RatioLimits { ratio, increase }, StableRate::default());
        assert!(make(RatioMode::Limit, None, None).is_err());
        assert!(make(RatioMode::Limit, Some(1.0), None).is_err());
        assert!(make(RatioMode::Limit, None, Some(0.0)).is_err());
        assert!(make(RatioMode::Strict, None, Some(0.005)).is_err());
        assert!(make(RatioMode::Harm, None, Some(0.005)).is_ok());
    }
}
