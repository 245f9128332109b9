//! The two versions: what runs, what is ready, and what is told of them.

use serin_core::release::{EffectId, Fault, Input, WorkloadSeen};

use super::{
    Sim, Stop,
    queue::{Event, Fate},
};
use crate::scenario::Kind;

/// What runs.
#[derive(Debug)]
pub(super) struct Versions {
    pub(super) stable_runs: bool,
    pub(super) canary_runs: bool,
    canary_ready: bool,
    /// Stopping failed often enough to be given up.
    pub(super) stop_failures: u32,
    flaps: u32,
}

impl Versions {
    pub(super) fn new() -> Self {
        Self { stable_runs: true, canary_runs: false, canary_ready: false, stop_failures: 0, flaps: 0 }
    }

    pub(super) fn stable_serves(&self, gone: bool) -> bool {
        self.stable_runs && !gone
    }

    pub(super) fn canary_serves(&self) -> bool {
        self.canary_runs && self.canary_ready
    }
}

impl Sim {
    /// The canary is asked to start.
    pub(super) fn deploy(&mut self, epoch: u64, id: EffectId) {
        self.versions.canary_runs = true;
        let patience_ms = self.scenario.plan.deploy_timeout_ms;
        let (after_ms, ready) = match self.has(Kind::CanaryNeverReady) {
            true => (patience_ms, false),
            false => (self.luck.answers.range(5, patience_ms / 2 + 5), true),
        };
        self.queue.put(self.now_ms + after_ms, Event::Deployed { epoch, id: id.0, ready });
    }

    pub(super) fn deployed(&mut self, epoch: u64, id: u64, ready: bool) {
        let ready = ready && self.versions.canary_runs;
        self.versions.canary_ready |= ready;
        let id = EffectId(id);
        let input = if ready {
            Input::Done(id)
        } else {
            Input::Failed(id, Fault { text: "it was not ready in time".to_owned(), retryable: false })
        };
        let fate = self.fate();
        self.answer(epoch, id, input, 1, fate);
    }

    /// A version really stops.
    pub(super) fn stops(&mut self, epoch: u64, id: u64, is_canary: bool, fate: Fate) -> Result<(), Stop> {
        if self.process.as_ref().is_none_or(|process| process.epoch != epoch) {
            return Ok(());
        }
        let routers = self.sights();
        if is_canary {
            self.rules.canary_stops(&routers)?;
            (self.versions.canary_runs, self.versions.canary_ready) = (false, false);
        } else {
            self.rules.stable_stops(&routers)?;
            self.versions.stable_runs = false;
        }
        self.say(|| format!("world     {} stops", if is_canary { "the canary" } else { "the old version" }));
        self.answer(epoch, EffectId(id), Input::Done(EffectId(id)), 1, fate);
        Ok(())
    }

    /// What is told of the replicas.
    pub(super) fn workload_seen(&mut self) -> WorkloadSeen {
        let mut gone = self.has(Kind::StableGone) || !self.versions.stable_runs;
        let mut failure = gone.then(|| "no replica is ready".to_owned());
        if self.has(Kind::StableFlaps) {
            self.versions.flaps += 1;
            if self.versions.flaps.is_multiple_of(2) {
                gone = self.versions.flaps.is_multiple_of(4);
                failure = Some("a replica restarts".to_owned());
            }
        }
        // Every new failure is told once.
        self.rules.allow(u64::from(failure.is_some()));
        let canary_failure = (self.has(Kind::CanaryCrashes) && self.versions.canary_runs).then(|| "crash loop".to_owned());
        let canary_gone = self.has(Kind::CanaryCrashes) || !self.versions.canary_runs;
        let canary_ready = Some(if canary_gone { 0 } else { 2 });
        WorkloadSeen { stable_ready: Some(if gone { 0 } else { 2 }), canary_ready, stable_failure: failure, canary_failure }
    }
}
