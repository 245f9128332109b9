//! What the expected traffic can decide, before a release starts (ANALYSIS 2.9, forecast). For people who choose weights and
//! holds; no verdict depends on it.
//!
//! For every stage and every test of the sequential judge: how many canary requests it takes until a fault of a given size is
//! found, until a canary that is as good as stable passes, and how few failures in a row can decide at all. With
//! `analysis.expect.rps` requests become times, and times are compared with the stage's hold and its limit.
//!
//! The numbers are rough. They are the information that a request carries on average; single releases differ by a factor of
//! two either way. Stable's rates are those the document expects, else [`ASSUMED_RATE`]. Nothing is known of stable's latencies
//! before there are any, so that they are assumed to spread like a lognormal with a P99 of 6.4 times the median. The FAIL
//! process runs through all stages: what a stage cannot decide is not lost for the next. Sticky traffic is counted by client,
//! whose rate nobody declares: then there are no times.
//!
//! The other judges have no forecast: they look at windows, and decide when those are full.

mod information;
mod latency;
mod limit;
mod members;
mod rate;
mod refusal;
mod warning;

pub use refusal::{Refusal, refusals};
pub use warning::{Warning, warnings};

use serde::{Deserialize, Serialize};
use serin_stats::Share;

use self::members::{Member, Subject};
use crate::{
    WeightBps,
    judge::least_gauge_ms,
    plan::{JudgeKind, Metric, OnBreach, Plan, SequentialRules, Step},
};

/// Stable's share of errors if the document expects none.
pub const ASSUMED_RATE: f64 = 0.005;
/// Nats that the mixture over fault sizes and the overshoot cost beyond the threshold.
const OVERHEAD_NATS: f64 = 1.5;

/// What a stage can decide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageForecast {
    /// Position in the plan's steps, from 0; `None` for the bake.
    pub stage: Option<usize>,
    /// The canary's share.
    pub weight: WeightBps,
    /// How long the stage is measured, in milliseconds.
    pub hold_ms: u64,
    /// When a stage that is not decided is given up, in milliseconds.
    pub max_hold_ms: u64,
    /// Canary requests that the stage waits for in any case.
    pub least_requests: Estimate,
    /// Canary requests per second; `None` if the document expects no rate, or clients count instead of requests.
    pub canary_rps: Option<f64>,
    /// One for every test that applies at this weight: criteria in the plan's order, then guards.
    pub tests: Vec<TestForecast>,
}

/// What one test can decide. A criterion with an absolute limit and one against stable has two tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestForecast {
    /// Name of the criterion or guard.
    pub criterion: String,
    /// Whether it is a guard, which never has to pass.
    pub is_guard: bool,
    /// What it looks at.
    pub metric: Metric,
    /// What the metric is compared with.
    pub against: Against,
    /// What a breach does.
    pub on_breach: OnBreach,
    /// Its part of the alarm budget, 0 to 1.
    pub alarm_share: f64,
    /// The rate of stable that is counted with, for rates against stable.
    pub stable_rate: Option<StableRate>,
    /// How soon faults are found, smallest first.
    pub faults: Vec<Fault>,
    /// The least number of canary failures in a row, without one on stable, that can decide: what an outage takes.
    /// `None` if that is not how the test works, or more than 10,000 are needed.
    pub least_failures: Option<u32>,
    /// How soon a canary without a fault passes.
    pub passes: Vec<Pass>,
    /// For metrics that are not made of requests: the earliest time at which they can be decided, in milliseconds.
    pub earliest_ms: Option<u64>,
    /// Why there are no numbers.
    pub unforeseen: Option<String>,
}

/// What a metric is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// Stable's value over the same time.
    Stable,
    /// A fixed limit, in the metric's unit.
    Limit(f64),
}

/// A rate of stable's and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StableRate {
    /// Share of requests, 0 to 1.
    pub rate: f64,
    /// Whether it is assumed because the document expects none.
    pub is_assumed: bool,
}

/// How soon a fault is found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Its size: against stable, how many times its rate or its latency; against a limit, how many times the limit is exceeded.
    pub times: f64,
    /// What it takes; `None` if the rule tolerates it.
    pub needs: Option<Estimate>,
}

/// How soon a good canary passes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// Which canary.
    pub canary: GoodCanary,
    /// What it takes.
    pub needs: Estimate,
}

/// Canaries that should pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GoodCanary {
    /// As good as stable.
    Equal,
    /// At half of the limit.
    HalfOfLimit,
    /// Without a single event.
    Clean,
}

/// Expected canary requests and, with a known rate, the time that they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Canary requests.
    pub requests: u64,
    /// Milliseconds from the proof of the weight.
    pub after_ms: Option<u64>,
    /// How that compares with the stage.
    pub within: Option<Within>,
}

/// Where a time falls in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Within {
    /// Before the end of its hold.
    Hold,
    /// After its hold, before it is given up.
    MaxHold,
    /// Never in this stage.
    Neither,
}

/// What the expected traffic can decide in each stage and in the bake. Nothing is expected of previews. Empty unless the judge is sequential.
#[must_use]
pub fn forecast(plan: &Plan) -> Vec<StageForecast> {
    let JudgeKind::Sequential(rules) = plan.analysis.judge else { return Vec::new() };
    let members = members::members(plan, rules.alpha);
    let bake = (plan.bake_ms > 0).then(|| (None, plan.bake()));
    let stages = plan.steps.iter().cloned().enumerate().filter(|(_, step)| !step.is_preview()).map(|(index, step)| (Some(index), step));
    stages.chain(bake).map(|(stage, step)| of_stage(plan, rules, &members, stage, &step)).collect()
}

fn of_stage(plan: &Plan, rules: SequentialRules, members: &[Member<'_>], stage: Option<usize>, step: &Step) -> StageForecast {
    let setting = Setting::new(plan, rules, step);
    StageForecast {
        stage,
        weight: step.weight(),
        hold_ms: step.hold_ms,
        max_hold_ms: step.max_hold_ms,
        least_requests: setting.estimate(step.min_requests as f64),
        canary_rps: setting.canary_rps,
        tests: members
            .iter()
            .filter(|member| member.applies(stage, setting.weight))
            .map(|member| of_test(plan, member, &setting))
            .collect(),
    }
}

fn of_test(plan: &Plan, member: &Member<'_>, setting: &Setting) -> TestForecast {
    let blank = TestForecast {
        criterion: member.name.to_owned(),
        is_guard: member.is_guard,
        metric: member.metric,
        against: member.against(),
        on_breach: member.on_breach,
        alarm_share: member.alarm_share,
        stable_rate: None,
        faults: Vec::new(),
        least_failures: None,
        passes: Vec::new(),
        earliest_ms: None,
        unforeseen: None,
    };
    match member.subject {
        Subject::Rate(limits) => rate::of(blank, &limits, rate::expected(plan, member), member, setting),
        Subject::Latency(limits) => latency::of(blank, &limits, member, setting),
        Subject::Limit { share, .. } => limit::of(blank, share, member, setting),
        Subject::Gauge => TestForecast { earliest_ms: Some(setting.least_gauge_ms), ..blank },
        Subject::After | Subject::Plain => TestForecast { unforeseen: Some("is looked at as it stands".to_owned()), ..blank },
    }
}

/// A stage as the tests see it.
struct Setting {
    weight: Share,
    canary_rps: Option<f64>,
    hold_ms: u64,
    max_hold_ms: u64,
    beta: f64,
    least_gauge_ms: u64,
}

impl Setting {
    fn new(plan: &Plan, rules: SequentialRules, step: &Step) -> Self {
        let share = step.weight().share();
        let rps = plan.analysis.expect.rps.filter(|rps| *rps > 0.0 && !plan.sticky);
        Self {
            // A weight is always a probability.
            weight: Share::new(share).unwrap_or(Share::NONE),
            canary_rps: rps.map(|rps| rps * share),
            hold_ms: step.hold_ms,
            max_hold_ms: step.max_hold_ms,
            beta: rules.beta,
            least_gauge_ms: least_gauge_ms(&rules, plan.analysis.poll_ms.unwrap_or(0)),
        }
    }

    /// Nats that a PASS of two halves needs: each has half of the capital.
    fn half_pass_nats(&self) -> f64 {
        (2.0 / self.beta).ln()
    }

    fn estimate(&self, requests: f64) -> Estimate {
        let after_ms = self.canary_rps.map(|rps| whole(requests / rps * 1_000.0));
        let within = after_ms.map(|after_ms| match after_ms {
            soon if soon <= self.hold_ms => Within::Hold,
            late if late <= self.max_hold_ms => Within::MaxHold,
            _ => Within::Neither,
        });
        Estimate { requests: whole(requests), after_ms, within }
    }
}

/// Rounded up; what is too large or not a number saturates.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats saturate")]
fn whole(value: f64) -> u64 {
    value.ceil() as u64
}

#[cfg(test)]
mod tests;
