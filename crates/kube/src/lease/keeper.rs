//! Carries out what [`evaluate`](super::evaluate) says, for as long as the process lives.
//!
//! The leader stops being one when it has not renewed for two thirds of the lease's duration, by its own clock and before anybody else may
//! take it. An attempt that would end later than that is given up with it, so that a server that does not answer holds nobody in office. A
//! conflict is not a loss: the record is read again, and only what it says counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, api::PostParams, core::ObjectMeta};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{Decision, Observed, Record, evaluate};
use crate::api::{ApiError, FIELD_MANAGER, within};

/// Which lease, for whom, and how long it is valid.
#[derive(Debug, Clone)]
pub struct LeaseName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are: unique for every process that ever runs.
    pub identity: String,
    /// How long it is valid after a renewal; whole seconds, at least 1.
    pub duration: Duration,
}

/// Whether we lead, and with which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// The epoch; greater than that of every leader before.
    pub epoch: u64,
}

/// Keeps the lease.
#[derive(Clone)]
pub struct LeaseKeeper {
    api: Api<Lease>,
    name: Arc<LeaseName>,
    state: watch::Sender<Option<Leadership>>,
    began: Instant,
    /// Until when the lease is surely ours, in milliseconds from `began`.
    valid_until_ms: Arc<AtomicU64>,
}

impl LeaseKeeper {
    /// Not begun yet: [`keep`](Self::keep) is to be spawned.
    #[must_use]
    pub fn new(client: Client, name: LeaseName) -> Self {
        let api = Api::namespaced(client, &name.namespace);
        Self { api, name: Arc::new(name), state: watch::channel(None).0, began: Instant::now(), valid_until_ms: Arc::default() }
    }

    /// Whether we lead.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Option<Leadership>> {
        self.state.subscribe()
    }

    /// Whether the lease is surely ours at this moment, by the clock alone: a process that stood still knows at once that it is not, before
    /// anything else in it has noticed.
    #[must_use]
    pub fn surely_leads(&self) -> bool {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.borrow().is_some() && now_ms < self.valid_until_ms.load(Ordering::Relaxed)
    }

    /// Whether the lease is still ours, asked of the API server. After a conflict this decides whether to try again.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn is_ours(&self) -> Result<bool, ApiError> {
        let record = self.read().await?;
        Ok(record.is_some_and(|record| record.holder.as_deref() == Some(self.name.identity.as_str())))
    }

    /// Takes and renews the lease for ever.
    pub async fn keep(self) {
        let now_ms = || u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let duration_ms = u64::try_from(self.name.duration.as_millis()).unwrap_or(u64::MAX);
        let (renew_every, give_up_ms) = (self.name.duration / 5, duration_ms / 3 * 2);
        let mut observed = Observed::default();
        let mut renewed_at_ms = 0;
        // What lasts is said once, not with every attempt.
        let mut trouble = String::new();
        loop {
            // Before the request: what arrives late was valid from when it was asked for.
            let asked_at_ms = now_ms();
            // What is taken for the first time is worth nothing either if the answer comes after the time to give it up.
            let valid_from_ms = if self.state.borrow().is_some() { renewed_at_ms } else { asked_at_ms };
            let budget = left(valid_from_ms, give_up_ms, asked_at_ms);
            let looked = timeout(budget, self.once(&mut observed, asked_at_ms, &now_ms)).await;
            let pause = match looked.unwrap_or_else(|_| Err(self.slow())) {
                Ok(Some(leadership)) => {
                    renewed_at_ms = asked_at_ms;
                    self.valid_until_ms.store(renewed_at_ms.saturating_add(give_up_ms), Ordering::Relaxed);
                    trouble.clear();
                    self.tell(Some(leadership));
                    renew_every
                }
                Ok(None) => {
                    self.tell(None);
                    renew_every.min(Duration::from_secs(1))
                }
                Err(error) => {
                    let said = error.to_string();
                    if said != trouble {
                        trouble = said;
                        tracing::warn!(%error, "the lease could not be renewed");
                    }
                    renew_every.min(Duration::from_millis(500))
                }
            };
            let leads_for = left(renewed_at_ms, give_up_ms, now_ms());
            if self.state.borrow().is_none() {
                sleep(pause).await;
            } else if leads_for.is_zero() {
                tracing::warn!("not renewed in time: leading no longer");
                self.tell(None);
                sleep(pause).await;
            } else {
                sleep(pause.min(leads_for)).await;
            }
        }
    }

    /// Lets the lease go, if it is ours, so that the next leader need not wait.
    ///
    /// # Errors
    /// If it cannot be written; it runs out by itself then.
    pub async fn release(&self) -> Result<(), ApiError> {
        self.tell(None);
        let Some(mut lease) = self.get().await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.name.identity)) else {
            return Ok(());
        };
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        self.replace(&lease).await
    }

    /// One look, and what follows from it. `Some`: the lease is ours.
    async fn once(&self, observed: &mut Observed, asked_at_ms: u64, now_ms: &impl Fn() -> u64) -> Result<Option<Leadership>, ApiError> {
        let lease = self.get().await?;
        observed.see(lease.as_ref().map(record), now_ms());
        let decision = evaluate(observed, asked_at_ms, &self.name.identity);
        let written = match (decision, lease) {
            (Decision::Create { transitions }, _) => {
                let lease = Lease {
                    metadata: ObjectMeta { name: Some(self.name.name.clone()), ..ObjectMeta::default() },
                    spec: Some(self.spec(transitions, None)),
                };
                let what = format!("create Lease {}", self.name.name);
                within(&what, self.api.create(&post(), &lease)).await.map(|_| transitions)
            }
            (Decision::Renew { transitions } | Decision::Take { transitions }, Some(mut lease)) => {
                lease.spec = Some(self.spec(transitions, lease.spec));
                self.replace(&lease).await.map(|()| transitions)
            }
            (Decision::Wait { .. } | Decision::Renew { .. } | Decision::Take { .. }, _) => return Ok(None),
        };
        match written {
            Ok(epoch) => Ok(Some(Leadership { epoch })),
            // Somebody was faster, or changed something else in it: the next look says.
            Err(ApiError::Conflict(_)) if self.state.borrow().is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, transitions: u64, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let is_new = before.as_ref().and_then(|spec| spec.holder_identity.as_deref()) != Some(&self.name.identity);
        let acquired = before.as_ref().and_then(|spec| spec.acquire_time.clone()).filter(|_| !is_new);
        LeaseSpec {
            holder_identity: Some(self.name.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.name.duration.as_secs().max(1)).unwrap_or(i32::MAX)),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(i32::try_from(transitions).unwrap_or(i32::MAX)),
            ..before.unwrap_or_default()
        }
    }

    async fn read(&self) -> Result<Option<Record>, ApiError> {
        Ok(self.get().await?.as_ref().map(record))
    }

    async fn get(&self) -> Result<Option<Lease>, ApiError> {
        within(&format!("get Lease {}", self.name.name), self.api.get_opt(&self.name.name)).await
    }

    async fn replace(&self, lease: &Lease) -> Result<(), ApiError> {
        within(&format!("update Lease {}", self.name.name), self.api.replace(&self.name.name, &post(), lease)).await.map(drop)
    }

    fn slow(&self) -> ApiError {
        ApiError::Unreachable(
            format!("renew Lease {}", self.name.name),
            "the API server did not answer before it had to be given up".to_owned(),
        )
    }

    fn tell(&self, state: Option<Leadership>) {
        self.state.send_if_modified(|old| std::mem::replace(old, state) != state);
    }
}

/// How long what is valid from then may still be relied on.
fn left(valid_from_ms: u64, give_up_ms: u64, now_ms: u64) -> Duration {
    Duration::from_millis(valid_from_ms.saturating_add(give_up_ms).saturating_sub(now_ms))
}

fn post() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity,
        duration_ms: u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(15).saturating_mul(1_000),
        transitions: u64::try_from(spec.lease_transitions.unwrap_or(0)).unwrap_or(0),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_ends_at_the_time_to_give_up() {
        assert_eq!(left(1_000, 2_666, 1_000), Duration::from_millis(2_666));
        assert_eq!(left(1_000, 2_666, 3_665), Duration::from_millis(1));
        assert_eq!(left(1_000, 2_666, 9_000), Duration::ZERO);
    }
}
