//! Times as they are counted for Prometheus.

/// Upper bounds of the histograms of times, in seconds.
const BOUNDS_S: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Times, by upper bounds that are the same for all.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// One more than bounds: the last is for what is above all of them.
    counts: [u64; BOUNDS_S.len() + 1],
    sum_s: f64,
}

impl Histogram {
    /// One more.
    pub fn add(&mut self, seconds: f64) {
        let index = BOUNDS_S.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS_S.len());
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.sum_s += seconds;
    }

    /// How many were at most each bound; then how many in all, and their sum in seconds.
    #[must_use]
    pub fn cumulative(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut below = 0;
        let buckets = BOUNDS_S.iter().zip(&self.counts).map(|(bound, count)| {
            below += count;
            (*bound, below)
        });
        (buckets.collect(), self.counts.iter().sum(), self.sum_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_below_their_bounds() {
        let mut histogram = Histogram::default();
        for seconds in [0.005, 0.0051, 100.0] {
            histogram.add(seconds);
        }
        let (buckets, all, sum) = histogram.cumulative();
        assert_eq!(buckets[..2], [(0.005, 1), (0.01, 2)]);
        assert_eq!((buckets.last(), all), (Some(&(60.0, 2)), 3));
        assert!((sum - 100.0101).abs() < 1e-9);
    }
}
