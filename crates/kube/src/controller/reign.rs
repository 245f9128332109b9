//! What a leader does: it looks at every release that changed, and keeps a task for each that is under way.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use serin_core::{
    Timestamp,
    judge::Checkpoint,
    plan::{Plan, Step},
    release::{EffectId, Release as Core},
};
use serin_engine::router::{Router as _, RouterError, Split};
use serin_spec::{load_cluster, validated::ClusterRelease};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Config, Eyes, Known, Recorder, Unknown, Verdict,
    adopt::{Adopted, in_pair},
    decide,
    fence::LeaseFence,
    stamp::{Stamp, stamp},
};
use crate::{
    api::{ApiError, CommandStatus, Engine, FIELD_MANAGER, FINALIZER, Release, ReleaseStatus, within},
    lease::{Leadership, LeaseKeeper},
    release::{Actor, ActorEnd, Asked, Place, Recalled, Run, Setting, Wish, idle, invalid, now, pending, recall, router, waiting},
    route::{Decision, Fence, ObjectRouter},
    watch::Key,
    workload::{Names, Pair, PairError},
};

/// Changes that come together are looked at together.
const TOGETHER: Duration = Duration::from_millis(30);
/// After something that went wrong, and between two looks at everything.
const AGAIN: Duration = Duration::from_secs(1);
const LOOK_AT_ALL: Duration = Duration::from_secs(60);
/// How long a run that goes on waits for what its judge remembers.
const RECALL_PATIENCE: Duration = Duration::from_secs(15);
/// Epochs of runs that each leader has to itself, as a power of two: as often it may take up one release again.
const EPOCHS_OF_A_LEADER: u32 = 20;

pub(super) struct Reign<'a> {
    pub(super) client: &'a Client,
    eyes: &'a Eyes,
    pub(super) setting: Setting,
    actors: JoinSet<(Key, ActorEnd)>,
    /// Whose task it is.
    tasks: HashMap<tokio::task::Id, Key>,
    /// The tasks that run; whose object they are for.
    running: HashMap<Key, String>,
    stamps: HashMap<Key, Stamp>,
    /// Not before then, after something went wrong.
    later: HashMap<Key, Instant>,
    /// Since when what their judges remember cannot be read.
    forgetful: HashMap<Key, Instant>,
}

/// Leads until it is dropped.
pub(super) async fn reign(client: &Client, eyes: &Eyes, keeper: &LeaseKeeper, leads: Leadership, config: &Config) {
    let fence: Arc<dyn Fence> = Arc::new(LeaseFence(keeper.clone()));
    let setting = Setting {
        client: client.clone(),
        releases: Arc::clone(&eyes.releases),
        memory: eyes.memory.clone(),
        fence,
        epoch: first_epoch(leads),
        recorder: Recorder::start(client.clone(), Arc::clone(&config.vitals), &config.lease.identity, {
            let keeper = keeper.clone();
            move || keeper.surely_leads()
        }),
    };
    let mut reign = Reign::new(client, eyes, setting);
    let (mut releases, mut deployments) = (eyes.releases.changes(), eyes.memory.deployments.changes());
    let (mut stateful_sets, mut daemon_sets) = (eyes.memory.stateful_sets.changes(), eyes.memory.daemon_sets.changes());
    let (mut services, mut config_maps) = (eyes.memory.services.changes(), eyes.memory.config_maps.changes());
    loop {
        releases.mark_unchanged();
        deployments.mark_unchanged();
        stateful_sets.mark_unchanged();
        daemon_sets.mark_unchanged();
        services.mark_unchanged();
        config_maps.mark_unchanged();
        reign.look().await;
        let wake = reign.later.values().min().copied().unwrap_or_else(|| Instant::now() + LOOK_AT_ALL);
        tokio::select! {
            Ok(()) = releases.changed() => {}
            Ok(()) = deployments.changed() => {}
            Ok(()) = stateful_sets.changed() => {}
            Ok(()) = daemon_sets.changed() => {}
            Ok(()) = services.changed() => {}
            Ok(()) = config_maps.changed() => {}
            Some(ended) = reign.actors.join_next() => reign.ended(ended),
            () = sleep_until(wake) => {}
        }
        sleep(TOGETHER).await;
    }
}

impl<'a> Reign<'a> {
    pub(super) fn new(client: &'a Client, eyes: &'a Eyes, setting: Setting) -> Self {
        Self {
            client,
            eyes,
            setting,
            actors: JoinSet::new(),
            tasks: HashMap::new(),
            running: HashMap::new(),
            stamps: HashMap::new(),
            later: HashMap::new(),
            forgetful: HashMap::new(),
        }
    }

    fn ended(&mut self, ended: Result<(Key, ActorEnd), tokio::task::JoinError>) {
        match ended {
            Ok((key, end)) => {
                self.tasks.retain(|_, of| *of != key);
                self.running.remove(&key);
                self.stamps.remove(&key);
                if end != ActorEnd::Over {
                    tracing::warn!(release = %key.1, ?end, "its task ended early");
                    self.later.insert(key, Instant::now() + AGAIN);
                }
            }
            // The release needs a judge: another task goes on with it.
            Err(error) => {
                tracing::error!(%error, "a task of a release broke");
                if let Some(key) = self.tasks.remove(&error.id()) {
                    self.running.remove(&key);
                    self.stamps.remove(&key);
                    self.later.insert(key, Instant::now() + AGAIN);
                }
            }
        }
    }

    /// Looks at every release that changed since it was last looked at.
    async fn look(&mut self) {
        let releases = self.eyes.releases.all();
        let keys: std::collections::HashSet<Key> = releases.iter().map(|release| key(release)).collect();
        self.stamps.retain(|key, _| keys.contains(key));
        self.later.retain(|key, _| keys.contains(key));
        self.forgetful.retain(|key, _| keys.contains(key));
        for release in releases {
            let key = key(&release);
            if self.running.contains_key(&key) || self.later.get(&key).is_some_and(|later| *later > Instant::now()) {
                continue;
            }
            self.later.remove(&key);
            let stamp = stamp(&self.setting.memory, &release);
            if self.stamps.get(&key) == Some(&stamp) {
                continue;
            }
            match self.look_at(&release, false).await {
                Ok(()) => drop(self.stamps.insert(key, stamp)),
                Err(error) => {
                    tracing::warn!(release = release.name(), %error, "will be looked at again");
                    self.later.insert(key, Instant::now() + AGAIN);
                }
            }
        }
    }

    async fn look_at(&mut self, release: &Release, is_fresh: bool) -> Result<(), ApiError> {
        let loaded = release.load().map(|loaded| loaded.release).map_err(|errors| first_error(&errors));
        let pair = loaded.as_ref().ok().map(|loaded| self.pair(release, &Place::of(loaded)));
        let is_deleted = release.metadata.deletion_timestamp.is_some();
        let is_under_way = release.status.as_ref().and_then(|status| status.engine.as_ref()).is_some_and(|engine| !engine.is_over());
        let versions = match &pair {
            // Nothing follows from them.
            _ if is_deleted || is_under_way => Err(Unknown::NotYet(String::new())),
            None => Err(Unknown::NotYet(String::new())),
            Some(pair) if pair.is_managed() => match self.adopted(release, pair).await? {
                Adopted::Has(versions) => versions,
                Adopted::Now => return Ok(()),
            },
            Some(pair) => match pair.versions() {
                Ok(versions) => {
                    if let Some(hash) = pair.unnoted_config() {
                        self.still_leads().await?;
                        pair.note_config(&hash).await.map_err(in_pair)?;
                    }
                    Ok(versions)
                }
                Err(PairError::NotYet(why)) => Err(Unknown::NotYet(why)),
                Err(error) => Err(Unknown::Wrong(error.to_string())),
            },
        };
        if !is_deleted && !is_under_way && release.status.as_ref().is_some_and(|status| status.observed_generation != release.generation())
        {
            // The document may be about another Deployment than before.
            let keep = loaded.as_ref().ok().filter(|loaded| loaded.workload.is_managed).map(|loaded| loaded.workload.stable.as_str());
            if loaded.is_ok() && self.give_back(release, keep).await? {
                // What follows is seen when it is remembered.
                return Ok(());
            }
        }
        let asked = pending(release);
        let retry = asked.as_ref().filter(|asked| asked.wish == Ok(Wish::Retry)).map(|asked| asked.id.clone());
        let edited = pair.as_ref().map_or_else(String::new, Pair::edited);
        let known = Known {
            generation: release.generation(),
            is_deleted,
            has_finalizer: has_finalizer(release),
            status: release.status.as_ref(),
            document: loaded.as_ref().map(|loaded| loaded.document_hash.as_str()).map_err(Clone::clone),
            versions: versions.as_ref().map(|(stable, canary, _)| (stable.as_str(), canary.as_str())).map_err(Clone::clone),
            edited: &edited,
            retry: retry.as_deref(),
        };
        let now = jiff::Timestamp::now().to_string();
        let verdict = decide(&known);
        match (verdict, loaded, versions) {
            (Verdict::Rest, ..) => match asked.filter(|_| release.metadata.deletion_timestamp.is_none()) {
                Some(asked) => self.say(release, answered(release.status.clone().unwrap_or_default(), Some(asked))).await,
                None => Ok(()),
            },
            (Verdict::Idle(why), ..) => {
                let status = idle(release.generation(), release.status.as_ref(), &why, &now);
                self.say(release, answered(status, asked)).await
            }
            (Verdict::Refuse(why), ..) => {
                let status = invalid(release.generation(), release.status.as_ref(), &why, &now);
                self.say(release, answered(status, asked)).await
            }
            (Verdict::Wait(why), ..) => {
                let status = waiting(release.generation(), release.status.as_ref(), &why, &now);
                self.say(release, answered(status, asked)).await
            }
            (Verdict::LetGo, ..) => self.let_go(release).await,
            // Memory may lag behind what our own task wrote last.
            (Verdict::Resume | Verdict::Begin, ..) if !is_fresh => match self.fresh(release).await {
                Ok(fresh) => Box::pin(self.look_at(&fresh, true)).await,
                Err(ApiError::NotFound(_)) => Ok(()),
                Err(error) => Err(error),
            },
            (Verdict::Resume, loaded, _) => self.resume(release, loaded.ok()).await,
            (Verdict::Begin, Ok(loaded), Ok((_, canary, replicas))) => self.begin(release, &loaded, canary, replicas, retry).await,
            (Verdict::Begin, ..) => Ok(()),
        }
    }

    async fn begin(
        &mut self,
        release: &Release,
        loaded: &ClusterRelease,
        judged: String,
        replicas: i32,
        retry: Option<String>,
    ) -> Result<(), ApiError> {
        self.still_leads().await?;
        let mut known = self.with_finalizer(release).await?;
        let status = known.status.get_or_insert_default();
        if let Some(id) = retry {
            status.last_command = Some(CommandStatus { id, accepted: true, answer: "done".to_owned() });
        }
        status.timeline.clear();
        let epoch = self.setting.epoch.max(status.engine.as_ref().map_or(0, |engine| engine.epoch + 1));
        let run = Run {
            number: status.run + 1,
            epoch,
            document_hash: loaded.document_hash.clone(),
            judged,
            place: Place::of(loaded),
            canary_replicas: replicas,
        };
        let core = Core::new(loaded.plan.clone(), epoch, now(Timestamp(0)));
        self.start(known, run, core, Some(loaded), None);
        Ok(())
    }

    async fn resume(&mut self, release: &Release, loaded: Option<ClusterRelease>) -> Result<(), ApiError> {
        let Some(engine) = release.status.as_ref().and_then(|status| status.engine.clone()) else { return Ok(()) };
        self.still_leads().await?;
        let Some(resumed) = engine.resumed() else {
            // Written by another version of this program, or by hand. Nothing is guessed but where stable is.
            let taken_back = self.take_back(release, &engine).await;
            let why = "what the engine stored cannot be read; remove `status.engine` once the route gives the canary nothing";
            let status = invalid(release.generation(), release.status.as_ref(), why, &jiff::Timestamp::now().to_string());
            if release.status.as_ref() != Some(&status) {
                self.say(release, status).await?;
            }
            return taken_back;
        };
        let same = loaded.filter(|loaded| loaded.document_hash == engine.document_hash);
        // Without the document that it was begun with, a run can only be taken back.
        let plan = match &same {
            Some(loaded) => loaded.plan.clone(),
            None => way_back(release.name(), resumed.place.traffic.target())?,
        };
        let run = self.run_of(release, &engine, resumed.place);
        let note = note_on(&router(&self.setting, release, &run)).await?;
        let latched = note.is_some_and(|note| note.retreated && !note.done);
        let (memory, lost) = match same {
            Some(_) => self.recall(release, &engine).await?,
            None => (None, None),
        };
        let seen = Timestamp(engine.seen_ms);
        let at = now(seen.max(resumed.state.at));
        let core = Core::resume_at(plan, resumed.state, memory.as_deref(), seen, latched, run.epoch, at);
        self.start(release.clone(), run, core, same.as_ref(), lost.as_deref());
        Ok(())
    }

    /// What the judge of a run remembers, or why it remembers nothing. What cannot be read now is waited for, but not for long: a release
    /// without a judge is worse than a judge without memory.
    async fn recall(&mut self, release: &Release, engine: &Engine) -> Result<(Option<Box<Checkpoint>>, Option<String>), ApiError> {
        let key = key(release);
        let why = match recall(self.client, release.namespace(), engine).await {
            Ok(Recalled::Whole(memory)) => {
                self.forgetful.remove(&key);
                return Ok((Some(memory), None));
            }
            Ok(Recalled::Lost(why)) => why,
            Err(error) => {
                if self.forgetful.entry(key.clone()).or_insert_with(Instant::now).elapsed() < RECALL_PATIENCE {
                    return Err(error);
                }
                error.to_string()
            }
        };
        self.forgetful.remove(&key);
        Ok((None, Some(why)))
    }

    /// A run whose state cannot be read has no judge any more: what it gave the canary goes back to stable, as soon as that can take it. A run
    /// whose places cannot be read either, or that was handed over or is over, is left as it is.
    async fn take_back(&self, release: &Release, engine: &Engine) -> Result<(), ApiError> {
        let Some(place) = place_alone(engine) else { return Ok(()) };
        let run = self.run_of(release, engine, place);
        let router = router(&self.setting, release, &run);
        let note = note_on(&router).await?;
        if note.is_none_or(|note| note.done || note.handed_over) {
            return Ok(());
        }
        if self.pair(release, &run.place).stable().is_none_or(|stable| stable.ready == 0) {
            let why = "it has no ready replica to take the traffic of a run whose state cannot be read";
            return Err(ApiError::Unreachable("stable".to_owned(), why.to_owned()));
        }
        router.shift(EffectId(u64::MAX), Split::default()).await.map_err(|error| on_route(&error))
    }

    /// A run that is under way, as this leader has it.
    fn run_of(&self, release: &Release, engine: &Engine, place: Place) -> Run {
        Run {
            number: release.status.as_ref().map_or(1, |status| status.run),
            epoch: self.setting.epoch.max(engine.epoch + 1),
            document_hash: engine.document_hash.clone(),
            judged: engine.template_hash.clone(),
            place,
            canary_replicas: engine.canary_replicas,
        }
    }

    /// Asked after a status was read and before anything follows from it: while we lead, nobody else has written a newer one.
    pub(super) async fn still_leads(&self) -> Result<(), ApiError> {
        if self.setting.fence.holds().await { Ok(()) } else { Err(ApiError::not_leading()) }
    }

    /// `lost`: why the judge of a run that goes on remembers nothing.
    fn start(&mut self, known: Release, run: Run, core: Core, loaded: Option<&ClusterRelease>, lost: Option<&str>) {
        let key = key(&known);
        let pair = self.pair(&known, &run.place);
        tracing::info!(release = known.name(), run = run.number, epoch = run.epoch, "under way");
        self.running.insert(key.clone(), known.uid().to_owned());
        let mut actor = Actor::new(self.setting.clone(), known, run, core, pair, loaded);
        if let Some(why) = lost {
            let text = format!("another controller took over, and what the judge remembered is not there: {why}; it judges anew from here");
            actor.say("memory lost", &text);
        }
        let task = self.actors.spawn({
            let key = key.clone();
            async move { (key, actor.drive().await) }
        });
        self.tasks.insert(task.id(), key);
    }

    pub(super) fn pair(&self, release: &Release, place: &Place) -> Pair {
        let own = release.namespace();
        let names = Names::of(release, &place.workload, &place.traffic);
        let labels = self.setting.memory.labels_of(&place.traffic, own);
        Pair::new(self.client, &self.setting.memory, names, labels, Arc::clone(&self.setting.fence))
    }

    async fn say(&self, release: &Release, status: ReleaseStatus) -> Result<(), ApiError> {
        let mut object = release.clone();
        object.status = Some(status);
        let what = format!("update the status of Release {}", release.name());
        let params = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
        within(&what, self.api(release).replace_status(release.name(), &params, &object)).await.map(drop)
    }

    pub(super) async fn fresh(&self, release: &Release) -> Result<Release, ApiError> {
        within(&format!("get Release {}", release.name()), self.api(release).get(release.name())).await
    }

    pub(super) async fn with_finalizer(&self, release: &Release) -> Result<Release, ApiError> {
        if has_finalizer(release) {
            return Ok(release.clone());
        }
        let mut all = release.metadata.finalizers.clone().unwrap_or_default();
        all.push(FINALIZER.to_owned());
        self.patch_finalizers(release, &all).await
    }

    async fn let_go(&self, release: &Release) -> Result<(), ApiError> {
        self.give_back(release, None).await?;
        let mut all = release.metadata.finalizers.clone().unwrap_or_default();
        all.retain(|one| one != FINALIZER);
        match self.patch_finalizers(release, &all).await {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn patch_finalizers(&self, release: &Release, all: &[String]) -> Result<Release, ApiError> {
        let patch = json!({"metadata": {"resourceVersion": release.metadata.resource_version, "finalizers": all}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let what = format!("patch Release {}", release.name());
        within(&what, self.api(release).patch(release.name(), &params, &Patch::Merge(patch))).await
    }

    fn api(&self, release: &Release) -> Api<Release> {
        Api::namespaced(self.client.clone(), release.namespace())
    }
}

/// The note of a run on its route. A route that cannot be read whenever it is tried has none.
async fn note_on(router: &ObjectRouter) -> Result<Option<Decision>, ApiError> {
    match router.note().await {
        Err(error) if error.fault().retryable => Err(on_route(&error)),
        note => Ok(note.unwrap_or_default()),
    }
}

fn on_route(error: &RouterError) -> ApiError {
    ApiError::Unreachable("the route".to_owned(), error.to_string())
}

/// The objects of a run whose state may be unreadable.
fn place_alone(engine: &Engine) -> Option<Place> {
    serde_json::from_str(&engine.place).ok()
}

/// The first epoch of a leader: greater than all that leaders before it may have given to runs, so that its moves are always the newer ones. The
/// lease counts to less than 2^31, which leaves this far below the largest integer of the status.
fn first_epoch(leads: Leadership) -> u64 {
    leads.epoch.min(i32::MAX.unsigned_abs().into()) << EPOCHS_OF_A_LEADER
}

fn key(release: &Release) -> Key {
    (release.namespace().to_owned(), release.name().to_owned())
}

fn has_finalizer(release: &Release) -> bool {
    release.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER)
}

/// The status of a release of which nothing is under way, with the answer to a command.
fn answered(mut status: ReleaseStatus, asked: Option<Asked>) -> ReleaseStatus {
    if let Some(asked) = asked {
        let how = if status.reason.is_empty() { status.phase.clone() } else { format!("{} ({})", status.phase, status.reason) };
        status.last_command = Some(CommandStatus { id: asked.id.clone(), accepted: false, answer: asked.in_vain(&how) });
    }
    status
}

fn first_error(errors: &serin_spec::Diagnostics) -> String {
    let first = errors.iter().find(|one| one.severity == serin_spec::Severity::Error);
    let rest = errors.iter().filter(|one| one.severity == serin_spec::Severity::Error).count().saturating_sub(1);
    let first = first.map_or_else(String::new, |one| format!("{}: {}", one.path, one.message));
    if rest == 0 { first } else { format!("{first} (and {rest} more: `serin check` shows all)") }
}

/// A plan that is good for nothing but to take traffic back. `target`: the router's name in it.
fn way_back(name: &str, target: &str) -> Result<Plan, ApiError> {
    const DOCUMENT: &str = r#"{"apiVersion": "serin.dev/v1alpha1", "kind": "Release", "metadata": {"name": "way-back"}, "spec": {
        "workload": {"kubernetes": {"stable": {"deployment": "a"}, "canary": {"deployment": "b"}}},
        "traffic": {"gatewayApi": {"route": "a", "stableService": "a", "canaryService": "b"}},
        "strategy": {"canary": {"stages": [{"weight": 1, "hold": "1m"}]}}}}"#;
    let loaded = load_cluster("way back", DOCUMENT);
    let plan = loaded.map(|loaded| loaded.release.plan).map_err(|errors| ApiError::Invalid("way back".to_owned(), first_error(&errors)))?;
    let steps = plan.steps.into_iter().map(|step| Step { weights: [(target.to_owned(), step.weight())].into(), ..step }).collect();
    Ok(Plan { release: name.to_owned(), targets: vec![target.to_owned()], steps, ..plan })
}

#[cfg(test)]
#[path = "reign_tests.rs"]
mod tests;
