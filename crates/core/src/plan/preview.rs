//! Looking at the canary before anybody is sent to it.

use serde::{Deserialize, Serialize};

/// A stage in which no request comes to the canary by weight or by a declared match: it is reached through an address of its own, and what comes
/// there is counted apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// What the shell asks the canary through that address, again and again. May be empty.
    pub checks: Vec<PreviewCheck>,
}

/// A request that the canary must answer as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewCheck {
    /// Its name in output; unique within the preview.
    pub name: String,
    /// Path and query of the GET.
    pub path: String,
    /// The status that is expected; `None`: 200 to 399.
    pub status: Option<u16>,
    /// From one answer to the next request, in milliseconds, at least 1.
    pub every_ms: u64,
    /// How long an answer may take, in milliseconds, at least 1.
    pub timeout_ms: u64,
    /// Successes in a row that the preview needs to pass, at least 1.
    pub successes: u32,
    /// Failures in a row that take the release back, at least 1.
    pub failures: u32,
}

impl PreviewCheck {
    /// The age from which on a result says nothing about now, in milliseconds: three were missed, and at least 5 s.
    #[must_use]
    pub fn stale_after_ms(&self) -> u64 {
        self.every_ms.saturating_add(self.timeout_ms).saturating_mul(3).max(5_000)
    }
}
