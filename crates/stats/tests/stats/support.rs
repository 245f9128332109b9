//! Probabilities, and random numbers whose sequence never changes.

use serin_stats::{ArmCounts, Batch, Share, ln_gamma};

pub(crate) fn share(weight: f64) -> Share {
    Share::new(weight).unwrap()
}

pub(crate) fn events(canary_events: u64, stable_events: u64, weight: f64) -> Batch {
    Batch { canary_events, stable_events, weight: share(weight) }
}

pub(crate) fn counts(requests: u64, events: u64) -> ArmCounts {
    ArmCounts { requests, events }
}

pub(crate) fn ln_choose(n: u64, k: u64) -> f64 {
    ln_gamma(n as f64 + 1.0) - ln_gamma(k as f64 + 1.0) - ln_gamma((n - k) as f64 + 1.0)
}

pub(crate) fn binomial(n: u64, k: u64, p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return f64::from(u8::from(k == if p <= 0.0 { 0 } else { n }));
    }
    (ln_choose(n, k) + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp()
}

/// Probability of `k` marked among `draws` out of `all` of which `marked` are.
pub(crate) fn hypergeometric(all: u64, marked: u64, draws: u64, k: u64) -> f64 {
    if k > marked || draws - k > all - marked {
        return 0.0;
    }
    (ln_choose(marked, k) + ln_choose(all - marked, draws - k) - ln_choose(all, draws)).exp()
}

pub(crate) fn poisson(mean: f64, k: u64) -> f64 {
    (k as f64 * mean.ln() - mean - ln_gamma(k as f64 + 1.0)).exp()
}

/// SplitMix64.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn exponential(&mut self, rate: f64) -> f64 {
        -self.uniform().ln() / rate
    }

    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        let mut elapsed = self.exponential(1.0);
        let mut count = 0;
        while elapsed < mean {
            count += 1;
            elapsed += self.exponential(1.0);
        }
        count
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
