//! The clock of a run, which is that of runs on one machine, and its times as Kubernetes writes them.

use serin_core::Timestamp;

pub(super) use serin_engine::run::RunClock as Clock;

/// As RFC 3339, in whole seconds.
pub(super) fn rfc3339(at: Timestamp) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(ms / 1_000).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// The time that a new engine begins at.
pub(crate) fn now(not_before: Timestamp) -> Timestamp {
    Clock::start(not_before).now()
}
