//! When keepers repeat counters that did not change: all of a process in the same moments, so that hundreds of services wake it four times a
//! second and not each of them at a time of its own.

use std::{sync::LazyLock, time::Duration};

use tokio::time::Instant;

/// How often counters that did not change are given again.
const REPEAT_EVERY: Duration = Duration::from_millis(250);

/// The first common moment for repeats that is not much sooner than [`REPEAT_EVERY`] after `now`: half of it to one and a half.
pub(super) fn next_beat(now: Instant) -> Instant {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let beats = (now.saturating_duration_since(*FIRST) + REPEAT_EVERY / 2).as_millis() / REPEAT_EVERY.as_millis();
    // Enough for 30 years.
    *FIRST + REPEAT_EVERY * (u32::try_from(beats).unwrap_or(u32::MAX - 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_of_all_keepers_fall_together() {
        let start = Instant::now() + Duration::from_secs(3);
        let beat = next_beat(start);
        for ms in 0..600 {
            let now = start + Duration::from_millis(ms);
            let next = next_beat(now);
            assert!(next >= now + REPEAT_EVERY / 2 && next <= now + REPEAT_EVERY * 3 / 2 + Duration::from_millis(1), "{ms}");
            assert_eq!(next.duration_since(beat).as_millis() % REPEAT_EVERY.as_millis(), 0, "{ms}");
        }
    }
}
