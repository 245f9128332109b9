//! What the entries of a journal say: a fold of its own, kept apart from the state machine's.

use std::collections::{BTreeMap, BTreeSet};

use serin_core::{
    Timestamp, WeightBps,
    plan::Plan,
    release::{CauseKind, Effect, EffectId, Entry, Event, WITHOUT_VERDICT},
};

use super::{Broken, Told, evidence::Evidence, hold, stage_time::StageTime};

/// How far the plan has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Part {
    #[default]
    Before,
    Stage(usize),
    /// Traffic left the canary of this stage for a while.
    Away(usize),
    Everything,
}

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Refused,
    Succeeded,
    RolledBack,
}

/// What the entries say.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) part: Part,
    pub(super) end: Option<End>,
    pub(super) rolled_back: bool,
    pub(super) retiring: bool,
    pub(super) overridden: Option<WeightBps>,
    /// By whom: `true` if by a person.
    pub(super) paused: Option<bool>,
    /// What every router was last asked for.
    pub(super) asked: BTreeMap<String, (WeightBps, bool)>,
    pub(super) requested: BTreeMap<EffectId, Effect>,
    pub(super) outstanding: BTreeSet<EffectId>,
    /// Between this owner and the last one, while the first entries of an owner are taken.
    pub(super) gap_ms: Option<u64>,
    pub(super) began_at: Option<Timestamp>,
    pub(super) stops: u32,
    pub(super) deployed: bool,
    /// The last word on stable was that no replica is ready.
    pub(super) stable_is_gone: bool,
    pub(super) proven: BTreeSet<String>,
    /// The entry that last asked a router for a weight.
    pub(super) shifted: BTreeMap<String, u64>,
    pub(super) time: StageTime,
    pub(super) deploying: Option<(Timestamp, u64)>,
    pub(super) waiting: bool,
    pub(super) ready: bool,
    pub(super) may_return: bool,
    /// The current stage was passed or waived, approved, or skipped by a person.
    pub(super) cleared: bool,
    pub(super) approved: bool,
    pub(super) skipped: bool,
    pub(super) bake: Option<Bake>,
    pub(super) needs_operator: bool,
    /// When the current stage or the promotion was entered, and whether another owner took over since.
    pub(super) entered_at: Option<Timestamp>,
    pub(super) was_taken_over: bool,
    /// The newest entry's number, and so how many there are.
    pub(super) seq: u64,
    pub(super) at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bake {
    Running,
    Waived,
    Passed,
    Retained(Timestamp),
}

impl Memory {
    /// Takes in an entry that was just decided.
    pub(super) fn take(&mut self, entry: &Entry, plan: &Plan, told: &Told, evidence: &Evidence) -> Result<(), Broken> {
        hold!(entry.seq == self.seq + 1, "journal", "entry {} follows entry {}", entry.seq, self.seq);
        hold!(entry.at >= self.at, "journal", "entry {} runs backwards", entry.seq);
        hold!(self.end.is_none(), "end", "{:?} after the end", entry.event);
        self.check(entry, plan, told, evidence)?;
        self.apply(entry, plan);
        Ok(())
    }

    /// Takes in an entry that was checked when it was decided.
    pub(super) fn recall(&mut self, entry: &Entry, plan: &Plan) {
        self.apply(entry, plan);
    }

    /// The largest share that a target may have now.
    pub(super) fn most(&self, target: &str, plan: &Plan) -> WeightBps {
        match self.part {
            _ if self.rolled_back => WeightBps::ZERO,
            Part::Stage(step) => match self.overridden {
                Some(weight) => weight,
                None => plan.steps.get(step).and_then(|step| step.weights.get(target)).copied().unwrap_or_default(),
            },
            Part::Everything => WeightBps::FULL,
            Part::Before | Part::Away(_) => WeightBps::ZERO,
        }
    }

    pub(super) fn may_match(&self) -> bool {
        matches!(self.part, Part::Stage(_)) && !self.rolled_back
    }

    /// Whether every router that was ever asked for anything was last asked for nothing.
    pub(super) fn canary_is_out(&self) -> bool {
        self.asked.values().all(|asked| *asked == (WeightBps::ZERO, false))
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self.part, Part::Away(_))
    }

    /// How long the release has lasted, by its journal.
    pub(super) fn hours(&self) -> f64 {
        self.began_at.map_or(0.0, |began| self.at.ms_since(began) as f64 / 3_600_000.0)
    }

    /// A stage, bake or start that has outlasted its patience.
    pub(super) fn patience(&self, plan: &Plan, now: Timestamp) -> Result<(), Broken> {
        if self.rolled_back || self.end.is_some() || self.needs_operator {
            return Ok(());
        }
        if let Some((since, gaps_ms)) = self.deploying
            && !self.ready
        {
            let waited_ms = now.ms_since(since).saturating_sub(gaps_ms);
            hold!(waited_ms <= plan.deploy_timeout_ms, "patience", "the canary has had {waited_ms} ms to become ready");
        }
        let undecided = matches!(self.part, Part::Stage(_)) && !self.cleared || self.bake == Some(Bake::Running);
        if undecided && self.time.is_running() {
            let counted_ms = self.time.counted_ms(now);
            let patience_ms = self.time.patience_ms;
            hold!(counted_ms < patience_ms.max(1), "patience", "{:?} goes on after {counted_ms} of {patience_ms} ms", self.part);
        }
        Ok(())
    }

    fn apply(&mut self, entry: &Entry, plan: &Plan) {
        let gap_ms = if let Event::TakenOver { unobserved_ms } = entry.event { unobserved_ms } else { 0 };
        self.time.move_on(entry.at, gap_ms);
        (self.seq, self.at) = (entry.seq, entry.at);
        self.began_at.get_or_insert(entry.at);
        match &entry.event {
            Event::Requested { effect } => self.request(EffectId(entry.seq), effect),
            Event::Done { id } => {
                self.outstanding.remove(id);
                self.stops += u32::from(self.requested.get(id) == Some(&Effect::StopCanary));
            }
            Event::TakenOver { unobserved_ms } => {
                self.proven.clear();
                self.was_taken_over = true;
                // What was to follow a pass may be lost: then it passes once more.
                self.cleared &= self.waiting;
                if let Some((_, gaps_ms)) = &mut self.deploying {
                    *gaps_ms += unobserved_ms;
                }
            }
            Event::PreflightPassed { .. } => self.deploying = Some((entry.at, 0)),
            Event::PreflightFailed { .. } => self.finish(End::Refused),
            Event::Deployed => self.ready = true,
            Event::WeightProven { target, .. } => {
                self.proven.insert(target.clone());
                self.begin_time(entry.at, plan);
            }
            Event::DriftFound { target, .. } => drop(self.proven.remove(target)),
            Event::StageEntered { step } => {
                self.enter(Part::Stage(*step));
                (self.entered_at, self.was_taken_over, self.deploying) = (Some(entry.at), false, None);
            }
            Event::StagePassed { .. } | Event::StageWaived { .. } => self.cleared = true,
            Event::ApprovalAwaited { .. } => self.waiting = true,
            Event::Approved { .. } => self.approved = true,
            Event::PromotedByPerson { .. } => (self.skipped, self.paused, self.overridden) = (true, None, None),
            Event::PromotionStarted => {
                self.enter(Part::Everything);
                (self.entered_at, self.was_taken_over) = (Some(entry.at), false);
            }
            Event::BakeStarted => {
                self.bake = Some(Bake::Running);
                self.time.begin(entry.at, plan.bake().max_hold_ms);
            }
            Event::Warned { text } if self.bake == Some(Bake::Running) && text.ends_with(WITHOUT_VERDICT) => {
                self.bake = Some(Bake::Waived);
            }
            Event::BakePassed => {
                self.bake = Some(Bake::Passed);
                self.time.stop();
            }
            Event::RetainStarted => self.bake = Some(Bake::Retained(entry.at)),
            Event::RetainEnded { .. } => self.retiring = true,
            Event::Succeeded => self.finish(End::Succeeded),
            Event::Paused { by, .. } => drop(self.paused.get_or_insert(by.is_some())),
            Event::Resumed { .. } => self.resume(entry.at, plan),
            Event::Overridden { weight, .. } => {
                self.overridden = Some(*weight);
                self.cleared = false;
                self.time.stop();
            }
            Event::Retreated { .. } => {
                let Part::Stage(step) = self.part else { return };
                self.enter(Part::Away(step));
            }
            Event::RetreatEnded { .. } => self.may_return = true,
            Event::RollbackDecided { cause } => {
                (self.rolled_back, self.paused, self.overridden, self.needs_operator) = (true, None, None, false);
                let (outstanding, requested) = (&mut self.outstanding, &self.requested);
                outstanding.retain(|id| requested.get(id).is_some_and(Effect::is_retreat));
                self.deployed |= cause.kind == CauseKind::Latched;
                self.time.stop();
            }
            Event::RolledBack => self.finish(End::RolledBack),
            Event::OperatorNeeded { .. } => self.needs_operator = true,
            _ => {}
        }
        let proven = self.asked.keys().all(|target| self.proven.contains(target));
        self.time.count(proven && self.paused.is_none() && !self.needs_operator);
    }

    fn request(&mut self, id: EffectId, effect: &Effect) {
        match effect {
            Effect::Shift { target, weight, matches } => {
                let (outstanding, requested) = (&mut self.outstanding, &self.requested);
                outstanding.retain(|old| requested.get(old).and_then(Effect::target) != Some(target));
                self.asked.insert(target.clone(), (*weight, *matches));
                self.proven.remove(target);
                self.shifted.insert(target.clone(), id.0);
            }
            Effect::Deploy => self.deployed = true,
            _ => {}
        }
        self.requested.insert(id, effect.clone());
        self.outstanding.insert(id);
    }

    fn begin_time(&mut self, at: Timestamp, plan: &Plan) {
        let all = self.asked.keys().all(|target| self.proven.contains(target));
        if let Part::Stage(step) = self.part
            && all
            && self.overridden.is_none()
            && self.time.since.is_none()
            && !self.cleared
        {
            self.time.begin(at, plan.steps.get(step).map_or(0, |step| step.max_hold_ms));
        }
    }

    fn resume(&mut self, at: Timestamp, plan: &Plan) {
        let by_person = self.paused.take();
        // Whoever resumes during a retreat goes back to the stage.
        self.may_return = true;
        if self.overridden.take().is_some() {
            self.proven.clear();
            (self.cleared, self.waiting, self.approved) = (false, false, false);
            self.time.stop();
        } else if by_person == Some(false) {
            let more_ms = match self.part {
                Part::Stage(step) => plan.steps.get(step).map_or(0, |step| step.max_hold_ms),
                _ => plan.bake().max_hold_ms,
            };
            self.time.patience_ms = self.time.counted_ms(at) + more_ms;
        }
    }

    fn enter(&mut self, part: Part) {
        self.part = part;
        (self.cleared, self.approved, self.skipped, self.may_return, self.waiting) = (false, false, false, false, false);
        self.overridden = None;
        self.proven.clear();
        self.time.stop();
    }

    fn finish(&mut self, end: End) {
        (self.end, self.paused) = (Some(end), None);
        self.outstanding.clear();
    }
}
