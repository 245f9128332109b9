//! Latency against stable: how often a quantile of stable is exceeded. Rough, since nothing is known of stable's latencies.

use serin_stats::{HIGHEST_RATE, LOWEST_PASS_RATIO, RatioMode, Share, information, normal_quantile};

use super::{
    Fault, GoodCanary, OVERHEAD_NATS, Pass, Setting, TestForecast,
    information::{difference_gain, normal_tail, ratio_gain},
    members::{Limits, Member},
};
use crate::{
    judge::{QUANTILES, pass_margin, quantiles},
    plan::{Metric, Quantile},
};

/// Slowdowns that are looked at.
const SLOWDOWNS: [f64; 3] = [1.5, 2.0, 5.0];
/// Standard deviation of ln(latency): P99 is 6.4 times the median.
const SPREAD: f64 = 0.8;
/// The smallest slowdown that is bet on, beyond the tolerance.
const SMALLEST_STEP: f64 = 1.2;

pub(super) fn of(blank: TestForecast, limits: &Limits, member: &Member<'_>, setting: &Setting) -> TestForecast {
    let Some(tolerance) = limits.ratio.filter(|ratio| *ratio > 1.0) else {
        let unforeseen = "depends on stable's latency, which is not known before the release".to_owned();
        return TestForecast { unforeseen: Some(unforeseen), ..blank };
    };
    let quantiles = quantiles(&member.metric);
    let threshold = threshold(member);
    let needs = |times: f64| {
        let gains = quantiles.iter().map(|quantile| gain(*quantile, times, tolerance, member.mode, setting.weight));
        let best = gains.fold(0.0, f64::max);
        Fault { times, needs: (best > 0.0).then(|| setting.estimate((threshold + OVERHEAD_NATS) / best)) }
    };
    let to_pass = quantiles.iter().map(|quantile| requests_to_pass(*quantile, tolerance, setting)).fold(0.0, f64::max);
    TestForecast {
        faults: SLOWDOWNS.into_iter().map(needs).collect(),
        least_failures: least_failures(quantiles, setting.weight, threshold),
        passes: vec![Pass { canary: GoodCanary::Equal, needs: setting.estimate(to_pass) }],
        ..blank
    }
}

/// What `ln E` of one quantile has to reach: `latency-any` shares its part among three.
pub(super) fn threshold(member: &Member<'_>) -> f64 {
    member.ln_threshold + if member.metric == Metric::LatencyAny { (QUANTILES.len() as f64).ln() } else { 0.0 }
}

/// The least number of slow requests of the canary in a row that can decide. How much more than stable's exceedances is bet on
/// is bounded: where half of stable's requests are slow, nothing can be more than about twice as often.
pub(super) fn least_failures(quantiles: &[Quantile], weight: Share, threshold: f64) -> Option<u32> {
    let least = |quantile: &Quantile| serin_stats::least_exceedances(1.0 - quantile.q(), weight, threshold).ok().flatten();
    quantiles.iter().filter_map(least).min()
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
    by_ratio.min(nats / difference_gain(setting.weight, pass_margin(quantile), [rate; 2], [rate * ratio, rate]))
}

/// How often stable exceeds `times` its quantile.
fn exceeding(quantile: Quantile, times: f64) -> f64 {
    normal_tail(normal_quantile(quantile.q()) + times.ln() / SPREAD)
}
