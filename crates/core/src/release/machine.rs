//! Inputs in, journal entries and effects out.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Cause, CauseKind, Check, CheckStatus, Effect, EffectId, Entry, Event, Input, Phase, StageStep, State, WorkloadSeen, delivery::Due,
    preview::Previewed,
};
use crate::{
    Timestamp, WeightBps,
    judge::{Checkpoint, Trial},
    plan::Plan,
    traffic::{Arm, Observation, Reading},
};
use serin_stats::ArmCounts;

/// The least time between two warnings of stable's failures.
const STABLE_NEWS_MS: u64 = 60_000;

/// A release: its plan, its state, its judge, and what it wants done.
#[derive(Debug)]
pub struct Release {
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) trial: Trial,
    pub(super) workload: WorkloadSeen,
    /// Criteria that already paused or warned and have not recovered since.
    pub(super) told: BTreeSet<String>,
    stable_news: StableNews,
    /// What the checks of the running preview showed. Not journaled: a restarted shell checks anew.
    pub(super) previewed: Previewed,
    /// When outstanding effects are asked for again. Not journaled: a restarted shell asks for all of them at once.
    pub(super) due: BTreeMap<EffectId, Due>,
    epoch: u64,
    pub(super) now: Timestamp,
    pub(super) output: Output,
}

/// What people are told of stable's failures: a stable that comes and goes must not fill the journal.
#[derive(Debug, Default)]
struct StableNews {
    /// A failure that was not told yet.
    is_pending: bool,
    told_at: Option<Timestamp>,
}

/// What the shell must do, in this order: `urgent` effects at once, then make `entries` durable, then `effects`.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Output {
    /// Moves of traffic to stable, which nothing may delay.
    pub urgent: Vec<(EffectId, Effect)>,
    /// Journal entries, to be stored together or not at all.
    pub entries: Vec<Entry>,
    /// Everything else, only after the entries are durable.
    pub effects: Vec<(EffectId, Effect)>,
}

/// What a source counted of a canary that this release has given no traffic yet is not of this release: it may be the rest of the run before,
/// which had its processes under the same name.
fn forget_canary(observation: &mut Observation) {
    for measured in &mut observation.measured {
        if let Reading::Counts(counts) = &mut measured.reading {
            counts[Arm::Canary.index()] = ArmCounts::default();
        }
    }
}

impl Output {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.entries.is_empty() && self.effects.is_empty()
    }
}

impl Release {
    /// Begins a new release.
    #[must_use]
    pub fn new(plan: Plan, epoch: u64, now: Timestamp) -> Self {
        Self::begin(plan, epoch, None, None, now)
    }

    /// Begins a new release that somebody asked for.
    #[must_use]
    pub fn asked_for(plan: Plan, epoch: u64, by: String, reason: Option<String>, now: Timestamp) -> Self {
        Self::begin(plan, epoch, Some(by), reason, now)
    }

    fn begin(plan: Plan, epoch: u64, by: Option<String>, reason: Option<String>, now: Timestamp) -> Self {
        let mut release = Self::with_state(plan, State::default(), epoch, now);
        let name = release.plan.release.clone();
        release.record(Event::Began { release: name, by, reason });
        release.advance();
        release
    }

    /// Goes on with a release from its journal. `latched`: the latch of traffic moves says that traffic had left the
    /// canary; if the journal does not know why, the decision is taken to have been a rollback.
    #[must_use]
    pub fn resume<'a>(
        plan: Plan,
        journal: impl IntoIterator<Item = &'a Entry>,
        checkpoint: Option<&Checkpoint>,
        last_seen: Timestamp,
        latched: bool,
        epoch: u64,
        now: Timestamp,
    ) -> Self {
        Self::resume_at(plan, State::fold(journal), checkpoint, last_seen, latched, epoch, now)
    }

    /// Goes on with a release from the state that its journal folds to: [`resume`](Self::resume) for journals that begin with a snapshot.
    #[must_use]
    pub fn resume_at(
        plan: Plan,
        state: State,
        checkpoint: Option<&Checkpoint>,
        last_seen: Timestamp,
        latched: bool,
        epoch: u64,
        now: Timestamp,
    ) -> Self {
        let now = now.max(state.at);
        let unobserved_ms = now.ms_since(last_seen.max(state.at));
        let mut release = Self::with_state(plan, state, epoch, now);
        if release.state.seq == 0 {
            let name = release.plan.release.clone();
            release.record(Event::Began { release: name, by: None, reason: None });
        }
        if release.state.is_final() {
            return release;
        }
        release.record(Event::TakenOver { unobserved_ms });
        release.restore_trial(checkpoint, unobserved_ms);
        release.complete_override();
        if latched && !release.explains_latch() {
            let text = "traffic had been taken back before a crash that lost the reason".to_owned();
            release.roll_back(Cause { kind: CauseKind::Latched, text });
        }
        release.advance();
        // Nobody knows how far the last owner got: everything is asked for again, at once.
        for (id, effect) in release.state.outstanding.clone() {
            release.emit(id, effect);
        }
        release
    }

    /// Takes in what happened. Inputs that come too late or twice change nothing.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        self.see_time(now);
        if self.state.is_final() {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Done(id) => self.done(id),
            Input::Failed(id, fault) => self.failed(id, &fault),
            Input::ReadBack(id, weight) => self.read_back(id, weight),
            Input::PreflightChecked(id, checks) => self.preflight_checked(id, checks),
            Input::Observed(mut observation) => {
                // A foreign clock that is ahead would stop the evaluations until the release's own catches up.
                observation.at = observation.at.min(self.now);
                if matches!(self.state.phase, Phase::Pending | Phase::Preflight | Phase::Deploying { .. }) {
                    forget_canary(&mut observation);
                }
                self.trial.observe(&observation);
                self.judge();
            }
            Input::RouterSeen { target, weight } => self.router_seen(&target, weight),
            Input::PreviewSeen { check, result } => self.preview_seen(check, result),
            Input::WorkloadSeen(seen) => self.workload_seen(seen),
            Input::AlertFired { name, text } => self.alert_fired(name, text),
        }
        self.advance();
    }

    /// What is to be done since the last call.
    pub fn take_output(&mut self) -> Output {
        let mut output = std::mem::take(&mut self.output);
        // What a later decision made pointless must not run any more, least of all a raise after a retreat.
        output.urgent.retain(|(id, _)| self.state.outstanding.contains_key(id));
        output.effects.retain(|(id, _)| self.state.outstanding.contains_key(id));
        output
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the judge has seen and says.
    #[must_use]
    pub fn trial(&self) -> &Trial {
        &self.trial
    }

    /// The latest time that the release knows of.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn see_time(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.emit_due();
    }

    pub(super) fn record(&mut self, event: Event) {
        let entry = Entry { seq: self.state.seq + 1, epoch: self.epoch, at: self.now, event };
        let was_shifting = matches!(self.state.phase, Phase::Stage { at: StageStep::Shifting, .. });
        self.state.apply(&entry);
        self.due.retain(|id, _| self.state.outstanding.contains_key(id));
        if let Phase::Stage { step, at: StageStep::Observing { .. } } = self.state.phase
            && was_shifting
        {
            let weight = self.state.asked_weight();
            self.trial.begin_stage(&self.plan, step, weight);
            self.previewed = Previewed::default();
        }
        // A weight set by hand is judged as what it is: at 100 %, say, there is nothing to compare with.
        if let Event::WeightProven { .. } = &entry.event
            && let Phase::Stage { step, .. } = self.state.phase
            && self.state.override_weight.is_some()
            && self.state.all_proven()
        {
            self.trial.begin_stage(&self.plan, step, self.state.asked_weight());
        }
        self.output.entries.push(entry);
    }

    /// Takes traffic back for good. An automatic rollback onto a stable without any ready replica would lose every
    /// request, so that one waits for stable or for a person. Once the old version is being stopped there is nothing to go
    /// back to.
    pub(super) fn roll_back(&mut self, cause: Cause) {
        if self.state.rollback.is_some() || matches!(self.state.phase, Phase::Retiring) {
            return;
        }
        let loses_all = self.stable_is_gone() && self.state.canary_has_traffic() && !cause.kind.is_person();
        if !loses_all {
            self.record(Event::RollbackDecided { cause });
        } else if !matches!(self.state.phase, Phase::NeedsOperator { .. }) {
            self.record(Event::OperatorNeeded { cause });
        }
    }

    /// Whether stable is known to have no ready replica.
    pub(super) fn stable_is_gone(&self) -> bool {
        self.workload.stable_ready == Some(0)
    }

    /// A weight set by hand always stands still; a journal whose end is missing may have the one without the other.
    fn complete_override(&mut self) {
        if let Some(weight) = self.state.override_weight.filter(|_| self.state.paused.is_none()) {
            self.record(Event::Paused { by: None, reason: format!("weight set to {weight} by hand; `resume` goes back to the plan") });
        }
    }

    /// Whether the journal itself says why traffic left the canary.
    fn explains_latch(&self) -> bool {
        matches!(self.state.phase, Phase::RollingBack { .. } | Phase::Retreated { .. })
            || self.state.override_weight.is_some_and(WeightBps::is_zero)
    }

    pub(super) fn with_state(plan: Plan, state: State, epoch: u64, now: Timestamp) -> Self {
        let trial = Trial::new(&plan);
        Self {
            plan,
            state,
            trial,
            workload: WorkloadSeen::default(),
            told: BTreeSet::new(),
            stable_news: StableNews::default(),
            previewed: Previewed::default(),
            due: BTreeMap::new(),
            epoch,
            now,
            output: Output::default(),
        }
    }

    fn restore_trial(&mut self, checkpoint: Option<&Checkpoint>, unobserved_ms: u64) {
        if let Some(checkpoint) = checkpoint
            && !self.trial.recall(checkpoint)
        {
            let text = "evidence from before the restart is lost: it is about other criteria than the plan's";
            self.record(Event::Warned { text: text.to_owned() });
        }
        self.trial.skip(unobserved_ms);
        let weight = self.state.asked_weight();
        let step = match self.state.phase {
            Phase::Stage { step, .. } => step,
            Phase::Promoting | Phase::Baking { .. } => self.plan.steps.len(),
            Phase::Retreated { step, .. } => return self.trial.resume_retreat(&self.plan, step),
            _ => return,
        };
        match checkpoint {
            Some(checkpoint) => self.trial.resume_stage(&self.plan, checkpoint, step, weight),
            None => self.trial.begin_stage(&self.plan, step, weight),
        }
    }

    pub(super) fn preflight_checked(&mut self, id: EffectId, checks: Vec<Check>) {
        if self.state.outstanding.get(&id) != Some(&Effect::Preflight) || self.state.phase != Phase::Preflight {
            return;
        }
        self.record(Event::Done { id });
        if checks.iter().any(|check| check.status == CheckStatus::Fail) {
            self.record(Event::PreflightFailed { checks });
        } else {
            self.record(Event::PreflightPassed { checks });
        }
    }

    fn workload_seen(&mut self, seen: WorkloadSeen) {
        let news = &mut self.stable_news;
        news.is_pending = match &seen.stable_failure {
            None => false,
            failure => news.is_pending || self.workload.stable_failure != *failure,
        };
        if let Some(text) = &seen.stable_failure
            && news.is_pending
            && news.told_at.is_none_or(|told| self.now.ms_since(told) >= STABLE_NEWS_MS)
        {
            *news = StableNews { is_pending: false, told_at: Some(self.now) };
            self.record(Event::Warned { text: format!("stable: {text}") });
        }
        self.workload = seen;
        self.judge_workload();
    }
}
