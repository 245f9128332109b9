//! A latency histogram that merges and subtracts exactly.
//!
//! Values are whole microseconds. Below 64 µs every value has a bin of its own; above, each power of two is cut into 64
//! equal bins, so that a bin is at most 1.6 % wide. Values from 2^36 µs (about 19 hours) on share the last bin.
//! The layout is fixed: two histograms always have the same edges, whichever process or version filled them.
//! That makes merging shards and taking differences of cumulative counts exact, which resampling sketches cannot do.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

const SUB_BITS: u32 = 6;
const SUB: usize = 1 << SUB_BITS;
const TOP_BIT: u32 = 35;

/// Number of bins of every histogram.
pub const BINS: usize = SUB + (TOP_BIT - SUB_BITS + 1) as usize * SUB;

/// The bin that a latency in microseconds falls into; always below [`BINS`].
#[must_use]
pub fn bin_of_us(latency_us: u64) -> usize {
    if latency_us < SUB as u64 {
        return usize::try_from(latency_us).unwrap_or(0);
    }
    let exponent = latency_us.ilog2();
    if exponent > TOP_BIT {
        return BINS - 1;
    }
    let octave = (exponent - SUB_BITS) as usize;
    let within = usize::try_from(latency_us >> (exponent - SUB_BITS)).unwrap_or(SUB) - SUB;
    SUB + octave * SUB + within
}

/// The half-open range `[low, high)` of microseconds that a bin covers.
#[must_use]
pub fn bin_bounds_us(bin: usize) -> (u64, u64) {
    if bin < SUB {
        return (bin as u64, bin as u64 + 1);
    }
    let bin = bin.min(BINS - 1);
    let octave = (bin - SUB) / SUB;
    let within = ((bin - SUB) % SUB) as u64;
    let low = (SUB as u64 + within) << octave;
    (low, low + (1 << octave))
}

/// Why two histograms cannot be subtracted, or a stored one cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistogramError {
    /// The other histogram has a larger count in this bin: it is not an earlier state of the same counter.
    NotEarlier {
        /// The first bin where the counts disagree.
        bin: usize,
    },
}

impl std::fmt::Display for HistogramError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotEarlier { bin } => write!(f, "bin {bin} holds less than the supposedly earlier histogram"),
        }
    }
}

impl std::error::Error for HistogramError {}

/// Counts of latencies in fixed logarithmic bins. An empty one holds no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Empty, or exactly [`BINS`] long.
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one latency in microseconds.
    pub fn record_us(&mut self, latency_us: u64) {
        self.add(bin_of_us(latency_us), 1);
    }

    /// Adds `count` to a bin; a bin beyond the last counts as the last. Saturates instead of wrapping.
    pub fn add(&mut self, bin: usize, count: u64) {
        if count == 0 {
            return;
        }
        if self.counts.is_empty() {
            self.counts = vec![0; BINS];
        }
        let slot = &mut self.counts[bin.min(BINS - 1)];
        *slot = slot.saturating_add(count);
        self.total = self.total.saturating_add(count);
    }

    /// Number of values counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Adds every count of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (bin, count) in other.bins() {
            self.add(bin, count);
        }
    }

    /// What was counted since `earlier`, an older state of the same counter.
    ///
    /// # Errors
    /// [`HistogramError::NotEarlier`] if any bin shrank, which means that the counter started anew.
    pub fn since(&self, earlier: &Self) -> Result<Self, HistogramError> {
        let mut difference = self.clone();
        for (bin, count) in earlier.bins() {
            let now = difference.counts.get(bin).copied().unwrap_or(0);
            let rest = now.checked_sub(count).ok_or(HistogramError::NotEarlier { bin })?;
            difference.counts[bin] = rest;
            difference.total = difference.total.saturating_sub(count);
        }
        Ok(difference)
    }

    /// The `q`-quantile in microseconds, `0 <= q <= 1`, linear within its bin (off by at most 1.6 %).
    /// `None` if nothing was counted or `q` is not in range.
    #[must_use]
    pub fn quantile_us(&self, q: f64) -> Option<f64> {
        if self.total == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = q * self.total as f64;
        let mut below = 0.0;
        let mut last = None;
        for (bin, count) in self.bins() {
            let (low, high) = bin_bounds_us(bin);
            let upto = below + count as f64;
            if upto >= rank {
                let share = ((rank - below) / count as f64).clamp(0.0, 1.0);
                return Some(low as f64 + share * (high - low) as f64);
            }
            below = upto;
            last = Some(high as f64);
        }
        last
    }

    /// How many values lie in bins that begin at or above `limit_us`.
    #[must_use]
    pub fn count_at_or_above_us(&self, limit_us: u64) -> u64 {
        self.bins().filter(|(bin, _)| bin_bounds_us(*bin).0 >= limit_us).fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// The non-empty bins in ascending order, with their counts.
    pub fn bins(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }
}

/// Stored as the list of non-empty bins, `[[bin, count], …]`: a few dozen numbers instead of thousands.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.bins())
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut histogram = Self::new();
        for (bin, count) in Vec::<(usize, u64)>::deserialize(deserializer)? {
            if bin >= BINS {
                return Err(D::Error::custom(format!("histogram bin {bin} does not exist, there are {BINS}")));
            }
            histogram.add(bin, count);
        }
        Ok(histogram)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bins_tile_the_whole_range_without_gap() {
        let mut expected_low = 0;
        for bin in 0..BINS {
            let (low, high) = bin_bounds_us(bin);
            assert_eq!(low, expected_low, "bin {bin}");
            assert_eq!(bin_of_us(low), bin);
            assert_eq!(bin_of_us(high - 1), bin);
            expected_low = high;
        }
        assert_eq!(bin_of_us(u64::MAX), BINS - 1);
    }

    #[test]
    fn a_bin_is_at_most_one_and_six_tenths_percent_wide() {
        for bin in SUB..BINS {
            let (low, high) = bin_bounds_us(bin);
            assert!((high - low) as f64 / low as f64 <= 1.0 / 64.0, "bin {bin}");
        }
    }

    #[test]
    fn quantiles_of_a_known_sample() {
        let mut histogram = Histogram::new();
        for value in 1..=10_000 {
            histogram.record_us(value * 100);
        }
        for (q, expected) in [(0.5, 500_000.0), (0.9, 900_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let got = histogram.quantile_us(q).unwrap();
            assert!((got / expected - 1.0).abs() < 0.016, "q {q}: {got}");
        }
        assert_eq!(histogram.quantile_us(1.1), None);
        assert_eq!(Histogram::new().quantile_us(0.5), None);
    }

    #[test]
    fn a_restarted_counter_is_noticed() {
        let mut old = Histogram::new();
        old.record_us(10);
        assert_eq!(Histogram::new().since(&old), Err(HistogramError::NotEarlier { bin: 10 }));
    }

    proptest! {
        #[test]
        fn merging_then_subtracting_gives_the_part_back(a in proptest::collection::vec(any::<u64>(), 0..200), b in proptest::collection::vec(0_u64..5_000_000, 0..200)) {
            let fill = |values: &[u64]| {
                let mut histogram = Histogram::new();
                values.iter().for_each(|value| histogram.record_us(*value));
                histogram
            };
            let (first, second) = (fill(&a), fill(&b));
            let mut both = first.clone();
            both.merge(&second);
            prop_assert_eq!(both.total(), first.total() + second.total());
            let rest = both.since(&first).unwrap();
            prop_assert_eq!(rest.bins().collect::<Vec<_>>(), second.bins().collect::<Vec<_>>());
            let stored = serde_json::to_string(&both).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&stored).unwrap(), both);
        }

        #[test]
        fn a_quantile_lies_within_a_bin_of_the_exact_one(mut values in proptest::collection::vec(1_u64..10_000_000, 1..300), q in 0.0_f64..=1.0) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|value| histogram.record_us(*value));
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            let (low, high) = bin_bounds_us(bin_of_us(exact));
            let got = histogram.quantile_us(q).unwrap();
            prop_assert!(got >= low as f64 - 1e-9 && got <= high as f64 + 1e-9, "{got} not in {low}..{high}");
        }
    }
}
