//! GrowthBook's sequential test: the asymptotic confidence sequence of the difference of means (ANALYSIS 1.5), one-sided, every 10 s.
//!
//! `half width = sqrt(s2) sqrt(2 (n rho^2 + 1)/(n rho)^2 ln(1 + sqrt(n rho^2 + 1)/(2 alpha)))`, tuned for `n* = 5000`. `s2/n` is the
//! plugged-in variance of the difference. Without any variance there is no result.

use serin_stats::ArmCounts;

use super::Rule;
use super::window::error_rate;
use crate::traffic::Second;

/// Sample size that the boundary is tuned for (the tool's default).
const TUNED_FOR: f64 = 5_000.0;

/// The rule on all data since the start.
#[derive(Debug, Clone)]
pub(crate) struct GrowthBook {
    alpha: f64,
    canary: ArmCounts,
    stable: ArmCounts,
}

impl GrowthBook {
    /// At this one-sided level.
    pub(crate) fn new(alpha: f64) -> Self {
        Self { alpha, canary: ArmCounts::default(), stable: ArmCounts::default() }
    }
}

impl Rule for GrowthBook {
    fn observe(&mut self, second: &Second<'_>) -> Option<f64> {
        self.canary.add(second.canary);
        self.stable.add(second.stable);
        let due = second.end_s.is_multiple_of(10) && lower_end(self.canary, self.stable, self.alpha)? > 0.0;
        due.then(|| f64::from(second.end_s))
    }
}

/// Lower end of the difference; `None` while there is no variance to plug in.
fn lower_end(canary: ArmCounts, stable: ArmCounts, alpha: f64) -> Option<f64> {
    let (p, q) = (error_rate(canary)?, error_rate(stable)?);
    let n = (canary.requests + stable.requests) as f64;
    let variance = p * (1.0 - p) / canary.requests as f64 + q * (1.0 - q) / stable.requests as f64;
    (variance > 0.0).then(|| p - q - half_width(variance * n, n, alpha))
}

fn half_width(s2: f64, n: f64, alpha: f64) -> f64 {
    // One-sided at alpha is tuned like two-sided at 2 alpha.
    let tuned = (2.0 * alpha).ln();
    let rho = ((-2.0 * tuned + (1.0 - 2.0 * tuned).ln()) / TUNED_FOR).sqrt();
    let spread = n * rho * rho + 1.0;
    (s2 * 2.0 * spread / (n * rho).powi(2) * (1.0 + spread.sqrt() / (2.0 * alpha)).ln()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::window::tests::decision;

    #[test]
    fn the_width_is_that_of_the_formula() {
        // n = n* = 5000, alpha = 0.01: rho^2 = (7.824 + ln 8.824)/5000 = 0.0020004, spread = 11.002, sqrt = 3.3169,
        // 2 * 11.002 / (5000^2 * 0.0020004) * ln(1 + 165.85) = 4.3999e-4 * 5.1171 = 2.2515e-3.
        assert!((half_width(1.0, 5_000.0, 0.01) - 2.2515e-3_f64.sqrt()).abs() < 1e-5);
    }

    #[test]
    fn it_decides_on_clear_differences_and_not_without_variance() {
        assert_eq!(decision(&mut GrowthBook::new(0.01), |_| (5, 5, 95, 1)), Some(10.0));
        assert_eq!(decision(&mut GrowthBook::new(0.01), |_| (5, 5, 95, 0)), None);
        assert_eq!(decision(&mut GrowthBook::new(0.01), |start_s| (5, u64::from(start_s % 20 == 0), 95, 1)), None);
    }
}
