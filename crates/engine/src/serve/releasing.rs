//! A service while a release of it is carried out.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use serin_core::{
    Timestamp,
    release::{Action, Check, Command, Phase},
    traffic::Arm,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    Applied, Refused, Retention, ServiceState, ServiceStatus, Who,
    queue::Queued,
    service::{Ask, Condition, Service, empty},
    standing::{self, Standing},
    status::LastRun,
    version,
};
use crate::{
    run::{Document, RunEnd, driver::Driver, ledger::SharedStore, start::Stood},
    store::{ReleaseId, Serving, StateFolder, StoreError},
};

/// How often the whole status is published unasked. Who wants it asks; this is what is shown if there is no answer, and the report of a
/// release takes its time.
const PULSE: Duration = Duration::from_secs(5);

/// A release under way.
pub(super) struct Releasing {
    pub(super) driver: Driver,
    /// The version that is stable.
    pub(super) serving: Serving,
    /// The document that it is from.
    pub(super) document: Document,
    /// The document that is being released.
    pub(super) released: Document,
    pub(super) run: i64,
}

/// The end of a release as it is to be recorded.
pub(super) struct Unrecorded {
    row: ReleaseId,
    end: RunEnd,
    ended_at: Timestamp,
    serving: Serving,
}

enum Step {
    Ended(RunEnd),
    Asked(Option<Ask>),
    Pulse,
}

impl Releasing {
    fn status(&self, service: &Service) -> ServiceStatus {
        let report = self.driver.report();
        let mut status = empty(&service.name, ServiceState::Releasing, report.listen.clone());
        status.serving = standing::words(&self.serving, &self.document);
        let stable = &report.arms[Arm::Stable.index()].status;
        (status.ready, status.replicas) = (stable.ready, stable.replicas);
        status.fault = report.store_fault.clone();
        status.release = Some(report);
        status.queued = service.queued.as_ref().map(Queued::words);
        status.last = service.last.clone();
        status
    }

    /// Whether this document is being released.
    pub(super) fn is_of(&self, document: &Document) -> bool {
        document.release.document_hash == self.driver.row.document_hash
    }

    /// Whether it is not being taken back for something newer.
    pub(super) fn has_just_begun(&self) -> bool {
        self.driver.release.state().rollback.is_none()
    }

    /// Whether taking the traffic back would send it to nobody. Only people who know that may decide it.
    fn would_lose_all(&self) -> bool {
        let stats = self.driver.world.stats.borrow().clone();
        let stable = self.driver.world.workload.arm(Arm::Stable, stats.as_deref());
        match self.phase() {
            Phase::NeedsOperator { .. } => true,
            Phase::Retained { .. } | Phase::Retiring => false,
            _ => stable.ready == Some(0) && self.driver.release.state().canary_has_traffic(),
        }
    }

    fn phase(&self) -> &Phase {
        &self.driver.release.state().phase
    }

    /// How the release is called to people.
    fn words(&self) -> String {
        format!("{} run {} ({})", self.released.release.name, self.driver.row.run, self.phase().name())
    }
}

impl Service {
    pub(super) async fn release(&mut self, mut releasing: Releasing) -> Condition {
        // Nobody interrupts a release of a server: ends are asked for.
        let (_nobody, mut interrupts) = mpsc::channel(1);
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            // Between two turns of the driver nothing is under way that could be lost.
            let step = tokio::select! {
                biased;
                end = releasing.driver.drive(&mut interrupts, None) => Step::Ended(end),
                ask = self.next_ask() => Step::Asked(ask),
                _ = pulse.tick() => Step::Pulse,
            };
            match step {
                Step::Ended(end) => return self.conclude(releasing, end).await,
                Step::Pulse => drop(self.status.send_replace(releasing.status(self))),
                Step::Asked(None) => return leave(releasing).await,
                Step::Asked(Some(Ask::Detach { answer })) => {
                    let gone = leave(releasing).await;
                    let _ = answer.send(());
                    return gone;
                }
                Step::Asked(Some(Ask::Stop { answer })) => {
                    stop(releasing).await;
                    let _ = answer.send(());
                    return Condition::Gone;
                }
                Step::Asked(Some(ask)) => self.answer_releasing(ask, &mut releasing),
            }
        }
    }

    fn answer_releasing(&mut self, ask: Ask, releasing: &mut Releasing) {
        match ask {
            Ask::Status(answer) => drop(answer.send(releasing.status(self))),
            Ask::Act { command, answer } => {
                let done = releasing.driver.obey(command).map_err(|refusal| Refused::Conflict(refusal.to_string()));
                let _ = answer.send(done);
            }
            Ask::Rollback { who, answer } => {
                let command = Command { action: Action::Abort, by: who.name, reason: who.reason };
                let done = releasing.driver.obey(command).map_err(|refusal| Refused::Conflict(refusal.to_string()));
                let _ = answer.send(done);
            }
            Ask::Apply { document, who, answer } => drop(answer.send(self.supersede(*document, who, releasing))),
            Ask::DryRun { document, answer } => drop(answer.send(self.foresee(&document, releasing))),
            Ask::Retry { answer, .. } => {
                let text = format!("{} is under way; abort it first, or wait", releasing.words());
                let _ = answer.send(Err(Refused::Conflict(text)));
            }
            Ask::Delete { answer, .. } => {
                let text = format!("{} is under way; abort it first", releasing.words());
                let _ = answer.send(Err(Refused::Conflict(text)));
            }
            Ask::Detach { answer } | Ask::Stop { answer } => drop(answer.send(())),
        }
    }

    /// What becomes of a document while a release is under way: see the module `service`.
    fn foresee(&self, document: &Document, releasing: &Releasing) -> Result<(Applied, Vec<Check>), Refused> {
        let unchanged = |why| Ok((Applied::Unchanged { why }, Vec::new()));
        let hash = &document.release.document_hash;
        let rolls_back = releasing.driver.release.state().rollback.is_some();
        // Unless somebody wanted another one in between, the same document says nothing new. Above all it does not bring back what is just
        // being taken back, because some loop applies it every minute.
        if *hash == releasing.released.release.document_hash && self.queued.is_none() {
            let (what, name) = (releasing.words(), &self.name);
            return unchanged(if rolls_back {
                format!("{what}; `serin retry {name}` releases it once more after that")
            } else {
                format!("{what} is under way already")
            });
        }
        if let Some(queued) = self.queued.as_ref().filter(|queued| queued.document.release.document_hash == *hash) {
            return unchanged(format!("{} begins when {} has ended", queued.words(), releasing.words()));
        }
        let what = releasing.words();
        // Before what the document says is looked at: whatever that is, this is not the time.
        if matches!(releasing.phase(), Phase::Promoting | Phase::Baking { .. } | Phase::Finishing) {
            return Err(Refused::Conflict(format!(
                "{what} serves all clients with its new version already; wait for its end, or `serin rollback {}` first",
                self.name
            )));
        }
        if releasing.would_lose_all() {
            return Err(Refused::Conflict(format!(
                "{what}: stable has no ready replica that could take the traffic back; repair it, or `serin abort {}` first",
                self.name
            )));
        }
        let kept = matches!(releasing.phase(), Phase::Retained { .. } | Phase::Retiring);
        let (stable, arm) = if kept { (&releasing.released, Arm::Canary) } else { (&releasing.document, releasing.serving.arm) };
        let checks = standing::check(document, stable, arm, &releasing.driver.folder)?;
        Ok((Applied::Supersedes { what }, checks))
    }

    /// A newer document takes the place of the release, if it may.
    fn supersede(&mut self, document: Document, who: Who, releasing: &mut Releasing) -> Result<Applied, Refused> {
        let (applied, _) = self.foresee(&document, releasing)?;
        if matches!(applied, Applied::Unchanged { .. }) {
            return Ok(applied);
        }
        let rolls_back = releasing.driver.release.state().rollback.is_some();
        let action = match releasing.phase() {
            Phase::Retained { .. } => Some(Action::Retire),
            _ if rolls_back || matches!(releasing.phase(), Phase::Retiring) => None,
            _ => Some(Action::Abort),
        };
        let queued = Queued { document, who };
        queued.keep(&releasing.driver.folder)?;
        if let Some(action) = action {
            let reason = Some(format!("superseded by {}", queued.words()));
            let command = Command { action, by: queued.who.name.clone(), reason };
            if let Err(refusal) = releasing.driver.obey(command) {
                Queued::forget(&releasing.driver.folder);
                return Err(Refused::Conflict(refusal.to_string()));
            }
        }
        self.queued = Some(queued);
        Ok(applied)
    }

    /// The release is over: what it proved, or what served before, serves from here on.
    async fn conclude(&mut self, releasing: Releasing, end: RunEnd) -> Condition {
        let Releasing { driver, serving, document, released, run } = releasing;
        let state = driver.release.state();
        let ended_at = state.ended_at.unwrap_or(state.at);
        let last = LastRun {
            document_hash: driver.row.document_hash.clone(),
            run: driver.row.run,
            number: run,
            began_at: state.began_at,
            ended_at,
            end: end.clone(),
        };
        let (serving, document, arm) = match &end {
            RunEnd::Succeeded => (version::proven(&released, run), released, Arm::Canary),
            _ => {
                let arm = Arm::Stable;
                (serving, document, arm)
            }
        };
        self.unrecorded = Some(Unrecorded { row: driver.row.id, end, ended_at, serving: serving.clone() });
        if let Err(error) = self.record_end(&driver.store) {
            // The journal says it all: the next server reads it from there, should this one end before it can record it.
            tracing::error!(service = self.name, %error, "the end of the release could not be recorded; trying again");
        }
        if let Some(load) = driver.load {
            load.stop().await;
        }
        driver.latch.remove();
        self.last = Some(last);
        let Driver { folder, store, world, keeper, .. } = driver;
        // Usually stopped already; not so if the proxy was away for long while the release ended.
        let (lost, stopping) = (if arm == Arm::Stable { Arm::Canary } else { Arm::Stable }, Arc::clone(&world));
        tokio::spawn(async move {
            if let Err(error) = stopping.workload.stop(lost).await {
                tracing::error!(arm = %lost, %error, "could not be stopped");
            }
        });
        tokio::task::block_in_place(|| self.forget_the_old(&folder, &store));
        Condition::Standing(Box::new(Standing { stood: Stood { folder, store, world, keeper }, serving, document, arm }))
    }
}

impl Service {
    /// Bounds what the folder holds. Nothing is released right now, so that nobody waits for it.
    fn forget_the_old(&self, folder: &StateFolder, store: &SharedStore) {
        let Retention { runs, keep_ms } = self.tools.retention;
        match store.lock().unwrap_or_else(PoisonError::into_inner).retain(runs, keep_ms, crate::process::now()) {
            Ok(forgotten) => {
                for run in forgotten {
                    // One that is not there any more is as good as removed.
                    let _ = std::fs::remove_file(folder.latch(run));
                    let _ = std::fs::remove_file(folder.recording(run));
                }
            }
            Err(error) => tracing::warn!(service = self.name, %error, "old journals could not be removed"),
        }
    }

    /// Records the end of the last release, if that is still to be done: before another one begins, so that what serves is always what the
    /// newest brought.
    pub(super) fn record_end(&mut self, store: &SharedStore) -> Result<(), StoreError> {
        let Some(Unrecorded { row, end, ended_at, serving }) = &self.unrecorded else { return Ok(()) };
        tokio::task::block_in_place(|| {
            let told = serde_json::to_string(end).ok();
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.end_with(*row, end.word(), *ended_at, told.as_deref(), Some(serving))
        })?;
        self.unrecorded = None;
        Ok(())
    }
}

async fn leave(releasing: Releasing) -> Condition {
    let driver = releasing.driver;
    driver.world.workload.detach();
    if let Some(load) = driver.load {
        load.detach();
    }
    driver.keeper.detach().await;
    Condition::Gone
}

/// Takes the traffic back, then stops everything. The journal is left as it is: the next server goes on with the release.
pub(super) async fn stop(releasing: Releasing) {
    let driver = releasing.driver;
    driver.world.send_everything_to_stable().await;
    if let Some(load) = driver.load {
        load.stop().await;
    }
    standing::stop_all(&driver.folder, &driver.world, driver.keeper).await;
}
