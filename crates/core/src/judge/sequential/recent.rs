//! The last minute of one arm, for the question whether it breaks a limit right now.

use serde::{Deserialize, Serialize};
use serin_stats::ArmCounts;

use crate::Timestamp;

/// Length of a slot in milliseconds, and how many are kept: a minute.
const SLOT_MS: u64 = 5_000;
const SLOTS: usize = 12;
/// Fewer requests say nothing.
const LEAST_REQUESTS: u64 = 20;
/// So few events are chance.
const LEAST_EVENTS: u64 = 2;

/// Counts of the last minute, in slots of five seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Recent {
    /// Newest last.
    slots: Vec<(u64, ArmCounts)>,
}

impl Recent {
    pub(super) fn add(&mut self, at: Timestamp, counts: ArmCounts) {
        let slot = at.0 / SLOT_MS;
        match self.slots.last_mut() {
            Some((last, sum)) if *last >= slot => sum.add(counts),
            _ => self.slots.push((slot, counts)),
        }
        self.slots.retain(|(old, _)| old + SLOTS as u64 > slot);
    }

    /// Whether the rate lies above `limit` over the last five seconds, ten seconds, … up to the last minute: trouble that has
    /// just begun shows in the shortest, trouble that is rare in the longest.
    pub(super) fn breaks(&self, limit: f64) -> bool {
        let mut sum = ArmCounts::default();
        self.slots.iter().rev().any(|(_, counts)| {
            sum.add(*counts);
            sum.events >= LEAST_EVENTS && sum.events as f64 > limit * sum.requests as f64
        })
    }

    /// Whether the rate of all that is remembered keeps `limit`; `None` with fewer than 20 requests.
    pub(super) fn keeps(&self, limit: f64) -> Option<bool> {
        let sum = self.total();
        (sum.requests >= LEAST_REQUESTS).then_some(sum.events as f64 <= limit * sum.requests as f64)
    }

    /// All that is remembered.
    pub(super) fn total(&self) -> ArmCounts {
        let mut sum = ArmCounts::default();
        self.slots.iter().for_each(|(_, counts)| sum.add(*counts));
        sum
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }
}
