//! The tests of a plan with their parts of the alarm budget.
//!
//! As the sequential judge has them: a criterion with an absolute limit and one against stable is two tests, and so is
//! `combine: either`; what compares rates or latencies has one more, for the time when the canary serves alone. Criteria that
//! roll back share one budget with the guards; those that pause and those that warn have budgets of their own (ANALYSIS 2.9).
//! Request rates, restarts, and guards on CPU and memory are looked at as they stand and need no budget.

use serin_stats::{Family, RatioMode, ReleaseAlarm, Share};

use super::Against;
use crate::plan::{Combine, Criterion, ExternalKind, Metric, OnBreach, Plan};

/// Limits against stable that must all be exceeded, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    pub(super) ratio: Option<f64>,
    pub(super) increase: Option<f64>,
}

/// What a test is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Subject {
    /// A rate against stable.
    Rate(Limits),
    /// A latency against stable.
    Latency(Limits),
    /// An absolute limit as a share of requests.
    Limit { max: f64, share: f64 },
    /// The canary alone at 100 %, against what stable was before. It only ever accuses, by numbers that nobody knows yet.
    After,
    /// A criterion on CPU or memory.
    Gauge,
    /// No test.
    Plain,
}

/// A test of a release.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    pub(super) is_guard: bool,
    /// The stage that it is about alone.
    pub(super) stage: Option<usize>,
    pub(super) metric: Metric,
    pub(super) mode: RatioMode,
    pub(super) expected: Option<f64>,
    pub(super) on_breach: OnBreach,
    pub(super) subject: Subject,
    pub(super) alarm_share: f64,
    /// What `ln E` has to reach.
    pub(super) ln_threshold: f64,
}

impl Member<'_> {
    /// Whether the test has anything to look at in a stage: `None` is the bake.
    pub(super) fn applies(&self, stage: Option<usize>, weight: Share) -> bool {
        let here = self.subject != Subject::After && (self.stage.is_none() || self.stage == stage);
        here && (weight.is_split() || (!self.compares() && weight != Share::NONE))
    }

    /// Whether it needs stable's traffic beside the canary's.
    pub(super) fn compares(&self) -> bool {
        matches!(self.subject, Subject::Rate(_) | Subject::Latency(_))
    }

    pub(super) fn against(&self) -> Against {
        match self.subject {
            Subject::Limit { max, .. } => Against::Limit(max),
            _ => Against::Stable,
        }
    }

    fn family(&self) -> Option<Family> {
        let is_external = self.metric.external().is_some();
        match self.subject {
            Subject::Rate(_) | Subject::Limit { .. } if is_external => Some(Family::Other),
            Subject::Rate(_) => Some(Family::Errors),
            Subject::Latency(_) => Some(Family::Latency),
            Subject::Limit { .. } => Some(Family::Limits),
            Subject::After => Some(Family::After),
            Subject::Gauge => Some(Family::Other),
            Subject::Plain => None,
        }
    }
}

/// Every test of the plan: those of the whole release, those of stages, guards.
pub(super) fn members(plan: &Plan, alpha: f64) -> Vec<Member<'_>> {
    let mut members = Vec::new();
    let of_stages = plan.steps.iter().enumerate().flat_map(|(stage, step)| step.criteria.iter().map(move |one| (Some(stage), one)));
    for (stage, criterion) in plan.analysis.criteria.iter().map(|one| (None, one)).chain(of_stages) {
        members.extend(subjects(criterion).into_iter().map(|subject| Member {
            name: &criterion.name,
            is_guard: false,
            stage,
            metric: criterion.metric,
            mode: criterion.mode,
            expected: criterion.expected,
            on_breach: criterion.on_breach,
            subject,
            alarm_share: 0.0,
            ln_threshold: 0.0,
        }));
    }
    members.extend(plan.analysis.guards.iter().map(|guard| Member {
        name: &guard.name,
        is_guard: true,
        stage: None,
        metric: guard.metric,
        mode: RatioMode::Limit,
        expected: None,
        on_breach: OnBreach::Rollback,
        subject: if guard.metric.is_gauge() { Subject::Plain } else { absolute(guard.metric, guard.max) },
        alarm_share: 0.0,
        ln_threshold: 0.0,
    }));
    for group in [OnBreach::Rollback, OnBreach::Pause, OnBreach::Warn] {
        let (mut of_group, families): (Vec<&mut Member<'_>>, Vec<Family>) = members
            .iter_mut()
            .filter(|member| member.on_breach == group)
            .filter_map(|member| member.family().map(|family| (member, family)))
            .unzip();
        // Without a member there is no budget; alpha was checked with the document.
        let Ok(alarm) = ReleaseAlarm::new(alpha, &families) else { continue };
        for (index, member) in of_group.iter_mut().enumerate() {
            member.alarm_share = alarm.share(index).unwrap_or(0.0);
            member.ln_threshold = alarm.ln_threshold(index).unwrap_or(f64::INFINITY);
        }
    }
    members
}

fn subjects(criterion: &Criterion) -> Vec<Subject> {
    let metric = criterion.metric;
    if !metric.is_evidence() && !metric.is_gauge() {
        return vec![Subject::Plain];
    }
    let mut subjects = Vec::new();
    if let Some(versus) = criterion.versus_stable {
        let both = Limits { ratio: versus.ratio, increase: versus.increase };
        let apart = versus.combine == Combine::Either && versus.ratio.is_some() && versus.increase.is_some();
        let limits = if apart { vec![Limits { increase: None, ..both }, Limits { ratio: None, ..both }] } else { vec![both] };
        let is_gauge = metric.is_gauge();
        subjects.extend(limits.into_iter().map(|limits| match metric {
            _ if is_gauge => Subject::Gauge,
            Metric::Latency(_) | Metric::LatencyAny => Subject::Latency(limits),
            _ => Subject::Rate(limits),
        }));
        subjects.extend((!is_gauge).then_some(Subject::After));
    }
    subjects.extend(criterion.max.map(|max| absolute(metric, max)));
    // Of rates and latencies less is always better.
    subjects.extend(criterion.min.filter(|_| metric.is_gauge()).map(|_| Subject::Gauge));
    subjects
}

fn absolute(metric: Metric, max: f64) -> Subject {
    match metric {
        Metric::ErrorRate | Metric::ServerErrorRate | Metric::ClientErrorRate => Subject::Limit { max, share: max },
        Metric::Latency(quantile) => Subject::Limit { max, share: 1.0 - quantile.q() },
        Metric::Cpu | Metric::Memory => Subject::Gauge,
        Metric::External(external) => match external.kind {
            ExternalKind::Ratio => Subject::Limit { max, share: max },
            ExternalKind::Value => Subject::Gauge,
        },
        Metric::LatencyAny | Metric::RequestRate | Metric::Restarts => Subject::Plain,
    }
}
