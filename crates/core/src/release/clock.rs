//! The time that counts towards a stage or bake.
//!
//! It starts with the proof of the weight. It stands still while the release is paused and while a router is not proven to
//! do what it was asked, and it leaves out the time between two owners, when nobody watched.

use super::{Phase, StageStep, State};
use crate::Timestamp;

impl State {
    /// How long the current stage or bake has been held, in milliseconds: without pauses, without gaps between owners, and
    /// without the time during which a router did something else than asked.
    #[must_use]
    pub fn held_ms(&self, now: Timestamp) -> u64 {
        let (since, excluded_ms) = match self.phase {
            Phase::Stage { at: StageStep::Observing { since, excluded_ms, .. }, .. } | Phase::Baking { since, excluded_ms, .. } => {
                (since, excluded_ms)
            }
            _ => return 0,
        };
        let stopped_ms = self.stopped_since.map_or(0, |stopped| now.ms_since(stopped.max(since)));
        now.ms_since(since).saturating_sub(excluded_ms).saturating_sub(stopped_ms)
    }

    /// Stops the clock of a stage or bake while it does not count, and starts it again.
    pub(super) fn keep_clock(&mut self, now: Timestamp) {
        let counts = self.paused.is_none() && self.all_proven();
        match self.stopped_since {
            None if !counts => self.stopped_since = Some(now),
            Some(stopped) if counts => {
                self.stopped_since = None;
                if let Some((since, excluded_ms)) = self.clock() {
                    *excluded_ms = excluded_ms.saturating_add(now.ms_since(stopped.max(since)));
                }
            }
            _ => {}
        }
    }

    /// Nobody watched for `ms`: whatever waits for something to be seen waits that much longer.
    pub(super) fn skip(&mut self, ms: u64, now: Timestamp) {
        if let Phase::Deploying { since } | Phase::Retreated { since, .. } = &mut self.phase {
            *since = since.plus_ms(ms).min(now);
        }
        // A stopped clock leaves the gap out already.
        if self.stopped_since.is_none()
            && let Some((_, excluded_ms)) = self.clock()
        {
            *excluded_ms = excluded_ms.saturating_add(ms);
        }
    }

    /// Start and excluded time of the running stage or bake.
    fn clock(&mut self) -> Option<(Timestamp, &mut u64)> {
        match &mut self.phase {
            Phase::Stage { at: StageStep::Observing { since, excluded_ms, .. }, .. } | Phase::Baking { since, excluded_ms, .. } => {
                Some((*since, excluded_ms))
            }
            _ => None,
        }
    }
}
