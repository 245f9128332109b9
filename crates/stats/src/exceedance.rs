//! Latency quantiles as rare events: a request is an event if it took longer than a quantile of *past* stable latencies
//! (ANALYSIS 2.5). The ratio test then compares how often either arm exceeds it.
//!
//! Exact whatever the error of the quantile, under shared drift and with ties, because the threshold is fixed before the batch
//! and the same statement is tested for both arms. Thresholds are bin edges, so that counting from histograms is exact.
//! Three codings:
//!
//! - harm (harm mode): either arm exceeds `tau`; the null is "the canary exceeds it at most as often as stable";
//! - strict (limit and strict mode): the canary exceeds `lam1 tau`, stable `tau`; with `tau = Q_s(p)` this is exactly `Q_c(p) <= lam1 Q_s(p)`;
//! - pass: strict's coding with the null "at least as often".
//!
//! The alternatives come from stable itself: if the canary took `lam` times as long, it would exceed `tau` as often as stable
//! exceeds `tau/lam`. Count failed requests as slow ones, so that fast failures do not make the canary look fast, and count a
//! request that is still running as slow as soon as it is older than the threshold.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, HIGHEST_RATE, require, require_open_unit};
use crate::decayed::{DecayedHistogram, whole_us};
use crate::exact;
use crate::histogram::{bin_bounds_us, bin_of_us};
use crate::log_domain::ln_mean_exp;
use crate::ratio::{ALTERNATIVES, Batch, FAIL_PRIOR, FAIL_RATIOS, ONSET_EVENTS, RatioConfig, RatioE};

/// Slowdowns of the alternatives, for a tolerance of 1.2.
const SLOWDOWNS: [f64; ALTERNATIVES] = [1.2, 1.5, 2.0, 3.0, 5.0, 10.0];
/// An equal canary is not expected to be rarer above `lam1 tau` than this part of stable above `tau`.
pub const LOWEST_PASS_RATIO: f64 = 0.02;
/// So many past requests must be expected above the quantile before anything is coded.
const LEAST_EXCEEDANCES: f64 = 5.0;

/// What is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coding {
    /// FAIL whatever is surely slower than stable.
    Harm,
    /// FAIL only what is surely slower than the tolerance.
    Strict,
    /// PASS what is surely not slower than the tolerance.
    Pass,
}

/// The thresholds for the next batch, as bin edges: a request is an event if its latency is at or above its arm's.
/// An in-flight request keeps the threshold at which it was first counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyCode {
    /// For the canary's requests, in microseconds.
    pub canary_edge_us: u64,
    /// For stable's requests, in microseconds.
    pub stable_edge_us: u64,
}

/// A sequential test of one latency quantile against stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExceedanceE {
    #[serde(with = "exact")]
    quantile: f64,
    #[serde(with = "exact")]
    tolerance: f64,
    coding: Coding,
    code: Option<LatencyCode>,
    ratio: RatioE,
}

impl ExceedanceE {
    /// A fresh test of the `quantile` (0.99 for P99) with `tolerance` (1.2 for "at most 1.2 times stable's").
    ///
    /// # Errors
    /// If `quantile` is not strictly between 0 and 1, or `tolerance` is not above 1.
    pub fn new(quantile: f64, tolerance: f64, coding: Coding) -> Result<Self, ConfigError> {
        require_open_unit("quantile", quantile)?;
        require(tolerance.is_finite() && tolerance > 1.0, "latency tolerance", tolerance, "a finite number above 1")?;
        let at_once = if coding == Coding::Pass { 1.0 } else { 0.5 };
        let config = RatioConfig { rho0: 1.0, alternatives: [1.0; ALTERNATIVES], prior: FAIL_PRIOR, at_once, onset_events: ONSET_EVENTS };
        Ok(Self { quantile, tolerance, coding, code: None, ratio: RatioE::new(&config)? })
    }

    /// Sets the thresholds and alternatives for the batches that follow, from latencies of stable that were seen *before*
    /// them. Returns the thresholds to count with; `None` while stable's past is too small (fewer than five requests
    /// expected above the quantile), and then [`update`](Self::update) changes nothing. Once there were thresholds, the
    /// last ones hold while stable is too quiet for new ones.
    /// A few microseconds: once a second is enough, since older thresholds are just as valid.
    pub fn retune(&mut self, past_stable: &DecayedHistogram) -> Option<LatencyCode> {
        self.code = self.code_from(past_stable).or(self.code);
        self.code
    }

    /// Replaces the tolerance from the next [`retune`](Self::retune) on; for one that follows stable's *past*, such as "50 ms
    /// above stable's P99".
    ///
    /// # Errors
    /// If it is not above 1; then nothing changes.
    pub fn set_tolerance(&mut self, tolerance: f64) -> Result<(), ConfigError> {
        self.tolerance = require(tolerance.is_finite() && tolerance > 1.0, "latency tolerance", tolerance, "a finite number above 1")?;
        Ok(())
    }

    /// The thresholds in force.
    #[must_use]
    pub fn code(&self) -> Option<LatencyCode> {
        self.code
    }

    /// Scores exceedances that were counted with the thresholds in force.
    pub fn update(&mut self, exceedances: Batch) {
        if self.code.is_some() {
            self.ratio.update(exceedances);
        }
    }

    /// Tempering for clustered slowness (ANALYSIS 2.8).
    ///
    /// # Errors
    /// If `eta` is not in (0, 1].
    pub fn set_tempering(&mut self, eta: f64) -> Result<(), ConfigError> {
        self.ratio.set_tempering(eta)
    }

    /// Forgets all evidence; thresholds, alternatives and tempering stay.
    pub fn restart(&mut self) {
        self.ratio.restart();
    }

    /// `ln E`.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        self.ratio.ln_e()
    }

    /// Exceedances scored so far, both arms.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.ratio.events()
    }

    fn code_from(&mut self, past: &DecayedHistogram) -> Option<LatencyCode> {
        let (edge_us, survival) = past.edge_at_quantile(self.quantile)?;
        if past.total() * (1.0 - self.quantile) < LEAST_EXCEEDANCES {
            return None;
        }
        if survival >= HIGHEST_RATE || edge_us == 0 {
            return self.code_beyond(past);
        }
        let stable_edge_us = edge_us;
        let tau = stable_edge_us as f64;
        let canary_edge_us = match self.coding {
            Coding::Harm => stable_edge_us,
            Coding::Strict => edge_from(self.tolerance * tau),
            Coding::Pass => edge_below(self.tolerance * tau).max(stable_edge_us),
        };
        let highest = HIGHEST_RATE / survival;
        let alternatives = match self.coding {
            Coding::Harm => SLOWDOWNS.map(|slowdown| past.survival(tau * 1.2 / (slowdown * self.tolerance)) / survival),
            // The canary would be `slowdown` times slower than the tolerance allows.
            Coding::Strict => SLOWDOWNS.map(|slowdown| past.survival(canary_edge_us as f64 / (slowdown * self.tolerance)) / survival),
            Coding::Pass => [(past.survival(canary_edge_us as f64) / survival).clamp(LOWEST_PASS_RATIO, 1.0); ALTERNATIVES],
        };
        let alternatives = match self.coding {
            Coding::Pass => alternatives,
            _ => alternatives.map(|ratio| ratio.clamp(1.0, highest)),
        };
        self.ratio.set_alternatives(alternatives).ok()?;
        Some(LatencyCode { canary_edge_us, stable_edge_us })
    }

    /// For a quantile in the lowest bin, below which there is nothing: the events are requests above that bin. They may be so
    /// rare on stable that nothing can be said of how often the canary would be above it, so the bets are those on rare events.
    fn code_beyond(&mut self, past: &DecayedHistogram) -> Option<LatencyCode> {
        let stable_edge_us = past.edge_above_quantile(self.quantile)?;
        let canary_edge_us = match self.coding {
            Coding::Harm => stable_edge_us,
            Coding::Strict => edge_from(self.tolerance * stable_edge_us as f64),
            Coding::Pass => edge_below(self.tolerance * stable_edge_us as f64).max(stable_edge_us),
        };
        let alternatives = if self.coding == Coding::Pass { [1.0; ALTERNATIVES] } else { FAIL_RATIOS };
        self.ratio.set_alternatives(alternatives).ok()?;
        Some(LatencyCode { canary_edge_us, stable_edge_us })
    }
}

/// `latency: any`: the mean of the tests at P50, P90 and P99. Three times fewer slow requests than P99 alone when the whole
/// distribution moves, about 20 % more when only the tail does. The recommended default guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnyLatencyE {
    /// The tests at [`QUANTILES`](Self::QUANTILES).
    pub parts: [ExceedanceE; 3],
}

impl AnyLatencyE {
    /// The quantiles, in the order of the parts.
    pub const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

    /// Fresh tests with a common tolerance.
    ///
    /// # Errors
    /// If `tolerance` is not above 1.
    pub fn new(tolerance: f64, coding: Coding) -> Result<Self, ConfigError> {
        let [p50, p90, p99] = Self::QUANTILES;
        Ok(Self {
            parts: [
                ExceedanceE::new(p50, tolerance, coding)?,
                ExceedanceE::new(p90, tolerance, coding)?,
                ExceedanceE::new(p99, tolerance, coding)?,
            ],
        })
    }

    /// Retunes every part; see [`ExceedanceE::retune`].
    pub fn retune(&mut self, past_stable: &DecayedHistogram) -> [Option<LatencyCode>; 3] {
        let [p50, p90, p99] = &mut self.parts;
        [p50.retune(past_stable), p90.retune(past_stable), p99.retune(past_stable)]
    }

    /// Scores the exceedances of each part.
    pub fn update(&mut self, exceedances: [Batch; 3]) {
        for (part, batch) in self.parts.iter_mut().zip(exceedances) {
            part.update(batch);
        }
    }

    /// `ln` of the mean of the parts' `E`; of the least for [`Coding::Pass`], where every quantile has to be shown.
    ///
    /// The mean is an e-process because all parts see the same requests at the same moments. With age coding a part may learn
    /// of a request before another does; then use the weighted Bonferroni of
    /// [`ln_bonferroni`](crate::ln_bonferroni) with equal shares, which is at most ln 3 smaller than the mean.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let [p50, p90, p99] = &self.parts;
        let each = [p50.ln_e(), p90.ln_e(), p99.ln_e()];
        if p50.coding == Coding::Pass { each.into_iter().fold(f64::INFINITY, f64::min) } else { ln_mean_exp(&each) }
    }
}

/// The lowest bin edge at or above `latency_us`: strict claims need the canary to be at least that slow.
fn edge_from(latency_us: f64) -> u64 {
    let (low, high) = bin_bounds_us(bin_of_us(whole_us(latency_us)));
    if low as f64 >= latency_us { low } else { high }
}

/// The highest bin edge at or below `latency_us`: a pass must not claim more than was tested.
fn edge_below(latency_us: f64) -> u64 {
    bin_bounds_us(bin_of_us(whole_us(latency_us))).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Share;

    /// Survival falls by half with every 20 ms above 10 ms.
    fn past() -> DecayedHistogram {
        let mut histogram = DecayedHistogram::new(600_000.0).unwrap();
        for rank in 0..10_000_u32 {
            let ms = 10.0 - 20.0 * (f64::from(rank + 1) / 10_001.0).log2();
            histogram.add_us(whole_us(ms * 1_000.0), 1);
        }
        histogram
    }

    fn batch(canary_events: u64, stable_events: u64) -> Batch {
        Batch { canary_events, stable_events, weight: Share::new(0.05).unwrap() }
    }

    #[test]
    fn nothing_is_judged_before_stable_is_known() {
        let mut test = ExceedanceE::new(0.99, 1.2, Coding::Harm).unwrap();
        assert_eq!(test.retune(&DecayedHistogram::new(600_000.0).unwrap()), None);
        test.update(batch(50, 0));
        assert!(test.ln_e().abs() < 1e-12);
        assert_eq!(test.events(), 0);
    }

    #[test]
    fn latencies_that_are_all_alike_are_still_judged() {
        let mut past = DecayedHistogram::new(600_000.0).unwrap();
        past.add_us(20_000, 10_000);
        for coding in [Coding::Harm, Coding::Strict] {
            let mut test = ExceedanceE::new(0.5, 1.5, coding).unwrap();
            let code = test.retune(&past).unwrap();
            assert!(code.stable_edge_us > 20_000 && code.canary_edge_us >= code.stable_edge_us);
            (0..10).for_each(|_| test.update(batch(1, 0)));
            assert!(test.ln_e() > 100_f64.ln(), "{coding:?} {}", test.ln_e());
        }
    }

    #[test]
    fn codes_are_ordered_bin_edges() {
        for (coding, ordering) in [(Coding::Harm, 1.0..1.0001), (Coding::Strict, 1.17..1.19), (Coding::Pass, 1.15..1.17)] {
            let mut test = ExceedanceE::new(0.99, 1.17, coding).unwrap();
            let code = test.retune(&past()).unwrap();
            let ratio = code.canary_edge_us as f64 / code.stable_edge_us as f64;
            for edge in [code.canary_edge_us, code.stable_edge_us] {
                assert_eq!(bin_bounds_us(bin_of_us(edge)).0, edge);
            }
            assert!(ordering.contains(&ratio), "{coding:?} {code:?}");
        }
    }

    #[test]
    fn slow_canaries_fail_and_equal_ones_pass() {
        let mut harm = ExceedanceE::new(0.99, 1.2, Coding::Harm).unwrap();
        let mut strict = ExceedanceE::new(0.99, 1.2, Coding::Strict).unwrap();
        let mut pass = ExceedanceE::new(0.99, 1.2, Coding::Pass).unwrap();
        for test in [&mut harm, &mut strict, &mut pass] {
            assert!(test.retune(&past()).is_some());
        }
        // The canary exceeds tau 6 times as often, and 1.2 tau 3 times as often, as stable exceeds tau.
        for _ in 0..20 {
            harm.update(batch(6, 19));
            strict.update(batch(3, 19));
        }
        assert!(harm.ln_e() > 20.0 && strict.ln_e() > 4.0, "{} {}", harm.ln_e(), strict.ln_e());
        // As stable: about a third of the exceedances of tau are above 1.2 tau.
        for _ in 0..40 {
            pass.update(batch(1, 57));
        }
        assert!(pass.ln_e() > 20_f64.ln(), "{}", pass.ln_e());
    }

    #[test]
    fn any_fails_by_the_mean_and_passes_by_the_least() {
        for (coding, expected) in
            [(Coding::Harm, ln_mean_exp as fn(&[f64]) -> f64), (Coding::Pass, |each| each.iter().copied().fold(9e9, f64::min))]
        {
            let mut any = AnyLatencyE::new(1.2, coding).unwrap();
            assert!(any.retune(&past()).iter().all(Option::is_some));
            any.update([batch(9, 90), batch(2, 57), batch(0, 19)]);
            let each: Vec<f64> = any.parts.iter().map(ExceedanceE::ln_e).collect();
            assert_eq!(any.ln_e(), expected(&each));
        }
    }

    #[test]
    fn arguments_out_of_range_are_refused() {
        assert!(ExceedanceE::new(1.0, 1.2, Coding::Harm).is_err());
        assert!(AnyLatencyE::new(1.0, Coding::Harm).is_err());
    }
}
