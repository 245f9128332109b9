//! What can never be decided, whatever the traffic: a document that says such a thing is refused.
//!
//! A criterion against stable in a release without a stage that sends traffic to both versions; one that no number of
//! failures can break, because the canary has almost everything; one whose numbers the tests do not take.

use serde::{Deserialize, Serialize};
use serin_stats::{LimitE, RatioCriterion, RatioLimits, RatioMode, Share, StableRate, least_failures};

use super::{
    latency,
    members::{Limits, Member, Subject, members},
    rate,
};
use crate::{
    judge::quantiles,
    plan::{JudgeKind, Metric, Plan},
};

/// Something that can never be decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Name of the criterion or guard.
    pub criterion: String,
    /// The stage that it is about alone, from 0.
    pub stage: Option<usize>,
    /// Why, in a sentence without a full stop.
    pub why: String,
    /// What to do.
    pub help: String,
}

/// Everything in the plan that can never be decided. Empty unless the judge is sequential.
#[must_use]
pub fn refusals(plan: &Plan) -> Vec<Refusal> {
    let JudgeKind::Sequential(rules) = plan.analysis.judge else { return Vec::new() };
    let members = members(plan, rules.alpha);
    let mut refusals: Vec<Refusal> = Vec::new();
    for member in &members {
        let refuse =
            |(why, help): (String, &str)| Refusal { criterion: member.name.to_owned(), stage: member.stage, why, help: help.to_owned() };
        let refusal = match member.subject {
            Subject::Rate(limits) => bad_numbers(&limits, member.mode).or_else(|| never_compared(plan, &members, member)),
            Subject::Latency(_) => never_compared(plan, &members, member),
            Subject::Limit { share, .. } => LimitE::above(share).err().map(|error| {
                let why = format!("{}: {error}", quoted("the limit of", member));
                (why, "write a share of requests above 0 % and at most 98 %")
            }),
            Subject::After | Subject::Gauge | Subject::Plain => None,
        };
        refusals.extend(refusal.map(refuse).filter(|refusal| !refusals.contains(refusal)));
    }
    refusals
}

fn bad_numbers(limits: &Limits, mode: RatioMode) -> Option<(String, &'static str)> {
    // A strict increase has a test of its own.
    let mode = if mode == RatioMode::Strict && limits.ratio.is_none() { RatioMode::Harm } else { mode };
    let limits = RatioLimits { ratio: limits.ratio, increase: limits.increase };
    let error = RatioCriterion::new(mode, limits, StableRate::default()).err()?;
    Some((error.to_string(), "correct `versusStable`"))
}

/// A criterion against stable that no stage can decide. The absolute limit of the same criterion, if it has one, is what
/// decides then. After a switch the criterion goes on against what stable was before.
fn never_compared(plan: &Plan, members: &[Member<'_>], member: &Member<'_>) -> Option<(String, &'static str)> {
    let same = |other: &Member<'_>| other.name == member.name && other.stage == member.stage && !other.is_guard;
    let is_after_switch = plan.is_switch() && member.stage.is_none();
    if is_after_switch || members.iter().any(|other| same(other) && matches!(other.subject, Subject::Limit { .. })) {
        return None;
    }
    let weights: Vec<Share> = plan
        .steps
        .iter()
        .enumerate()
        .filter(|(index, _)| member.stage.is_none() || member.stage == Some(*index))
        .filter_map(|(_, step)| Share::new(step.weight().share()).ok())
        .collect();
    let help = match member.metric {
        Metric::LatencyAny => "add a stage with a smaller weight, or use a `max` on a quantile such as latency-p99",
        _ => "add a stage with a smaller weight, or give the criterion a `max`",
    };
    let where_ = if member.stage.is_some() { "its stage sends" } else { "no stage sends" };
    if weights.iter().all(|weight| !weight.is_split()) {
        let negation = if member.stage.is_some() { "everything to one of them" } else { "traffic to both" };
        let why = format!("{} can never be decided: it compares the versions, and {where_} {negation}", quoted("the criterion", member));
        return Some((why, help));
    }
    let can_fail = |weight: &Share| match member.subject {
        Subject::Rate(_) => matches!(least_failures(*weight, rate::threshold(member)), Ok(Some(_))),
        _ => latency::least_failures(quantiles(&member.metric), *weight, latency::threshold(member)).is_some(),
    };
    if !weights.iter().any(can_fail) {
        let why = format!(
            "{} can never fail: with so little traffic left on stable not even 10,000 failures of the canary in a row prove anything",
            quoted("the criterion", member)
        );
        return Some((why, help));
    }
    None
}

fn quoted(what: &str, member: &Member<'_>) -> String {
    format!("{what} `{}`", member.name)
}
