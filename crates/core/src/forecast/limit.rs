//! Absolute limits: the canary's own rate of errors, or of requests slower than a limit.

use serin_stats::{ArmCounts, HALF_OF_LIMIT_PRIOR, LimitE, least_failures_of_limit};

use super::{Fault, GoodCanary, OVERHEAD_NATS, Pass, Setting, TestForecast, information::divergence, members::Member};
use crate::judge::SHARE_BY_WEIGHT;

/// Faults that are looked at, as multiples of the limit.
const FAULTS: [f64; 2] = [2.0, 4.0];
/// Clean requests are counted up to here.
const MOST_REQUESTS: u64 = 1 << 40;

pub(super) fn of(blank: TestForecast, limit: f64, member: &Member<'_>, setting: &Setting) -> TestForecast {
    let threshold = threshold(member);
    let to_fail = |times: f64| Fault {
        times,
        needs: Some(setting.estimate((threshold + OVERHEAD_NATS) / divergence((limit * times).min(1.0), limit))),
    };
    let mut passes = Vec::new();
    if !member.is_guard {
        let half = ((1.0 / setting.beta).ln() - HALF_OF_LIMIT_PRIOR.ln()) / divergence(limit / 2.0, limit);
        passes.push(Pass { canary: GoodCanary::HalfOfLimit, needs: setting.estimate(half) });
        let clean = clean_requests(limit, setting.beta);
        passes.extend(clean.map(|clean| Pass { canary: GoodCanary::Clean, needs: setting.estimate(clean as f64) }));
    }
    TestForecast {
        faults: FAULTS.into_iter().filter(|times| times * limit <= 1.0).map(to_fail).collect(),
        least_failures: least_failures_of_limit(limit, ArmCounts::default(), threshold).ok().flatten(),
        passes,
        ..blank
    }
}

/// What `ln E` of the requests by weight has to reach.
pub(super) fn threshold(member: &Member<'_>) -> f64 {
    member.ln_threshold - SHARE_BY_WEIGHT.ln()
}

/// Requests without an event after which the test itself passes.
fn clean_requests(limit: f64, beta: f64) -> Option<u64> {
    let passes = |requests: u64| {
        let mut test = LimitE::below(limit).ok()?;
        test.update(ArmCounts { requests, events: 0 });
        Some(test.ln_e() >= -beta.ln())
    };
    let mut high = 1;
    while !passes(high)? {
        high *= 2;
        if high > MOST_REQUESTS {
            return None;
        }
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        if passes(middle)? { high = middle } else { low = middle }
    }
    Some(high)
}
