//! A guard for services whose stable has fewer than three replicas (ANALYSIS 2.8).
//!
//! With so few there is no placebo for [`Dispersion`](crate::Dispersion), and a single process that pauses looks like a slow
//! canary. Latency criteria then have to show their excess in at least three separate blocks of 10 s. The guard only withholds
//! an alarm, so that no guarantee is lost; it is a rule of thumb and promises nothing about private bursts.

use serde::{Deserialize, Serialize};

use crate::exact;
use crate::ratio::Batch;

/// Length of a block in milliseconds.
const BLOCK_MS: u64 = 10_000;
/// Blocks with an excess that an alarm needs.
pub const LEAST_BLOCKS: u64 = 3;

/// Counts the blocks in which the canary had more than its share of the events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExcessBlocks {
    /// Number of the open block since the epoch of the caller's clock.
    block: u64,
    canary_events: u64,
    /// What an equal canary would have had in the open block.
    #[serde(with = "exact")]
    expected: f64,
    closed: u64,
}

impl ExcessBlocks {
    /// No blocks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the events of a batch at `at_ms`, a clock that does not run backwards. Batches at weight 0 or 1 are left out.
    pub fn add(&mut self, at_ms: u64, batch: Batch) {
        let block = at_ms / BLOCK_MS;
        if block > self.block {
            self.closed = self.blocks();
            *self = Self { block, closed: self.closed, ..Self::default() };
        }
        if batch.weight.is_split() {
            self.canary_events = self.canary_events.saturating_add(batch.canary_events);
            self.expected += batch.weight.get() * batch.events() as f64;
        }
    }

    /// Blocks with an excess so far, the open one included.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.closed.saturating_add(u64::from(self.canary_events as f64 > self.expected))
    }

    /// Whether the excess was seen in at least three blocks.
    #[must_use]
    pub fn enough(&self) -> bool {
        self.blocks() >= LEAST_BLOCKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Share;

    fn batch(canary_events: u64, stable_events: u64) -> Batch {
        Batch { canary_events, stable_events, weight: Share::new(0.05).unwrap() }
    }

    #[test]
    fn one_pause_is_one_block_however_many_requests_it_held() {
        let mut blocks = ExcessBlocks::new();
        for tick in 0..100 {
            blocks.add(20_000 + tick * 50, batch(10, 0));
        }
        assert_eq!((blocks.blocks(), blocks.enough()), (1, false));
        for at_ms in [30_000, 40_000, 59_999] {
            blocks.add(at_ms, batch(1, 19));
        }
        assert_eq!(blocks.blocks(), 1);
        blocks.add(60_000, batch(2, 19));
        blocks.add(75_000, batch(1, 0));
        assert!(blocks.enough());
    }
}
