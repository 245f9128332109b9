//! Latency against stable: how often a quantile of stable is exceeded. Rough, since nothing is known of stable's latencies.

use serin_stats::{RatioMode, Share, information, normal_quantile};

use super::{
    Fault, GoodCanary, OVERHEAD_NATS, Pass, Setting, TestForecast,
    information::{difference_gain, normal_tail, ratio_gain},
    members::{Limits, Member},
};
use crate::plan::{Metric, Quantile};

/// Slowdowns that are looked at.
const SLOWDOWNS: [f64; 3] = [1.5, 2.0, 5.0];
/// Standard deviation of ln(latency): P99 is 6.4 times the median.
const SPREAD: f64 = 0.8;
/// Nothing exceeds an edge more often than this.
const HIGHEST_RATE: f64 = 0.98;
/// A passing canary is not expected to be rarer beyond the tolerance than this part of stable.
const LOWEST_PASS_RATIO: f64 = 0.02;
/// The smallest slowdown that is bet on, beyond the tolerance.
const SMALLEST_STEP: f64 = 1.2;

pub(super) fn of(blank: TestForecast, limits: &Limits, member: &Member<'_>, setting: &Setting) -> TestForecast {
    let Some(tolerance) = limits.ratio.filter(|ratio| *ratio > 1.0) else {
        let unforeseen = "depends on stable's latency, which is not known before the release".to_owned();
        return TestForecast { unforeseen: Some(unforeseen), ..blank };
    };
    let quantiles: &[Quantile] = match &member.metric {
        Metric::Latency(quantile) => std::slice::from_ref(quantile),
        _ => &[Quantile::P50, Quantile::P90, Quantile::P99],
    };
    let threshold = threshold(member);
    let needs = |times: f64| {
        let gains = quantiles.iter().map(|quantile| gain(*quantile, times, tolerance, member.mode, setting.weight));
        let best = gains.fold(0.0, f64::max);
        Fault { times, needs: (best > 0.0).then(|| setting.estimate((threshold + OVERHEAD_NATS) / best)) }
    };
    let to_pass = quantiles.iter().map(|quantile| requests_to_pass(*quantile, tolerance, setting)).fold(0.0, f64::max);
    TestForecast {
        faults: SLOWDOWNS.into_iter().map(needs).collect(),
        least_failures: serin_stats::least_failures(setting.weight, threshold).ok().flatten(),
        passes: vec![Pass { canary: GoodCanary::Equal, needs: setting.estimate(to_pass) }],
        ..blank
    }
}

/// What `ln E` of one quantile has to reach: `latency-any` shares its part among three.
pub(super) fn threshold(member: &Member<'_>) -> f64 {
    member.ln_threshold + if member.metric == Metric::LatencyAny { 3_f64.ln() } else { 0.0 }
}

/// Nats per canary request of a canary that takes `times` as long as stable; at most 0 if that is tolerated.
fn gain(quantile: Quantile, times: f64, tolerance: f64, mode: RatioMode, weight: Share) -> f64 {
    let (effective, smallest) = match mode {
        RatioMode::Harm => (times, tolerance),
        // Beyond the tolerance is what counts.
        RatioMode::Limit | RatioMode::Strict => (times / tolerance, SMALLEST_STEP),
    };
    let rate = 1.0 - quantile.q();
    let ratio = |slowdown: f64| (exceeding(quantile, 1.0 / slowdown) / rate).min(HIGHEST_RATE / rate);
    if effective <= 1.0 { 0.0 } else { ratio_gain(rate, weight, ratio(effective), ratio(effective.max(smallest))) }
}

/// Canary requests until a canary as fast as stable passes: by how rarely it exceeds the tolerance, or by a margin.
fn requests_to_pass(quantile: Quantile, tolerance: f64, setting: &Setting) -> f64 {
    let rate = 1.0 - quantile.q();
    let ratio = (exceeding(quantile, tolerance) / rate).clamp(LOWEST_PASS_RATIO, 1.0);
    let nats = setting.half_pass_nats();
    let by_ratio = nats / information(rate, setting.weight, ratio, 1.0);
    by_ratio.min(nats / difference_gain(setting.weight, margin(quantile), [rate; 2], [rate * ratio, rate]))
}

/// How often stable exceeds `times` its quantile.
fn exceeding(quantile: Quantile, times: f64) -> f64 {
    normal_tail(normal_quantile(quantile.q()) + times.ln() / SPREAD)
}

/// The margin of the pass side.
fn margin(quantile: Quantile) -> f64 {
    match quantile {
        Quantile::P50 => 0.05,
        Quantile::P90 => 0.02,
        Quantile::P95 => 0.01,
        Quantile::P99 => 0.005,
    }
}
