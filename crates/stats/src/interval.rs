//! Estimates and intervals for reports: how many times stable's rate is the canary's, and what is either arm's rate?
//!
//! The intervals are confidence *sequences*: they hold at all times at once, however often one looks (ANALYSIS 2.9, reporting).
//! The ratio needs the events by distinct weight only. Exact while there are at most 24 distinct weights; later batches join
//! the bin of the nearest weight, which then stands at the mean weight of its events.

use serde::{Deserialize, Serialize};

use crate::config::{ArmCounts, ConfigError, require_open_unit};
use crate::exact;
use crate::log_domain::log_sum_exp;
use crate::ratio::{Batch, FAIL_PRIOR, FAIL_RATIOS, ln_z};
use crate::special::ln_beta;

/// Most distinct weights that are kept apart; a whole [`RatioCriterion`](crate::RatioCriterion) stays below 1 KiB.
pub const MOST_WEIGHTS: usize = 24;
/// Ratios beyond `exp(±LN_WIDEST)` are reported as 0 and infinity.
const LN_WIDEST: f64 = 30.0;
const BISECTIONS: u32 = 100;

/// A closed range of plausible values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    #[serde(with = "exact")]
    pub low: f64,
    /// Upper end; infinity if nothing bounds it.
    #[serde(with = "exact")]
    pub high: f64,
}

/// Events at one weight; tempered counts are fractions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Bin {
    #[serde(with = "exact")]
    weight: f64,
    #[serde(with = "exact")]
    canary: f64,
    #[serde(with = "exact")]
    stable: f64,
}

/// Events of both arms by weight: everything there is to know about their ratio. Fixed size, nothing is allocated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatioEvidence {
    bins: [Bin; MOST_WEIGHTS],
    used: usize,
}

impl Default for RatioEvidence {
    fn default() -> Self {
        Self::new()
    }
}

impl RatioEvidence {
    /// No events yet.
    #[must_use]
    pub fn new() -> Self {
        Self { bins: [Bin::default(); MOST_WEIGHTS], used: 0 }
    }

    /// Adds the events of a batch, scaled by the tempering `eta` (1 for none) that was in force for it.
    pub fn add(&mut self, batch: Batch, eta: f64) {
        if batch.events() == 0 || !batch.weight.is_split() {
            return;
        }
        let (weight, canary, stable) = (batch.weight.get(), eta * batch.canary_events as f64, eta * batch.stable_events as f64);
        let bin = self.bin_for(weight);
        let (before, added) = (bin.canary + bin.stable, canary + stable);
        if bin.weight != weight {
            bin.weight = (bin.weight * before + weight * added) / (before + added);
        }
        bin.canary += canary;
        bin.stable += stable;
    }

    /// The canary's events.
    #[must_use]
    pub fn canary_events(&self) -> f64 {
        self.bins().iter().map(|bin| bin.canary).sum()
    }

    /// Stable's events.
    #[must_use]
    pub fn stable_events(&self) -> f64 {
        self.bins().iter().map(|bin| bin.stable).sum()
    }

    /// The point estimate of canary's rate / stable's rate with add-half smoothing; `None` before the first event.
    ///
    /// The maximum of the likelihood given the events, after half an event was added to either arm (spread over the weights
    /// like the events): the root of `sum_w m_w theta_w(r) = sum_w k_w`. Drift of the base rate and changes of weight cancel,
    /// unlike in a quotient of pooled rates. With one weight it is `[(kc+.5)/w] / [(ks+.5)/(1-w)]`.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let (canary, stable) = (self.canary_events(), self.stable_events());
        let events = canary + stable;
        if events <= 0.0 {
            return None;
        }
        let scale = (events + 1.0) / events;
        let excess = |ln_ratio: f64| {
            let expected: f64 = self.bins().iter().map(|bin| scale * (bin.canary + bin.stable) * theta(bin.weight, ln_ratio)).sum();
            expected - (canary + 0.5)
        };
        Some(bisect(-2.0 * LN_WIDEST, 2.0 * LN_WIDEST, |ln_ratio| excess(ln_ratio) >= 0.0).exp())
    }

    /// The confidence sequence for the ratio at level `1 - alpha`:
    /// `{rho: (E_up(rho) + E_down(rho))/2 < 1/alpha}`, where up and down test `rho` against `rho r_k` and `rho / r_k` with the
    /// default prior and without reserve. Contains the truth at all times at once with probability at least `1 - alpha`.
    /// Everything from 0 to infinity before the first event.
    ///
    /// # Errors
    /// If `alpha` is not strictly between 0 and 1.
    pub fn ratio_interval(&self, alpha: f64) -> Result<Interval, ConfigError> {
        let ln_threshold = -require_open_unit("alpha", alpha)?.ln();
        let Some(centre) = self.ratio().map(f64::ln) else {
            return Ok(Interval { low: 0.0, high: f64::INFINITY });
        };
        let inside = |ln_rho: f64| self.ln_e_against(ln_rho) < ln_threshold;
        let low = if inside(-LN_WIDEST) { 0.0 } else { bisect(-LN_WIDEST, centre.max(-LN_WIDEST), inside).exp() };
        let high = if inside(LN_WIDEST) { f64::INFINITY } else { bisect(centre.min(LN_WIDEST), LN_WIDEST, |at| !inside(at)).exp() };
        Ok(Interval { low, high })
    }

    /// `ln` of the two-sided mixture against the ratio `exp(ln_rho)`.
    fn ln_e_against(&self, ln_rho: f64) -> f64 {
        let total: f64 = FAIL_PRIOR.iter().sum();
        let rho = ln_rho.exp();
        let mut terms = [0.0; 2 * FAIL_RATIOS.len()];
        let alternatives = FAIL_RATIOS.iter().zip(FAIL_PRIOR).flat_map(|(ratio, weight)| [(*ratio, weight), (1.0 / ratio, weight)]);
        for (term, (multiple, weight)) in terms.iter_mut().zip(alternatives) {
            let each = self.bins().iter().map(|bin| {
                let per_event = ln_z(bin.weight, rho) - ln_z(bin.weight, rho * multiple);
                bin.canary * multiple.ln() + (bin.canary + bin.stable) * per_event
            });
            *term = (weight / total / 2.0).ln() + each.sum::<f64>();
        }
        log_sum_exp(&terms)
    }

    fn bins(&self) -> &[Bin] {
        &self.bins[..self.used.min(MOST_WEIGHTS)]
    }

    /// The bin of this weight, a new one, or the nearest if all are taken.
    fn bin_for(&mut self, weight: f64) -> &mut Bin {
        let used = self.used.min(MOST_WEIGHTS);
        let known = self.bins[..used].iter().position(|bin| bin.weight == weight);
        let index = match known {
            Some(index) => index,
            None if used < MOST_WEIGHTS => {
                self.used = used + 1;
                self.bins[used].weight = weight;
                used
            }
            None => {
                let distance = |bin: &Bin| (logit(bin.weight) - logit(weight)).abs();
                let nearest = self.bins.iter().enumerate().min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)));
                nearest.map_or(0, |(index, _)| index)
            }
        };
        &mut self.bins[index]
    }
}

/// The confidence sequence for one arm's rate at level `1 - alpha`, by inverting the beta-binomial mixture with
/// Beta(0.5, 0.5): `{p: B(k+.5, n-k+.5)/B(.5,.5) < p^k (1-p)^(n-k)/alpha}`. Exact for independent requests with one rate.
/// 0 to 1 before the first request.
///
/// # Errors
/// If `alpha` is not strictly between 0 and 1.
pub fn rate_interval(counts: ArmCounts, alpha: f64) -> Result<Interval, ConfigError> {
    let ln_threshold = -require_open_unit("alpha", alpha)?.ln();
    let (requests, events) = (counts.requests as f64, counts.events.min(counts.requests) as f64);
    if counts.requests == 0 {
        return Ok(Interval { low: 0.0, high: 1.0 });
    }
    let quiet = requests - events;
    let ln_mixture = ln_beta(events + 0.5, quiet + 0.5) - ln_beta(0.5, 0.5);
    let ln_likelihood = |p: f64| crate::log_domain::ln_power(events, p.ln()) + crate::log_domain::ln_power(quiet, (-p).ln_1p());
    let inside = |p: f64| ln_mixture - ln_likelihood(p) < ln_threshold;
    let rate = events / requests;
    let low = if inside(0.0) { 0.0 } else { bisect(0.0, rate, inside) };
    let high = if inside(1.0) { 1.0 } else { bisect(rate, 1.0, |p| !inside(p)) };
    Ok(Interval { low, high })
}

/// `w r/(w r + 1 - w)`.
fn theta(weight: f64, ln_ratio: f64) -> f64 {
    1.0 / (1.0 + (-ln_ratio - logit(weight)).exp())
}

fn logit(weight: f64) -> f64 {
    (weight / (1.0 - weight)).ln()
}

/// Where `holds` turns true between `low` (false) and `high` (true), to the precision of a float.
fn bisect(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..BISECTIONS {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if holds(middle) { high = middle } else { low = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Share;

    fn evidence(batches: &[(u64, u64, f64)]) -> RatioEvidence {
        let mut evidence = RatioEvidence::new();
        for (canary_events, stable_events, weight) in batches {
            let weight = Share::new(*weight).unwrap();
            evidence.add(Batch { canary_events: *canary_events, stable_events: *stable_events, weight }, 1.0);
        }
        evidence
    }

    #[test]
    fn the_estimate_with_one_weight_is_the_smoothed_quotient() {
        for (canary, stable, w) in [(10, 95, 0.05), (0, 40, 0.5), (7, 0, 0.25)] {
            let expected = (canary as f64 + 0.5) / w / ((stable as f64 + 0.5) / (1.0 - w));
            let got = evidence(&[(canary, stable, w)]).ratio().unwrap();
            assert!((got / expected - 1.0).abs() < 1e-9, "{got} {expected}");
        }
        assert_eq!(evidence(&[]).ratio(), None);
    }

    #[test]
    fn changing_weights_with_drift_do_not_bias_the_estimate() {
        // Equal arms; the base rate is ten times higher while the weight is 5 %.
        let ratio = evidence(&[(500, 9_500, 0.05), (500, 500, 0.5)]).ratio().unwrap();
        assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
    }

    #[test]
    fn intervals_contain_the_estimate_and_shrink() {
        let mut widths = Vec::new();
        for scale in [1, 10, 100] {
            let evidence = evidence(&[(5 * scale, 95 * scale, 0.05), (9 * scale, 27 * scale, 0.25)]);
            let interval = evidence.ratio_interval(0.05).unwrap();
            let ratio = evidence.ratio().unwrap();
            assert!(interval.low < ratio && ratio < interval.high, "{interval:?} {ratio}");
            assert!(interval.low < 1.0 && interval.high > 1.0);
            widths.push(interval.high / interval.low);
        }
        assert!(widths[0] > widths[1] && widths[1] > widths[2]);
        assert_eq!(evidence(&[]).ratio_interval(0.05).unwrap(), Interval { low: 0.0, high: f64::INFINITY });
        assert_eq!(evidence(&[(0, 50, 0.05)]).ratio_interval(0.05).unwrap().low, 0.0);
        assert_eq!(evidence(&[(50, 0, 0.05)]).ratio_interval(0.05).unwrap().high, f64::INFINITY);
    }

    #[test]
    fn more_weights_than_bins_are_merged_with_their_neighbours() {
        let mut evidence = RatioEvidence::new();
        for step in 1..200_u32 {
            let weight = f64::from(step) / 200.0;
            // A hundred events as equal arms would share them.
            let canary_events = u64::from(step / 2);
            evidence.add(Batch { canary_events, stable_events: 100 - canary_events, weight: Share::new(weight).unwrap() }, 1.0);
        }
        assert_eq!(evidence.used, MOST_WEIGHTS);
        assert!((evidence.ratio().unwrap() - 1.0).abs() < 0.05, "{:?}", evidence.ratio());
        assert!((evidence.canary_events() + evidence.stable_events() - 19_900.0).abs() < 1e-6);
    }

    #[test]
    fn rates_have_intervals_up_to_billions_of_requests() {
        for (requests, events) in [(1, 0), (1, 1), (100, 3), (1_000_000_000, 5_000_000), (u64::MAX, u64::MAX / 3)] {
            let interval = rate_interval(ArmCounts { requests, events }, 0.05).unwrap();
            let rate = events as f64 / requests as f64;
            assert!(interval.low <= rate && rate <= interval.high && interval.high <= 1.0, "{requests} {events} {interval:?}");
        }
        let wide = rate_interval(ArmCounts { requests: 1_000_000_000, events: 5_000_000 }, 0.05).unwrap();
        assert!(wide.high - wide.low < 3e-5, "{wide:?}");
        assert_eq!(rate_interval(ArmCounts::default(), 0.05).unwrap(), Interval { low: 0.0, high: 1.0 });
        assert!(rate_interval(ArmCounts::default(), 1.0).is_err());
    }
}
