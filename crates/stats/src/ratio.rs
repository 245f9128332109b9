//! RatioE: is the canary's rate of an event higher than a multiple of stable's? (ANALYSIS 2.2, P1)
//!
//! Given that an event happened, it is the canary's with probability `theta(r) = w r/(w r + 1 - w)`, where `w` is the
//! probability that a request was sent to the canary and `r` the ratio of the rates. The base rate cancels, whatever it does
//! over time. The null `r <= rho0` (or `r >= rho0` if every alternative lies below `rho0`) is tested by likelihood ratios of
//! fixed alternatives `r_k`.
//!
//! Exact for finite samples: `E >= 1/alpha` ever happens with probability at most alpha under the null, for weights,
//! alternatives and tempering that change at any time, as long as they are chosen before the batch is seen.
//! Tempering itself (`eta < 1`) never breaks that; that it repairs clustered events is an approximation (ANALYSIS 2.8).
//! At weight 0 or 1 nothing can be compared, and batches change nothing.
//!
//! The unit of a batch is what was assigned at random: the request, or with sticky routing the session (its first event in the
//! release, or clients that always fail count again and again). For mirrored traffic feed the discordant pairs at weight 1/2.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, Share, require, require_positive};
use crate::exact;
use crate::log_domain::ln_power;
use crate::mixture::{Mixture, Pace, Stakes};

/// Number of alternatives of the FAIL processes.
pub const ALTERNATIVES: usize = 6;

/// Default alternatives of FAIL for `rho0 = 1` and `rho1 = 1.5`.
pub const FAIL_RATIOS: [f64; ALTERNATIVES] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0];
/// Their relative prior weights.
pub const FAIL_PRIOR: [f64; ALTERNATIVES] = [3.0, 2.0, 1.5, 1.0, 1.0, 1.0];
/// Default share of FAIL's capital that bets from the first event on. What it costs late faults is `ln(0.5/0.3)`, half a nat; what it
/// gives to faults from the start is `ln(0.7/0.5)`, a third of one.
const FAIL_AT_ONCE: f64 = 0.7;
/// Default onset scale `n0` in events.
pub const ONSET_EVENTS: f64 = 60.0;
/// Alternatives of FAIL for a metric that must not fall, such as conversions (ANALYSIS 2.9).
pub const FALL_RATIOS: [f64; 5] = [0.98, 0.95, 0.9, 0.8, 0.5];

/// Events of both arms among requests that were assigned at one weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Events among the canary's requests.
    pub canary_events: u64,
    /// Events among stable's requests.
    pub stable_events: u64,
    /// The canary's share when these requests were assigned.
    pub weight: Share,
}

impl Batch {
    /// Events of both arms; saturates.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.canary_events.saturating_add(self.stable_events)
    }
}

/// What a [`RatioE`] tests and bets on. All ratios are canary's rate / stable's rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatioConfig<const K: usize = ALTERNATIVES> {
    /// Boundary of the null.
    pub rho0: f64,
    /// Alternatives, all above or all below `rho0`.
    pub alternatives: [f64; K],
    /// Their relative prior weights, above 0.
    pub prior: [f64; K],
    /// Share of the capital that bets from the first event on, in (0, 1]; the rest is kept for late faults.
    pub at_once: f64,
    /// Onset scale `n0` of the reserve, in events.
    pub onset_events: f64,
}

impl RatioConfig {
    /// FAIL with the alternatives of ANALYSIS 2.2, `r_k = rho0 (rho1/1.5) {1.5, 2, 3, 5, 10, 30}`, and 0.7 of the capital at once.
    /// `rho1` is relative to `rho0`; for `strict` mode `rho0` is the tolerance and `rho1` 1.5.
    #[must_use]
    pub fn fail(rho0: f64, rho1: f64) -> Self {
        Self { rho0, alternatives: fail_alternatives(rho0, rho1), prior: FAIL_PRIOR, at_once: FAIL_AT_ONCE, onset_events: ONSET_EVENTS }
    }
}

impl RatioConfig<5> {
    /// FAIL for a metric that must not fall: the null is `r >= 1`. Half of the capital is kept for late faults.
    #[must_use]
    pub fn fall() -> Self {
        Self { rho0: 1.0, alternatives: FALL_RATIOS, prior: [1.0; 5], at_once: 0.5, onset_events: ONSET_EVENTS }
    }
}

/// The default alternatives `rho0 (rho1/1.5) {1.5, 2, 3, 5, 10, 30}`, the smallest being `rho0 rho1`.
#[must_use]
pub fn fail_alternatives(rho0: f64, rho1: f64) -> [f64; ALTERNATIVES] {
    FAIL_RATIOS.map(|ratio| rho0 * (rho1 / 1.5) * ratio)
}

/// The sequential test itself: `2 K + 4` numbers, about 0.2 µs per batch, no allocation.
///
/// Created once per release and never reset within it, also not at changes of weight or stage (ANALYSIS 7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatioE<const K: usize = ALTERNATIVES> {
    #[serde(with = "exact")]
    rho0: f64,
    #[serde(with = "exact")]
    alternatives: [f64; K],
    #[serde(with = "exact")]
    eta: f64,
    mixture: Mixture<K>,
}

impl<const K: usize> RatioE<K> {
    /// A fresh test with `E = 1`.
    ///
    /// # Errors
    /// If a ratio, prior weight or share is out of range, or the alternatives lie on both sides of `rho0`.
    pub fn new(config: &RatioConfig<K>) -> Result<Self, ConfigError> {
        let rho0 = require_positive("rho0", config.rho0)?;
        check_alternatives(rho0, &config.alternatives)?;
        let stakes = Stakes { prior: config.prior, at_once: config.at_once, onset_events: config.onset_events, pace: Pace::Harmonic };
        Ok(Self { rho0, alternatives: config.alternatives, eta: 1.0, mixture: Mixture::new(&stakes)? })
    }

    /// Scores a batch.
    ///
    /// With `m` events and `n` before: `h = m/(n + m + n0)`; `A_k <- (A_k + h R pi_k) exp(eta (kc a_k + ks b_k))`;
    /// `R <- (1-h) R`, where `a_k = ln[(r_k/rho0) z0/z_k]`, `b_k = ln[z0/z_k]`, `z = w r + 1 - w`. `m` may be used before the
    /// events are scored because, given the times of the events, only the arm is random.
    pub fn update(&mut self, batch: Batch) {
        let events = batch.events();
        if events == 0 || !batch.weight.is_split() {
            return;
        }
        self.mixture.release_reserve(events);
        self.mixture.bet(&self.ln_factors(batch));
    }

    /// Forgets all evidence; alternatives and tempering stay.
    pub fn restart(&mut self) {
        self.mixture.restart();
    }

    /// `ln E`. FAIL (or PASS) when it is at least `ln(1/alpha)`.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        self.mixture.ln_e()
    }

    /// Events scored so far, both arms.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.mixture.events()
    }

    /// The boundary of the null.
    #[must_use]
    pub fn rho0(&self) -> f64 {
        self.rho0
    }

    /// The alternatives that the next batch is scored with.
    #[must_use]
    pub fn alternatives(&self) -> &[f64; K] {
        &self.alternatives
    }

    /// Replaces the alternatives from the next batch on. They may depend on everything seen so far, not on that batch.
    /// An alternative equal to `rho0` is allowed and bets on nothing.
    ///
    /// # Errors
    /// If one is not a positive number or they lie on both sides of `rho0`; then nothing changes.
    pub fn set_alternatives(&mut self, alternatives: [f64; K]) -> Result<(), ConfigError> {
        check_alternatives(self.rho0, &alternatives)?;
        self.alternatives = alternatives;
        Ok(())
    }

    /// Scales the log likelihood from the next batch on: `eta = 1/phi` for events that come in clusters (ANALYSIS 2.8).
    ///
    /// # Errors
    /// If `eta` is not in (0, 1]; then nothing changes.
    pub fn set_tempering(&mut self, eta: f64) -> Result<(), ConfigError> {
        self.eta = require(eta > 0.0 && eta <= 1.0, "tempering eta", eta, "in (0, 1]")?;
        Ok(())
    }

    /// The tempering in force.
    #[must_use]
    pub fn tempering(&self) -> f64 {
        self.eta
    }

    /// The logarithm of each alternative's likelihood ratio against `rho0`, tempered.
    fn ln_factors(&self, batch: Batch) -> [f64; K] {
        let weight = batch.weight.get();
        let ln_z0 = ln_z(weight, self.rho0);
        let (canary, events) = (batch.canary_events as f64, batch.canary_events as f64 + batch.stable_events as f64);
        self.alternatives
            .map(|ratio| self.eta * (ln_power(canary, (ratio / self.rho0).ln()) + ln_power(events, ln_z0 - ln_z(weight, ratio))))
    }
}

impl RatioE {
    /// Sets the smallest alternative to `rho0 rho1` and the others in proportion: for an absolute tolerance, where
    /// `rho1(t) = max(rho1, 1 + delta/ps_hat)` follows the *past* stable rate.
    ///
    /// # Errors
    /// If `rho1` is not above 1; then nothing changes.
    pub fn set_rho1(&mut self, rho1: f64) -> Result<(), ConfigError> {
        require(rho1 > 1.0, "rho1", rho1, "above 1")?;
        self.set_alternatives(fail_alternatives(self.rho0, rho1))
    }

    /// The same for a `rho1` that is known to be finite and at least 1.
    pub(crate) fn follow_rho1(&mut self, rho1: f64) {
        self.alternatives = fail_alternatives(self.rho0, rho1);
    }
}

/// `ln(w r + 1 - w)`, accurate for small `w` and for `r` near 1.
pub(crate) fn ln_z(weight: f64, ratio: f64) -> f64 {
    (weight * (ratio - 1.0)).ln_1p()
}

fn check_alternatives<const K: usize>(rho0: f64, alternatives: &[f64; K]) -> Result<(), ConfigError> {
    for ratio in alternatives {
        require_positive("alternative ratio", *ratio)?;
    }
    let above = alternatives.iter().filter(|ratio| **ratio > rho0).count();
    let below = alternatives.iter().find(|ratio| **ratio < rho0);
    match below {
        Some(ratio) if above > 0 => Err(ConfigError {
            parameter: "alternative ratio",
            value: *ratio,
            expected: "every alternative on the same side of rho0 (all above to show harm, all below to show its absence)",
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(canary_events: u64, stable_events: u64, weight: f64) -> Batch {
        Batch { canary_events, stable_events, weight: Share::new(weight).unwrap() }
    }

    #[test]
    fn three_canary_errors_and_none_in_stable_decide_at_five_percent() {
        let mut test = RatioE::new(&RatioConfig::fail(1.0, 1.5)).unwrap();
        test.update(batch(2, 0, 0.05));
        assert!(test.ln_e() < 100_f64.ln());
        test.update(batch(1, 0, 0.05));
        assert!(test.ln_e() >= 100_f64.ln());
    }

    #[test]
    fn all_or_nothing_weights_change_nothing() {
        let mut test = RatioE::new(&RatioConfig::fail(1.0, 1.5)).unwrap();
        test.update(batch(3, 50, 0.05));
        let before = test.clone();
        test.update(batch(1_000, 0, 1.0));
        test.update(batch(0, 1_000, 0.0));
        test.update(batch(0, 0, 0.5));
        assert_eq!(test, before);
    }

    #[test]
    fn a_late_fault_does_not_have_to_earn_back_a_healthy_week() {
        let mut test = RatioE::new(&RatioConfig::fail(1.0, 1.5)).unwrap();
        for _ in 0..1_000 {
            test.update(batch(5, 95, 0.05));
        }
        assert!(test.ln_e() < 0.0);
        let failures = (1..).take_while(|_| {
            test.update(batch(1, 0, 0.05));
            test.ln_e() < 100_f64.ln()
        });
        assert!(failures.count() <= 12);
    }

    #[test]
    fn wrong_arguments_are_named() {
        let config = RatioConfig::fail(1.0, 1.5);
        let error = RatioE::new(&RatioConfig { rho0: 2.5, ..config }).unwrap_err();
        assert!(error.to_string().contains("same side of rho0"), "{error}");
        assert!(RatioE::new(&RatioConfig { rho0: f64::NAN, ..config }).is_err());
        let mut test = RatioE::new(&config).unwrap();
        assert!(test.set_rho1(1.0).is_err());
        assert!(test.set_rho1(f64::INFINITY).is_err());
        assert!(test.set_tempering(0.0).is_err());
        assert!(test.set_tempering(1.5).is_err());
        assert_eq!(test, RatioE::new(&config).unwrap());
    }

    #[test]
    fn a_fall_is_found_by_alternatives_below_one() {
        let mut test = RatioE::new(&RatioConfig::fall()).unwrap();
        test.update(batch(300, 500, 0.5));
        assert!(test.ln_e() > 100_f64.ln());
    }
}
