//! Carrying out what the state machine asks for. Every effect is bounded in time and may be repeated.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serin_core::{
    release::{Check, Effect, EffectId, Fault, Input},
    traffic::Arm,
};
use serin_proxy::protocol::{EndpointStats, Stats};
use tokio::{sync::watch, time::timeout};

use crate::{
    preflight,
    router::{EmbeddedRouter, Router, RouterError, Split},
    source::Sources,
    workload::{Workload, WorkloadError},
};

const ROUTER_PATIENCE: Duration = Duration::from_secs(3);
/// Each waits for a link.
const RESEND_ATTEMPTS: u32 = 5;
/// For the proxy's own health checks to find what was just found ready.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);
const STOP_PATIENCE: Duration = Duration::from_secs(90);

/// What effects act on.
pub(crate) struct World {
    pub(crate) router: EmbeddedRouter,
    pub(crate) workload: Arc<dyn Workload>,
    pub(crate) stats: watch::Receiver<Option<Arc<Stats>>>,
    pub(crate) drain_ms: u64,
    pub(crate) deploy_timeout_ms: u64,
    pub(crate) canary: CanaryGate,
    /// What was checked before anything was started.
    pub(crate) checks: Vec<Check>,
    pub(crate) sources: Sources,
}

/// Keeps a deployment that is still under way from bringing back a canary that was stopped meanwhile.
#[derive(Debug, Default)]
pub(crate) struct CanaryGate {
    deploying: tokio::sync::Mutex<()>,
    unwanted: AtomicBool,
}

/// Carries out one effect and says how it went.
pub(crate) async fn carry_out(world: Arc<World>, id: EffectId, effect: Effect) -> Input {
    let done = |result: Result<(), Fault>| match result {
        Ok(()) => Input::Done(id),
        Err(fault) => Input::Failed(id, fault),
    };
    match effect {
        Effect::Preflight => Input::PreflightChecked(id, world.preflight().await),
        Effect::Deploy => done(world.deploy().await),
        Effect::Shift { weight, matches, preview, .. } => {
            let shifted = timeout(ROUTER_PATIENCE, world.router.shift(id, Split { weight, matches, preview })).await;
            done(shifted.map_or_else(|_| Err(slow("the router")), |result| result.map_err(|error| error.fault())))
        }
        Effect::ReadBack { .. } => match timeout(ROUTER_PATIENCE, world.router.read_back()).await {
            Ok(Ok(weight)) => Input::ReadBack(id, weight),
            Ok(Err(error)) => Input::Failed(id, error.fault()),
            Err(_) => Input::Failed(id, slow("the router")),
        },
        // The processes that were judged simply go on: there is nothing to copy, and nothing else could be promoted.
        Effect::Finalize => done(Ok(())),
        Effect::Retire => done(world.retire().await),
        Effect::StopCanary => done(world.stop_canary().await),
    }
}

impl World {
    /// Gives a proxy that was started anew, or that outlived an earlier control process, the current table.
    pub(crate) async fn resend(&self) {
        for _ in 0..RESEND_ATTEMPTS {
            match self.router.resend().await {
                Ok(()) => return,
                Err(RouterError::Unreachable(_)) => {}
                Err(error) => return tracing::error!(%error, "the proxy did not take the route table"),
            }
        }
        tracing::warn!("the proxy could not be reached with the route table; the next link tries again");
    }

    /// Takes the traffic back without a decision of the release, because it is about to lose its judge. Says whether the
    /// proxy took it.
    pub(crate) async fn send_everything_to_stable(&self) -> bool {
        let shift = self.router.shift(EffectId(u64::MAX), Split::default());
        matches!(timeout(ROUTER_PATIENCE, shift).await, Ok(Ok(())))
    }

    async fn preflight(&self) -> Vec<Check> {
        let mut checks = self.checks.clone();
        let stable = timeout(Duration::from_millis(self.deploy_timeout_ms), self.workload.start(Arm::Stable)).await;
        let stable = stable.unwrap_or_else(|_| Err(WorkloadError("stable is not ready in time".to_owned()))).map_err(|error| error.0);
        checks.push(preflight::outcome(
            "stable is healthy",
            "all replicas are ready",
            stable,
            "repair stable before you release: there would be nothing to go back to",
        ));
        let answers = timeout(ROUTER_PATIENCE, self.router.read_back()).await;
        let answers = answers.map_err(|_| "no answer".to_owned()).and_then(|weight| weight.map_err(|error| error.to_string()));
        let at_stable = answers.and_then(|weight| {
            if weight.is_zero() { Ok(()) } else { Err(format!("it gives the canary {weight} before the release has begun")) }
        });
        checks.push(preflight::outcome(
            "proxy",
            "it answers and sends everything to stable",
            at_stable,
            "see proxy.log in the state folder",
        ));
        checks.extend(self.sources.preflight().await);
        checks.push(preflight::outcome("snapshot", "the route table without a canary is kept", Ok(()), ""));
        checks
    }

    async fn deploy(&self) -> Result<(), Fault> {
        let _one_at_a_time = self.canary.deploying.lock().await;
        if self.canary.unwanted.load(Ordering::SeqCst) {
            return Err(Fault { text: "the canary is no longer wanted".to_owned(), retryable: false });
        }
        let started = timeout(Duration::from_millis(self.deploy_timeout_ms), self.workload.start(Arm::Canary)).await;
        match started {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Fault { text: error.0, retryable: false }),
            Err(_) => return Err(Fault { text: "the canary was not ready in time".to_owned(), retryable: false }),
        }
        if self.canary.unwanted.load(Ordering::SeqCst) {
            let _ = self.workload.stop(Arm::Canary).await;
            return Err(Fault { text: "the canary is no longer wanted".to_owned(), retryable: false });
        }
        self.router.set_canary(self.workload.pool(Arm::Canary)).await.map_err(|error| error.fault())?;
        self.healthy(Arm::Canary).await;
        Ok(())
    }

    /// Waits for a while until the proxy thinks so too. One that knew the servers while they were still starting asks them in times of its own, and
    /// would carry out by stable what it should send to them.
    async fn healthy(&self, arm: Arm) {
        let table = self.router.version();
        let is_healthy = |stats: &Option<Arc<Stats>>| {
            stats.as_ref().is_some_and(|stats| {
                let mut servers = stats.endpoints.iter().filter(|endpoint| endpoint.arm == arm);
                (stats.epoch, stats.version) >= table && servers.all(|endpoint| endpoint.healthy)
            })
        };
        let mut stats = self.stats.clone();
        let _ = timeout(HEALTH_PATIENCE, stats.wait_for(is_healthy)).await;
    }

    /// The old version, which has had no traffic since the promotion, drains; the canary takes its place in the route table.
    async fn retire(&self) -> Result<(), Fault> {
        self.drained(Arm::Stable).await;
        self.router.make_canary_stable().await.map_err(|error| error.fault())?;
        self.stop(Arm::Stable).await
    }

    async fn stop_canary(&self) -> Result<(), Fault> {
        self.canary.unwanted.store(true, Ordering::SeqCst);
        let _after_deploying = match self.canary.deploying.try_lock() {
            Ok(free) => free,
            Err(_) => {
                // It has no traffic yet, and stopping it makes the deployment give up waiting for it.
                let _ = self.workload.stop(Arm::Canary).await;
                self.canary.deploying.lock().await
            }
        };
        self.drained(Arm::Canary).await;
        self.router.set_canary(None).await.map_err(|error| error.fault())?;
        self.stop(Arm::Canary).await
    }

    async fn stop(&self, arm: Arm) -> Result<(), Fault> {
        match timeout(STOP_PATIENCE, self.workload.stop(arm)).await {
            Ok(result) => result.map_err(|error| Fault { text: error.0, retryable: true }),
            Err(_) => Err(slow("stopping the processes")),
        }
    }

    /// Waits until an arm that gets no new requests has answered the old ones, at most the drain time. Only counters that
    /// know of the table which took the traffic away can say so.
    async fn drained(&self, arm: Arm) {
        let table = self.router.version();
        // The endpoints also know of requests from before the last canary went: such as long streams on what was that canary then.
        let is_idle = |stats: &Option<Arc<Stats>>| {
            stats.as_ref().is_some_and(|stats| {
                let busy = |endpoint: &EndpointStats| endpoint.arm == arm && endpoint.in_flight > 0;
                (stats.epoch, stats.version) >= table && stats.in_flight[arm.index()] == 0 && !stats.endpoints.iter().any(busy)
            })
        };
        let mut stats = self.stats.clone();
        let _ = timeout(Duration::from_millis(self.drain_ms), stats.wait_for(is_idle)).await;
    }
}

fn slow(what: &str) -> Fault {
    Fault { text: format!("{what} did not answer in time"), retryable: true }
}
