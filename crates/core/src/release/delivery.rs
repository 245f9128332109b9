//! How effects get done: asked for, asked for again, and given up.
//!
//! An effect that is not answered in time is asked for again. One that fails is asked for again after a growing wait; after
//! [`PATIENCE_ATTEMPTS`] failures, or at once where trying again cannot help, the release does without it or rolls back.
//! Moves of traffic to stable are never given up, and neither is anything that a rollback needs.

use super::{Cause, CauseKind, Check, CheckStatus, Effect, EffectId, Event, Fault, Phase, Release};
use crate::Timestamp;

/// Failures in a row after which the release does without an effect or rolls back.
pub(super) const PATIENCE_ATTEMPTS: u32 = 10;
const FIRST_RETRY_MS: u64 = 100;
const LONGEST_RETRY_MS: u64 = 5_000;
/// Traffic to stable is tried again soon and for ever.
const LONGEST_RETREAT_RETRY_MS: u64 = 500;

/// The next time an outstanding effect is asked for. Not journaled: a restarted shell asks for all of them at once.
#[derive(Debug, Clone)]
pub(super) struct Due {
    at: Timestamp,
    attempts: u32,
    /// Asked for and not answered yet. While it is not, an answer is a doubled one.
    in_flight: bool,
    error: Option<String>,
}

impl Release {
    pub(super) fn request(&mut self, effect: Effect) {
        self.record(Event::Requested { effect: effect.clone() });
        self.emit(EffectId(self.state.seq), effect);
    }

    pub(super) fn request_once(&mut self, effect: Effect) {
        if !self.is_outstanding(|old| *old == effect) {
            self.request(effect);
        }
    }

    /// Asks for an effect as if `attempts` had failed already: after the same growing wait.
    pub(super) fn request_after(&mut self, effect: Effect, attempts: u32) {
        let at = self.now.plus_ms(retry_wait_ms(attempts, effect.is_retreat()));
        self.record(Event::Requested { effect });
        self.due.insert(EffectId(self.state.seq), Due { at, attempts: 0, in_flight: false, error: None });
    }

    pub(super) fn is_outstanding(&self, wanted: impl Fn(&Effect) -> bool) -> bool {
        self.state.outstanding.values().any(wanted)
    }

    pub(super) fn emit(&mut self, id: EffectId, effect: Effect) {
        let at = self.now.plus_ms(self.answer_within_ms(&effect));
        let due = self.due.entry(id).or_insert(Due { at, attempts: 0, in_flight: true, error: None });
        (due.at, due.in_flight) = (at, true);
        let list = if effect.is_retreat() { &mut self.output.urgent } else { &mut self.output.effects };
        if !list.iter().any(|(listed, _)| *listed == id) {
            list.push((id, effect));
        }
    }

    /// Asks again for what was not answered in time, or has waited long enough after a failure.
    pub(super) fn emit_due(&mut self) {
        let late: Vec<_> = self.due.iter().filter(|(_, due)| due.at <= self.now).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(effect) = self.state.outstanding.get(&id).cloned() {
                self.emit(id, effect);
            }
        }
    }

    /// When the next outstanding effect is asked for again.
    pub(super) fn next_retry(&self) -> Option<Timestamp> {
        self.due.values().map(|due| due.at).min()
    }

    /// The last failure of an effect that is still wanted, in words.
    pub(super) fn trouble(&self) -> Option<String> {
        let due = self.due.values().find(|due| due.error.is_some())?;
        Some(format!("attempt {} failed: {}", due.attempts, due.error.as_deref().unwrap_or_default()))
    }

    pub(super) fn done(&mut self, id: EffectId) {
        let Some(effect) = self.state.outstanding.get(&id).cloned() else { return };
        // These have answers of their own.
        if matches!(effect, Effect::Preflight | Effect::ReadBack { .. }) {
            return;
        }
        self.record(Event::Done { id });
        self.follow(&effect);
    }

    pub(super) fn failed(&mut self, id: EffectId, fault: &Fault) {
        let Some(effect) = self.state.outstanding.get(&id).cloned() else { return };
        let Some(due) = self.due.get_mut(&id).filter(|due| due.in_flight) else { return };
        let attempts = due.attempts.saturating_add(1);
        let at = self.now.plus_ms(retry_wait_ms(attempts, effect.is_retreat()));
        *due = Due { at, attempts, in_flight: false, error: Some(fault.text.clone()) };
        // Powers of two: a router that is down for a day does not fill the journal.
        if attempts.is_power_of_two() {
            self.record(Event::Failed { id, error: fault.text.clone(), attempts });
        }
        if !fault.retryable || attempts >= PATIENCE_ATTEMPTS {
            self.give_up(id, &effect, fault, attempts);
        }
    }

    /// What an acknowledged effect leads to.
    fn follow(&mut self, effect: &Effect) {
        match (effect, &self.state.phase) {
            (Effect::Deploy, Phase::Deploying { .. }) => self.record(Event::Deployed),
            (Effect::Finalize, Phase::Finishing) => self.record(Event::RetainStarted),
            (Effect::Retire, Phase::Retiring) => self.record(Event::Succeeded),
            (Effect::StopCanary, Phase::RollingBack { traffic_back: true }) => self.record(Event::RolledBack),
            _ => {}
        }
    }

    fn give_up(&mut self, id: EffectId, effect: &Effect, fault: &Fault, attempts: u32) {
        let cause = |what: &str| Cause { kind: CauseKind::Effect, text: format!("{what}: {}", fault.text) };
        match effect {
            Effect::Preflight => {
                let check = Check { name: "preflight".to_owned(), status: CheckStatus::Fail, detail: fault.text.clone(), hint: None };
                self.preflight_checked(id, vec![check]);
            }
            Effect::Deploy => self.roll_back(Cause { kind: CauseKind::Workload, text: fault.text.clone() }),
            Effect::Shift { .. } if effect.is_retreat() => {}
            Effect::Shift { .. } => self.roll_back(cause("the router does not take the weight")),
            Effect::ReadBack { .. } => self.roll_back(cause("the router's weight cannot be read back")),
            Effect::Retire | Effect::StopCanary => {
                let text = format!("could not be stopped after {attempts} attempts, it may still be running: {}", fault.text);
                let which = if *effect == Effect::Retire { "the old version" } else { "the canary" };
                self.record(Event::Warned { text: format!("{which} {text}") });
                self.record(Event::Done { id });
                self.follow(effect);
            }
            // Nothing to fall back to: the canary serves everything and stable is still there.
            Effect::Finalize if attempts == PATIENCE_ATTEMPTS || (attempts == 1 && !fault.retryable) => {
                let text = format!("the canary could not be made the version that is kept, trying again: {}", fault.text);
                self.record(Event::Warned { text });
            }
            Effect::Finalize => {}
        }
    }

    /// How long an answer to an effect may take before the effect is asked for again.
    fn answer_within_ms(&self, effect: &Effect) -> u64 {
        match effect {
            Effect::Shift { .. } | Effect::ReadBack { .. } => 5_000,
            Effect::Deploy => self.plan.deploy_timeout_ms.saturating_add(10_000),
            Effect::Preflight | Effect::Finalize | Effect::Retire | Effect::StopCanary => 120_000,
        }
    }
}

fn retry_wait_ms(attempts: u32, is_retreat: bool) -> u64 {
    let longest = if is_retreat { LONGEST_RETREAT_RETRY_MS } else { LONGEST_RETRY_MS };
    (FIRST_RETRY_MS << attempts.min(8)).min(longest)
}
