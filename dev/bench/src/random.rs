//! Random numbers: one generator per run, seeded by what the run is, so that results depend neither on the number of threads nor on
//! which other cells are simulated.

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1, Poisson, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// The generator of one run.
#[derive(Debug, Clone)]
pub(crate) struct Random(Pcg64Mcg);

impl Random {
    /// The generator for one run of one cell of one part.
    pub(crate) fn new(seed: u64, part: u64, cell: u64, run: u64) -> Self {
        let mut state = 0;
        let mut bytes = [0; 16];
        for word in [seed, part, cell, run] {
            state = mix(state ^ word);
        }
        bytes[..8].copy_from_slice(&state.to_le_bytes());
        bytes[8..].copy_from_slice(&mix(state).to_le_bytes());
        Self(Pcg64Mcg::from_seed(bytes))
    }

    /// A generator of its own for one component of the run: what it draws changes nothing for the others.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.0.next_u64(), 0, 0, 0)
    }

    /// Uniform among 0 to `end - 1`.
    pub(crate) fn below(&mut self, end: u8) -> u8 {
        self.0.random_range(0..end)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Whether something of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Standard normal.
    pub(crate) fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// A waiting time with this mean.
    pub(crate) fn waiting(&mut self, mean: f64) -> f64 {
        let waiting: f64 = Exp1.sample(&mut self.0);
        mean * waiting
    }
}

/// Poisson counts of a fixed mean; nothing for a mean of 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts(Option<Poisson<f64>>);

impl Counts {
    /// Counts with this mean, at least 0.
    pub(crate) fn new(mean: f64) -> Self {
        Self(Poisson::new(mean).ok())
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole numbers far below 2^53")]
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        self.0.map_or(0, |poisson| poisson.sample(&mut random.0) as u64)
    }
}

/// One step of SplitMix64.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coordinate_makes_another_generator_and_the_same_makes_the_same() {
        let first = |seed, part, cell, run| Random::new(seed, part, cell, run).unit();
        let all = [first(1, 1, 1, 1), first(2, 1, 1, 1), first(1, 2, 1, 1), first(1, 1, 2, 1), first(1, 1, 1, 2), first(1, 1, 2, 2)];
        for (index, a) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|b| a != b));
        }
        assert_eq!(first(3, 4, 5, 6), first(3, 4, 5, 6));
    }

    #[test]
    fn counts_have_their_mean_and_variance() {
        let mut random = Random::new(1, 0, 0, 0);
        for mean in [0.3, 8.0, 300.0] {
            let counts = Counts::new(mean);
            let draws: Vec<f64> = (0..20_000).map(|_| counts.draw(&mut random) as f64).collect();
            let average = draws.iter().sum::<f64>() / 20_000.0;
            let variance = draws.iter().map(|draw| (draw - average).powi(2)).sum::<f64>() / 20_000.0;
            assert!((average / mean - 1.0).abs() < 0.05 && (variance / mean - 1.0).abs() < 0.06, "{mean}: {average} {variance}");
        }
        assert_eq!(Counts::new(0.0).draw(&mut random), 0);
    }
}
