//! The time that counts towards a stage or a bake, counted anew from entries alone.
//!
//! It begins with the proof of the weight, and stands still while the release is paused, while a router is not proven, and
//! while nobody owned the release.

use serin_core::Timestamp;

/// The clock of the current stage or bake.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StageTime {
    counted_ms: u64,
    is_counting: bool,
    last: Timestamp,
    /// When the policies for undecided stages act, by this clock.
    pub(super) patience_ms: u64,
    /// When it began.
    pub(super) since: Option<Timestamp>,
}

impl StageTime {
    /// The stage's weight was proven for the first time.
    pub(super) fn begin(&mut self, at: Timestamp, patience_ms: u64) {
        *self = Self { counted_ms: 0, is_counting: false, last: at, patience_ms, since: Some(at) };
    }

    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_running(&self) -> bool {
        self.since.is_some() && self.is_counting
    }

    /// Moves on to an entry; `gap_ms` before it nobody owned the release.
    pub(super) fn move_on(&mut self, at: Timestamp, gap_ms: u64) {
        if self.is_counting {
            self.counted_ms += at.ms_since(self.last).saturating_sub(gap_ms);
        }
        self.last = self.last.max(at);
    }

    /// After an entry: whether time counts from here on.
    pub(super) fn count(&mut self, counts: bool) {
        self.is_counting = counts && self.since.is_some();
    }

    /// What has counted by now, in milliseconds.
    pub(super) fn counted_ms(&self, now: Timestamp) -> u64 {
        self.counted_ms + if self.is_counting { now.ms_since(self.last) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_and_gaps_do_not_count() {
        let mut time = StageTime::default();
        time.begin(Timestamp(1_000), 9_000);
        time.count(true);
        time.move_on(Timestamp(3_000), 0);
        time.count(false);
        time.move_on(Timestamp(10_000), 0);
        time.count(true);
        time.move_on(Timestamp(15_000), 4_000);
        assert_eq!(time.counted_ms(Timestamp(15_500)), 2_000 + 1_000 + 500);
    }
}
