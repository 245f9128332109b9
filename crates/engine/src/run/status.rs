//! How a release is, as data: what the terminal draws, `status` prints and JSON consumers read.

use std::{cmp::Ordering, net::SocketAddr};

use serde::{Deserialize, Serialize};
use serin_core::{
    Timestamp, WeightBps,
    judge::CriterionAssessment,
    plan::{Gate, Plan, Step},
    release::{Phase, Release, StageStep, State, Wait},
    traffic::Arm,
};

use super::meter::{ArmTotals, RecentTraffic, TrafficMeter};
use crate::workload::ArmStatus;

/// Everything people want to know about a running release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The release's name.
    pub release: String,
    /// Hash of its document's meaning.
    pub document_hash: String,
    /// Which run of this document.
    pub run: u32,
    /// Where it is, in a word or two.
    pub phase: String,
    /// Whether it stands still.
    pub paused: bool,
    /// The current stage, from 1.
    pub stage: Option<usize>,
    /// All stages.
    pub stages: Vec<StageReport>,
    /// The canary's share as asked.
    pub weight: WeightBps,
    /// The canary's measured share of the compared traffic of this stage, 0 to 1.
    pub measured_share: Option<f64>,
    /// What it waits for.
    pub wait: Wait,
    /// Time since it began, in milliseconds.
    pub elapsed_ms: u64,
    /// About how long it will take if nothing holds it up, in milliseconds.
    pub left_ms: u64,
    /// Both versions by [`Arm::index`].
    pub arms: [ArmReport; 2],
    /// Every criterion that applies now.
    pub criteria: Vec<CriterionAssessment>,
    /// 0 (bad) to 100 (good).
    pub health: Option<u8>,
    /// Requests that failed on the canary and that stable answered.
    pub rescued: u64,
    /// Error answers that Serin's proxy made itself.
    pub own_errors: u64,
    /// Why the journal cannot be written, if so.
    pub store_fault: Option<String>,
    /// Journal entries that were decided and are not durable yet; what depends on them waits.
    #[serde(default)]
    pub journal_backlog: u64,
    /// Effects that are being carried out.
    #[serde(default)]
    pub effects_running: u64,
    /// Where clients connect.
    pub listen: String,
    /// What leads to the canary, while a preview is open.
    #[serde(default)]
    pub preview: Option<String>,
}

/// A stage as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// The canary's share.
    pub weight: WeightBps,
    /// How long it is held, in milliseconds.
    pub hold_ms: u64,
    /// How long it has been held, in milliseconds; the current stage only.
    pub held_ms: u64,
    /// Whether a person must approve.
    pub manual: bool,
    /// Whether nobody is sent to the canary: a preview.
    #[serde(default)]
    pub preview: bool,
    /// Where it is.
    pub state: StageState,
}

/// Where a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageState {
    /// Behind.
    Done,
    /// Now.
    Current,
    /// Where the release turned back.
    Failed,
    /// Ahead.
    Open,
}

/// A version as people see it, over the last ten seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmReport {
    /// Requests per second.
    pub requests_per_s: f64,
    /// Share of errors, 0 to 1; `None` without requests.
    pub error_share: Option<f64>,
    /// Median latency in milliseconds.
    pub p50_ms: Option<f64>,
    /// 99 % are faster than this many milliseconds.
    pub p99_ms: Option<f64>,
    /// Since the release began.
    pub totals: ArmTotals,
    /// Replicas and resources.
    pub status: ArmStatus,
}

/// What a report is made of.
pub(super) struct Sources<'a> {
    pub(super) release: &'a Release,
    pub(super) document_hash: &'a str,
    pub(super) run: u32,
    pub(super) meter: &'a TrafficMeter,
    pub(super) recent: &'a RecentTraffic,
    pub(super) arms: [ArmStatus; 2],
    pub(super) store_fault: Option<String>,
    pub(super) journal_backlog: u64,
    pub(super) effects_running: u64,
    pub(super) listen: String,
    pub(super) preview: Option<SocketAddr>,
}

pub(super) fn report(sources: Sources<'_>) -> StatusReport {
    let Sources { release, meter, recent, .. } = sources;
    let (state, plan, now) = (release.state(), release.plan(), release.now());
    let assessment = release.trial().assessment();
    let stages = StageReport::all(plan, state, now);
    let [stable, canary] = sources.arms;
    let arm = |arm: Arm, status: ArmStatus| {
        let (counts, seconds) = recent.of(arm, now);
        let requests = counts.requests();
        ArmReport {
            requests_per_s: requests as f64 / seconds,
            error_share: (requests > 0).then(|| counts.errors() as f64 / requests as f64),
            p50_ms: counts.latency.quantile_us(0.5).map(|us| us / 1000.0),
            p99_ms: counts.latency.quantile_us(0.99).map(|us| us / 1000.0),
            totals: meter.totals(arm),
            status,
        }
    };
    StatusReport {
        release: plan.release.clone(),
        document_hash: sources.document_hash.to_owned(),
        run: sources.run,
        phase: state.phase.name().to_owned(),
        paused: state.paused.is_some(),
        stage: state.step().map(|step| step + 1),
        stages,
        weight: state.asked_weight(),
        measured_share: release
            .trial()
            .tally()
            .measured_share()
            .filter(|_| matches!(state.phase, Phase::Stage { at: StageStep::Observing { .. } | StageStep::AwaitingApproval { .. }, .. })),
        wait: release.next_deadline(),
        elapsed_ms: state.ended_at.unwrap_or(now).ms_since(state.began_at),
        left_ms: left_ms(plan, state, now),
        arms: [arm(Arm::Stable, stable), arm(Arm::Canary, canary)],
        criteria: assessment.criteria.iter().chain(&assessment.broken_guards).cloned().collect(),
        health: assessment.health(),
        rescued: meter.rescued(),
        own_errors: meter.own_errors(),
        store_fault: sources.store_fault,
        journal_backlog: sources.journal_backlog,
        effects_running: sources.effects_running,
        listen: sources.listen,
        preview: sources.preview.filter(|_| is_open(state)).map(|address| address.to_string()),
    }
}

impl StageReport {
    /// The stages of a plan as they are in this state.
    #[must_use]
    pub fn all(plan: &Plan, state: &State, now: Timestamp) -> Vec<Self> {
        let current = current_stage(state, plan.steps.len());
        let of = |(index, step): (usize, &Step)| Self {
            weight: step.weight(),
            hold_ms: step.hold_ms,
            held_ms: if index == current { state.held_ms(now) } else { 0 },
            manual: step.gate == Gate::Manual,
            preview: step.is_preview(),
            state: match index.cmp(&current) {
                Ordering::Less => StageState::Done,
                Ordering::Equal if state.rollback.is_some() => StageState::Failed,
                Ordering::Equal => StageState::Current,
                Ordering::Greater => StageState::Open,
            },
        };
        plan.steps.iter().enumerate().map(of).collect()
    }
}

/// About how long a release in this state takes if nothing holds it up, in milliseconds.
#[must_use]
pub fn left_ms(plan: &Plan, state: &State, now: Timestamp) -> u64 {
    let in_stages = || {
        let stages = StageReport::all(plan, state, now);
        stages.iter().filter(|stage| stage.state != StageState::Done).map(|stage| stage.hold_ms.saturating_sub(stage.held_ms)).sum::<u64>()
    };
    match state.phase {
        _ if state.is_final() || matches!(state.phase, Phase::RollingBack { .. }) => 0,
        Phase::Baking { .. } => in_stages() + plan.bake_ms.saturating_sub(state.held_ms(now)),
        Phase::Finishing | Phase::Retained { .. } | Phase::Retiring => in_stages(),
        _ => in_stages() + plan.bake_ms,
    }
}

/// Whether the preview was read back as open.
fn is_open(state: &State) -> bool {
    state.all_proven() && state.targets.values().any(|target| target.preview)
}

/// The index of the current stage, or of the one that the release turned back from; the number of stages when all are behind.
fn current_stage(state: &State, stages: usize) -> usize {
    match state.phase {
        Phase::Pending | Phase::Preflight | Phase::Refused | Phase::Deploying { .. } => 0,
        Phase::Promoting | Phase::Baking { .. } | Phase::Finishing | Phase::Retained { .. } | Phase::Retiring | Phase::Succeeded => stages,
        _ => state.step().unwrap_or(state.stages_behind),
    }
}
