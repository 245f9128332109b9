//! A guard for services whose stable has fewer than three replicas (ANALYSIS 2.8).
//!
//! With so few there is no placebo for [`Dispersion`](crate::Dispersion), and a single process that pauses looks like a slow
//! canary. Latency criteria then have to show their excess in at least three separate blocks of 10 s: what one block may add to
//! the evidence is capped at a third of what an alarm needs. Blocks in which the evidence shrinks count in full, so that one
//! pause after hours of health stays one pause.
//!
//! The guard only withholds an alarm, so that no guarantee is lost; it is a rule of thumb and promises nothing about private
//! bursts that come again and again.

use serde::{Deserialize, Serialize};

use crate::exact;

/// Length of a block in milliseconds.
pub const BLOCK_MS: u64 = 10_000;
/// Blocks with an excess that an alarm needs at least.
pub const LEAST_BLOCKS: u32 = 3;

/// Evidence of which no block gave more than a third of what is needed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExcessBlocks {
    /// Number of the open block since the epoch of the caller's clock.
    block: u64,
    /// `ln E` when it was opened.
    #[serde(with = "exact")]
    opened_at: f64,
    /// `ln E` now.
    #[serde(with = "exact")]
    now: f64,
    /// Capped evidence of the closed blocks, never below 0.
    #[serde(with = "exact")]
    closed: f64,
}

impl ExcessBlocks {
    /// No blocks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the `ln E` of the test at `at_ms`, a clock that does not run backwards. `ln_needed`: what an alarm needs.
    pub fn add(&mut self, at_ms: u64, ln_e: f64, ln_needed: f64) {
        let block = at_ms / BLOCK_MS;
        if block > self.block {
            self.closed = self.capped(ln_needed);
            (self.block, self.opened_at) = (block, self.now);
        }
        self.now = ln_e;
    }

    /// The capped evidence, in nats.
    #[must_use]
    pub fn capped(&self, ln_needed: f64) -> f64 {
        let gain = (self.now - self.opened_at).min(ln_needed / f64::from(LEAST_BLOCKS));
        (self.closed + gain).max(0.0)
    }

    /// Whether at least three blocks together gave what is needed.
    #[must_use]
    pub fn enough(&self, ln_needed: f64) -> bool {
        // Thirds do not always add up to a whole.
        self.capped(ln_needed) >= ln_needed * (1.0 - 1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: f64 = 6.0;

    #[test]
    fn one_pause_is_one_block_however_many_requests_it_held() {
        let mut blocks = ExcessBlocks::new();
        for tick in 0..100 {
            blocks.add(20_000 + tick * 50, f64::from(u32::try_from(tick).unwrap()), NEEDED);
        }
        assert!(!blocks.enough(NEEDED) && (blocks.capped(NEEDED) - 2.0).abs() < 1e-9);
        // The evidence stands, but nothing is added to it.
        for at_ms in [30_000, 60_000, 600_000] {
            blocks.add(at_ms, 99.0, NEEDED);
            assert!(!blocks.enough(NEEDED));
        }
        // Two more blocks of slowness.
        blocks.add(700_000, 109.0, NEEDED);
        assert!(!blocks.enough(NEEDED));
        blocks.add(710_000, 119.0, NEEDED);
        assert!(blocks.enough(NEEDED));
    }

    #[test]
    fn health_takes_back_what_a_pause_gave() {
        let mut blocks = ExcessBlocks::new();
        blocks.add(0, 50.0, NEEDED);
        for block in 1..20_u32 {
            blocks.add(u64::from(block) * BLOCK_MS, 50.0 - f64::from(block), NEEDED);
        }
        assert_eq!(blocks.capped(NEEDED), 0.0);
    }
}
