//! PassE: is the canary surely not worse than the tolerance? (ANALYSIS 2.2 and 2.3, PASS)
//!
//! "Not worse" means `p_c < max(rho1 p_s, p_s + d)`. Either half shows it, so that half of the capital bets on a ratio below
//! `rho1` (RatioE with `rho0 := rho1`) and half on a difference below `d` (DiffE): `E = (E_ratio + E_diff)/2`. The absolute half
//! is not optional: a stable without errors never gives the ratio an event.
//!
//! A PASS process belongs to one stage and starts afresh with the next.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require};
use crate::difference::{ArmsBatch, DiffE};
use crate::log_domain::ln_mean_exp;
use crate::ratio::{Batch, RatioConfig, RatioE};
use crate::stable_rate::StableRate;

/// Alternatives of the ratio half (true ratios of the rates) and their prior.
pub const PASS_RATIOS: [f64; 3] = [1.0, 0.75, 0.4];
/// Prior of [`PASS_RATIOS`].
pub const PASS_PRIOR: [f64; 3] = [0.6, 0.25, 0.15];
/// Absolute margin if the document states none: 0.5 percentage points.
pub const DEFAULT_MARGIN: f64 = 0.005;

impl RatioConfig<3> {
    /// The ratio half alone: the null is `r >= rho1`, and there is no reserve.
    #[must_use]
    pub fn pass(rho1: f64) -> Self {
        Self { rho0: rho1, alternatives: PASS_RATIOS, prior: PASS_PRIOR, at_once: 1.0, onset_events: crate::ratio::ONSET_EVENTS }
    }
}

/// Evidence within one stage that the canary is within its tolerance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassE {
    /// `None` if only a difference is tolerated.
    ratio: Option<RatioE<3>>,
    difference: DiffE,
}

impl PassE {
    /// A fresh process: ratio below `rho1` or difference below `margin`. `stable` is stable's past, pre-rollout included.
    ///
    /// # Errors
    /// If `rho1` is not above 1 or `margin` is not between 0 and 1.
    pub fn new(rho1: f64, margin: f64, stable: StableRate) -> Result<Self, ConfigError> {
        require(rho1 > 1.0, "rho1", rho1, "above 1: otherwise an equal canary could never pass")?;
        Ok(Self { ratio: Some(RatioE::new(&RatioConfig::pass(rho1))?), difference: DiffE::pass_below(margin, stable)? })
    }

    /// A fresh process for a difference below `margin` alone. A ratio that follows from an estimate of stable's rate would not
    /// be fair.
    ///
    /// # Errors
    /// If `margin` is not between 0 and 1.
    pub fn of_difference(margin: f64, stable: StableRate) -> Result<Self, ConfigError> {
        Ok(Self { ratio: None, difference: DiffE::pass_below(margin, stable)? })
    }

    /// Scores a batch.
    pub fn update(&mut self, batch: ArmsBatch) {
        if let Some(ratio) = &mut self.ratio {
            ratio.update(Batch { canary_events: batch.canary.events, stable_events: batch.stable.events, weight: batch.weight });
        }
        self.difference.update(batch);
    }

    /// Tempering of the ratio half (ANALYSIS 2.8).
    ///
    /// # Errors
    /// If `eta` is not in (0, 1].
    pub fn set_tempering(&mut self, eta: f64) -> Result<(), ConfigError> {
        self.ratio.as_mut().map_or(Ok(()), |ratio| ratio.set_tempering(eta))
    }

    /// `ln E`; PASS when it is at least `ln(1/beta)`.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        match &self.ratio {
            Some(ratio) => ln_mean_exp(&[ratio.ln_e(), self.difference.ln_e()]),
            None => self.difference.ln_e(),
        }
    }

    /// `ln E` of the ratio half alone; 0 without one.
    #[must_use]
    pub fn ln_e_ratio(&self) -> f64 {
        self.ratio.as_ref().map_or(0.0, RatioE::ln_e)
    }

    /// `ln E` of the difference half alone.
    #[must_use]
    pub fn ln_e_difference(&self) -> f64 {
        self.difference.ln_e()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ArmCounts, Share};

    #[test]
    fn equal_arms_pass_and_worse_ones_do_not() {
        let mut past = StableRate::default();
        past.add(ArmCounts { requests: 100_000, events: 2_000 });
        for (canary_events, passes) in [(1, true), (2, false)] {
            let mut test = PassE::new(1.5, DEFAULT_MARGIN, past).unwrap();
            for _ in 0..100 {
                test.update(ArmsBatch {
                    canary: ArmCounts { requests: 50, events: canary_events },
                    stable: ArmCounts { requests: 950, events: 19 },
                    weight: Share::new(0.05).unwrap(),
                });
            }
            assert_eq!(test.ln_e() >= 20_f64.ln(), passes, "{}", test.ln_e());
        }
    }

    #[test]
    fn either_half_may_show_it_with_half_of_the_capital() {
        let mut past = StableRate::default();
        past.add(ArmCounts { requests: 1_000_000, events: 0 });
        let mut test = PassE::new(1.5, DEFAULT_MARGIN, past).unwrap();
        let mut clean = 0;
        while test.ln_e() < 20_f64.ln() {
            test.update(ArmsBatch {
                canary: ArmCounts { requests: 1, events: 0 },
                stable: ArmCounts { requests: 19, events: 0 },
                weight: Share::new(0.05).unwrap(),
            });
            clean += 1;
        }
        // About 740 clean canary requests when stable has no errors, since the ratio never gets an event.
        assert!((700..780).contains(&clean), "{clean}");
        assert!(test.ln_e_ratio().abs() < 1e-12);
        assert!((test.ln_e().exp() - f64::midpoint(1.0, test.ln_e_difference().exp())).abs() < 1e-9);
    }

    #[test]
    fn a_tolerance_without_room_is_refused() {
        assert!(PassE::new(1.0, DEFAULT_MARGIN, StableRate::default()).is_err());
        assert!(PassE::new(1.5, 0.0, StableRate::default()).is_err());
    }
}
