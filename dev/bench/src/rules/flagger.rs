//! Flagger: canary metrics against fixed limits at every tick (ANALYSIS 1.1).
//!
//! Failed checks add up over the whole analysis and are never forgotten. The rollback is decided at the START of a later tick, before
//! its own check: five failures of 60 s are a rollback at 360 s at best. No traffic is a failed check.

use super::Rule;
use super::window::{Window, error_rate};
use crate::traffic::Second;

/// The rule for the success rate.
#[derive(Debug, Clone)]
pub(crate) struct Flagger {
    window: Window,
    checks: FailedChecks,
    most_errors: f64,
}

impl Flagger {
    /// Checks every `interval_s` over a window of 60 s; rolls back after `threshold` failed checks.
    pub(crate) fn new(interval_s: u32, threshold: u32, most_errors: f64) -> Self {
        Self { window: Window::new(60, interval_s), checks: FailedChecks::new(threshold), most_errors }
    }
}

impl Rule for Flagger {
    fn observe(&mut self, second: &Second<'_>) -> Option<f64> {
        let [canary, _] = self.window.add(second)?;
        let failed = error_rate(canary).is_none_or(|rate| rate > self.most_errors);
        self.checks.tick(failed).then(|| f64::from(second.end_s))
    }
}

/// Flagger's cumulative count, shared with its latency check.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedChecks {
    failed: u32,
    threshold: u32,
}

impl FailedChecks {
    /// None so far.
    pub(super) fn new(threshold: u32) -> Self {
        Self { failed: 0, threshold }
    }

    /// One tick: whether earlier checks make it a rollback; otherwise the outcome of this tick's check is counted.
    pub(super) fn tick(&mut self, failed: bool) -> bool {
        if self.failed >= self.threshold {
            return true;
        }
        self.failed += u32::from(failed);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::window::tests::decision;

    #[test]
    fn five_failures_of_a_minute_are_a_rollback_at_the_sixth_tick() {
        assert_eq!(decision(&mut Flagger::new(60, 5, 0.01), |_| (10, 10, 190, 0)), Some(360.0));
        assert_eq!(decision(&mut Flagger::new(10, 1, 0.01), |_| (10, 10, 190, 0)), Some(20.0));
    }

    #[test]
    fn failures_add_up_over_good_checks_in_between() {
        let every_other_minute = |start_s: u32| (100, if (start_s / 60).is_multiple_of(2) { 2 } else { 1 }, 1_900, 0);
        assert_eq!(decision(&mut Flagger::new(60, 5, 0.01), every_other_minute), Some(600.0));
    }

    #[test]
    fn exactly_at_the_limit_is_good_and_no_traffic_is_not() {
        assert_eq!(decision(&mut Flagger::new(60, 5, 0.01), |_| (100, 1, 1_900, 0)), None);
        assert_eq!(decision(&mut Flagger::new(60, 5, 0.01), |_| (0, 0, 2_000, 0)), Some(360.0));
    }
}
