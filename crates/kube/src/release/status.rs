//! The status of a release: a pure function of the engine's state and what its judge says.

use serin_core::{
    human_duration,
    judge::Verdict,
    release::{Phase, Release, StageStep},
};

use super::clock::rfc3339;
use crate::api::{CommandStatus, Condition, CriterionStatus, Engine, PastRun, ReleaseStatus, TimelineLine};

/// Lines of the timeline that the status keeps.
pub const MAX_TIMELINE: usize = 50;
/// Runs that are over that the status keeps.
pub const MAX_HISTORY: usize = 10;
/// Criteria that the status shows.
const MAX_CRITERIA: usize = 60;
/// Characters of a text in the status.
const MAX_TEXT: usize = 400;

/// What the status has beside the release's own state.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The generation of the spec.
    pub generation: i64,
    /// Which run.
    pub run: u64,
    /// The status before, whose times of conditions are kept.
    pub before: Option<&'a ReleaseStatus>,
    /// The timeline, oldest first.
    pub timeline: &'a [TimelineLine],
    /// The last command.
    pub last_command: Option<&'a CommandStatus>,
    /// What the engine goes on from.
    pub engine: Engine,
    /// What the shell has to add to the reason: an effect that takes its time.
    pub note: Option<&'a str>,
}

/// The status of a run.
#[must_use]
pub fn status(release: &Release, context: Context<'_>) -> ReleaseStatus {
    let state = release.state();
    let wait = release.next_deadline();
    let now = release.now();
    let steps = release.plan().steps.len();
    let stage = match state.phase {
        Phase::Stage { .. } | Phase::Retreated { .. } | Phase::NeedsOperator { .. } => {
            state.step().map(|step| format!("{}/{steps}", step + 1))
        }
        Phase::RollingBack { .. } | Phase::RolledBack => Some(format!("{}/{steps}", (state.stages_behind + 1).min(steps.max(1)))),
        Phase::Preflight | Phase::Pending | Phase::Refused | Phase::Deploying { .. } => Some(format!("0/{steps}")),
        _ => Some(format!("{steps}/{steps}")),
    };
    let reason = match (&state.phase, &state.rollback) {
        (Phase::RolledBack, Some(cause)) => cause.text.clone(),
        (Phase::RollingBack { .. }, Some(cause)) => format!("{}; {}", cause.text, wait.why),
        (Phase::Succeeded, _) => "the new version serves".to_owned(),
        (Phase::Refused, _) => context.timeline.last().map_or_else(|| "preflight failed".to_owned(), |line| line.detail.clone()),
        _ => wait.why.clone(),
    };
    let reason = cut(&context.note.map_or_else(|| reason.clone(), |note| format!("{reason}; {note}")));
    let phase = phase_word(release).to_owned();
    let history = history(release, &context, &phase, &reason);
    let assessment = release.trial().assessment();
    let mut criteria: Vec<_> = assessment
        .criteria
        .iter()
        .chain(&assessment.broken_guards)
        .map(|one| CriterionStatus { name: one.name.clone(), verdict: one.verdict.as_str().to_owned(), text: cut(&one.text) })
        .collect();
    criteria.truncate(MAX_CRITERIA);
    let has_failed = matches!(state.phase, Phase::RolledBack | Phase::Refused);
    let is_stalled = has_failed || matches!(state.phase, Phase::NeedsOperator { .. }) || wait.operator;
    let is_ready = state.phase == Phase::Succeeded;
    let shape = Shape { is_ready, is_stalled, word: &phase, message: &reason };
    ReleaseStatus {
        observed_generation: context.generation,
        stage,
        weight: Some(state.asked_weight().to_string()),
        verdict: verdict(release),
        conditions: conditions(&shape, context.generation, context.before, &rfc3339(now)),
        phase,
        reason,
        run: context.run,
        criteria,
        timeline: context.timeline.iter().rev().take(MAX_TIMELINE).rev().cloned().collect(),
        last_command: context.last_command.cloned(),
        history,
        engine: Some(context.engine),
    }
}

/// The runs that are over: those before, and this one if it is.
fn history(release: &Release, context: &Context<'_>, outcome: &str, reason: &str) -> Vec<PastRun> {
    let before = context.before.map(|before| before.history.as_slice()).unwrap_or_default();
    let mut history: Vec<PastRun> = before.iter().filter(|past| past.run != context.run).cloned().collect();
    let state = release.state();
    if state.is_final() {
        history.push(PastRun {
            run: context.run,
            version: context.engine.template_hash.clone(),
            outcome: outcome.to_owned(),
            reason: reason.to_owned(),
            began: rfc3339(state.began_at),
            ended: rfc3339(state.ended_at.unwrap_or(state.at)),
        });
    }
    history.split_off(history.len().saturating_sub(MAX_HISTORY))
}

/// The status of a release that has nothing to do: nothing has begun, or what has is over and nothing has changed since.
#[must_use]
pub fn idle(generation: i64, before: Option<&ReleaseStatus>, reason: &str, now: &str) -> ReleaseStatus {
    settled(generation, before, &Shape { is_ready: true, is_stalled: false, word: "Idle", message: reason }, now)
}

/// The status of a release that cannot begin yet, and will by itself.
#[must_use]
pub fn waiting(generation: i64, before: Option<&ReleaseStatus>, reason: &str, now: &str) -> ReleaseStatus {
    settled(generation, before, &Shape { is_ready: false, is_stalled: false, word: "Waiting", message: reason }, now)
}

/// The status of a release that cannot begin: the document is wrong, or something that it names is not there.
#[must_use]
pub fn invalid(generation: i64, before: Option<&ReleaseStatus>, reason: &str, now: &str) -> ReleaseStatus {
    settled(generation, before, &Shape { is_ready: false, is_stalled: true, word: "Invalid", message: reason }, now)
}

fn settled(generation: i64, before: Option<&ReleaseStatus>, shape: &Shape<'_>, now: &str) -> ReleaseStatus {
    let message = cut(shape.message);
    let shape = Shape { message: &message, ..*shape };
    ReleaseStatus {
        observed_generation: generation,
        phase: shape.word.to_owned(),
        reason: message.clone(),
        conditions: conditions(&shape, generation, before, now),
        stage: None,
        weight: None,
        verdict: None,
        criteria: Vec::new(),
        ..before.cloned().unwrap_or_default()
    }
}

struct Shape<'a> {
    is_ready: bool,
    is_stalled: bool,
    word: &'a str,
    message: &'a str,
}

/// In the shape that kstatus reads: `Reconciling` and `Stalled` are there to be False in the end.
fn conditions(shape: &Shape<'_>, generation: i64, before: Option<&ReleaseStatus>, now: &str) -> Vec<Condition> {
    let kinds = [("Ready", shape.is_ready), ("Reconciling", !shape.is_ready && !shape.is_stalled), ("Stalled", shape.is_stalled)];
    kinds
        .into_iter()
        .map(|(kind, is)| {
            let status = if is { "True" } else { "False" };
            let old = before.and_then(|before| before.conditions.iter().find(|old| old.kind == kind && old.status == status));
            Condition {
                kind: kind.to_owned(),
                status: status.to_owned(),
                reason: shape.word.to_owned(),
                message: shape.message.to_owned(),
                observed_generation: generation,
                last_transition_time: old.map_or_else(|| now.to_owned(), |old| old.last_transition_time.clone()),
            }
        })
        .collect()
}

fn phase_word(release: &Release) -> &'static str {
    let state = release.state();
    if state.paused.is_some() && !state.is_final() {
        return "Paused";
    }
    match state.phase {
        Phase::Pending | Phase::Preflight => "Preflight",
        Phase::Refused => "Refused",
        Phase::Deploying { .. } => "Deploying",
        Phase::Stage { at: StageStep::AwaitingApproval { .. }, .. } => "AwaitingApproval",
        Phase::Stage { .. } => "Progressing",
        Phase::Promoting => "Promoting",
        Phase::Baking { .. } => "Baking",
        Phase::Finishing => "Finishing",
        Phase::Retained { .. } => "Retained",
        Phase::Retiring => "Retiring",
        Phase::Succeeded => "Succeeded",
        Phase::Retreated { .. } => "Retreated",
        Phase::RollingBack { .. } => "RollingBack",
        Phase::RolledBack => "RolledBack",
        Phase::NeedsOperator { .. } => "NeedsOperator",
    }
}

/// The worst that any criterion says; nothing before the first evaluation.
fn verdict(release: &Release) -> Option<String> {
    let assessment = release.trial().assessment();
    assessment.evaluated_at?;
    let severity = |verdict: Verdict| match verdict {
        Verdict::Fail => 4,
        Verdict::Environment => 3,
        Verdict::Unknown => 2,
        Verdict::Inconclusive => 1,
        Verdict::Pass => 0,
    };
    let all = assessment.criteria.iter().chain(&assessment.broken_guards);
    all.map(|one| one.verdict).max_by_key(|verdict| severity(*verdict)).map(|verdict| verdict.as_str().to_owned())
}

/// A line of the timeline.
pub(super) fn line(at: serin_core::Timestamp, head: &str, detail: &str) -> TimelineLine {
    TimelineLine { at: rfc3339(at), head: head.to_owned(), detail: cut(detail) }
}

/// How long a run took, for people.
pub(super) fn took(release: &Release) -> String {
    let state = release.state();
    human_duration(state.ended_at.unwrap_or(release.now()).ms_since(state.began_at))
}

/// A text as a status holds it.
pub(crate) fn cut(text: &str) -> String {
    if text.chars().count() <= MAX_TEXT {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(MAX_TEXT - 1).collect();
    short.push('…');
    short
}
