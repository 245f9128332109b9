//! Argo Rollouts: a success condition at every measurement (ANALYSIS 1.2).
//!
//! Failed measurements add up; the run fails when they exceed `failureLimit`. Measurements are taken at the end of each window, so that
//! a limit of 3 at 5 minutes needs 20 minutes. No traffic makes the condition false.

use super::Rule;
use super::window::{Window, error_rate};
use crate::traffic::Second;

/// The rule for the success rate.
#[derive(Debug, Clone)]
pub(crate) struct Argo {
    window: Window,
    most_errors: f64,
    failed: u32,
    failure_limit: u32,
}

impl Argo {
    /// Measures every `interval_s` over the time since the last measurement.
    pub(crate) fn new(interval_s: u32, most_errors: f64, failure_limit: u32) -> Self {
        Self { window: Window::new(interval_s, interval_s), most_errors, failed: 0, failure_limit }
    }
}

impl Rule for Argo {
    fn observe(&mut self, second: &Second<'_>) -> Option<f64> {
        let [canary, _] = self.window.add(second)?;
        self.failed += u32::from(error_rate(canary).is_none_or(|rate| rate > self.most_errors));
        (self.failed > self.failure_limit).then(|| f64::from(second.end_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::window::tests::decision;

    #[test]
    fn a_limit_of_three_needs_four_failures() {
        assert_eq!(decision(&mut Argo::new(300, 0.05, 3), |_| (10, 10, 190, 0)), Some(1_200.0));
        assert_eq!(decision(&mut Argo::new(60, 0.01, 3), |_| (10, 10, 190, 0)), Some(240.0));
    }

    #[test]
    fn failures_need_not_be_in_a_row() {
        let every_third = |start_s: u32| (100, u64::from((start_s / 60).is_multiple_of(3)) * 5, 1_900, 0);
        assert_eq!(decision(&mut Argo::new(60, 0.01, 3), every_third), Some(600.0));
        assert_eq!(decision(&mut Argo::new(60, 0.01, 3), |_| (100, 1, 1_900, 0)), None);
    }
}
