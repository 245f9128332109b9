//! The clock that the control process reads. True time only moves forwards; this one also jumps, goes back and stands still.

use serin_core::Timestamp;

/// What the clock shows when true time begins: far enough from zero to be set back.
const START_MS: u64 = 1_700_000_000_000;

#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead_ms: u64,
    behind_ms: u64,
    frozen: Option<u64>,
    highest: u64,
}

impl Clock {
    pub(super) fn read(&mut self, true_ms: u64) -> Timestamp {
        let shown = self.frozen.unwrap_or((START_MS + true_ms + self.ahead_ms).saturating_sub(self.behind_ms));
        self.highest = self.highest.max(shown);
        Timestamp(shown)
    }

    pub(super) fn jump_ahead(&mut self, ms: u64) {
        self.ahead_ms += ms;
        if let Some(frozen) = &mut self.frozen {
            *frozen += ms;
        }
    }

    pub(super) fn jump_back(&mut self, ms: u64) {
        self.behind_ms += ms;
        if let Some(frozen) = &mut self.frozen {
            *frozen = frozen.saturating_sub(ms);
        }
    }

    pub(super) fn freeze(&mut self, true_ms: u64) {
        let shown = self.read(true_ms).0;
        self.frozen.get_or_insert(shown);
    }

    /// Goes on from where it stands, or from where it would be.
    pub(super) fn thaw(&mut self, true_ms: u64, catches_up: bool) {
        let Some(frozen) = self.frozen.take() else { return };
        let free = self.read(true_ms).0;
        if !catches_up {
            self.behind_ms += free.saturating_sub(frozen);
            self.ahead_ms += frozen.saturating_sub(free);
        }
    }

    /// A process that starts knows when the last entry was written, and begins no earlier.
    pub(super) fn start_at_least(&mut self, true_ms: u64, at: Timestamp) {
        let shown = self.read(true_ms).0;
        self.jump_ahead(at.0.saturating_sub(shown));
        self.highest = shown.max(at.0);
    }

    /// Whether time goes on for somebody who never lets it run backwards.
    pub(super) fn runs(&mut self, true_ms: u64) -> bool {
        self.frozen.is_none() && self.read(true_ms).0 >= self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_and_stands() {
        let mut clock = Clock::default();
        let start = clock.read(0).0;
        clock.jump_ahead(500);
        assert_eq!(clock.read(10).0, start + 510);
        clock.jump_back(400);
        assert!(!clock.runs(20) && clock.runs(410));
        clock.freeze(500);
        let frozen = clock.read(600);
        assert!(!clock.runs(700));
        clock.thaw(700, false);
        assert_eq!(clock.read(700), frozen);
    }
}
