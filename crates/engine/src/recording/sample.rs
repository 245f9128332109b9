//! One sample, several put together, and what people see of them.

use serde::{Deserialize, Serialize};
use serin_core::{
    Timestamp, WeightBps,
    judge::Verdict,
    traffic::{Arm, Counts, by_arm},
};
use serin_stats::Histogram;

/// What was seen in a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When the span ended.
    pub at: Timestamp,
    /// How long it was, in milliseconds. Spans of neighbours do not overlap; between them nothing was seen.
    pub span_ms: u64,
    /// The canary's share that was asked for at its end.
    pub weight: WeightBps,
    /// Requests that the weight assigned in this span, by [`Arm::index`]: the measured split.
    pub by_weight: [u64; 2],
    /// All requests, by [`Arm::index`].
    pub arms: [ArmSample; 2],
    /// The lowest health score in this span, 0 to 100; absent without data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<u8>,
    /// Every criterion at the end of the span.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<CriterionSample>,
}

/// One version's requests in a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmSample {
    /// Requests that ended, without those whose client went away.
    pub requests: u64,
    /// Errors among them.
    pub errors: u64,
    /// Latencies of those without an error: bins of [`Histogram`] that are not empty, with their counts.
    pub latency: Vec<(usize, u64)>,
}

/// A criterion at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriterionSample {
    /// Its name.
    pub name: String,
    /// What the data said.
    pub verdict: Verdict,
    /// How close the canary was to failing, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<f64>,
}

/// What people see of a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When the span ended.
    pub at: Timestamp,
    /// How long it was, in milliseconds.
    pub span_ms: u64,
    /// The canary's share that was asked for at its end.
    pub weight: WeightBps,
    /// The canary's share of the requests that the weight assigned, 0 to 1; `None` without any.
    pub measured_share: Option<f64>,
    /// Both versions by [`Arm::index`].
    pub arms: [PointArm; 2],
    /// The lowest health score, 0 to 100.
    pub health: Option<u8>,
    /// Every criterion at the end of the span.
    pub criteria: Vec<CriterionSample>,
}

/// What people see of one version in a span of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PointArm {
    /// Requests that ended.
    pub requests: u64,
    /// Errors among them.
    pub errors: u64,
    /// Median latency in milliseconds.
    pub p50_ms: Option<f64>,
    /// 90 % were faster, in milliseconds.
    pub p90_ms: Option<f64>,
    /// 99 % were faster, in milliseconds.
    pub p99_ms: Option<f64>,
}

impl Sample {
    /// Puts the next sample to this one.
    pub(super) fn extend(&mut self, next: Self) {
        self.span_ms = next.at.ms_since(self.at).saturating_add(self.span_ms);
        (self.at, self.weight) = (next.at, next.weight);
        for (arm, more) in self.arms.iter_mut().zip(next.arms) {
            arm.requests = arm.requests.saturating_add(more.requests);
            arm.errors = arm.errors.saturating_add(more.errors);
            let mut sum = histogram(&arm.latency);
            more.latency.iter().for_each(|(bin, count)| sum.add(*bin, *count));
            arm.latency = sum.bins().collect();
        }
        for (mine, more) in self.by_weight.iter_mut().zip(next.by_weight) {
            *mine = mine.saturating_add(more);
        }
        self.health = self.health.into_iter().chain(next.health).min();
        self.criteria = next.criteria;
    }
}

impl ArmSample {
    pub(super) fn of(counts: &Counts) -> Self {
        Self { requests: counts.requests(), errors: counts.errors(), latency: counts.latency.bins().collect() }
    }
}

/// Samples being put together to a [`Point`]: what [`Sample::extend`] does, without making a list of bins at every step.
#[derive(Debug)]
pub(super) struct Sum {
    last: Sample,
    began: Timestamp,
    by_weight: [u64; 2],
    requests: [u64; 2],
    errors: [u64; 2],
    latency: [Histogram; 2],
    health: Option<u8>,
}

impl Sum {
    pub(super) fn new(first: Sample) -> Self {
        let began = Timestamp(first.at.0.saturating_sub(first.span_ms));
        let (none, latency) = ([0; 2], by_arm(|_| Histogram::new()));
        let mut sum = Self { last: first.clone(), began, by_weight: none, requests: none, errors: none, latency, health: None };
        sum.add(first);
        sum
    }

    pub(super) fn add(&mut self, sample: Sample) {
        for arm in [Arm::Stable, Arm::Canary].map(Arm::index) {
            let seen = &sample.arms[arm];
            self.by_weight[arm] = self.by_weight[arm].saturating_add(sample.by_weight[arm]);
            self.requests[arm] = self.requests[arm].saturating_add(seen.requests);
            self.errors[arm] = self.errors[arm].saturating_add(seen.errors);
            seen.latency.iter().for_each(|(bin, count)| self.latency[arm].add(*bin, *count));
        }
        self.health = self.health.into_iter().chain(sample.health).min();
        self.last = sample;
    }

    pub(super) fn point(self) -> Point {
        let Self { last, began, by_weight, requests, errors, latency, health } = self;
        let all = by_weight[0].saturating_add(by_weight[1]);
        let arms = by_arm(|arm| {
            let arm = arm.index();
            let ms = |q| latency[arm].quantile_us(q).map(|us| us / 1_000.0);
            PointArm { requests: requests[arm], errors: errors[arm], p50_ms: ms(0.5), p90_ms: ms(0.9), p99_ms: ms(0.99) }
        });
        Point {
            at: last.at,
            span_ms: last.at.ms_since(began),
            weight: last.weight,
            measured_share: (all > 0).then(|| by_weight[1] as f64 / all as f64),
            arms,
            health,
            criteria: last.criteria,
        }
    }
}

fn histogram(bins: &[(usize, u64)]) -> Histogram {
    let mut histogram = Histogram::new();
    bins.iter().for_each(|(bin, count)| histogram.add(*bin, *count));
    histogram
}

#[cfg(test)]
pub(super) mod tests {
    use serin_core::traffic::Outcome;

    use super::*;

    /// A second with so many requests of each version, of which so many of the canary's were errors.
    pub(crate) fn second(at: u64, requests: [u64; 2], errors: u64) -> Sample {
        let counts = by_arm(|arm| {
            let mut counts = Counts::default();
            let failed = if arm == Arm::Canary { errors } else { 0 };
            for number in 0..requests[arm.index()] {
                let outcome = if number < failed { Outcome::ServerError } else { Outcome::Success };
                counts.record(outcome, 1_000 * (number + 1));
            }
            counts
        });
        let weight = WeightBps::new(2_000).unwrap();
        let arms = counts.map(|counts| ArmSample::of(&counts));
        Sample { at: Timestamp(at), span_ms: 1_000, weight, by_weight: requests, arms, health: None, criteria: Vec::new() }
    }

    #[test]
    fn sums_and_quantiles_are_those_of_the_whole_span() {
        let all: Vec<_> = (1..=10).map(|number| second(number * 1_000, [90, 10], 1)).collect();
        let mut sum = Sum::new(all[0].clone());
        all[1..].iter().for_each(|sample| sum.add(sample.clone()));
        let point = sum.point();
        assert_eq!((point.at, point.span_ms), (Timestamp(10_000), 10_000));
        assert_eq!(point.measured_share, Some(0.1));
        assert_eq!(point.arms.each_ref().map(|arm| (arm.requests, arm.errors)), [(900, 0), (100, 10)]);
        let p50 = point.arms[0].p50_ms.unwrap();
        assert!((44.0..47.0).contains(&p50), "{p50}");

        // Whichever way they are put together.
        let mut extended = all[0].clone();
        all[1..].iter().for_each(|sample| extended.extend(sample.clone()));
        assert_eq!(Sum::new(extended).point(), point);
    }

    #[test]
    fn the_lowest_health_of_a_span_is_told() {
        let healths = [None, Some(90), Some(40), Some(100)];
        let mut samples = healths.iter().enumerate().map(|(at, health)| Sample { health: *health, ..second(at as u64, [1, 1], 0) });
        let mut sum = Sum::new(samples.next().unwrap());
        samples.for_each(|sample| sum.add(sample));
        assert_eq!(sum.point().health, Some(40));
        assert_eq!(Sum::new(second(1, [0, 0], 0)).point().measured_share, None);
    }
}
