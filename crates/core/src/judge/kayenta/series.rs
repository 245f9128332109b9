//! Time series of a stage: one value per metric, arm and step.
//!
//! Steps are counted from the beginning of the stage, and what was observed at the very end of a step belongs to it. A metric of
//! requests gets the value of the step's compared requests, one of processes the mean of what was measured. A value is missing
//! (NaN) if there was nothing to make it of, and so are those of steps without any observation. After such a gap the counts of
//! the gap belong to the step in which they were learned.
//!
//! Values are in the metric's own unit. The rank test does not depend on the scale.

use super::super::{
    reading::{gauge_value, traffic_value},
    slices::Slices,
};
use crate::{
    WeightBps,
    plan::{Metric, MetricSource},
    traffic::{Arm, ArmGauges, Counts},
};

/// Most values that are kept per metric and arm, the newest ones: a day of minutes.
pub(super) const MAX_VALUES: usize = 1_440;

/// The series of the metrics of one stage.
#[derive(Debug, Clone)]
pub(super) struct Series {
    step_ms: u64,
    weight: WeightBps,
    lines: Vec<Line>,
    /// Number of the step that is being filled, from 0.
    step: u64,
    counts: [Counts; 2],
    is_observed: bool,
}

/// One metric.
#[derive(Debug, Clone)]
struct Line {
    metric: Metric,
    /// Finished steps by [`Arm::index`].
    values: [Vec<f64>; 2],
    /// What processes showed in the step that is being filled, by [`Arm::index`].
    gauges: [Mean; 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Series {
    /// Empty series of a stage at this weight.
    pub(super) fn new(step_ms: u64, weight: WeightBps, metrics: impl Iterator<Item = Metric>) -> Self {
        let lines = metrics.map(|metric| Line { metric, values: Default::default(), gauges: Default::default() }).collect();
        Self { step_ms: step_ms.max(1), weight, lines, step: 0, counts: Default::default(), is_observed: false }
    }

    /// Takes in what was observed `elapsed_ms` after the stage began.
    pub(super) fn add(&mut self, elapsed_ms: u64, slices: &Slices, gauges: &[ArmGauges; 2]) {
        let step = elapsed_ms.saturating_sub(1) / self.step_ms;
        if step > self.step {
            self.finish_step();
            let missed = step.saturating_sub(self.step);
            (0..missed.min(MAX_VALUES as u64)).for_each(|_| self.finish_step());
            self.step = step;
        }
        self.is_observed = true;
        for arm in Arm::BOTH {
            self.counts[arm.index()].merge(slices.compared(arm));
            for line in &mut self.lines {
                if let Some(value) = gauge_value(line.metric, &gauges[arm.index()]) {
                    line.gauges[arm.index()].add(value);
                }
            }
        }
        if elapsed_ms >= self.step_ms.saturating_mul(self.step.saturating_add(1)) {
            self.finish_step();
        }
    }

    /// The newest finished steps of the metric at this place, oldest first; NaN where nothing was seen.
    pub(super) fn values(&self, line: usize, arm: Arm) -> &[f64] {
        self.lines.get(line).map_or(&[], |line| &line.values[arm.index()])
    }

    fn finish_step(&mut self) {
        let covered_s = self.is_observed.then_some(self.step_ms as f64 / 1000.0);
        for arm in Arm::BOTH {
            let counts = std::mem::take(&mut self.counts[arm.index()]);
            let part = match arm {
                Arm::Canary => self.weight.share(),
                Arm::Stable => 1.0 - self.weight.share(),
            };
            for line in &mut self.lines {
                let value = match line.metric {
                    metric if metric.source() == MetricSource::Processes => line.gauges[arm.index()].take(),
                    // Rates are compared per share of traffic.
                    Metric::RequestRate => traffic_value(line.metric, &counts, covered_s).map(|rate| rate / part),
                    metric => traffic_value(metric, &counts, covered_s),
                };
                let values = &mut line.values[arm.index()];
                values.push(value.filter(|value| value.is_finite()).unwrap_or(f64::NAN));
                let surplus = values.len().saturating_sub(MAX_VALUES);
                values.drain(..surplus);
            }
        }
        self.step = self.step.saturating_add(1);
        self.is_observed = false;
    }
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count = self.count.saturating_add(1);
    }

    fn take(&mut self) -> Option<f64> {
        let Self { sum, count } = std::mem::take(self);
        (count > 0).then(|| sum / f64::from(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Timestamp,
        traffic::{Assignment, Observation, Outcome, TrafficCell},
    };

    const METRICS: [Metric; 3] = [Metric::ErrorRate, Metric::RequestRate, Metric::Cpu];

    fn series() -> Series {
        Series::new(1_000, WeightBps::new(2_000).unwrap(), METRICS.into_iter())
    }

    /// Takes in requests and errors of the canary with its use of CPU.
    fn add(series: &mut Series, elapsed_ms: u64, assignment: Assignment, (requests, errors): (u64, u64), cpu: f64) {
        let mut counts = Counts::default();
        counts.by_outcome[Outcome::Success.index()] = requests - errors;
        counts.by_outcome[Outcome::Timeout.index()] = errors;
        let cell = TrafficCell { weight: WeightBps::ZERO, arm: Arm::Canary, assignment, counts, sessions: None };
        let observation = Observation { at: Timestamp(elapsed_ms), cells: vec![cell], ..Observation::default() };
        let gauge = ArmGauges { cpu_percent: Some(cpu), ..ArmGauges::default() };
        series.add(elapsed_ms, &Slices::of(&observation), &[ArmGauges::default(), gauge]);
    }

    /// The canary's values, `None` for missing ones.
    fn canary(series: &Series, metric: Metric) -> Vec<Option<f64>> {
        let line = METRICS.iter().position(|one| *one == metric).unwrap();
        series.values(line, Arm::Canary).iter().map(|value| Some(*value).filter(|value| !value.is_nan())).collect()
    }

    #[test]
    fn a_step_holds_what_was_seen_up_to_its_end() {
        let mut series = series();
        for (elapsed_ms, seen, cpu) in [(0, (10, 0), 10.0), (500, (10, 1), 20.0), (1_000, (20, 1), 60.0), (1_001, (7, 7), 99.0)] {
            add(&mut series, elapsed_ms, Assignment::Random, seen, cpu);
        }
        assert_eq!(canary(&series, Metric::ErrorRate), [Some(0.05)]);
        // 40 per second at a fifth of the traffic.
        assert_eq!(canary(&series, Metric::RequestRate), [Some(200.0)]);
        assert_eq!(canary(&series, Metric::Cpu), [Some(30.0)]);
        assert!(series.values(0, Arm::Stable)[0].is_nan() && series.values(2, Arm::Stable)[0].is_nan());
    }

    #[test]
    fn steps_without_requests_or_observations_have_no_value() {
        let mut series = series();
        add(&mut series, 0, Assignment::Random, (10, 1), 1.0);
        add(&mut series, 1_500, Assignment::Random, (0, 0), f64::NAN);
        add(&mut series, 4_500, Assignment::Random, (10, 2), 2.0);
        add(&mut series, 6_000, Assignment::Matched, (10, 10), 3.0);
        assert_eq!(canary(&series, Metric::ErrorRate), [Some(0.1), None, None, None, Some(0.2), None]);
        assert_eq!(canary(&series, Metric::RequestRate), [Some(50.0), Some(0.0), None, None, Some(50.0), Some(0.0)]);
        assert_eq!(canary(&series, Metric::Cpu), [Some(1.0), None, None, None, Some(2.0), Some(3.0)]);
    }

    #[test]
    fn only_the_newest_values_are_kept_also_after_a_gap_of_any_length() {
        let mut series = series();
        for elapsed_ms in (1..=2_000).map(|step| step * 1_000) {
            add(&mut series, elapsed_ms, Assignment::Random, (1, u64::from(elapsed_ms > 1_999_000)), 1.0);
        }
        let values = canary(&series, Metric::ErrorRate);
        assert_eq!((values.len(), values[MAX_VALUES - 2], values[MAX_VALUES - 1]), (MAX_VALUES, Some(0.0), Some(1.0)));
        add(&mut series, u64::MAX / 2, Assignment::Random, (1, 0), f64::MAX);
        assert!(canary(&series, Metric::ErrorRate).iter().all(Option::is_none));
        assert_eq!(series.values(0, Arm::Canary).len(), MAX_VALUES);
    }

    #[test]
    fn sums_beyond_all_bounds_are_missing() {
        let mut series = series();
        add(&mut series, 500, Assignment::Random, (u64::MAX, 0), f64::MAX);
        add(&mut series, 1_000, Assignment::Random, (u64::MAX, u64::MAX), f64::MAX);
        assert_eq!(canary(&series, Metric::Cpu), [None]);
        assert!(canary(&series, Metric::ErrorRate)[0].is_some_and(|share| (0.0..=1.0).contains(&share)));
    }
}
