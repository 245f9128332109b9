//! One false-alarm budget for all the rollback criteria of a release (ANALYSIS 2.9, release alarm).
//!
//! The alarm goes off when `max_m v_m E_m >= 1/alpha`: weighted Bonferroni, which holds under any dependence and any mix of
//! filtrations. (The sum of `v_m E_m` does not: age coding of one metric looks into another's future.) A criterion with share
//! `v` pays `ln(1/v)` nats. Shares are fixed at the start of the release. Criteria that only pause or warn have budgets of
//! their own and do not belong here.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require, require_open_unit};
use crate::exact;

/// Probability of a false rollback per release, over all stages and continuous looking.
pub const DEFAULT_ALPHA: f64 = 0.01;
/// Probability that a canary at the tolerance passes, per criterion and stage.
pub const DEFAULT_BETA: f64 = 0.05;

/// What a criterion looks at, for the default shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Errors relative to stable: half of the budget.
    Errors,
    /// Latency relative to stable: 20 %.
    Latency,
    /// Absolute limits: 20 %. An outage after a day at full weight has to be found within ten failures by what is left of it.
    Limits,
    /// A canary that serves alone against what stable was: 5 %. Every criterion relative to stable has such a test, which would
    /// otherwise divide the limits' part into pieces.
    After,
    /// Gauges, counts and business metrics: 5 %.
    Other,
}

impl Family {
    const ALL: [Self; 5] = [Self::Errors, Self::Latency, Self::Limits, Self::After, Self::Other];

    /// The family's part of the budget while all families are present.
    #[must_use]
    pub fn share(self) -> f64 {
        match self {
            Self::Errors => 0.5,
            Self::Latency | Self::Limits => 0.2,
            Self::After | Self::Other => 0.05,
        }
    }
}

/// The combined alarm. Once it has gone off it stays so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseAlarm {
    #[serde(with = "exact")]
    alpha: f64,
    shares: Vec<StoredShare>,
    fired: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct StoredShare(#[serde(with = "exact")] f64);

impl ReleaseAlarm {
    /// Default shares for these criteria: a family's part is divided equally among its criteria, and the parts of the
    /// families that are absent are divided among the others in proportion.
    ///
    /// # Errors
    /// If `alpha` is not strictly between 0 and 1 or there is no criterion.
    pub fn new(alpha: f64, criteria: &[Family]) -> Result<Self, ConfigError> {
        let of_family = |family: Family| criteria.iter().filter(|other| **other == family).count() as f64;
        let weights: Vec<f64> = criteria.iter().map(|family| family.share() / of_family(*family)).collect();
        debug_assert!((Family::ALL.iter().map(|family| family.share()).sum::<f64>() - 1.0).abs() < 1e-12);
        Self::with_weights(alpha, &weights)
    }

    /// Shares in proportion to `weights`, one per criterion.
    ///
    /// # Errors
    /// If `alpha` is not strictly between 0 and 1, there is no criterion, or a weight is not a finite number above 0.
    pub fn with_weights(alpha: f64, weights: &[f64]) -> Result<Self, ConfigError> {
        require_open_unit("alpha", alpha)?;
        require(!weights.is_empty(), "number of rollback criteria", 0.0, "at least 1")?;
        for weight in weights {
            crate::config::require_positive("weight of a criterion", *weight)?;
        }
        let total: f64 = weights.iter().sum();
        Ok(Self { alpha, shares: weights.iter().map(|weight| StoredShare(weight / total)).collect(), fired: None })
    }

    /// Takes the present `ln E` of a criterion; returns whether the alarm has gone off, now or earlier.
    /// A NaN is no evidence, an unknown criterion has no share.
    pub fn observe(&mut self, criterion: usize, ln_e: f64) -> bool {
        let reached = self.ln_threshold(criterion).is_some_and(|threshold| ln_e >= threshold);
        if reached && self.fired.is_none() {
            self.fired = Some(criterion);
        }
        self.fired.is_some()
    }

    /// The criterion that set the alarm off.
    #[must_use]
    pub fn fired(&self) -> Option<usize> {
        self.fired
    }

    /// What the `ln E` of a criterion has to reach: `ln(1/alpha) + ln(1/v)`. `None` for an unknown criterion.
    #[must_use]
    pub fn ln_threshold(&self, criterion: usize) -> Option<f64> {
        self.shares.get(criterion).map(|share| -self.alpha.ln() - share.0.ln())
    }

    /// The share of a criterion.
    #[must_use]
    pub fn share(&self, criterion: usize) -> Option<f64> {
        self.shares.get(criterion).map(|share| share.0)
    }

    /// Evidence as people read it, "1.8 of 100": `v E` and `1/alpha`. The first may be infinite.
    #[must_use]
    pub fn evidence(&self, criterion: usize, ln_e: f64) -> Option<(f64, f64)> {
        self.shares.get(criterion).map(|share| ((ln_e + share.0.ln()).exp(), 1.0 / self.alpha))
    }
}

/// `ln max(v_m E_m)`, the weighted Bonferroni as an e-value; negative infinity for nothing. Shares must sum to at most 1.
#[must_use]
pub fn ln_bonferroni(parts: &[(f64, f64)]) -> f64 {
    parts.iter().map(|(share, ln_e)| share.ln() + ln_e).fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_sum_to_one_and_follow_the_families() {
        let families = [Family::Errors, Family::Latency, Family::Latency, Family::Limits, Family::After, Family::Other];
        let alarm = ReleaseAlarm::new(0.01, &families).unwrap();
        let shares: Vec<f64> = (0..6).map(|m| alarm.share(m).unwrap()).collect();
        for (share, expected) in shares.iter().zip([0.5, 0.1, 0.1, 0.2, 0.05, 0.05]) {
            assert!((share - expected).abs() < 1e-12);
        }
        assert!((alarm.ln_threshold(0).unwrap() - 200_f64.ln()).abs() < 1e-12);
        let few = ReleaseAlarm::new(0.01, &[Family::Errors, Family::Limits]).unwrap();
        assert!((few.share(0).unwrap() - 0.5 / 0.7).abs() < 1e-12);
    }

    #[test]
    fn the_first_to_reach_its_threshold_sets_it_off_for_good() {
        let mut alarm = ReleaseAlarm::new(0.01, &[Family::Errors, Family::Limits]).unwrap();
        assert!(!alarm.observe(0, f64::NAN));
        assert!(!alarm.observe(7, 1e9));
        assert!(!alarm.observe(1, 340_f64.ln()));
        assert!(alarm.observe(1, 360_f64.ln()));
        assert!(alarm.observe(0, 0.0));
        assert_eq!(alarm.fired(), Some(1));
        let (now, needed) = alarm.evidence(0, 0.0).unwrap();
        assert!((now - 0.714).abs() < 1e-3 && (needed - 100.0).abs() < 1e-9);
    }

    #[test]
    fn budgets_that_make_no_sense_are_refused() {
        assert!(ReleaseAlarm::new(0.0, &[Family::Errors]).is_err());
        assert!(ReleaseAlarm::new(0.01, &[]).is_err());
        assert!(ReleaseAlarm::with_weights(0.01, &[1.0, f64::NAN]).is_err());
    }
}
