//! Rates against stable.

use serin_stats::{DEFAULT_MARGIN, LN_TOTAL, PASS_PRIOR, RatioMode, information, least_failures};

use super::{
    ASSUMED_RATE, Fault, GoodCanary, OVERHEAD_NATS, Pass, Setting, StableRate, TestForecast,
    information::{difference_gain, ratio_gain},
    members::{Limits, Member},
};
use crate::plan::{Metric, Plan};

/// Faults that are looked at, as multiples of stable's rate.
const FAULTS: [f64; 3] = [1.5, 2.0, 5.0];
/// Exactly at the limit the estimate is as often below it as above, and the alarm waits for it: simulations of the judge needed
/// 1.5 to 2 times the requests on average.
const AT_THE_LIMIT: f64 = 1.7;
/// Half of the evidence about errors is spread over their classes.
const CLASSES_NATS: f64 = -LN_TOTAL;
/// The pass side gives its bet on an equal canary this part of its capital.
const EQUAL_PRIOR: f64 = PASS_PRIOR[0];

/// Stable's rate for a test: the criterion's own, that of the document for errors, or an assumption.
pub(super) fn expected(plan: &Plan, member: &Member<'_>) -> StableRate {
    let errors = matches!(member.metric, Metric::ErrorRate | Metric::ServerErrorRate);
    let declared = member.expected.or(plan.analysis.expect.error_rate.filter(|_| errors));
    StableRate { rate: declared.unwrap_or(ASSUMED_RATE), is_assumed: declared.is_none() }
}

pub(super) fn of(blank: TestForecast, limits: &Limits, stable: StableRate, member: &Member<'_>, setting: &Setting) -> TestForecast {
    let threshold = threshold(member);
    let needs = |times: f64| {
        let requests = requests_to_fail(limits, stable.rate, times, member.mode, threshold, setting);
        Fault { times, needs: requests.map(|requests| setting.estimate(requests)) }
    };
    // Without errors on stable, every error of the canary is infinitely more.
    let faults = FAULTS.into_iter().filter(|times| stable.rate > 0.0 && times * stable.rate <= 1.0);
    let to_pass = requests_to_pass(limits, stable.rate, setting);
    TestForecast {
        stable_rate: Some(stable),
        faults: faults.map(needs).collect(),
        least_failures: least_failures(setting.weight, threshold).ok().flatten(),
        passes: vec![Pass { canary: GoodCanary::Equal, needs: setting.estimate(to_pass) }],
        ..blank
    }
}

/// What `ln E` of the total has to reach.
pub(super) fn threshold(member: &Member<'_>) -> f64 {
    let has_classes = member.metric == Metric::ErrorRate && member.mode != RatioMode::Strict;
    member.ln_threshold + if has_classes { CLASSES_NATS } else { 0.0 }
}

/// Canary requests until a fault is found; `None` if it is tolerated.
fn requests_to_fail(limits: &Limits, rate: f64, times: f64, mode: RatioMode, threshold: f64, setting: &Setting) -> Option<f64> {
    let nats = threshold + OVERHEAD_NATS;
    let excess = (times - 1.0) * rate;
    let ratio = limits.ratio.unwrap_or(1.0);
    let increase = limits.increase.unwrap_or(0.0);
    if mode == RatioMode::Strict {
        if times <= ratio || excess <= increase {
            return None;
        }
        let by_ratio = limits.ratio.map_or(f64::INFINITY, |ratio| information(rate, setting.weight, times, ratio));
        let rates = [times * rate, rate];
        let by_difference = limits.increase.map_or(f64::INFINITY, |increase| difference_gain(setting.weight, increase, rates, rates));
        return Some(nats / by_ratio.min(by_difference));
    }
    // The smallest harm that is bet on.
    let smallest = limits.ratio.unwrap_or(if limits.increase.is_some() { 1.0 } else { 1.5 }).max(1.0 + increase / rate);
    let gain = ratio_gain(rate, setting.weight, times, times.max(smallest));
    if gain <= 0.0 {
        return None;
    }
    let requests = nats / gain;
    if mode == RatioMode::Harm {
        return Some(requests);
    }
    let nearest = (times / ratio).min(if increase > 0.0 { excess / increase } else { f64::INFINITY });
    match nearest {
        within if within < 1.0 - 1e-9 => None,
        at if at < 1.0 + 1e-9 => Some(requests * AT_THE_LIMIT),
        _ => Some(requests),
    }
}

/// Canary requests until one as good as stable passes: by the ratio or by the margin, each with half of the capital.
fn requests_to_pass(limits: &Limits, rate: f64, setting: &Setting) -> f64 {
    let margin = limits.increase.unwrap_or(DEFAULT_MARGIN);
    let nats = setting.half_pass_nats();
    let ratio = limits.ratio.unwrap_or(1.0 + margin / rate.max(f64::MIN_POSITIVE));
    let by_ratio = if ratio.is_finite() && ratio > 1.0 {
        (nats - EQUAL_PRIOR.ln()) / information(rate, setting.weight, 1.0, ratio)
    } else {
        f64::INFINITY
    };
    by_ratio.min(nats / difference_gain(setting.weight, margin, [rate; 2], [rate; 2]))
}
