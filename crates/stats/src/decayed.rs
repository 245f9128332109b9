//! Stable's recent latencies: a histogram that forgets exponentially (ANALYSIS 2.5, default half-life 10 minutes).
//!
//! Same bins as [`Histogram`](crate::Histogram). Instead of shrinking every bin with every tick, new values weigh more and more;
//! all bins are scaled down when the weight nears the limits of a float. Fixed memory (about 16 KiB), nothing is allocated
//! after construction.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeStruct as _};

use crate::config::{ConfigError, require_positive};
use crate::histogram::{BINS, Histogram, bin_bounds_us, bin_of_us};

/// Half-life that stable's quantiles are taken with, in milliseconds.
pub const DEFAULT_HALF_LIFE_MS: f64 = 600_000.0;
/// Scaling back happens when a new value would weigh more than this.
const HEAVIEST: f64 = 1e12;

/// Exponentially decaying counts of latencies.
#[derive(Debug, Clone, PartialEq)]
pub struct DecayedHistogram {
    counts: Vec<f64>,
    /// Sum of the counts.
    sum: f64,
    /// No bin above this one holds anything.
    top: usize,
    /// Weight of a value that is added now; a count's present size is `count / weight`.
    weight: f64,
    half_life_ms: f64,
}

impl DecayedHistogram {
    /// An empty histogram.
    ///
    /// # Errors
    /// If the half-life is not a finite number of milliseconds above 0.
    pub fn new(half_life_ms: f64) -> Result<Self, ConfigError> {
        Ok(Self {
            counts: vec![0.0; BINS],
            sum: 0.0,
            top: 0,
            weight: 1.0,
            half_life_ms: require_positive("half-life in ms", half_life_ms)?,
        })
    }

    /// Lets `elapsed_ms` pass: everything counted so far weighs less by `2^(-elapsed/half-life)`.
    pub fn decay_ms(&mut self, elapsed_ms: u64) {
        let factor = (elapsed_ms as f64 / self.half_life_ms).exp2();
        if self.weight * factor <= HEAVIEST {
            self.weight *= factor;
            return;
        }
        let scale = 1.0 / (self.weight * factor);
        for count in &mut self.counts {
            *count *= scale;
        }
        self.weight = 1.0;
        self.sum = self.counts.iter().sum();
        self.top = self.highest_bin();
    }

    /// Adds latencies that were counted since the last call.
    pub fn add(&mut self, latencies: &Histogram) {
        for (bin, count) in latencies.bins() {
            self.add_to(bin, count);
        }
    }

    /// Adds `count` latencies of `latency_us` microseconds.
    pub fn add_us(&mut self, latency_us: u64, count: u64) {
        self.add_to(bin_of_us(latency_us), count);
    }

    /// Effective number of values, newest counting 1.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.sum / self.weight
    }

    /// Share of latencies at or above `latency_us`, linear within a bin; 0 if nothing was counted.
    #[must_use]
    pub fn survival(&self, latency_us: f64) -> f64 {
        if self.sum <= 0.0 || latency_us.is_nan() {
            return 0.0;
        }
        let bin = bin_of_us(whole_us(latency_us));
        let (low, high) = bin_bounds_us(bin);
        let share = ((high as f64 - latency_us) / (high - low) as f64).clamp(0.0, 1.0);
        let above: f64 = (bin + 1..=self.top).rev().map(|bin| self.counts[bin]).sum();
        ((above + share * self.counts[bin]) / self.sum).clamp(0.0, 1.0)
    }

    /// The bin edge in microseconds whose survival is closest to `1 - q` in logarithm, and that survival.
    /// Counting "at or above an edge" is exact, so that codings use edges instead of interpolated quantiles.
    /// `None` if `q` is not strictly between 0 and 1 or nothing was counted.
    #[must_use]
    pub fn edge_at_quantile(&self, q: f64) -> Option<(u64, f64)> {
        if self.sum <= 0.0 || !(q > 0.0 && q < 1.0) {
            return None;
        }
        let wanted = (1.0 - q) * self.sum;
        let (mut above, mut best) = (0.0, None);
        for bin in (0..=self.top).rev().filter(|bin| self.counts[*bin] > 0.0) {
            let beyond = above;
            above += self.counts[bin];
            // In logarithms, the nearer of the two edges on either side of what is wanted.
            if above <= wanted || best.is_none() || above * beyond < wanted * wanted {
                best = Some((bin_bounds_us(bin).0, (above / self.sum).min(1.0)));
            }
            if above >= wanted {
                break;
            }
        }
        best
    }

    /// The upper edge of the bin that holds the `q`-quantile, in microseconds; `None` if `q` is not strictly between 0 and 1 or
    /// nothing was counted.
    #[must_use]
    pub fn edge_above_quantile(&self, q: f64) -> Option<u64> {
        if self.sum <= 0.0 || !(q > 0.0 && q < 1.0) {
            return None;
        }
        let wanted = (1.0 - q) * self.sum;
        let mut above = 0.0;
        let bin = (0..=self.top).rev().find(|bin| {
            above += self.counts[*bin];
            above >= wanted
        });
        bin.map(|bin| bin_bounds_us(bin).1)
    }

    fn add_to(&mut self, bin: usize, count: u64) {
        let weight = count as f64 * self.weight;
        self.counts[bin] += weight;
        self.sum += weight;
        self.top = if count > 0 { self.top.max(bin) } else { self.top };
    }

    fn highest_bin(&self) -> usize {
        self.counts.iter().rposition(|count| *count > 0.0).unwrap_or(0)
    }
}

/// Microseconds as a whole number, saturating; negative counts as 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn whole_us(latency_us: f64) -> u64 {
    // A float cast saturates at both ends, which is what is wanted here.
    latency_us as u64
}

/// Stored as the non-empty bins with exact numbers.
impl Serialize for DecayedHistogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bins: Vec<(usize, String)> =
            self.counts.iter().enumerate().filter(|(_, count)| **count > 0.0).map(|(bin, count)| (bin, format!("{count:?}"))).collect();
        let mut state = serializer.serialize_struct("DecayedHistogram", 4)?;
        state.serialize_field("bins", &bins)?;
        state.serialize_field("sum", &format!("{:?}", self.sum))?;
        state.serialize_field("weight", &format!("{:?}", self.weight))?;
        state.serialize_field("half_life_ms", &format!("{:?}", self.half_life_ms))?;
        state.end()
    }
}

impl<'de> Deserialize<'de> for DecayedHistogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Stored {
            bins: Vec<(usize, String)>,
            #[serde(with = "crate::exact")]
            sum: f64,
            #[serde(with = "crate::exact")]
            weight: f64,
            #[serde(with = "crate::exact")]
            half_life_ms: f64,
        }
        let stored = Stored::deserialize(deserializer)?;
        let mut histogram = Self::new(stored.half_life_ms).map_err(D::Error::custom)?;
        histogram.weight = require_positive("weight", stored.weight).map_err(D::Error::custom)?;
        for (bin, text) in stored.bins {
            let count = text.parse::<f64>().ok().filter(|count| count.is_finite() && *count >= 0.0);
            match (histogram.counts.get_mut(bin), count) {
                (Some(slot), Some(count)) => *slot = count,
                _ => return Err(D::Error::custom(format!("histogram bin {bin} with count `{text}` is not valid, there are {BINS} bins"))),
            }
        }
        histogram.sum = stored.sum;
        histogram.top = histogram.highest_bin();
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform() -> DecayedHistogram {
        let mut histogram = DecayedHistogram::new(DEFAULT_HALF_LIFE_MS).unwrap();
        for ms in 1..=1_000 {
            histogram.add_us(ms * 1_000, 1);
        }
        histogram
    }

    #[test]
    fn quantile_edges_and_survival_fit_the_sample_and_each_other() {
        let histogram = uniform();
        for q in [0.5, 0.9, 0.99] {
            let (edge_us, survival) = histogram.edge_at_quantile(q).unwrap();
            assert!((survival / (1.0 - q)).ln().abs() < 0.2, "{q}: {survival}");
            assert!((histogram.survival(edge_us as f64) - survival).abs() < 1e-12);
        }
        assert_eq!(histogram.edge_at_quantile(1.0), None);
        assert_eq!(histogram.survival(0.0), 1.0);
        assert_eq!(histogram.survival(f64::INFINITY), 0.0);
        assert_eq!(histogram.survival(f64::NAN), 0.0);
    }

    #[test]
    fn old_values_halve_and_the_scale_never_runs_away() {
        let mut histogram = uniform();
        histogram.decay_ms(600_000);
        assert!((histogram.total() - 500.0).abs() < 1e-6);
        for _ in 0..100 {
            histogram.decay_ms(6_000_000);
            histogram.add_us(1_000, 10);
        }
        assert!((histogram.total() - 10.0).abs() < 0.1, "{}", histogram.total());
        assert!(histogram.edge_at_quantile(0.5).is_some());
    }

    #[test]
    fn it_comes_back_exactly_and_damage_is_refused() {
        let mut histogram = uniform();
        histogram.decay_ms(1_234);
        let text = serde_json::to_string(&histogram).unwrap();
        assert_eq!(serde_json::from_str::<DecayedHistogram>(&text).unwrap(), histogram);
        assert!(serde_json::from_str::<DecayedHistogram>(r#"{"bins":[[99999,"1"]],"sum":"1","weight":"1","half_life_ms":"1"}"#).is_err());
        assert!(DecayedHistogram::new(0.0).is_err());
    }
}
