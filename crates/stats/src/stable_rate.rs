//! Stable's rate of an event as known *before* the batch that is about to be scored (ANALYSIS 2.11, `ps_hat`).
//!
//! A quantity that depends on the batch it scores breaks every guarantee. Tests therefore keep their own past here, and add a
//! batch only after it has been scored. Traffic from before the release belongs in it.

use serde::{Deserialize, Serialize};

use crate::config::{ArmCounts, ConfigError, require_open_unit};
use crate::exact;

/// The rate that is assumed for a stable that has not been seen at all and for which nothing was declared.
pub const UNKNOWN_RATE: f64 = 0.001;

/// Counts of stable's past and the rate to assume without any.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StableRate {
    past: ArmCounts,
    #[serde(with = "exact")]
    expected: f64,
}

impl Default for StableRate {
    fn default() -> Self {
        Self { past: ArmCounts::default(), expected: UNKNOWN_RATE }
    }
}

impl StableRate {
    /// Nothing seen yet; `expected` is the declared rate, between 0 and 1.
    ///
    /// # Errors
    /// If `expected` is not strictly between 0 and 1.
    pub fn expecting(expected: f64) -> Result<Self, ConfigError> {
        Ok(Self { past: ArmCounts::default(), expected: require_open_unit("expected rate", expected)? })
    }

    /// `(K + 0.5)/(N + 1)` over the past; the expected rate if there is none. Never 0 or 1.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        if self.past.requests == 0 { self.expected } else { self.past.smoothed_rate() }
    }

    /// Adds what has already been scored, or was seen before the release.
    pub fn add(&mut self, counts: ArmCounts) {
        self.past.add(counts);
    }

    /// Requests of the past.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.past.requests
    }
}
