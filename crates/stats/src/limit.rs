//! LimitE: is the canary's own rate of an event above a fixed limit? (ANALYSIS 2.4, P3)
//!
//! For "errors below 5 %" and "P99 below 500 ms" (1 % of requests may be slower). Looks at the canary alone, so that it goes on
//! at weight 100 %, and knows nothing of shared causes: combine it with the same test on stable before blaming the canary.
//!
//! Each request multiplies `A_k` by `q_k/p0` if it failed and `(1-q_k)/(1-p0)` if not; after each failure a part of the reserve
//! follows, by the logarithmic law of [`Pace`]: `R = 0.5/(1 + ln(1 + n/60))` after `n` failures. A healthy day at full weight has up
//! to hundreds of thousands of failures below the limit, and the harmonic law would leave too little for an outage after it.
//! Exact for requests scored one by one. Within a batch the order is unknown and taken as even, which is at most the
//! mean over all orders and thus valid when the requests of a batch fail with one common probability.

use serde::{Deserialize, Serialize};

use crate::config::{ArmCounts, ConfigError, HIGHEST_RATE, require_open_unit};
use crate::exact;
use crate::log_domain::ln_power;
use crate::mixture::{Mixture, Pace, Stakes};
use crate::ratio::{ALTERNATIVES, ONSET_EVENTS};

/// Alternatives of the FAIL side as multiples of the limit; capped at a rate of 0.99.
const FAIL_MULTIPLES: [f64; ALTERNATIVES] = [1.2, 1.5, 2.0, 4.0, 10.0, 19.8];
/// Their relative prior weights: more than with a ratio on the large ones, since outages are what a limit is for.
const FAIL_PRIOR: [f64; ALTERNATIVES] = [2.5, 1.5, 1.5, 1.0, 1.5, 1.5];
/// Alternatives of the PASS side as multiples of the limit, with their prior.
const PASS_MULTIPLES: [f64; 3] = [0.75, 0.5, 0.2];
const PASS_PRIOR: [f64; 3] = [0.25, 0.35, 0.4];
/// The part of the PASS side's capital that bets on half of the limit.
pub const HALF_OF_LIMIT_PRIOR: f64 = PASS_PRIOR[1];
const HIGHEST_BET: f64 = 0.99;

/// Evidence that a rate is above a limit ([`LimitE::above`]) or below it ([`LimitE::below`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitE<const K: usize = ALTERNATIVES> {
    #[serde(with = "exact")]
    limit: f64,
    /// `ln(q_k/p0)`.
    #[serde(with = "exact")]
    ln_failure: [f64; K],
    /// `ln((1-q_k)/(1-p0))`.
    #[serde(with = "exact")]
    ln_success: [f64; K],
    mixture: Mixture<K>,
    seen: ArmCounts,
}

impl LimitE {
    /// FAIL: the null is "the rate is at most `limit`". Keeps half of its capital for faults that begin late, so that an
    /// outage after a healthy day is found within some ten failures.
    ///
    /// # Errors
    /// If `limit` is not between 0 and 0.98: a limit that only a complete outage exceeds cannot be tested like this.
    pub fn above(limit: f64) -> Result<Self, ConfigError> {
        let in_range = limit > 0.0 && limit <= HIGHEST_RATE;
        crate::config::require(in_range, "limit", limit, "a rate above 0 and at most 0.98")?;
        let rates = FAIL_MULTIPLES.map(|multiple| (limit * multiple).min(HIGHEST_BET));
        Self::with(limit, &rates, &Stakes { prior: FAIL_PRIOR, at_once: 0.5, onset_events: ONSET_EVENTS, pace: Pace::Logarithmic })
    }
}

impl LimitE<3> {
    /// PASS: the null is "the rate is at least `limit`". Starts afresh in every stage.
    ///
    /// # Errors
    /// If `limit` is not strictly between 0 and 1.
    pub fn below(limit: f64) -> Result<Self, ConfigError> {
        let rates = PASS_MULTIPLES.map(|multiple| limit * multiple);
        Self::with(limit, &rates, &Stakes { prior: PASS_PRIOR, at_once: 1.0, onset_events: ONSET_EVENTS, pace: Pace::Harmonic })
    }
}

impl<const K: usize> LimitE<K> {
    fn with(limit: f64, rates: &[f64; K], stakes: &Stakes<K>) -> Result<Self, ConfigError> {
        require_open_unit("limit", limit)?;
        Ok(Self {
            limit,
            ln_failure: rates.map(|rate| (rate / limit).ln()),
            ln_success: rates.map(|rate| (-rate).ln_1p() - (-limit).ln_1p()),
            mixture: Mixture::new(stakes)?,
            seen: ArmCounts::default(),
        })
    }

    /// Scores requests of the arm under test, however they were assigned. Constant time.
    pub fn update(&mut self, counts: ArmCounts) {
        if counts.requests == 0 {
            return;
        }
        let failures = counts.events.min(counts.requests);
        let successes = counts.quiet() as f64;
        let ln_quiet = self.ln_success.map(|ln_success| ln_power(successes, ln_success));
        self.mixture.bet_spread(failures, &self.ln_failure, &ln_quiet);
        self.seen.add(counts);
    }

    /// Forgets all evidence.
    pub fn restart(&mut self) {
        self.mixture.restart();
        self.seen = ArmCounts::default();
    }

    /// `ln E`.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        self.mixture.ln_e()
    }

    /// The limit as a rate, 0 to 1.
    #[must_use]
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Everything scored so far.
    #[must_use]
    pub fn seen(&self) -> ArmCounts {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures_to_decide(test: &mut LimitE) -> u32 {
        let mut failures = 0;
        while test.ln_e() < 100_f64.ln() && failures < 1_000_000 {
            test.update(ArmCounts { requests: 1, events: 1 });
            failures += 1;
        }
        failures
    }

    #[test]
    fn a_fresh_test_needs_three_failures_and_one_after_a_day_at_most_ten() {
        assert_eq!(failures_to_decide(&mut LimitE::above(0.05).unwrap()), 3);
        for failures_per_tick in [0, 1, 5] {
            let mut test = LimitE::above(0.05).unwrap();
            for _ in 0..24 * 3600 {
                test.update(ArmCounts { requests: 1_000, events: failures_per_tick });
            }
            let needed = failures_to_decide(&mut test);
            assert!((3..=10).contains(&needed), "{needed} failures after a day with {failures_per_tick} a second");
        }
    }

    #[test]
    fn an_outage_within_one_batch_is_found_as_in_single_requests() {
        let mut test = LimitE::above(0.05).unwrap();
        test.update(ArmCounts { requests: 10_000_000, events: 1_000 });
        test.update(ArmCounts { requests: 40, events: 40 });
        assert!(test.ln_e() > 100_f64.ln());
    }

    #[test]
    fn a_clean_canary_passes() {
        let mut test = LimitE::below(0.05).unwrap();
        test.update(ArmCounts { requests: 200, events: 0 });
        assert!(test.ln_e() > 20_f64.ln());
        assert!(LimitE::below(1.0).is_err());
        assert!(LimitE::above(0.99).is_err());
    }
}
