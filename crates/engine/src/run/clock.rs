//! The shell's clock: the time of day when the process began, carried on by the monotonic clock. A step of the system's
//! clock, a suspended laptop or a leap of NTP cannot lengthen or end a stage.

use std::time::Instant;

use serin_core::Timestamp;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct RunClock {
    began_at: Timestamp,
    began: Instant,
}

impl RunClock {
    /// A clock that starts now, and not before `not_before` (the last time that is known of the run).
    #[must_use]
    pub fn start(not_before: Timestamp) -> Self {
        Self { began_at: crate::process::now().max(not_before), began: Instant::now() }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.began_at.plus_ms(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
