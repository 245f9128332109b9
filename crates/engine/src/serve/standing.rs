//! A service between releases: one version serves.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use serin_core::{release::Check, traffic::Arm};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    Applied, Refused, ServiceState, ServiceStatus, Who,
    opening::{config, feed, names},
    passed,
    queue::{Queued, short},
    releasing::Releasing,
    service::{Ask, Condition, Down, PULSE, Service, empty},
    version,
};
use crate::{
    preflight,
    run::{
        Document, RunEnd,
        driver::Driver,
        effects::World,
        ledger::SharedStore,
        start::{Ground, Preparation, Stood},
    },
    store::{NewRelease, ReleaseRow, Serving, StateFolder, StoreError},
};

/// Between two attempts to begin a queued release while the store cannot be written.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// One version that serves.
pub(super) struct Standing {
    pub(super) stood: Stood,
    pub(super) serving: Serving,
    /// The document that the version is from.
    pub(super) document: Document,
    /// Which arm of the workload it is: after a rollback the stable one of a document that did not bring it.
    pub(super) arm: Arm,
}

impl Standing {
    pub(super) fn status(&self, service: &Service) -> ServiceStatus {
        let stats = self.stood.world.stats.borrow().clone();
        let arm = self.stood.world.workload.arm(self.arm, stats.as_deref());
        let mut status = empty(&service.name, ServiceState::Serving, self.document.release.traffic.listen.to_string());
        status.serving = words(&self.serving, &self.document);
        (status.ready, status.replicas, status.fault) = (arm.ready, arm.replicas, arm.failure);
        status.queued = service.queued.as_ref().map(Queued::words);
        status.last = service.last.clone();
        status
    }
}

/// How a version is called to people.
pub(super) fn words(serving: &Serving, document: &Document) -> String {
    let hash = short(&document.release.document_hash);
    match serving.release {
        Some(run) => format!("{} of {} {hash} (run {})", serving.arm, document.release.name, run.0),
        None => format!("{} of {} {hash} (declared)", serving.arm, document.release.name),
    }
}

/// What can be said of a document before anything is touched: whether it is about this service and the version that will serve, and
/// whether the machine can run it.
pub(super) fn check(document: &Document, serving: &Document, arm: Arm, folder: &StateFolder) -> Result<Vec<Check>, Refused> {
    let (asked, served) = (document.release.traffic.listen, serving.release.traffic.listen);
    if asked != served {
        let name = &document.release.name;
        return Err(Refused::Invalid(format!(
            "{name} listens on {served}, the document says {asked}; a service keeps its address: correct traffic.embedded.listen, or delete the service and apply the document anew"
        )));
    }
    version::is_stable_of(document, serving, arm).map_err(Refused::Invalid)?;
    passed(preflight::static_checks(&document.release, &document.dir, folder.path(), true))
}

impl Service {
    pub(super) async fn stand(&mut self, mut standing: Standing) -> Condition {
        let mut link = standing.stood.keeper.link();
        // A proxy of an earlier server still serves that one's table.
        link.mark_changed();
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut queued_after = Instant::now();
        loop {
            if Instant::now() >= queued_after
                && let Some(queued) = self.queued.take()
            {
                let words = queued.words();
                match self.begin(standing, queued.document.clone(), queued.who.clone()).await {
                    (condition @ Condition::Releasing(_), _) => return condition,
                    (Condition::Standing(back), Some(Refused::Store(error))) => {
                        self.note(format!("{words} cannot begin yet: {error}"));
                        (self.queued, queued_after, standing) = (Some(queued), Instant::now() + STORE_RETRY, *back);
                    }
                    (Condition::Standing(back), refused) => {
                        let why = refused.map_or_else(String::new, |refused| refused.to_string());
                        self.note(format!("{words} cannot begin: {why}"));
                        standing = *back;
                    }
                    (other, _) => return other,
                }
                continue;
            }
            tokio::select! {
                ask = self.next_ask() => match self.answer_standing(ask, standing).await {
                    Condition::Standing(back) => standing = *back,
                    other => return other,
                },
                Ok(()) = link.changed() => {
                    if link.borrow_and_update().is_some() {
                        let world = Arc::clone(&standing.stood.world);
                        tokio::spawn(async move { world.resend().await });
                    }
                }
                _ = pulse.tick() => {
                    // A disk that is full is tried again until it takes the end of the release.
                    let _ = self.record_end(&standing.stood.store);
                    self.status.send_replace(standing.status(self));
                }
            }
        }
    }

    async fn answer_standing(&mut self, ask: Option<Ask>, standing: Standing) -> Condition {
        match ask {
            None => return leave(standing).await,
            Some(Ask::Status(answer)) => drop(answer.send(standing.status(self))),
            Some(Ask::Apply { document, who, answer }) => {
                if let Some(why) = self.released_before(&document) {
                    let _ = answer.send(Ok(Applied::Unchanged { why }));
                } else {
                    return self.begin_and_answer(standing, *document, who, answer).await;
                }
            }
            Some(Ask::DryRun { document, answer }) => {
                let foreseen = match self.released_before(&document) {
                    Some(why) => Ok((Applied::Unchanged { why }, Vec::new())),
                    None => check(&document, &standing.document, standing.serving.arm, &standing.stood.folder)
                        .map(|checks| (Applied::Begun, checks)),
                };
                let _ = answer.send(foreseen);
            }
            Some(Ask::Retry { who, answer }) => match self.to_retry(&standing.stood.store) {
                Ok(document) => return self.begin_and_answer(standing, document, who, answer).await,
                Err(refused) => drop(answer.send(Err(refused))),
            },
            Some(Ask::Rollback { answer, .. }) => {
                let text = "no old version is kept any more; apply a document with the version you want as its canary".to_owned();
                let _ = answer.send(Err(Refused::Conflict(text)));
            }
            Some(Ask::Act { answer, .. }) => {
                let text = format!("no release of {} is under way", self.name);
                let _ = answer.send(Err(Refused::Conflict(text)));
            }
            Some(Ask::Delete { who, answer }) => {
                if let Some(deleting) = self.begin_deleting(Some(&standing), &who, answer) {
                    return Condition::Deleting(Box::new(deleting.of(standing)));
                }
            }
            Some(Ask::Detach { answer }) => {
                let gone = leave(standing).await;
                let _ = answer.send(());
                return gone;
            }
            Some(Ask::Stop { answer }) => {
                stop(standing).await;
                let _ = answer.send(());
                return Condition::Gone;
            }
        }
        Condition::Standing(Box::new(standing))
    }

    async fn begin_and_answer(
        &mut self,
        standing: Standing,
        document: Document,
        who: Who,
        answer: super::service::Answer<Applied>,
    ) -> Condition {
        let (condition, refused) = self.begin(standing, document, who).await;
        let _ = answer.send(refused.map_or(Ok(Applied::Begun), Err));
        condition
    }

    /// Whether this document was the last one to be released: who applies the same again wants what is already so, and a canary that was
    /// rolled back shall not come back because some loop applies its document every minute.
    fn released_before(&self, document: &Document) -> Option<String> {
        let last = self.last.as_ref().filter(|last| last.document_hash == document.release.document_hash)?;
        let name = &self.name;
        Some(match &last.end {
            RunEnd::Succeeded => "this document was released last, and its version serves".to_owned(),
            RunEnd::RolledBack { cause } => {
                format!("this document was released last and rolled back ({}); `serin retry {name}` releases it once more", cause.text)
            }
            _ => format!("this document was released last; `serin retry {name}` releases it once more"),
        })
    }

    fn to_retry(&self, store: &SharedStore) -> Result<Document, Refused> {
        let Some(last) = &self.last else {
            return Err(Refused::Conflict(format!("{} was not released yet; `serin apply` begins a release", self.name)));
        };
        if last.end == RunEnd::Succeeded {
            return Err(Refused::Conflict("the last release succeeded; there is nothing to retry".to_owned()));
        }
        let rows = tokio::task::block_in_place(|| store.lock().unwrap_or_else(PoisonError::into_inner).releases(1))?;
        let Some(row) = rows.into_iter().next() else { return Err(Refused::NoAnswer) };
        Document::reread(&row.document_name, row.document)
            .map_err(|diagnostics| Refused::Invalid(format!("the document is not accepted any more: {diagnostics}")))
    }

    /// Begins a release. If it cannot begin, the service stands as before and it is said why.
    async fn begin(&mut self, standing: Standing, document: Document, who: Who) -> (Condition, Option<Refused>) {
        let checked = check(&document, &standing.document, standing.serving.arm, &standing.stood.folder);
        let begun = checked.and_then(|checks| {
            self.record_end(&standing.stood.store)?;
            let (row, epoch) = tokio::task::block_in_place(|| record(&standing.stood.store, &document))?;
            Ok((checks, row, epoch))
        });
        let (checks, row, epoch) = match begun {
            Ok(begun) => begun,
            Err(refused) => {
                // A store that fails may work again: a restart finds the document where it was kept. What is kept of another one that waits
                // is not about this one.
                if self.queued.is_none() && !matches!(refused, Refused::Store(_)) {
                    Queued::forget(&standing.stood.folder);
                }
                return (Condition::Standing(Box::new(standing)), Some(refused));
            }
        };
        let Standing { stood: Stood { folder, store, world, keeper }, serving, document: served, arm } = standing;
        // Whatever waited was asked for before this one.
        self.queued = None;
        Queued::forget(&folder);
        let run = row.id.0;
        let config = config(document, &folder, &self.tools);
        let feed = feed(&self.name, &self.tools, Some(run));
        let (ground, id) = (Ground { folder, store: Arc::clone(&store), epoch }, row.id);
        let stable = world.workload.give(arm);
        let prepared = Preparation::new(&config, &feed, ground, names(&serving, run), stable, checks, None);
        let started = match prepared {
            Ok(preparation) => preparation.begin_beside(keeper, row, who).await,
            Err(error) => Err((error, keeper)),
        };
        match started {
            Ok(started) => {
                let driver = Driver::new(started, feed);
                let releasing = Releasing { driver, serving, document: served, released: config.document, run };
                (Condition::Releasing(Box::new(releasing)), None)
            }
            Err((error, keeper)) => {
                // The version goes on serving behind its proxy; opening the service anew finds both again.
                keeper.detach().await;
                let fault = error.to_string();
                // Who was told that it does not begin must not see it begin when the service is opened again.
                let told = serde_json::to_string(&RunEnd::Refused).ok();
                let now = crate::process::now();
                let end = || store.lock().unwrap_or_else(PoisonError::into_inner).end(id, RunEnd::Refused.word(), now, told.as_deref());
                if let Err(error) = tokio::task::block_in_place(end) {
                    tracing::error!(service = self.name, %error, "a release that could not begin could not be ended");
                }
                let down = Down { fault: fault.clone(), passes: true, blank: false, declared: None };
                (Condition::Down(Box::new(down)), Some(Refused::Conflict(fault)))
            }
        }
    }
}

/// A new epoch and a new run.
fn record(store: &SharedStore, document: &Document) -> Result<(ReleaseRow, u64), StoreError> {
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    let epoch = store.next_epoch()?;
    let new = NewRelease {
        name: &document.release.name,
        document_hash: &document.release.document_hash,
        document_name: &document.origin,
        document: &document.text,
    };
    Ok((store.begin(new, crate::process::now())?, epoch))
}

async fn leave(standing: Standing) -> Condition {
    standing.stood.world.workload.detach();
    standing.stood.keeper.detach().await;
    Condition::Gone
}

/// Lets requests end, then stops proxy and version.
pub(super) async fn stop(standing: Standing) {
    let Stood { folder, world, keeper, .. } = standing.stood;
    stop_all(&folder, &world, keeper).await;
}

/// Clients first: nobody comes any more, who is there is answered, then what answered is stopped.
pub(super) async fn stop_all(folder: &StateFolder, world: &World, keeper: crate::router::ProxyKeeper) {
    keeper.stop(world.drain_ms).await;
    for arm in Arm::BOTH {
        if let Err(error) = world.workload.stop(arm).await {
            tracing::error!(%arm, %error, "could not be stopped");
        }
    }
    let _ = std::fs::remove_file(folder.route_table());
}
