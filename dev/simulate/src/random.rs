//! Random numbers: SplitMix64, written out so that a seed means the same in every version of every library.
//!
//! Each part of the world draws from a stream of its own. Switching one kind of fault off therefore changes nothing that the
//! others draw, which is what makes a failing seed easy to shrink.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream of one part of one run.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        let mut stream = Self(mix(seed.wrapping_add(mix(part.wrapping_add(0x5E41)))));
        stream.next();
        stream
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Uniform from 0 to `end - 1`; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Uniform from `from` to `to`, both included.
    pub(crate) fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of them; `values` is never empty.
    pub(crate) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.index(values.len())]
    }

    /// A position in something of this length.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// `mean` rounded up or down at random, so that the mean stays what it is.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, far below 2^53")]
    pub(crate) fn rounded(&mut self, mean: f64) -> u64 {
        (mean.max(0.0) + self.unit()).floor() as u64
    }
}

/// The finalizer of SplitMix64: spreads the bits of a word.
pub(crate) fn mix(word: u64) -> u64 {
    let mut z = word;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let first = |seed, part| Random::new(seed, part).next();
        assert_eq!(first(1, 2), first(1, 2));
        let all = [first(0, 0), first(0, 1), first(1, 0), first(1, 1), first(2, 0)];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one));
        }
    }

    #[test]
    fn values_stay_in_range_and_reach_both_ends() {
        let mut random = Random::new(7, 7);
        let draws: Vec<u64> = (0..1_000).map(|_| random.range(3, 6)).collect();
        assert!(draws.iter().all(|draw| (3..=6).contains(draw)));
        assert!(draws.contains(&3) && draws.contains(&6));
        assert_eq!((random.below(0), random.range(5, 5)), (0, 5));
    }
}
