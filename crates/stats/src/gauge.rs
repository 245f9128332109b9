//! Gauges such as CPU and memory: is the canary's value above a multiple of stable's? (ANALYSIS 2.7)
//!
//! One number per block of time, `y = mean of ln(canary) - ln(stable)`, so that shared drift cancels and neighbouring samples,
//! which resemble each other, count once. The scale of the noise is unknown: the test is a t-mixture with effect/sigma
//! distributed as `N(0, 1)`. It is two-sided, and is split by the sign of the effect before it is used. Leaks are found by
//! windows that start anew at doubling times.
//!
//! Exact for independent Gaussian blocks; for real ones an approximation, checked by simulation. Windows are combined by weighted
//! Bonferroni (the largest weighted one counts) because each is fair in its own, scale-free view of the data only.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require, require_positive};
use crate::exact;

/// Windows that start at doubling times: enough for millions of blocks.
const WINDOWS: usize = 20;
/// The second window starts after this many blocks, each further one after twice as many as the one before.
const FIRST_RESTART: u64 = 4;
/// Blocks that a window needs before it may decide.
const LEAST_BLOCKS: u64 = 3;
/// Variance of effect/sigma under the alternative.
const EFFECT_VARIANCE: f64 = 1.0;

/// Count, mean and sum of squares about the mean of the blocks of one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    blocks: u64,
    #[serde(with = "exact")]
    mean: f64,
    #[serde(with = "exact")]
    squares: f64,
}

/// The sequential test of block values against a boundary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GaugeE {
    #[serde(with = "exact")]
    boundary: f64,
    blocks: u64,
    windows: [Window; WINDOWS],
}

impl GaugeE {
    /// A fresh test of "the canary's value is `tolerance` times stable's" (1.2 for "at most 1.2 times").
    ///
    /// # Errors
    /// If `tolerance` is not a finite number above 0.
    pub fn new(tolerance: f64) -> Result<Self, ConfigError> {
        let boundary = require_positive("gauge tolerance", tolerance)?.ln();
        Ok(Self { boundary, blocks: 0, windows: [Window::default(); WINDOWS] })
    }

    /// Scores the mean of `ln(canary) - ln(stable)` over one block.
    ///
    /// # Errors
    /// If it is not finite; then nothing changes.
    pub fn update(&mut self, block: f64) -> Result<(), ConfigError> {
        require(block.is_finite(), "block mean", block, "a finite number")?;
        for (index, window) in self.windows.iter_mut().enumerate() {
            if self.blocks < start_of(index) {
                break;
            }
            window.add(block);
        }
        self.blocks = self.blocks.saturating_add(1);
        Ok(())
    }

    /// `ln E` for "above the boundary"; negative infinity while every window points below it.
    #[must_use]
    pub fn ln_e_fail(&self) -> f64 {
        self.ln_e(|mean| mean > self.boundary)
    }

    /// `ln E` for "below the boundary".
    #[must_use]
    pub fn ln_e_pass(&self) -> f64 {
        self.ln_e(|mean| mean < self.boundary)
    }

    /// The least number of blocks after which `ln E` can reach `ln_needed`: what a difference without any noise needs.
    /// 6 for 5 %; at most 1,000.
    #[must_use]
    pub fn least_blocks(ln_needed: f64) -> u64 {
        let mut window = Window { blocks: LEAST_BLOCKS, mean: 1.0, squares: 0.0 };
        // The first window has half of the capital.
        while window.blocks < 1_000 && window.ln_e(0.0) - std::f64::consts::LN_2 < ln_needed {
            window.blocks += 1;
        }
        window.blocks
    }

    /// Blocks scored so far.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The canary's value as a multiple of stable's, the geometric mean over all blocks; `None` before the first.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.blocks > 0).then(|| self.windows[0].mean.exp())
    }

    fn ln_e(&self, points: impl Fn(f64) -> bool) -> f64 {
        let mut most = f64::NEG_INFINITY;
        for (index, window) in self.windows.iter().enumerate() {
            if window.blocks >= LEAST_BLOCKS && points(window.mean) {
                let j = index as f64 + 1.0;
                most = most.max(window.ln_e(self.boundary) - (j * (j + 1.0)).ln());
            }
        }
        most
    }
}

impl Window {
    fn add(&mut self, block: f64) {
        self.blocks = self.blocks.saturating_add(1);
        let away = block - self.mean;
        self.mean += away / self.blocks as f64;
        self.squares += away * (block - self.mean);
    }

    /// `-0.5 ln(1 + n c2) - (n/2) [ln(1 + u/(1 + n c2)) - ln(1 + u)]`, `u = t^2/(n-1)`.
    fn ln_e(&self, boundary: f64) -> f64 {
        let n = self.blocks as f64;
        let spread = 1.0 + n * EFFECT_VARIANCE;
        let effect = n * (self.mean - boundary).powi(2);
        // Without any noise u is infinite, and the bracket tends to -ln(1 + n c2).
        let bracket = match effect / self.squares {
            u if u.is_nan() => 0.0,
            u if u > 1e280 => -spread.ln(),
            u => (u / spread).ln_1p() - u.ln_1p(),
        };
        -0.5 * spread.ln() - 0.5 * n * bracket
    }
}

/// Blocks before the window of this index: 0, 4, 8, 16, …
fn start_of(index: usize) -> u64 {
    match index {
        0 => 0,
        _ => FIRST_RESTART << (index - 1),
    }
}

/// How samples are gathered into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockConfig {
    /// Length of a block in milliseconds: at least twice the autocorrelation time (60 s; 180 s for slow gauges).
    pub block_ms: u64,
    /// A block ends no earlier than with this many samples.
    pub least_samples: u32,
    /// Samples before this age of the canary are skipped, in milliseconds.
    pub warm_up_ms: u64,
}

impl Default for BlockConfig {
    fn default() -> Self {
        Self { block_ms: 60_000, least_samples: 5, warm_up_ms: 120_000 }
    }
}

/// Gathers samples of both arms into block means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blocks {
    config: BlockConfig,
    started_ms: Option<u64>,
    samples: u32,
    #[serde(with = "exact")]
    sum: f64,
}

impl Blocks {
    /// An empty block.
    #[must_use]
    pub fn new(config: BlockConfig) -> Self {
        Self { config, started_ms: None, samples: 0, sum: 0.0 }
    }

    /// Adds a pair of samples taken at `age_ms` of the canary; returns the mean of `ln(canary) - ln(stable)` if that ends
    /// the block. The values are per pod or per request, in any unit.
    ///
    /// # Errors
    /// If a value is not a finite number above 0: such a pair is no measurement and is left out.
    pub fn push(&mut self, age_ms: u64, canary: f64, stable: f64) -> Result<Option<f64>, ConfigError> {
        let canary = require_positive("canary gauge", canary)?;
        let stable = require_positive("stable gauge", stable)?;
        if age_ms < self.config.warm_up_ms {
            return Ok(None);
        }
        let started_ms = *self.started_ms.get_or_insert(age_ms);
        self.samples = self.samples.saturating_add(1);
        self.sum += canary.ln() - stable.ln();
        if age_ms.saturating_sub(started_ms) < self.config.block_ms || self.samples < self.config.least_samples {
            return Ok(None);
        }
        let mean = self.sum / f64::from(self.samples);
        *self = Self::new(self.config);
        Ok(Some(mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_number_of_blocks_is_what_a_noiseless_difference_needs() {
        for needed in [20_f64, 100.0, 2_000.0] {
            let mut test = GaugeE::new(1.2).unwrap();
            while test.ln_e_pass() < needed.ln() {
                test.update(0.0).unwrap();
            }
            assert_eq!(test.blocks(), GaugeE::least_blocks(needed.ln()), "{needed}");
        }
        assert_eq!(GaugeE::least_blocks(20_f64.ln()), 6);
    }

    #[test]
    fn a_clear_difference_is_found_and_a_clear_equality_passes() {
        let (mut high, mut equal) = (GaugeE::new(1.2).unwrap(), GaugeE::new(1.2).unwrap());
        for block in 0..12 {
            let noise = if block % 2 == 0 { 0.02 } else { -0.02 };
            high.update(1.5_f64.ln() + noise).unwrap();
            equal.update(noise).unwrap();
        }
        assert!(high.ln_e_fail() > 100_f64.ln() && high.ln_e_pass() == f64::NEG_INFINITY);
        assert!(equal.ln_e_pass() > 20_f64.ln() && equal.ln_e_fail() == f64::NEG_INFINITY);
        assert!((equal.ratio().unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_leak_is_found_by_a_younger_window() {
        let mut test = GaugeE::new(1.2).unwrap();
        for block in 0..128 {
            let noise = if block % 2 == 0 { 0.05 } else { -0.05 };
            test.update(noise).unwrap();
        }
        for block in 0..60 {
            test.update(0.4 + if block % 2 == 0 { 0.05 } else { -0.05 }).unwrap();
        }
        assert!(test.windows[0].mean < test.boundary);
        assert!(test.ln_e_fail() > 100_f64.ln());
    }

    #[test]
    fn values_without_noise_are_judged_by_the_limit_of_the_formula() {
        let mut test = GaugeE::new(1.0).unwrap();
        for _ in 0..20 {
            test.update(0.0).unwrap();
        }
        assert_eq!(test.ln_e_fail(), f64::NEG_INFINITY);
        let mut test = GaugeE::new(1.2).unwrap();
        for n in 1..=20_u8 {
            test.update(1.0).unwrap();
            assert!(!test.ln_e_fail().is_nan());
            if u64::from(n) >= LEAST_BLOCKS {
                let expected = 0.5 * f64::from(n - 1) * f64::from(1 + n).ln() - 2_f64.ln();
                assert!((test.ln_e_fail() - expected).abs() < 1e-9);
            }
        }
        assert!(test.update(f64::NAN).is_err());
    }

    #[test]
    fn blocks_skip_the_warm_up_and_wait_for_enough_samples() {
        let mut blocks = Blocks::new(BlockConfig { block_ms: 60_000, least_samples: 5, warm_up_ms: 120_000 });
        let mut ends = Vec::new();
        for second in (0..600).step_by(15) {
            if let Some(mean) = blocks.push(second * 1_000, 2.0, 1.0).unwrap() {
                ends.push(second);
                assert!((mean - 2_f64.ln()).abs() < 1e-12);
            }
        }
        assert_eq!(ends.first(), Some(&180));
        assert!(blocks.push(700_000, 0.0, 1.0).is_err());
    }
}
