//! The state of a release: the fold of its journal, and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Cause, CauseKind, Effect, EffectId, Entry, Event};
use crate::{Timestamp, WeightBps};

/// Everything the journal says about a release. Serialized, two folds of the same journal are equal byte for byte.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Where the release is.
    pub phase: Phase,
    /// Set while the release stands still.
    pub paused: Option<Pause>,
    /// The routers.
    pub targets: BTreeMap<String, TargetState>,
    /// Effects that were asked for and not yet acknowledged.
    pub outstanding: BTreeMap<EffectId, Effect>,
    /// Why traffic goes or went back; once set, the canary's share never rises again.
    pub rollback: Option<Cause>,
    /// A weight that a person set instead of the plan's.
    pub override_weight: Option<WeightBps>,
    /// Whether the canary was asked to start (and needs to be stopped on a rollback).
    pub deployed: bool,
    /// Whether the canary was fully ready once.
    pub ready: bool,
    /// Since when the time of a stage or bake does not count: the release is paused, or a router is not proven.
    pub stopped_since: Option<Timestamp>,
    /// Why traffic last left the canary for a while.
    pub retreat: Option<Cause>,
    /// How often traffic left the canary because both arms broke a limit.
    pub retreats: u32,
    /// How many stages the release has left behind; where it had come to if it went back to stable.
    pub stages_behind: usize,
    /// Traffic confirmed that everything goes to the canary at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub switch_seen: bool,
    /// When the release began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The last entry.
    pub seq: u64,
    /// When the last entry was written.
    pub at: Timestamp,
    /// The owner that wrote the last entry.
    pub epoch: u64,
}

/// Where a release is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Phase {
    /// Not yet begun.
    #[default]
    Pending,
    /// Checks run.
    Preflight,
    /// A check failed: the release never started. Final.
    Refused,
    /// The canary starts.
    Deploying {
        /// Since when.
        since: Timestamp,
    },
    /// In a stage of the plan.
    Stage {
        /// Position in the plan, from 0.
        step: usize,
        /// Where in the stage.
        at: StageStep,
    },
    /// The canary gets everything.
    Promoting,
    /// The canary has everything and is measured.
    Baking {
        /// When 100 % was proven.
        since: Timestamp,
        /// Time since then that does not count, in milliseconds.
        excluded_ms: u64,
        /// How much later than planned the policies for an undecided bake act, in milliseconds: people resumed.
        extended_ms: u64,
    },
    /// The canary becomes the version that is kept.
    Finishing,
    /// The old version is kept for a rollback.
    Retained {
        /// Since when.
        since: Timestamp,
    },
    /// The old version is stopped.
    Retiring,
    /// The new version serves. Final.
    Succeeded,
    /// Traffic left the canary because both arms broke a limit.
    Retreated {
        /// The stage to go back to.
        step: usize,
        /// Since when the canary has no traffic, less the time nobody watched; before that is proven: since the decision.
        since: Timestamp,
    },
    /// Traffic goes back to stable (`traffic_back` false), then the canary is stopped.
    RollingBack {
        /// Whether every router was read back without canary traffic.
        traffic_back: bool,
    },
    /// Stable serves alone. Final.
    RolledBack,
    /// A rollback waits, because stable has no ready replica.
    NeedsOperator {
        /// What the rollback would be for.
        cause: Cause,
        /// What the release was doing.
        was: Box<Phase>,
    },
}

/// Where in a stage a release is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum StageStep {
    /// The routers are being set and read back.
    Shifting,
    /// Traffic is measured.
    Observing {
        /// When the weight was proven.
        since: Timestamp,
        /// Time since then that does not count (pauses, no owner), in milliseconds.
        excluded_ms: u64,
        /// How much later than planned the policies for undecided stages act, in milliseconds: people resumed.
        extended_ms: u64,
    },
    /// Passed; a person must approve.
    AwaitingApproval {
        /// Since when.
        since: Timestamp,
    },
}

/// A release that stands still.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when.
    pub since: Timestamp,
    /// Who; `None`: the release itself.
    pub by: Option<String>,
    /// Why.
    pub reason: String,
}

/// One router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// The canary's share last asked for.
    pub asked: WeightBps,
    /// Whether the declared matches were asked to be active.
    pub matches: bool,
    /// Whether the preview address was asked to lead to the canary.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preview: bool,
    /// The canary's share last read back; `None` while a change is on its way.
    pub proven: Option<WeightBps>,
    /// The router was found to do something else than asked, and has not been asked again yet.
    pub drifted: bool,
    /// How often in a row it was found to do something else than this share.
    pub drifts: u32,
}

impl State {
    /// The state after these entries. Never panics, whatever the entries.
    #[must_use]
    pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        Self::fold_from(Self::default(), entries)
    }

    /// The state after these entries, which follow those that led to `base`: a journal whose beginning was replaced by a snapshot.
    /// Cutting a journal anywhere makes no difference. Never panics, whatever the base and the entries.
    #[must_use]
    pub fn fold_from<'a>(base: Self, entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut state = base;
        for entry in entries {
            state.apply(entry);
        }
        state
    }

    /// Whether nothing will happen any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.phase, Phase::Refused | Phase::Succeeded | Phase::RolledBack)
    }

    /// The largest share of the canary on any target, as asked.
    #[must_use]
    pub fn asked_weight(&self) -> WeightBps {
        self.targets.values().map(|target| target.asked).max().unwrap_or_default()
    }

    /// Whether every target was read back with the share it was asked for.
    #[must_use]
    pub fn all_proven(&self) -> bool {
        self.targets.values().all(|target| target.proven == Some(target.asked))
    }

    /// The current stage's position in the plan.
    #[must_use]
    pub fn step(&self) -> Option<usize> {
        match &self.phase {
            Phase::Stage { step, .. } | Phase::Retreated { step, .. } => Some(*step),
            Phase::NeedsOperator { was, .. } => match **was {
                Phase::Stage { step, .. } => Some(step),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the canary may be getting requests, by weight, by a declared match or through the preview address.
    #[must_use]
    pub fn canary_has_traffic(&self) -> bool {
        self.targets.values().any(|target| target.matches || target.preview || !target.asked.is_zero())
    }

    /// Takes in one entry. Entries that do not fit the state change nothing but the position.
    pub(super) fn apply(&mut self, entry: &Entry) {
        self.seq = entry.seq;
        self.at = entry.at;
        self.epoch = entry.epoch;
        let now = entry.at;
        match &entry.event {
            Event::Began { .. } => {
                self.phase = Phase::Preflight;
                self.began_at = now;
            }
            Event::TakenOver { unobserved_ms } => {
                self.skip(*unobserved_ms, now);
                self.forget_proofs();
            }
            Event::Requested { effect } => self.request(EffectId(entry.seq), effect),
            Event::Done { id } => {
                self.outstanding.remove(id);
            }
            Event::Failed { .. }
            | Event::Warned { .. }
            | Event::StagePassed { .. }
            | Event::StageWaived { .. }
            | Event::Approved { .. } => {}
            Event::PreflightPassed { .. } => self.phase = Phase::Deploying { since: now },
            Event::PreflightFailed { .. } => self.end(Phase::Refused, now),
            Event::Deployed => self.ready = true,
            Event::StageEntered { step } => {
                self.stages_behind = *step;
                self.shift(*step);
            }
            Event::WeightProven { target, weight } => self.prove(target, *weight, now),
            Event::DriftFound { target, .. } => {
                if let Some(target) = self.targets.get_mut(target) {
                    target.proven = None;
                    target.drifted = true;
                    target.drifts = target.drifts.saturating_add(1);
                }
            }
            Event::ApprovalAwaited { step } => self.phase = Phase::Stage { step: *step, at: StageStep::AwaitingApproval { since: now } },
            Event::Paused { by, reason } => {
                self.paused.get_or_insert(Pause { since: now, by: by.clone(), reason: reason.clone() });
            }
            Event::Resumed { .. } => self.resume(now),
            Event::Overridden { weight, .. } => self.override_weight = Some(*weight),
            Event::PromotedByPerson { .. } => {
                self.paused = None;
                self.override_weight = None;
            }
            Event::PromotionStarted => {
                self.stages_behind = self.step().map_or(self.stages_behind, |step| step + 1);
                self.phase = Phase::Promoting;
            }
            Event::BakeStarted => self.phase = Phase::Baking { since: now, excluded_ms: 0, extended_ms: 0 },
            Event::SwitchSeen { .. } => self.switch_seen = true,
            Event::BakePassed => self.phase = Phase::Finishing,
            Event::RetainStarted => self.phase = Phase::Retained { since: now },
            Event::RetainEnded { .. } => self.phase = Phase::Retiring,
            Event::Succeeded => self.end(Phase::Succeeded, now),
            Event::Retreated { cause } => {
                let step = self.step().unwrap_or(0);
                self.retreat = Some(cause.clone());
                self.retreats = self.retreats.saturating_add(1);
                self.override_weight = None;
                self.phase = Phase::Retreated { step, since: now };
            }
            Event::RetreatEnded { .. } => {}
            Event::RollbackDecided { cause } => {
                self.rollback = Some(cause.clone());
                self.paused = None;
                self.override_weight = None;
                // A move to stable that is on its way is what the rollback wants as well.
                self.outstanding.retain(|_, effect| effect.is_retreat());
                // The journal may have lost the start of the canary together with the reason.
                self.deployed |= cause.kind == CauseKind::Latched;
                self.phase = Phase::RollingBack { traffic_back: false };
            }
            Event::TrafficReturned => self.phase = Phase::RollingBack { traffic_back: true },
            Event::RolledBack => self.end(Phase::RolledBack, now),
            Event::OperatorNeeded { cause } => {
                let was = Box::new(std::mem::take(&mut self.phase));
                self.phase = Phase::NeedsOperator { cause: cause.clone(), was };
            }
        }
        self.keep_clock(now);
    }

    fn request(&mut self, id: EffectId, effect: &Effect) {
        match effect {
            Effect::Shift { target, weight, matches, preview } => {
                // A newer wish for the same router makes the older ones, and reading them back, pointless.
                self.outstanding.retain(|_, old| old.target() != Some(target));
                let drifts = self.targets.get(target).filter(|old| old.asked == *weight).map_or(0, |old| old.drifts);
                let state = TargetState { asked: *weight, matches: *matches, preview: *preview, proven: None, drifted: false, drifts };
                self.targets.insert(target.clone(), state);
            }
            Effect::Deploy => self.deployed = true,
            _ => {}
        }
        self.outstanding.insert(id, effect.clone());
    }

    fn prove(&mut self, target: &str, weight: WeightBps, now: Timestamp) {
        if let Some(target) = self.targets.get_mut(target) {
            target.proven = Some(weight);
            target.drifts = 0;
        }
        if !self.all_proven() {
            return;
        }
        match &mut self.phase {
            Phase::Stage { at: at @ StageStep::Shifting, .. } if self.override_weight.is_none() => {
                *at = StageStep::Observing { since: now, excluded_ms: 0, extended_ms: 0 };
            }
            Phase::Retreated { since, .. } => *since = now,
            _ => {}
        }
    }

    /// Enters a stage. Its time starts with a proof of its own, also where it asks for what the routers do already.
    fn shift(&mut self, step: usize) {
        self.phase = Phase::Stage { step, at: StageStep::Shifting };
        self.forget_proofs();
    }

    /// Routers are to be read back once more: whatever they did before says nothing about now.
    fn forget_proofs(&mut self) {
        self.targets.values_mut().for_each(|target| target.proven = None);
    }

    fn resume(&mut self, now: Timestamp) {
        let Some(pause) = self.paused.take() else { return };
        if self.override_weight.take().is_some()
            && let Phase::Stage { step, .. } = self.phase
        {
            self.shift(step);
        }
        // A pause by the release came at the end of the stage's patience: resuming grants it once more.
        let held_ms = self.held_ms(now);
        if let Phase::Stage { at: StageStep::Observing { extended_ms, .. }, .. } | Phase::Baking { extended_ms, .. } = &mut self.phase
            && pause.by.is_none()
        {
            *extended_ms = held_ms;
        }
    }

    fn end(&mut self, phase: Phase, now: Timestamp) {
        self.phase = phase;
        self.paused = None;
        self.outstanding.clear();
        self.ended_at = Some(now);
    }
}
