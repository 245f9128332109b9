//! Comparisons that people write by hand: a ratio at every check, and a test made for one look that is looked at again and again.

use serin_stats::ArmCounts;

use super::Rule;
use super::window::{Window, error_rate};
use crate::traffic::Second;

/// Rolls back at the first check at which the canary has more than 1.5 times stable's error rate, or more than 5 %.
#[derive(Debug, Clone)]
pub(crate) struct SeedCheck {
    window: Window,
}

impl SeedCheck {
    /// Checks every `interval_s` over the time since the last check. No traffic decides nothing.
    pub(crate) fn new(interval_s: u32) -> Self {
        Self { window: Window::new(interval_s, interval_s) }
    }
}

impl Rule for SeedCheck {
    fn observe(&mut self, second: &Second<'_>) -> Option<f64> {
        let [canary, stable] = self.window.add(second)?;
        let (canary, stable) = (error_rate(canary)?, error_rate(stable)?);
        (canary > 1.5 * stable || canary > 0.05).then(|| f64::from(second.end_s))
    }
}

/// The pooled two-proportion z test at 1 %, on all data since the start, every 10 s.
#[derive(Debug, Clone, Default)]
pub(crate) struct PooledZ {
    canary: ArmCounts,
    stable: ArmCounts,
}

impl Rule for PooledZ {
    fn observe(&mut self, second: &Second<'_>) -> Option<f64> {
        self.canary.add(second.canary);
        self.stable.add(second.stable);
        let due = second.end_s.is_multiple_of(10) && pooled_z(self.canary, self.stable)? > 2.326;
        due.then(|| f64::from(second.end_s))
    }
}

/// `None` without requests or without errors.
fn pooled_z(canary: ArmCounts, stable: ArmCounts) -> Option<f64> {
    let (n, m) = (canary.requests as f64, stable.requests as f64);
    let pooled = (canary.events + stable.events) as f64 / (n + m);
    let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
    let difference = error_rate(canary)? - error_rate(stable)?;
    (variance > 0.0).then(|| difference / variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::window::tests::decision;

    #[test]
    fn one_canary_error_beside_a_clean_stable_is_enough() {
        assert_eq!(decision(&mut SeedCheck::new(60), |start_s| (5, u64::from(start_s == 70), 95, 0)), Some(120.0));
        assert_eq!(decision(&mut SeedCheck::new(300), |start_s| (5, u64::from(start_s == 70), 95, 0)), Some(300.0));
        assert_eq!(decision(&mut SeedCheck::new(60), |_| (100, 3, 1_900, 38)), None);
        assert_eq!(decision(&mut SeedCheck::new(60), |_| (100, 6, 1_900, 190)), Some(60.0));
    }

    #[test]
    fn z_is_the_textbook_one() {
        let counts = |requests, events| ArmCounts { requests, events };
        // 30/1000 against 20/1000: 0.01 / sqrt(0.025 * 0.975 * 0.002).
        assert!((pooled_z(counts(1_000, 30), counts(1_000, 20)).unwrap() - 1.432_2).abs() < 1e-3);
        assert_eq!(pooled_z(counts(0, 0), counts(10, 1)), None);
        assert_eq!(decision(&mut PooledZ::default(), |_| (10, 10, 190, 0)), Some(10.0));
    }
}
