//! What a test will need, before it starts (ANALYSIS 2.9, forecast).
//!
//! Approximations, for people and for refusing what can never be decided; no guarantee rests on them. The least number of
//! failures is computed with the test itself.

use serde::{Deserialize, Serialize};

use crate::config::{ArmCounts, ConfigError, HIGHEST_RATE, Share, require, require_open_unit, require_positive};
use crate::limit::LimitE;
use crate::ratio::{Batch, FAIL_PRIOR, FAIL_RATIOS, ONSET_EVENTS, RatioConfig, RatioE, ln_z};

/// Nats that the mixture and the overshoot cost beyond the threshold.
const OVERHEAD_NATS: f64 = 1.5;
/// No release waits for more consecutive failures than this.
const MOST_FAILURES: u32 = 10_000;

/// The setting of a forecast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Stable's rate of the event, between 0 and 1.
    pub stable_rate: f64,
    /// The canary's share of traffic.
    pub weight: Share,
    /// False-alarm probability of the release.
    pub alpha: f64,
    /// The criterion's share of it, above 0 and at most 1.
    pub alarm_share: f64,
    /// Probability of a wrong pass.
    pub beta: f64,
}

/// Expected canary requests until a decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Nats per canary request if the canary is as bad as assumed.
    pub information_to_fail: f64,
    /// Canary requests until FAIL if the canary is as bad as assumed.
    pub requests_to_fail: f64,
    /// Canary requests until PASS (ratio part alone) if the canary equals stable.
    pub requests_to_pass: f64,
    /// Least number of consecutive canary failures that can decide; `None`: more than 10,000.
    pub least_failures: Option<u32>,
}

/// Nats per canary request that events of true ratio `truth` give against the ratio `null`:
/// `I = p_s [r ln((r/rho0) z0/z) + ((1-w)/w) ln(z0/z)]`, `z = w r + 1 - w`. For `rho0 = 1` this is
/// `p_s [r ln(r/z) - ((1-w)/w) ln z]`. Zero at weights 0 and 1 or for equal ratios; ratios must be above 0.
#[must_use]
pub fn information(stable_rate: f64, weight: Share, truth: f64, null: f64) -> f64 {
    if !weight.is_split() {
        return 0.0;
    }
    let w = weight.get();
    let gain = ln_z(w, null) - ln_z(w, truth);
    (stable_rate * (truth * ((truth / null).ln() + gain) + (1.0 - w) / w * gain)).max(0.0)
}

/// The forecast for a canary at `truth` times stable's rate, tested for harm (null: ratio 1) and for a pass below `rho1`.
///
/// # Errors
/// If an argument is out of range, or the test can never decide: a weight of 0 or 1 compares nothing.
pub fn forecast(outlook: &Outlook, truth: f64, rho1: f64) -> Result<Forecast, ConfigError> {
    require_open_unit("stable rate", outlook.stable_rate)?;
    require_open_unit("alpha", outlook.alpha)?;
    require_open_unit("beta", outlook.beta)?;
    require(outlook.alarm_share > 0.0 && outlook.alarm_share <= 1.0, "alarm share", outlook.alarm_share, "above 0 and at most 1")?;
    require(truth.is_finite() && truth > 1.0, "assumed ratio", truth, "above 1")?;
    require(rho1.is_finite() && rho1 > 1.0, "rho1", rho1, "above 1")?;
    let expected = "above 0 % and below 100 %: otherwise there is nothing to compare and the test can never decide";
    require(outlook.weight.is_split(), "canary share", outlook.weight.get(), expected)?;
    let to_fail = information(outlook.stable_rate, outlook.weight, truth, 1.0);
    let to_pass = information(outlook.stable_rate, outlook.weight, 1.0, rho1);
    let ln_threshold = -outlook.alpha.ln() - outlook.alarm_share.ln();
    Ok(Forecast {
        information_to_fail: to_fail,
        requests_to_fail: (ln_threshold + OVERHEAD_NATS) / to_fail,
        requests_to_pass: -outlook.beta.ln() / to_pass,
        least_failures: least_failures(outlook.weight, ln_threshold)?,
    })
}

/// The least number of canary failures in a row, with none on stable, after which a fresh default RatioE reaches
/// `ln_threshold`: 3, 6, 10, 30, 127 at 5, 25, 50, 80, 95 % for `ln 100`. Each one's factor is below `1/w`.
/// `None` if 10,000 do not suffice, in particular at weights 0 and 1.
///
/// # Errors
/// If the threshold is not a finite number above 0.
pub fn least_failures(weight: Share, ln_threshold: f64) -> Result<Option<u32>, ConfigError> {
    require_positive("threshold in nats", ln_threshold)?;
    count_failures(RatioE::new(&RatioConfig::fail(1.0, 1.5))?, weight, ln_threshold)
}

/// The same for a latency test, of slow requests of the canary in a row where stable has `rate` of them (0.5 for the median): a
/// canary is at most [`HIGHEST_RATE`] slow, so that small ratios are all that can be bet on.
///
/// # Errors
/// If the rate is not strictly between 0 and 1, or the threshold is not a finite number above 0.
pub fn least_exceedances(rate: f64, weight: Share, ln_threshold: f64) -> Result<Option<u32>, ConfigError> {
    require_positive("threshold in nats", ln_threshold)?;
    let highest = (HIGHEST_RATE / require_open_unit("rate", rate)?).max(1.0);
    let alternatives = FAIL_RATIOS.map(|ratio| ratio.min(highest));
    let config = RatioConfig { rho0: 1.0, alternatives, prior: FAIL_PRIOR, at_once: 0.5, onset_events: ONSET_EVENTS };
    count_failures(RatioE::new(&config)?, weight, ln_threshold)
}

/// The same for a LimitE of this limit that has already seen `before`.
///
/// # Errors
/// If the limit or the threshold is out of range.
pub fn least_failures_of_limit(limit: f64, before: ArmCounts, ln_threshold: f64) -> Result<Option<u32>, ConfigError> {
    require_positive("threshold in nats", ln_threshold)?;
    let mut test = LimitE::above(limit)?;
    test.update(before);
    for failures in 1..=MOST_FAILURES {
        test.update(ArmCounts { requests: 1, events: 1 });
        if test.ln_e() >= ln_threshold {
            return Ok(Some(failures));
        }
    }
    Ok(None)
}

fn count_failures(mut test: RatioE, weight: Share, ln_threshold: f64) -> Result<Option<u32>, ConfigError> {
    if !weight.is_split() {
        return Ok(None);
    }
    for failures in 1..=MOST_FAILURES {
        test.update(Batch { canary_events: 1, stable_events: 0, weight });
        if test.ln_e() >= ln_threshold {
            return Ok(Some(failures));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(weight: f64) -> Share {
        Share::new(weight).unwrap()
    }

    #[test]
    fn slow_requests_in_a_row_prove_little_where_half_of_stable_is_slow() {
        let (weight, needed) = (share(0.05), 100_f64.ln());
        let [median, p90, p99] = [0.5, 0.1, 0.01].map(|rate| least_exceedances(rate, weight, needed).unwrap().unwrap());
        assert!(p99 <= 4 && p90 <= p99 + 1 && median > 2 * p90, "{median} {p90} {p99}");
        assert_eq!(least_exceedances(0.5, Share::ALL, needed).unwrap(), None);
        assert!(least_exceedances(1.0, weight, needed).is_err());
    }

    #[test]
    fn least_failures_by_weight() {
        for (weight, expected) in [(0.05, 3), (0.25, 6), (0.5, 10), (0.8, 30), (0.95, 127)] {
            assert_eq!(least_failures(share(weight), 100_f64.ln()).unwrap(), Some(expected), "at {weight}");
        }
        assert_eq!(least_failures(Share::ALL, 100_f64.ln()).unwrap(), None);
        assert_eq!(least_failures(share(0.9999), 1000.0).unwrap(), None);
        assert_eq!(least_failures_of_limit(0.05, ArmCounts::default(), 100_f64.ln()).unwrap(), Some(3));
    }

    #[test]
    fn passing_needs_what_the_text_says() {
        let tiny = share(1e-6);
        for (rho1, expected) in [(1.5, 31.7), (2.0, 9.8)] {
            let needed = 20_f64.ln() / information(1.0, tiny, 1.0, rho1);
            assert!((needed - expected).abs() < 0.06, "{rho1}: {needed}");
        }
        for (weight, factor) in [(0.25, 1.4), (0.5, 2.3), (0.8, 6.0)] {
            let ratio = information(1.0, tiny, 1.0, 1.5) / information(1.0, share(weight), 1.0, 1.5);
            assert!((ratio / factor - 1.0).abs() < 0.1, "{weight}: {ratio}");
        }
    }

    #[test]
    fn a_forecast_is_near_what_the_benchmark_measured_and_refuses_the_impossible() {
        let outlook = Outlook { stable_rate: 0.005, weight: share(0.05), alpha: 0.01, alarm_share: 1.0, beta: 0.05 };
        let forecast_2x = forecast(&outlook, 2.0, 1.5).unwrap();
        let failures = forecast_2x.requests_to_fail * 0.01;
        assert!((25.0..40.0).contains(&failures), "{failures}");
        assert_eq!(forecast_2x.least_failures, Some(3));
        let error = forecast(&Outlook { weight: Share::ALL, ..outlook }, 2.0, 1.5).unwrap_err();
        assert!(error.to_string().contains("never decide"), "{error}");
        assert!(forecast(&outlook, 1.0, 1.5).is_err());
    }
}
