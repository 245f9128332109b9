//! Counts over time: crashes, restarts, out-of-memory kills (ANALYSIS 2.6, P4).
//!
//! Against stable, use [`RatioE`](crate::RatioE) with [`Share::of_exposure`](crate::Share::of_exposure), pod-seconds of either
//! arm. Without a baseline, [`PoissonE`] asks whether events come faster than a given rate.
//!
//! `E = sum pi_k exp(N ln r_k - (r_k - 1) lambda0 T)` with the reserve of the other tests, released after each event. Exact for
//! exposures cut at the events; within a batch the events are taken as evenly spread, which is at most the mean over the
//! uniform times of a Poisson process and thus valid when the rate is constant within the batch.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require, require_positive};
use crate::exact;
use crate::mixture::{Mixture, Pace, Stakes};
use crate::ratio::{ALTERNATIVES, FAIL_PRIOR, FAIL_RATIOS, ONSET_EVENTS};

/// Evidence that events come faster than a given rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoissonE {
    #[serde(with = "exact")]
    rate_per_second: f64,
    mixture: Mixture<ALTERNATIVES>,
}

impl PoissonE {
    /// The null is "at most `rate_per_second` events per second of exposure".
    ///
    /// # Errors
    /// If the rate is not a finite number above 0.
    pub fn above(rate_per_second: f64) -> Result<Self, ConfigError> {
        let stakes = Stakes { prior: FAIL_PRIOR, at_once: 0.5, onset_events: ONSET_EVENTS, pace: Pace::Harmonic };
        Ok(Self { rate_per_second: require_positive("rate per second", rate_per_second)?, mixture: Mixture::new(&stakes)? })
    }

    /// Scores `events` during `exposure_seconds`, summed over pods.
    ///
    /// # Errors
    /// If the exposure is not a finite number of at least 0; then nothing is scored.
    pub fn update(&mut self, events: u64, exposure_seconds: f64) -> Result<(), ConfigError> {
        let valid = exposure_seconds.is_finite() && exposure_seconds >= 0.0;
        let exposure = require(valid, "exposure in seconds", exposure_seconds, "a finite number of at least 0")?;
        let expected = self.rate_per_second * exposure;
        let ln_event = FAIL_RATIOS.map(f64::ln);
        let ln_quiet = FAIL_RATIOS.map(|ratio| (1.0 - ratio) * expected);
        self.mixture.bet_spread(events, &ln_event, &ln_quiet);
        Ok(())
    }

    /// `ln E`.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        self.mixture.ln_e()
    }

    /// Events scored so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.mixture.events()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_in_a_row_decide_and_quiet_does_not() {
        let mut test = PoissonE::above(1.0 / 3600.0).unwrap();
        test.update(0, 24.0 * 3600.0).unwrap();
        assert!(test.ln_e() < 0.0);
        for _ in 0..6 {
            test.update(1, 10.0).unwrap();
        }
        assert!(test.ln_e() > 100_f64.ln(), "{}", test.ln_e());
    }

    #[test]
    fn nonsense_exposure_is_refused_and_changes_nothing() {
        let mut test = PoissonE::above(0.01).unwrap();
        let fresh = test.clone();
        for exposure in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(test.update(1, exposure).is_err());
        }
        assert_eq!(test, fresh);
        assert!(PoissonE::above(0.0).is_err());
    }
}
