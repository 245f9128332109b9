//! The clock of a run: the time of day when it began, carried on by the monotonic clock, and never before what the last owner saw.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serin_core::Timestamp;

#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    began_at: Timestamp,
    began: Instant,
}

impl Clock {
    pub(super) fn start(not_before: Timestamp) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX));
        Self { began_at: wall.max(not_before), began: Instant::now() }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.began_at.plus_ms(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// As RFC 3339, in whole seconds.
pub(super) fn rfc3339(at: Timestamp) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(ms / 1_000).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
