//! Everything before the first decision of a release.
//!
//! A new release that cannot begin stops again what was started for it. An interrupted one that cannot be taken over leaves
//! everything running: what serves now is worth more than tidiness.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serin_core::{
    Timestamp,
    judge::Checkpoint,
    release::{Check, CheckStatus, Phase, Release},
    traffic::Arm,
};
use serin_proxy::ProxyLink;
use serin_spec::validated::Workload as WorkloadSpec;
use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
    task::block_in_place,
    time::timeout,
};

use super::{
    Document, Feed, RunConfig, RunEnd, RunError,
    clock::RunClock,
    effects::{CanaryGate, World},
    ledger::{SharedStore, StoreLedger},
    leftovers,
    meter::TrafficMeter,
    resume::Resumed,
};
use crate::{
    preflight,
    process::{ReplicaRecord, ReplicaSet, ReplicaSpec, load_spec, reserve},
    router::{EmbeddedRouter, LinkWatch, ProxyKeeper, ProxyLaunch, Split, running_proxy, take_back},
    serve::Who,
    source::{Keyring, MachineKeys, Sources},
    store::{CheckpointFile, Latch, NewRelease, ReleaseRow, StateFolder, Store, StoreError},
    workload::{ExternalWorkload, Launch, ProcessesWorkload, Workload},
};

/// How long stable's clients wait for a canary that has to be started as well, after everything was down.
const CANARY_PATIENCE: Duration = Duration::from_secs(5);

/// What the judge and the meter remember, written every second while there is news.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub(crate) trial: Checkpoint,
    pub(crate) meter: TrafficMeter,
}

/// Everything that the driver needs.
pub(crate) struct Started {
    pub(crate) folder: StateFolder,
    pub(crate) store: SharedStore,
    pub(crate) row: ReleaseRow,
    pub(crate) release: Release,
    pub(crate) latch: Latch,
    pub(crate) checkpoint: CheckpointFile,
    pub(crate) meter: Option<TrafficMeter>,
    pub(crate) world: Arc<World>,
    pub(crate) keeper: ProxyKeeper,
    pub(crate) control: Option<UnixListener>,
    pub(crate) load: Option<Load>,
    pub(crate) clock: RunClock,
    pub(crate) listen: String,
    pub(crate) preview: Option<SocketAddr>,
}

/// A version that serves without a release.
pub(crate) struct Stood {
    pub(crate) folder: StateFolder,
    pub(crate) store: SharedStore,
    pub(crate) world: Arc<World>,
    pub(crate) keeper: ProxyKeeper,
}

/// The traffic that the document makes itself, once the proxy serves.
pub(crate) struct Load {
    spec: ReplicaSpec,
    adopt: Vec<ReplicaRecord>,
    ledger: Arc<StoreLedger>,
}

impl Load {
    pub(crate) fn start(self) -> ReplicaSet {
        ReplicaSet::start(vec![self.spec], self.adopt, self.ledger)
    }
}

pub(crate) async fn start(config: &RunConfig, feed: &Feed, interrupts: &mut mpsc::Receiver<()>) -> Result<Started, RunError> {
    let document = &config.document;
    let folder = StateFolder::create(&config.state)?;
    let (store, unfinished) = match open_store(&folder) {
        Ok(opened) => opened,
        Err(error) => return Err(distrust(&folder, error).await),
    };
    let is_ours = |row: &ReleaseRow| row.name == document.release.name && row.document_hash == document.release.document_hash;
    if let Some(row) = unfinished.iter().find(|row| !is_ours(row)) {
        let (name, begun_from) = (row.name.clone(), row.document_name.clone());
        return Err(RunError::OtherRelease { folder: folder.path().display().to_string(), name, document: begun_from });
    }
    let note = |text: String| {
        feed.note(text);
    };
    if unfinished.is_none() {
        leftovers::clear(&folder, &store, note).await?;
    }
    let proxy = running_proxy(&folder.proxy_socket()).await.map_err(|error| RunError::Proxy { reason: error.to_string() })?;
    let checks = preflight::static_checks(
        &document.release,
        &document.dir,
        folder.path(),
        proxy.is_some() || config.sockets.at(document.release.traffic.listen).is_some(),
    );
    // A release that is under way is not stopped by a disk that filled up meanwhile: that would leave it without a judge.
    if unfinished.is_none() && checks.iter().any(|check| check.status == CheckStatus::Fail) {
        return Err(RunError::Preflight(checks));
    }
    let control = bind_control(&folder)?;
    let ground = Ground { epoch: store.epoch(), store: Arc::new(Mutex::new(store)), folder };
    let names = serin_core::traffic::by_arm(|arm| arm.to_string());
    let preparation = Preparation::new(config, feed, ground, names, None, checks, Some(control))?;
    match unfinished {
        Some(row) => preparation.take_over(row, proxy).await,
        None => preparation.begin(interrupts).await,
    }
}

fn open_store(folder: &StateFolder) -> Result<(Store, Option<ReleaseRow>), StoreError> {
    let mut store = Store::open(folder)?;
    let Some(row) = store.unfinished()? else { return Ok((store, None)) };
    let state = store.journal(row.id)?.state();
    if !state.is_final() {
        return Ok((store, Some(row)));
    }
    // It came to its end and died before that was recorded: over is over.
    store.end(row.id, RunEnd::of(&state).word(), state.ended_at.unwrap_or(state.at), None)?;
    Ok((store, None))
}

/// What releases of one state folder share, one after the other.
pub(crate) struct Ground {
    pub(crate) folder: StateFolder,
    pub(crate) store: SharedStore,
    /// Of the owner, or of the release that begins.
    pub(crate) epoch: u64,
}

/// A store that cannot be used cannot say what a running proxy should do: it is told to send everything to stable.
pub(crate) async fn distrust(folder: &StateFolder, error: StoreError) -> RunError {
    if !matches!(error, StoreError::InUse { .. } | StoreError::PathTooLong { .. }) {
        take_back(&folder.proxy_socket()).await;
    }
    error.into()
}

/// Everything that is ready before a process is started or a socket is bound for clients.
pub(crate) struct Preparation<'a> {
    config: &'a RunConfig,
    feed: &'a Feed,
    folder: StateFolder,
    epoch: u64,
    store: SharedStore,
    checks: Vec<Check>,
    workload: Arc<dyn Workload>,
    load: Option<Load>,
    control: Option<UnixListener>,
}

impl<'a> Preparation<'a> {
    /// `names`: what both versions' processes are called. `stable`: its processes, if they run already and are ours.
    pub(crate) fn new(
        config: &'a RunConfig,
        feed: &'a Feed,
        ground: Ground,
        names: [String; 2],
        stable: Option<Arc<ReplicaSet>>,
        checks: Vec<Check>,
        control: Option<UnixListener>,
    ) -> Result<Self, RunError> {
        let document = &config.document;
        let Ground { folder, store, epoch } = ground;
        reserve(document.release.traffic.listen.port());
        document.release.traffic.preview.into_iter().for_each(|preview| reserve(preview.port()));
        let launch = Launch {
            state_dir: folder.path().to_owned(),
            document_dir: document.dir.clone(),
            serin_exe: config.serin_exe.clone(),
            previous: block_in_place(|| store.lock().unwrap_or_else(PoisonError::into_inner).processes())?,
            names,
        };
        let load = load(document, &launch, &store)?;
        let workload = workload(document, &launch, &store, stable);
        Ok(Self { config, feed, folder, epoch, store, checks, workload, load, control })
    }

    async fn begin(self, interrupts: &mut mpsc::Receiver<()>) -> Result<Started, RunError> {
        self.note("starting stable".to_owned());
        let started = tokio::select! {
            started = self.workload.start(Arm::Stable) => Some(started),
            _ = interrupts.recv() => None,
        };
        let begun = match started {
            Some(Ok(())) => self.serve_new().await,
            Some(Err(error)) => {
                let hint = "repair stable before you release: there would be nothing to go back to";
                Err(self.refused("stable is healthy", error.0, hint))
            }
            None => Err(RunError::Interrupted),
        };
        match begun {
            Ok((clock, row, latch, router, keeper)) => {
                let release = Release::new(self.config.document.release.plan.clone(), self.epoch, clock.now());
                // Its proxy counts from zero, and all of it belongs to this release.
                Ok(self.started(clock, row, latch, release, Some(TrafficMeter::default()), router, keeper))
            }
            Err(error) => {
                let _ = self.workload.stop(Arm::Stable).await;
                Err(error)
            }
        }
    }

    async fn serve_new(&self) -> Result<(RunClock, ReleaseRow, Latch, EmbeddedRouter, ProxyKeeper), RunError> {
        let (links, router) = self.router(Arm::Stable)?;
        router.prepare(None, Split::default());
        let keeper = ProxyKeeper::start(self.proxy_launch(), None, links).map_err(|error| self.address_taken(&error))?;
        let clock = RunClock::start(Timestamp(0));
        match self.record(clock) {
            Ok((row, latch)) => Ok((clock, row, latch, router, keeper)),
            Err(error) => {
                keeper.stop(0).await;
                Err(error)
            }
        }
    }

    fn record(&self, clock: RunClock) -> Result<(ReleaseRow, Latch), RunError> {
        let document = &self.config.document;
        let new = NewRelease {
            name: &document.release.name,
            document_hash: &document.release.document_hash,
            document_name: &document.origin,
            document: &document.text,
        };
        let row = self.store.lock().unwrap_or_else(PoisonError::into_inner).begin(new, clock.now())?;
        if row.run > 1 {
            self.note(format!("this document was run before: this is run {}", row.run));
        }
        let latch = Latch::open(self.folder.latch(row.id))?;
        Ok((row, latch))
    }

    pub(crate) async fn take_over(self, row: ReleaseRow, proxy: Option<ProxyLink>) -> Result<Started, RunError> {
        let resumed = match block_in_place(|| Resumed::read(row, &self.folder, &self.store)) {
            Ok(resumed) => resumed,
            Err(error) => return Err(distrust(&self.folder, error).await),
        };
        self.note(format!("resuming {} run {} where it was: {}", resumed.row.name, resumed.row.run, resumed.state.phase.name()));
        let taken = self.serve_again(&resumed, proxy).await;
        let (router, keeper) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                self.workload.detach();
                return Err(error);
            }
        };
        let checkpoint = CheckpointFile::new(self.folder.checkpoint());
        let remembered = checkpoint.load::<Remembered>(resumed.row.id);
        if let Err(reason) = &remembered
            && needs_evidence(&resumed.state.phase)
        {
            self.note(format!("evidence from before the restart is lost: {reason}"));
        }
        let remembered = remembered.ok();
        let last_seen = remembered.as_ref().map_or(resumed.state.at, |(at, _)| (*at).max(resumed.state.at));
        // If the system's clock was set back meanwhile, what was held since the newest entry would have to be held again.
        let clock = RunClock::start(last_seen);
        let trial = remembered.as_ref().map(|(_, remembered)| remembered.trial.clone());
        let latched = resumed.latch.is_set();
        let plan = self.config.document.release.plan.clone();
        let release = Release::resume_at(plan, resumed.state.clone(), trial.as_ref(), last_seen, latched, self.epoch, clock.now());
        let meter = remembered.map(|(_, remembered)| remembered.meter);
        Ok(self.started(clock, resumed.row, resumed.latch, release, meter, router, keeper))
    }

    /// Lets one version serve without a release: starts it, or finds it running behind a proxy that serves already. `arm`: which of the
    /// document's versions it is. Returns when it is ready and served; an adopted one is not waited for.
    pub(crate) async fn stand(self, arm: Arm, proxy: Option<ProxyLink>) -> Result<Stood, RunError> {
        let found = if proxy.is_some() { self.workload.adopt(arm) } else { self.workload.start(arm).await };
        if let Err(error) = found {
            return Err(self.refused(
                "the version is healthy",
                error.0,
                "see its log in the service's folder; apply a document that is right",
            ));
        }
        let (links, router) = self.router(arm)?;
        router.prepare(None, Split::default());
        let keeper = match ProxyKeeper::start(self.proxy_launch(), proxy, links) {
            Ok(keeper) => keeper,
            Err(error) => {
                let taken = self.address_taken(&error);
                self.workload.detach();
                return Err(taken);
            }
        };
        let world = self.world(router, &keeper);
        Ok(Stood { folder: self.folder, store: self.store, world, keeper })
    }

    /// Begins a release of a service that stands: behind the same proxy, next to the version that serves.
    pub(crate) async fn begin_beside(self, keeper: ProxyKeeper, row: ReleaseRow, who: Who) -> Result<Started, (RunError, ProxyKeeper)> {
        let prepared = block_in_place(|| self.prepare_beside(&keeper, &row));
        let (clock, latch, router) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err((error, keeper)),
        };
        let plan = self.config.document.release.plan.clone();
        let release = Release::asked_for(plan, self.epoch, who.name, who.reason, clock.now());
        // What the proxy counted before belongs to nobody.
        Ok(self.started(clock, row, latch, release, None, router, keeper))
    }

    fn prepare_beside(&self, keeper: &ProxyKeeper, row: &ReleaseRow) -> Result<(RunClock, Latch, EmbeddedRouter), RunError> {
        self.workload.adopt(Arm::Stable).map_err(|error| RunError::Internal(error.0))?;
        let latch = Latch::open(self.folder.latch(row.id))?;
        let router = self.router_behind(Arm::Stable, keeper.link())?;
        router.prepare(None, Split::default());
        Ok((RunClock::start(row.created_at), latch, router))
    }

    async fn serve_again(&self, resumed: &Resumed, proxy: Option<ProxyLink>) -> Result<(EmbeddedRouter, ProxyKeeper), RunError> {
        resumed.adopt(self.workload.as_ref()).map_err(|error| RunError::Internal(error.0))?;
        let canary = self.workload.pool(Arm::Canary);
        if proxy.is_none() {
            // Nothing serves at the moment, so nothing is gained by sending clients to replicas that are not up yet. A
            // stable that does not come up is for the release to judge.
            self.note("the proxy is gone as well: waiting for the versions before serving again".to_owned());
            // The canary gets its share back as soon as somebody judges it: not before it can answer.
            let canary_comes_back = !resumed.split().weight.is_zero() && canary.is_some();
            let stable = self.workload.start(Arm::Stable);
            match canary_comes_back {
                true => drop(tokio::join!(stable, timeout(CANARY_PATIENCE, self.workload.start(Arm::Canary)))),
                false => drop(stable.await),
            }
        }
        let (links, router) = self.router(Arm::Stable)?;
        match &proxy {
            Some(_) => router.prepare(canary, resumed.split()),
            // The release reads this back and asks for its weight again, once it sees fit.
            None => router.prepare(canary, Split::default()),
        }
        let keeper = ProxyKeeper::start(self.proxy_launch(), proxy, links).map_err(|error| self.address_taken(&error))?;
        Ok((router, keeper))
    }

    /// A router that sends everything to an arm, before there is a proxy.
    fn router(&self, stable: Arm) -> Result<(LinkWatch, EmbeddedRouter), RunError> {
        let (links, link) = watch::channel(None);
        Ok((links, self.router_behind(stable, link)?))
    }

    fn router_behind(&self, stable: Arm, link: watch::Receiver<Option<Arc<ProxyLink>>>) -> Result<EmbeddedRouter, RunError> {
        let pool = self.workload.pool(stable).ok_or_else(|| RunError::Internal(format!("{stable} has no servers")))?;
        Ok(EmbeddedRouter::new(&self.config.document.release, self.epoch, pool, self.folder.route_table(), link))
    }

    fn world(&self, router: EmbeddedRouter, keeper: &ProxyKeeper) -> Arc<World> {
        let validated = &self.config.document.release;
        let keys: Arc<dyn Keyring> = Arc::new(MachineKeys(self.config.document.dir.clone()));
        Arc::new(World {
            router,
            workload: Arc::clone(&self.workload),
            stats: keeper.stats(),
            drain_ms: validated.traffic.drain_ms,
            deploy_timeout_ms: validated.plan.deploy_timeout_ms,
            canary: CanaryGate::default(),
            checks: self.checks.clone(),
            sources: Sources::new(&validated.measures, &keys),
        })
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one value that two ways lead to")]
    fn started(
        self,
        clock: RunClock,
        row: ReleaseRow,
        latch: Latch,
        release: Release,
        meter: Option<TrafficMeter>,
        router: EmbeddedRouter,
        keeper: ProxyKeeper,
    ) -> Started {
        let world = self.world(router, &keeper);
        let checkpoint = CheckpointFile::new(self.folder.checkpoint());
        let traffic = &self.config.document.release.traffic;
        let (listen, preview) = (traffic.listen.to_string(), traffic.preview);
        let Self { folder, store, control, load, .. } = self;
        Started { folder, store, row, release, latch, checkpoint, meter, world, keeper, control, load, clock, listen, preview }
    }

    fn proxy_launch(&self) -> ProxyLaunch {
        ProxyLaunch {
            serin_exe: self.config.serin_exe.clone(),
            listen: self.config.document.release.traffic.listen,
            socket: self.folder.proxy_socket(),
            table: self.folder.route_table(),
            log: self.folder.log("proxy"),
            listener: self.config.sockets.at(self.config.document.release.traffic.listen),
        }
    }

    fn address_taken(&self, error: &std::io::Error) -> RunError {
        let hint = "stop what uses the address (`ss -ltnp` shows it) or change traffic.embedded.listen";
        self.refused("listen address", error.to_string(), hint)
    }

    fn refused(&self, check: &str, detail: String, hint: &str) -> RunError {
        let failed = preflight::outcome(check, "", Err(detail), hint);
        RunError::Preflight([self.checks.clone(), vec![failed]].concat())
    }

    fn note(&self, text: String) {
        self.feed.note(text);
    }
}

/// Whether what was seen of the canary still matters.
fn needs_evidence(phase: &Phase) -> bool {
    matches!(phase, Phase::Stage { .. } | Phase::Promoting | Phase::Baking { .. } | Phase::Retreated { .. } | Phase::NeedsOperator { .. })
}

fn workload(document: &Document, launch: &Launch, store: &SharedStore, stable: Option<Arc<ReplicaSet>>) -> Arc<dyn Workload> {
    match &document.release.workload {
        WorkloadSpec::Processes(processes) => {
            let ledger = Arc::new(StoreLedger(Arc::clone(store)));
            let workload = ProcessesWorkload::new(processes.as_ref().clone(), launch.clone(), ledger);
            Arc::new(match stable {
                Some(running) => workload.with_stable(running),
                None => workload,
            })
        }
        WorkloadSpec::External(external) => Arc::new(ExternalWorkload::new(external.clone())),
    }
}

fn load(document: &Document, launch: &Launch, store: &SharedStore) -> Result<Option<Load>, RunError> {
    let WorkloadSpec::Processes(processes) = &document.release.workload else { return Ok(None) };
    let Some(command) = &processes.load else { return Ok(None) };
    let url = format!("http://{}", reachable(document.release.traffic.listen));
    let spec = load_spec(command, &url, &launch.context()).map_err(|error| RunError::Internal(error.to_string()))?;
    let adopt = launch.previous.iter().filter(|record| record.id == spec.id).cloned().collect();
    Ok(Some(Load { spec, adopt, ledger: Arc::new(StoreLedger(Arc::clone(store))) }))
}

/// An address to connect to: a wildcard is reachable on loopback.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let mut address = listen;
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

fn bind_control(folder: &StateFolder) -> Result<UnixListener, RunError> {
    let path = folder.control_socket();
    // The lock is ours, so a socket that lies here belongs to nobody.
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).map_err(|error| StoreError::io("cannot create", &path, error).into())
}
