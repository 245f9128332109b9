//! Checks of the P99 by minute, as people set them up in other tools: the quantile of every request of the minute, to 1.6 %.

use serin_stats::Histogram;

use super::LatencyRule;
use super::flagger::FailedChecks;
use super::kayenta::is_high;
use crate::latency::LatencySecond;

/// What the canary's P99 is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum LatencyLimit {
    /// Microseconds.
    Absolute(f64),
    /// So many times stable's P99 of the same minute.
    Relative(f64),
}

impl LatencyLimit {
    /// Whether the minute is over the limit; a minute without requests is.
    fn is_exceeded(self, canary: &Histogram, stable: &Histogram) -> bool {
        let limit_us = match self {
            Self::Absolute(limit_us) => Some(limit_us),
            Self::Relative(factor) => stable.quantile_us(0.99).map(|p99_us| factor * p99_us),
        };
        canary.quantile_us(0.99).zip(limit_us).is_none_or(|(p99_us, limit_us)| p99_us > limit_us)
    }
}

/// Flagger's way to decide on a check per minute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LatencyCheck {
    limit: LatencyLimit,
    checks: Option<FailedChecks>,
}

impl LatencyCheck {
    /// Rolls back at the start of the tick after `threshold` failed checks.
    pub(crate) fn flagger(threshold: u32, limit: LatencyLimit) -> Self {
        Self { limit, checks: Some(FailedChecks::new(threshold)) }
    }

    /// Rolls back at the first failed check.
    pub(crate) fn at_once(limit: LatencyLimit) -> Self {
        Self { limit, checks: None }
    }
}

impl LatencyRule for LatencyCheck {
    fn observe(&mut self, second: &LatencySecond<'_>) -> Option<f64> {
        let minute = second.minute?;
        let failed = self.limit.is_exceeded(&minute.canary, &minute.stable);
        let decided = match &mut self.checks {
            Some(checks) => checks.tick(failed),
            None => failed,
        };
        decided.then(|| f64::from(second.end_s))
    }
}

/// Kayenta's judge on the P99 by minute, every 5 minutes, against a baseline of the canary's size.
#[derive(Debug, Clone, Default)]
pub(crate) struct LatencyKayenta {
    series: [Vec<f64>; 2],
}

impl LatencyRule for LatencyKayenta {
    fn observe(&mut self, second: &LatencySecond<'_>) -> Option<f64> {
        let minute = second.minute?;
        for (series, histogram) in self.series.iter_mut().zip([&minute.canary, &minute.baseline]) {
            // In milliseconds, as it would be stored.
            series.push(histogram.quantile_us(0.99).map_or(f64::NAN, |p99_us| p99_us / 1_000.0));
        }
        let due = second.end_s.is_multiple_of(300) && is_high(&self.series);
        due.then(|| f64::from(second.end_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(latency_us: u64) -> Histogram {
        let mut histogram = Histogram::new();
        histogram.add(serin_stats::bin_of_us(latency_us), 100);
        histogram
    }

    #[test]
    fn limits_are_absolute_or_relative_and_silence_exceeds_them() {
        for (limit, canary_us, stable_us, exceeded) in [
            (LatencyLimit::Absolute(500_000.0), 600_000, 600_000, true),
            (LatencyLimit::Absolute(500_000.0), 400_000, 100_000, false),
            (LatencyLimit::Relative(1.2), 400_000, 100_000, true),
            (LatencyLimit::Relative(1.2), 100_000, 100_000, false),
        ] {
            assert_eq!(limit.is_exceeded(&of(canary_us), &of(stable_us)), exceeded, "{limit:?}");
        }
        assert!(LatencyLimit::Absolute(1.0).is_exceeded(&Histogram::new(), &of(1)));
    }
}
