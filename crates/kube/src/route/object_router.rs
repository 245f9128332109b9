//! An object of a cluster as a router: what its [lens](Lens) changes is written in one patch with the note of the [decision](super::Decision),
//! guarded by the version that was read; after a conflict everything is read again at once.
//!
//! An object that is gone gives the canary nothing: traffic is back and the weights are nobody's as soon as somebody has deleted it.
//!
//! Nothing waits for anything else: a raise that hangs cannot hold up a retreat. Whichever comes second meets a conflict, reads the other's
//! note, and finds out whether it is the newer one.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use serin_core::{WeightBps, release::EffectId};
use serin_engine::{
    Pending,
    router::{Router, RouterError, Split},
};
use tokio::time::sleep;

use super::{
    decision::{Decision, Owner, Standing},
    lens::{Lens, LensError, difference, set},
};
use crate::api::{ApiError, DECISION, FIELD_MANAGER, within};

/// Conflicts in a row that are tried again at once; a move to stable goes on for as long as the engine waits.
const CONFLICTS: u32 = 12;
/// How long a gateway may take to accept what was written before the answer is that it has not.
const ACCEPTED_WITHIN: Duration = Duration::from_millis(3_500);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Says whether we still lead. Asked after a conflict, before another attempt.
pub trait Fence: Send + Sync {
    /// Whether writes are still ours to make.
    fn holds(&self) -> Pending<'_, bool>;
}

/// See the module.
#[derive(Clone)]
pub struct ObjectRouter {
    api: Api<DynamicObject>,
    lens: Arc<dyn Lens>,
    /// Kind, namespace and name, for people.
    called: String,
    owner: Owner,
    fence: Arc<dyn Fence>,
    /// The newest move that was begun by this process.
    latest: Arc<AtomicU64>,
    /// What was asked for last.
    asked: Arc<Mutex<Option<Asked>>>,
    /// The route as it was when it was last known to be what was asked for.
    written: Arc<Mutex<Option<Written>>>,
}

/// A version of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    uid: Option<String>,
    /// The API server counts versions of a kind up; not every kind has a generation, and no annotation changes one.
    version: u64,
    /// The newest move at that time.
    order: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    weight: WeightBps,
    matches: bool,
}

/// What a write is to leave on the route.
#[derive(Debug, Clone, Copy)]
struct Wish {
    weight: WeightBps,
    matches: bool,
    /// The canary is only looked at, through an address of its own: nothing that it had is taken back.
    preview: bool,
    handed_over: bool,
    done: bool,
}

impl Wish {
    /// Everything to stable, because something was decided against the canary.
    fn is_retreat(self) -> bool {
        self.weight.is_zero() && !self.matches && !self.preview && !self.handed_over
    }
}

impl ObjectRouter {
    /// The router of a release. `namespace`: where its object is.
    #[must_use]
    pub fn new(client: Client, namespace: &str, lens: Arc<dyn Lens>, owner: Owner, fence: Arc<dyn Fence>) -> Self {
        let resource = lens.resource();
        Self {
            api: Api::namespaced_with(client, namespace, &resource),
            called: format!("{} {namespace}/{}", resource.kind, lens.name()),
            lens,
            owner,
            fence,
            latest: Arc::default(),
            asked: Arc::default(),
            written: Arc::default(),
        }
    }

    /// What the object means.
    #[must_use]
    pub fn lens(&self) -> &dyn Lens {
        self.lens.as_ref()
    }

    /// What was asked for last, by an owner before.
    pub fn expect(&self, weight: WeightBps, matches: bool) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Asked { weight, matches });
    }

    /// Whether a release may begin: the route is there, can be used, gives the canary nothing, and is nobody else's.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub async fn examine(&self) -> Result<(), RouterError> {
        let route = self.get().await?;
        let object = whole(&route);
        self.lens.check(&object).map_err(refused)?;
        if let Standing::Foreign(other) = self.owner.standing(decision(&route).as_ref(), 0) {
            return Err(RouterError::Refused(format!("the weights of the route are those of the release {other}; wait for its end")));
        }
        let seen = self.lens.seen(&object).map_err(refused)?;
        if !seen.weight.is_zero() {
            let why = format!("the route gives the canary {} before the release has begun; give it nothing", seen.weight);
            return Err(RouterError::Refused(why));
        }
        if seen.matches {
            let why = "the route has a rule for the declared matches already; remove it, it will be added when it is wanted";
            return Err(RouterError::Refused(why.to_owned()));
        }
        Ok(())
    }

    /// The note on the route, if it is of this run: what a new leader must know. A route that is gone has none.
    ///
    /// # Errors
    /// If the route cannot be read.
    pub async fn note(&self) -> Result<Option<Decision>, RouterError> {
        Ok(self.find().await?.as_ref().and_then(decision).filter(|found| self.owner.wrote(found)))
    }

    /// Whether there is no such route.
    ///
    /// # Errors
    /// If that cannot be told.
    pub async fn is_gone(&self) -> Result<bool, RouterError> {
        Ok(self.find().await?.is_none())
    }

    /// Stable's pods are the judged version now: everything goes to stable, in one patch with the note that says why.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn hand_over(&self, order: EffectId) -> Result<(), RouterError> {
        self.write(order.0, Wish { weight: WeightBps::ZERO, matches: false, preview: false, handed_over: true, done: false }).await
    }

    /// The run is over: the weights, which stay as they are on stable, are nobody's from here on. What the run has put into the route for the canary
    /// goes with it: the canary's service may go as well.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn let_go(&self, order: EffectId) -> Result<(), RouterError> {
        let handed_over = self.note().await?.is_some_and(|note| note.handed_over);
        self.write(order.0, Wish { weight: WeightBps::ZERO, matches: false, preview: false, handed_over, done: true }).await
    }

    /// Waits until gateways have taken what the route says, and says which share that is in truth.
    ///
    /// # Errors
    /// If they have not in time, or the route cannot be read.
    pub async fn accepted_share(&self) -> Result<WeightBps, RouterError> {
        let end = Instant::now() + ACCEPTED_WITHIN;
        loop {
            let latest = self.latest.load(Ordering::SeqCst);
            let Some(route) = self.find().await? else { return self.share_of_none() };
            // The canary's backend has no weight then, and may be gone.
            let is_handed_over = decision(&route).is_some_and(|note| self.owner.wrote(&note) && note.handed_over);
            match self.lens.accepted(&whole(&route), is_handed_over || self.asked_for_nothing()) {
                Ok(()) => {
                    let share = self.share(&route)?;
                    self.wrote(&route, latest);
                    return Ok(share);
                }
                Err(why) if Instant::now() >= end => return Err(RouterError::Unreachable(why)),
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The share that a watched route gives the canary, if it says so after our last write: because it has the note of that write, or because it
    /// is another object or a later version than the one that was written. An edit by hand may replace the note as well.
    #[must_use]
    pub fn seen(&self, route: &DynamicObject) -> Option<WeightBps> {
        let note = decision(route).filter(|found| self.owner.wrote(found));
        if note.as_ref().is_some_and(|note| note.handed_over) {
            return None;
        }
        let latest = self.latest.load(Ordering::SeqCst);
        // Before this process has written anything, whatever the run wrote last is what there should be.
        let is_current = note.is_some_and(|note| latest == 0 || (note.epoch == self.owner.epoch && note.order >= latest));
        if is_current && latest == 0 {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| Written::of(route, 0));
        }
        let was_replaced = self.written.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|written| {
            // While a move is on its way, that finds out itself what is there.
            written.order == latest && written.is_before(route)
        });
        if !is_current && !was_replaced {
            return None;
        }
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).map_or(WeightBps::ZERO, |asked| asked.weight);
        // Rules without stable's service are surely not what was asked for.
        let unusable = if asked == WeightBps::FULL { other_than(asked) } else { WeightBps::FULL };
        Some(self.share(route).unwrap_or(unusable))
    }

    /// Remembers the version that a move of ours has left, unless a later one is known.
    fn wrote(&self, route: &DynamicObject, order: u64) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let is_later = written.as_ref().is_none_or(|written| written.order < order || (written.order == order && written.is_before(route)));
        if is_later {
            *written = Some(Written::of(route, order));
        }
    }

    /// What the route gives, as the engine counts it: after the hand-over stable is the judged version.
    fn share(&self, route: &DynamicObject) -> Result<WeightBps, RouterError> {
        let seen = self.lens.seen(&whole(route)).map_err(refused)?;
        let note = decision(route).filter(|found| self.owner.wrote(found));
        if note.is_some_and(|note| note.handed_over) && seen.weight.is_zero() {
            return Ok(WeightBps::FULL);
        }
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = asked
            && seen.matches != (asked.matches && self.lens.has_matches())
        {
            // Rules for matches that are there or missing against what was asked: the route is not as it should be, whatever its weights.
            return Ok(if seen.weight == asked.weight { other_than(asked.weight) } else { seen.weight });
        }
        // Rules that differ are not what was asked for, whatever the largest of them is.
        if !seen.even && asked.is_some_and(|asked| asked.weight == seen.weight) {
            return Ok(other_than(seen.weight));
        }
        Ok(seen.weight)
    }

    async fn write(&self, order: u64, wish: Wish) -> Result<(), RouterError> {
        let begun = self.latest.fetch_max(order, Ordering::SeqCst);
        if begun > order {
            return Ok(());
        }
        let is_retreat = wish.is_retreat();
        let mut conflicts = 0;
        loop {
            let Some(route) = self.find().await? else {
                return if is_retreat { Ok(()) } else { Err(self.gone()) };
            };
            let found = decision(&route);
            match self.owner.standing(found.as_ref(), order) {
                Standing::Free => {}
                Standing::Obsolete => return Ok(()),
                Standing::Foreign(other) => {
                    return Err(RouterError::Refused(format!("the weights of the route are those of the release {other} now")));
                }
            }
            // Nothing goes back to the canary's service once stable's is the judged version.
            if found.as_ref().is_some_and(|found| self.owner.wrote(found) && found.handed_over) && !wish.handed_over {
                return Ok(());
            }
            if self.latest.load(Ordering::SeqCst) > order {
                return Ok(());
            }
            let Some(patch) = self.patch(&route, found.as_ref(), order, wish)? else {
                self.wrote(&route, order);
                return Ok(());
            };
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let what = format!("patch {}", self.called);
            match within(&what, self.api.patch(self.lens.name(), &params, &Patch::Merge(patch))).await {
                Ok(written) => {
                    self.wrote(&written, order);
                    return Ok(());
                }
                Err(ApiError::Conflict(_)) if is_retreat || conflicts < CONFLICTS => {
                    conflicts += 1;
                    // Taking traffic back is never wrong for long: the note decides. Everything else is the leader's alone.
                    if !is_retreat && !self.fence.holds().await {
                        return Err(RouterError::Unreachable("another controller leads now".to_owned()));
                    }
                    sleep(Duration::from_millis(rand::random_range(0..5 * u64::from(conflicts.min(10))))).await;
                }
                // Deleted between reading and writing.
                Err(ApiError::NotFound(_)) if is_retreat => return Ok(()),
                Err(error) => return Err(router_error(error)),
            }
        }
    }

    /// What a route that is gone gives the canary: nothing, which proves a move to stable, but no other.
    fn share_of_none(&self) -> Result<WeightBps, RouterError> {
        if self.asked_for_nothing() { Ok(WeightBps::ZERO) } else { Err(self.gone()) }
    }

    fn asked_for_nothing(&self) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_some_and(|asked| asked.weight.is_zero() && !asked.matches)
    }

    /// What has to change; `None`: nothing.
    fn patch(&self, route: &DynamicObject, found: Option<&Decision>, order: u64, wish: Wish) -> Result<Option<Value>, RouterError> {
        let before = whole(route);
        let mut after = self.lens.shifted(&before, wish.weight, wish.matches).map_err(refused)?;
        let known = found.filter(|found| found.release == self.owner.release && !found.done);
        let mut added = known.map(|found| found.added.clone()).unwrap_or_default();
        let new: Vec<String> = self.lens.added(&before, &after).into_iter().filter(|one| !added.contains(one)).collect();
        added.extend(new);
        if wish.done {
            after = self.lens.without(&after, &std::mem::take(&mut added));
        }
        let mut patch = difference(&before, &after);
        let note = Decision {
            release: self.owner.release.clone(),
            name: self.owner.name.clone(),
            run: self.owner.run,
            epoch: self.owner.epoch,
            order,
            weight: wish.weight.canary_bps(),
            matches: wish.matches,
            retreated: wish.is_retreat(),
            handed_over: wish.handed_over,
            done: wish.done,
            added,
        };
        if found == Some(&note) && patch.is_empty() {
            return Ok(None);
        }
        let metadata = patch.entry("metadata").or_insert_with(|| json!({}));
        set(metadata, "resourceVersion", json!(route.metadata.resource_version));
        if metadata.get("annotations").is_none() {
            set(metadata, "annotations", json!({}));
        }
        if let Some(annotations) = metadata.get_mut("annotations") {
            set(annotations, DECISION, json!(note.text()));
        }
        Ok(Some(Value::Object(patch)))
    }

    async fn get(&self) -> Result<DynamicObject, RouterError> {
        self.find().await?.ok_or_else(|| self.gone())
    }

    async fn find(&self) -> Result<Option<DynamicObject>, RouterError> {
        let what = format!("get {}", self.called);
        within(&what, self.api.get_opt(self.lens.name())).await.map_err(router_error)
    }

    fn gone(&self) -> RouterError {
        // It may be on its way: whoever replaces it by deleting it first creates it again.
        RouterError::Unreachable(format!("there is no {}; create it again", self.called))
    }
}

impl Written {
    fn of(route: &DynamicObject, order: u64) -> Self {
        Self { uid: route.metadata.uid.clone(), version: version(route), order }
    }

    /// Whether this is another object of the same name, or a later version.
    fn is_before(&self, route: &DynamicObject) -> bool {
        self.uid != route.metadata.uid || version(route) > self.version
    }
}

impl Router for ObjectRouter {
    fn shift(&self, order: EffectId, split: Split) -> Pending<'_, Result<(), RouterError>> {
        Box::pin(async move {
            let Split { weight, matches, preview } = split;
            if self.latest.load(Ordering::SeqCst) <= order.0 {
                *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Asked { weight, matches });
            }
            self.write(order.0, Wish { weight, matches, preview, handed_over: false, done: false }).await
        })
    }

    fn read_back(&self) -> Pending<'_, Result<WeightBps, RouterError>> {
        Box::pin(self.accepted_share())
    }
}

fn version(object: &DynamicObject) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn decision(route: &DynamicObject) -> Option<Decision> {
    Decision::read(route.metadata.annotations.as_ref().and_then(|all| all.get(DECISION)).map(String::as_str))
}

/// The object with its metadata, as lenses take it.
fn whole(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// A share that is surely not this one: how a route that differs in something else than its weight is told from one that is as asked.
fn other_than(weight: WeightBps) -> WeightBps {
    let other = if weight.canary_bps() == 0 { 1 } else { weight.canary_bps() - 1 };
    WeightBps::new(other).unwrap_or(WeightBps::ZERO)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: LensError) -> RouterError {
    RouterError::Refused(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn router_error(error: ApiError) -> RouterError {
    if error.may_pass() { RouterError::Unreachable(error.to_string()) } else { RouterError::Refused(error.to_string()) }
}

#[cfg(test)]
#[path = "object_router_tests.rs"]
mod tests;
