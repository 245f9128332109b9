//! When to restart, and when restarts are a crash loop. Pure: callers pass the time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serin_spec::validated::RestartPolicy;

/// Ready for this long, a replica counts as recovered: its next crash starts again with the shortest wait.
pub(super) const RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// Restart times remembered at most, whatever limit the document sets.
const MAX_REMEMBERED: usize = 10_000;

/// The restarts of one replica.
#[derive(Debug)]
pub(super) struct Restarts {
    policy: RestartPolicy,
    /// Times of the restarts within the window, oldest first.
    recent: VecDeque<Instant>,
    /// Crashes since the replica last recovered.
    streak: u32,
}

impl Restarts {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self { policy, recent: VecDeque::new(), streak: 0 }
    }

    /// How long to wait before the next start, after an exit of a replica that was ready for `ready_for`.
    pub(super) fn wait_after_exit(&mut self, ready_for: Option<Duration>) -> Duration {
        if ready_for.is_some_and(|time| time >= RECOVERED_AFTER) {
            self.streak = 0;
        }
        let factor = 1u64.checked_shl(self.streak).unwrap_or(u64::MAX);
        self.streak = self.streak.saturating_add(1);
        Duration::from_millis(self.policy.backoff_ms.saturating_mul(factor).min(self.policy.max_backoff_ms))
    }

    /// Counts a restart.
    pub(super) fn restarted(&mut self, now: Instant) {
        self.recent.push_back(now);
        if self.recent.len() > MAX_REMEMBERED {
            self.recent.pop_front();
        }
    }

    /// Restarts within the window that ends now.
    pub(super) fn recent(&mut self, now: Instant) -> u32 {
        let window = Duration::from_millis(self.policy.window_ms);
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > window) {
            self.recent.pop_front();
        }
        u32::try_from(self.recent.len()).unwrap_or(u32::MAX)
    }

    /// Whether that many recent restarts are a crash loop.
    pub(super) fn is_crash_loop(&self, recent: u32) -> bool {
        recent >= self.policy.limit.max(1)
    }

    /// The window in which restarts are counted, in milliseconds.
    pub(super) fn window_ms(&self) -> u64 {
        self.policy.window_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restarts() -> Restarts {
        Restarts::new(RestartPolicy { backoff_ms: 1_000, max_backoff_ms: 30_000, limit: 3, window_ms: 300_000 })
    }

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_starts_again_after_recovery() {
        let mut restarts = restarts();
        let unready: Vec<u64> = (0..7).map(|_| super::super::ms(restarts.wait_after_exit(None))).collect();
        assert_eq!(unready, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(restarts.wait_after_exit(Some(Duration::from_secs(59))), Duration::from_secs(30), "59 s is not recovered");
        assert_eq!(restarts.wait_after_exit(Some(Duration::from_secs(60))), Duration::from_secs(1));
        for _ in 0..200 {
            assert!(restarts.wait_after_exit(None) <= Duration::from_secs(30), "no overflow after many crashes");
        }
    }

    #[test]
    fn restarts_count_for_as_long_as_they_are_in_the_window() {
        let (mut restarts, start) = (restarts(), Instant::now());
        for seconds in [0, 100, 200] {
            restarts.restarted(start + Duration::from_secs(seconds));
        }
        for (seconds, expected) in [(200, 3), (300, 3), (301, 2), (401, 1), (501, 0)] {
            let recent = restarts.recent(start + Duration::from_secs(seconds));
            assert_eq!(recent, expected, "after {seconds} s");
            assert_eq!(restarts.is_crash_loop(recent), expected >= 3);
        }
    }
}
