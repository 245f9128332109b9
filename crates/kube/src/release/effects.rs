//! Carrying out what a release decides. Every effect may be repeated, by this process or the next.
//!
//! *Size.* The canary is scaled up before it gets a share that its replicas could not carry as well as stable's: a raise waits until they are
//! ready. Who waits holds up nothing: a move to stable goes past it, and makes what comes later obsolete.
//!
//! *Promotion.* Through the stages, the bake and the retention the judged pods are the canary's and stable is untouched, so that there is
//! something to go back to. Only [`Effect::Retire`] makes stable the judged version: stable's Deployment gets exactly the judged template and
//! comes up while the canary still serves everything (one that is released in place is paused again then); then all traffic goes to stable, in
//! one patch with the note that says why; when gateways have taken that, the canary is scaled back. Each step finds out by itself whether it was
//! done already. Retiring is never given up: a stable that does not come up leaves the canary serving, and the status says what is waited for.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI32, AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use kube::Client;
use serin_core::{
    WeightBps,
    release::{Effect, EffectId, Fault, Input},
};
use serin_engine::{
    router::{Router as _, Split},
    source::Sources,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{preflight, snapshot::Place};
use crate::{
    route::ObjectRouter,
    workload::{Pair, PairError},
};

/// The engine asks again after five seconds; an answer must come before.
const ROUTER_PATIENCE: Duration = Duration::from_millis(4_800);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// A release that is gone has nobody who could be told: its traffic is tried to be taken back for so long.
const ABANDONED_AFTER: Duration = Duration::from_mins(15);
/// Until it is said what stable still lacks; then it goes on waiting.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Until an autoscaler has seen the traffic that has just come: metrics lag by half a minute, and it looks every 15 seconds. Less than the engine
/// waits for a canary to be stopped.
const AUTOSCALER_LAGS: Duration = Duration::from_secs(60);
/// Changes wake whoever waits; this is only for what can be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// After gateways have said that they took the route, requests that they had already sent on are still on their way.
const SETTLE: Duration = Duration::from_secs(1);

/// What effects act on.
pub(super) struct World {
    pub(super) client: Client,
    pub(super) router: ObjectRouter,
    pub(super) pair: Pair,
    pub(super) place: Place,
    /// Where the canary is.
    pub(super) namespace: String,
    /// Where stable is.
    pub(super) stable_namespace: String,
    /// Where route and services are.
    pub(super) route_namespace: String,
    /// The canary's version that is on trial.
    pub(super) judged: String,
    /// The weights of the stages.
    pub(super) weights: Vec<WeightBps>,
    /// The canary's replicas before the run.
    pub(super) canary_replicas: i32,
    /// Set once the canary is to be stopped: a start that is still under way must not bring it back.
    pub(super) unwanted: watch::Sender<bool>,
    /// The most replicas of stable that were ready in this run.
    pub(super) stable_peak: AtomicI32,
    /// The greatest share, in basis points, that the canary has replicas for: a smaller one waits for nothing.
    pub(super) granted_bps: AtomicU16,
    /// One change of the canary's replicas at a time.
    pub(super) scaling: tokio::sync::Mutex<()>,
    /// Moves that are under way: what the canary has meanwhile is their affair.
    pub(super) sizing: AtomicUsize,
    /// What an effect that takes its time is waiting for.
    pub(super) note: Mutex<Option<String>>,
    /// Whom to ask for what is measured.
    pub(super) sources: Sources,
}

/// A move that is under way, until it is dropped.
struct Sizing<'a>(&'a AtomicUsize);

impl<'a> Sizing<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Sizing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Carries out one effect and says how it went.
pub(super) async fn carry_out(world: &World, id: EffectId, effect: Effect) -> Input {
    let done = |result: Result<(), Fault>| match result {
        Ok(()) => Input::Done(id),
        Err(fault) => Input::Failed(id, fault),
    };
    match effect {
        Effect::Preflight => Input::PreflightChecked(id, preflight::checks(world).await),
        Effect::Deploy => done(world.deploy().await),
        Effect::Shift { weight, matches, preview, .. } => {
            let _sizing = Sizing::begin(&world.sizing);
            if let Err(fault) = world.grow(weight).await {
                return Input::Failed(id, fault);
            }
            let split = Split { weight, matches, preview };
            let shifted = timeout(ROUTER_PATIENCE, world.router.shift(id, split)).await;
            done(shifted.map_or_else(|_| Err(slow()), |result| result.map_err(|error| error.fault())))
        }
        Effect::ReadBack { .. } => match timeout(ROUTER_PATIENCE, world.router.read_back()).await {
            Ok(Ok(weight)) if world.is_ratio() => match world.endpoints_follow(weight).await {
                Ok(()) => Input::ReadBack(id, weight),
                Err(fault) => Input::Failed(id, fault),
            },
            Ok(Ok(weight)) => Input::ReadBack(id, weight),
            Ok(Err(error)) => Input::Failed(id, error.fault()),
            Err(_) => Input::Failed(id, slow()),
        },
        // The pods that were judged go on serving; see the module.
        Effect::Finalize => done(Ok(())),
        Effect::Retire => {
            world.retire(id).await;
            Input::Done(id)
        }
        Effect::StopCanary => done(world.stop_canary(id).await),
    }
}

impl World {
    pub(super) fn note(&self) -> Option<String> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_note(&self, note: Option<String>) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note;
    }

    /// Takes the traffic back without a decision of the release, because the release is gone, and lets the route go in the same write: a release
    /// of the same name that is created again is another one.
    pub(super) async fn abandon(&self) {
        self.unwanted.send_replace(true);
        let end = Instant::now() + ABANDONED_AFTER;
        let mut wait = FIRST_RETRY;
        while Instant::now() < end {
            let why = match timeout(ROUTER_PATIENCE, self.router.let_go(EffectId(u64::MAX))).await {
                Ok(Ok(())) => return self.leave_behind().await,
                Ok(Err(error)) => error.to_string(),
                Err(_) => slow().text,
            };
            tracing::error!(route = self.router.lens().name(), %why, "the release is gone and its traffic could not be taken back yet");
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
        tracing::error!(route = self.router.lens().name(), "given up: give the canary no weight by hand");
    }

    /// As far as it can be: nobody is left who could be told.
    async fn leave_behind(&self) {
        let _one_at_a_time = self.scaling.lock().await;
        let _ = self.pair.scale_canary(self.canary_replicas).await;
        let _ = self.pair.let_scale().await;
        if self.pair.is_managed() {
            let _ = self.pair.leave_to_collector().await;
            let _ = self.pair.give_back().await;
        }
    }

    async fn deploy(&self) -> Result<(), Fault> {
        let mut unwanted = self.unwanted.subscribe();
        let stable = self.pair.fresh_stable().await.map_err(pair_fault)?;
        let stated = self.place.workload.canary_replicas.and_then(|replicas| i32::try_from(replicas).ok());
        let replicas = stated.or_else(|| self.first_replicas(stable.wanted)).unwrap_or(stable.wanted).max(1);
        let autoscaler = self.pair.canarys_autoscaler().await.map_err(pair_fault)?;
        {
            let _one_at_a_time = self.scaling.lock().await;
            if *unwanted.borrow_and_update() {
                return Err(no_longer_wanted());
            }
            self.pair.hold(stable.wanted).await.map_err(pair_fault)?;
            if self.pair.is_managed() {
                self.pair.make_canary(&self.judged).await.map_err(pair_fault)?;
            } else {
                self.pair.mark_canary().await.map_err(pair_fault)?;
            }
            let is_started = self.pair.fresh_canary().await.map_err(pair_fault)?.wanted > 0;
            match &autoscaler {
                Some(_) if is_started => {}
                Some(scaler) => self.pair.scale_canary(replicas.max(scaler.min).min(scaler.max)).await.map_err(pair_fault)?,
                None => self.pair.scale_canary(replicas).await.map_err(pair_fault)?,
            }
        }
        // An autoscaler takes replicas away again that nobody needs yet, and a DaemonSet has as many as it has nodes.
        let least = if autoscaler.is_some() || !self.pair.is_canary_scaled() { 1 } else { replicas };
        tokio::select! {
            () = self.pair.canary_settled(&self.judged, least) => Ok(()),
            _ = unwanted.wait_for(|unwanted| *unwanted) => Err(no_longer_wanted()),
        }
    }

    /// Sees to it that the canary has as many replicas as a greater share needs before it gets it. Where an autoscaler owns their number, that does.
    async fn grow(&self, weight: WeightBps) -> Result<(), Fault> {
        if weight.is_zero() {
            self.granted_bps.store(0, Ordering::Relaxed);
        }
        if self.is_ratio() && !weight.is_zero() && weight != WeightBps::FULL {
            return self.make_share(weight).await;
        }
        if weight.canary_bps() <= self.granted_bps.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.scale_for(weight).await?;
        self.granted_bps.fetch_max(weight.canary_bps(), Ordering::Relaxed);
        Ok(())
    }

    async fn scale_for(&self, weight: WeightBps) -> Result<(), Fault> {
        let Some(stable) = self.pair.stable() else { return Ok(()) };
        let peak = self.stable_peak.fetch_max(stable.ready, Ordering::Relaxed).max(stable.ready);
        let needed = share_of(peak, weight);
        let mut unwanted = self.unwanted.subscribe();
        {
            let _one_at_a_time = self.scaling.lock().await;
            if *unwanted.borrow_and_update() {
                return Err(no_longer_wanted());
            }
            self.pair.hold(stable.wanted).await.map_err(pair_fault)?;
            if !self.pair.is_canary_scaled() || self.pair.canary().is_some_and(|canary| canary.ready >= needed) {
                return Ok(());
            }
            if self.pair.canarys_autoscaler().await.map_err(pair_fault)?.is_some() {
                return Ok(());
            }
            if self.pair.fresh_canary().await.map_err(pair_fault)?.wanted < needed {
                self.pair.scale_canary(needed).await.map_err(pair_fault)?;
            }
        }
        self.set_note(Some(format!("{needed} replicas of the canary to be ready, which {weight} of the traffic need")));
        let within = Duration::from_millis(self.place.workload.ready_within_ms);
        let outcome = tokio::select! {
            () = self.pair.canary_settled(&self.judged, needed) => Ok(()),
            _ = unwanted.wait_for(|unwanted| *unwanted) => Err(no_longer_wanted()),
            () = sleep(within) => {
                let text = format!("the canary has not had the {needed} replicas ready in time that {weight} of the traffic need");
                Err(Fault { text, retryable: false })
            }
        };
        self.set_note(None);
        outcome
    }

    /// Is not given up for what may pass, such as a role that is not bound: the route would belong to the release for ever. What is waited for is in
    /// the status.
    async fn stop_canary(&self, id: EffectId) -> Result<(), Fault> {
        self.unwanted.send_replace(true);
        let mut wait = FIRST_RETRY;
        loop {
            match self.try_to_stop_canary(id).await {
                Err(fault) if fault.retryable => self.set_note(Some(fault.text)),
                outcome => {
                    self.set_note(None);
                    return outcome;
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }

    async fn try_to_stop_canary(&self, id: EffectId) -> Result<(), Fault> {
        {
            let _one_at_a_time = self.scaling.lock().await;
            match self.pair.scale_canary(self.canary_replicas).await {
                // Nothing runs that could be stopped.
                Ok(()) | Err(PairError::Missing(_)) => {}
                Err(error) => return Err(pair_fault(error)),
            }
        }
        // One whose weights were never touched has not taken anything from stable. What cannot be told now is taken for yes.
        let had_traffic = self.router.note().await.map_or(true, |note| note.is_some_and(|note| !note.done));
        if had_traffic && self.pair.holds().await.map_err(pair_fault)? {
            self.wait_for_stables_autoscaler().await;
        }
        self.pair.let_scale().await.map_err(pair_fault)?;
        self.let_go(id).await
    }

    /// What is measured of stable is what it had while the canary served: its autoscaler would shrink it at once.
    async fn wait_for_stables_autoscaler(&self) {
        self.set_note(Some("stable's autoscaler to see the traffic that stable has again".to_owned()));
        sleep(AUTOSCALER_LAGS).await;
    }

    /// See the module. Ends when it is done.
    async fn retire(&self, id: EffectId) {
        let mut wait = FIRST_RETRY;
        while let Err(why) = self.try_to_retire(id).await {
            tracing::warn!(%why, "the old version is not retired yet");
            self.set_note(Some(why));
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
        self.set_note(None);
    }

    async fn try_to_retire(&self, id: EffectId) -> Result<(), String> {
        let note = self.router.note().await.map_err(|error| error.to_string())?;
        if note.as_ref().is_some_and(|note| note.done) {
            return Ok(());
        }
        let is_handed_over = note.is_some_and(|note| note.handed_over);
        let begun = if self.pair.is_managed() { self.pair.roll_out(&self.judged).await } else { self.pair.promote(&self.judged).await };
        match begun {
            Ok(()) => {}
            // All that there was to do it to is gone, as after its namespace was deleted.
            Err(PairError::Missing(_)) if self.pair.stable().is_none() && self.router.is_gone().await.is_ok_and(|is_gone| is_gone) => {
                return Ok(());
            }
            // Nothing is left to take from: whoever is ready serves.
            Err(error) if !is_handed_over && self.pair.is_canary_lost() => {
                self.router.hand_over(id).await.map_err(|error| error.to_string())?;
                return Err(format!("{error}; stable serves as it is"));
            }
            Err(error) => return Err(error.to_string()),
        }
        let takes_over = format!("{} to run what was judged on all its replicas", self.stables());
        let is_lost = is_handed_over && self.pair.is_canary_lost();
        self.set_note(Some(if is_lost {
            format!("{takes_over}; nothing reaches the canary any more, and stable serves")
        } else {
            takes_over
        }));
        tokio::select! {
            settled = self.stable_took_over() => settled?,
            () = self.pair.canary_lost(), if !is_handed_over => {
                self.router.hand_over(id).await.map_err(|error| error.to_string())?;
                return Err("nothing reaches the canary any more: stable serves before all its replicas run what was judged".to_owned());
            }
        }
        if let Some(why) = self.pair.stables_service_gone() {
            return Err(format!("{why}: the canary stays until it is back"));
        }
        self.set_note(Some("the route to send everything to stable, which is the judged version now".to_owned()));
        self.router.hand_over(id).await.map_err(|error| error.to_string())?;
        let share = self.router.accepted_share().await.map_err(|error| error.to_string())?;
        if share != WeightBps::FULL {
            return Err(format!("the route still gives the canary's service {share}"));
        }
        sleep(SETTLE).await;
        self.set_note(Some("the canary to be scaled back".to_owned()));
        match self.pair.scale_canary(self.canary_replicas).await {
            Ok(()) | Err(PairError::Missing(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
        if self.pair.holds().await.map_err(|error| error.to_string())? {
            self.wait_for_stables_autoscaler().await;
            self.pair.let_scale().await.map_err(|error| error.to_string())?;
        }
        self.let_go(id).await.map_err(|fault| fault.text)
    }

    /// Waits until stable runs what was judged on all its replicas.
    async fn stable_took_over(&self) -> Result<(), String> {
        if self.pair.is_managed() {
            return self.rolled_out().await;
        }
        timeout(SETTLED_WITHIN, self.pair.stable_settled(&self.judged)).await.map_err(|_| self.unsettled())
    }

    /// Waits until stable, which is edited in place, runs what was judged, and pauses it again. Ends early when somebody edits it meanwhile.
    async fn rolled_out(&self) -> Result<(), String> {
        let end = Instant::now() + SETTLED_WITHIN;
        let mut changes = self.pair.changes();
        loop {
            changes.mark_unchanged();
            let why = match self.pair.pause_again(&self.judged).await {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            };
            let was_edited = self.pair.fresh_stable().await.is_ok_and(|stable| !stable.paused && stable.version != self.judged);
            if was_edited || Instant::now() >= end {
                return Err(why);
            }
            // At most a look in a while, however often the Deployment changes.
            sleep(Duration::from_millis(200)).await;
            let _ = timeout(LOOK_AGAIN, changes.changed()).await;
        }
    }

    /// Stable's workload, for people.
    fn stables(&self) -> String {
        format!("stable's {}", self.place.workload.kinds[0].name())
    }

    /// Why stable cannot take over yet.
    fn unsettled(&self) -> String {
        match self.pair.stable() {
            None => format!("{} is gone", self.stables()),
            Some(stable) if stable.wanted == 0 => format!("{} is asked to have no replicas: scale it up", self.stables()),
            Some(stable) if stable.version != self.judged => "stable's template was changed back by somebody else".to_owned(),
            Some(stable) => format!("{} of {} replicas of stable run what was judged and are ready", stable.ready, stable.wanted),
        }
    }

    /// The route is nobody's from here on. One that was never touched is left as it is.
    async fn let_go(&self, id: EffectId) -> Result<(), Fault> {
        let note = self.router.note().await.map_err(|error| error.fault())?;
        if note.is_none_or(|note| note.done) {
            return Ok(());
        }
        self.router.let_go(id).await.map_err(|error| error.fault())
    }
}

/// How many of these replicas a share of their traffic needs, at least one.
pub(crate) fn share_of(replicas: i32, weight: WeightBps) -> i32 {
    let needed = (i64::from(replicas) * i64::from(weight.canary_bps())).div_euclid(10_000);
    let is_whole = (i64::from(replicas) * i64::from(weight.canary_bps())) % 10_000 == 0;
    i32::try_from(if is_whole { needed } else { needed + 1 }).unwrap_or(i32::MAX).max(1)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn pair_fault(error: PairError) -> Fault {
    let retryable = match &error {
        PairError::Api(error) => error.may_pass(),
        PairError::NotYet(_) => true,
        PairError::Missing(_)
        | PairError::SameSelector(..)
        | PairError::Selector(..)
        | PairError::JudgedIsGone(_)
        | PairError::Unfit(_) => false,
    };
    Fault { text: error.to_string(), retryable }
}

pub(super) fn no_longer_wanted() -> Fault {
    Fault { text: "the canary is no longer wanted".to_owned(), retryable: false }
}

fn slow() -> Fault {
    Fault { text: "the API server did not answer in time".to_owned(), retryable: true }
}

#[cfg(test)]
#[path = "effects_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "scaling_tests.rs"]
mod scaling_tests;
