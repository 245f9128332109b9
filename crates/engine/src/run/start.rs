//! Everything before the first decision of a release.
//!
//! A new release that cannot begin stops again what was started for it. An interrupted one that cannot be taken over leaves
//! everything running: what serves now is worth more than tidiness.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serin_core::{
    Timestamp, WeightBps,
    judge::Checkpoint,
    release::{Check, CheckStatus, Phase, Release, State},
    traffic::Arm,
};
use serin_proxy::ProxyLink;
use serin_spec::validated::Workload as WorkloadSpec;
use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
};

use super::{
    Document, Feed, Happening, RunConfig, RunEnd, RunError,
    clock::RunClock,
    effects::{CanaryGate, World},
    ledger::{SharedStore, StoreLedger},
    leftovers,
    meter::TrafficMeter,
    resume::Resumed,
};
use crate::{
    preflight,
    process::{ReplicaRecord, ReplicaSet, ReplicaSpec, load_spec},
    router::{EmbeddedRouter, LinkWatch, ProxyKeeper, ProxyLaunch, running_proxy, take_back},
    store::{CheckpointFile, Latch, NewRelease, ReleaseRow, StateFolder, Store, StoreError},
    workload::{ExternalWorkload, Launch, ProcessesWorkload, Workload},
};

/// What the judge and the meter remember, written every second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) trial: Checkpoint,
    pub(super) meter: TrafficMeter,
}

/// Everything that the driver needs.
pub(super) struct Started {
    pub(super) folder: StateFolder,
    pub(super) store: SharedStore,
    pub(super) row: ReleaseRow,
    pub(super) release: Release,
    pub(super) latch: Latch,
    pub(super) checkpoint: CheckpointFile,
    pub(super) meter: Option<TrafficMeter>,
    pub(super) world: Arc<World>,
    pub(super) keeper: ProxyKeeper,
    pub(super) control: UnixListener,
    pub(super) load: Option<Load>,
    pub(super) clock: RunClock,
    pub(super) listen: String,
}

/// The traffic that the document makes itself, once the proxy serves.
pub(super) struct Load {
    spec: ReplicaSpec,
    adopt: Vec<ReplicaRecord>,
    ledger: Arc<StoreLedger>,
}

impl Load {
    pub(super) fn start(self) -> ReplicaSet {
        ReplicaSet::start(vec![self.spec], self.adopt, self.ledger)
    }
}

pub(super) async fn start(config: &RunConfig, feed: &Feed, interrupts: &mut mpsc::Receiver<()>) -> Result<Started, RunError> {
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
        let _ = feed.happenings.try_send(Happening::Note(text));
    };
    if unfinished.is_none() {
        leftovers::clear(&folder, &store, note).await?;
    }
    let proxy = running_proxy(&folder.proxy_socket()).await.map_err(|error| RunError::Proxy { reason: error.to_string() })?;
    let checks = preflight::static_checks(&document.release, &document.dir, folder.path(), proxy.is_some());
    // A release that is under way is not stopped by a disk that filled up meanwhile: that would leave it without a judge.
    if unfinished.is_none() && checks.iter().any(|check| check.status == CheckStatus::Fail) {
        return Err(RunError::Preflight(checks));
    }
    let preparation = Preparation::new(config, feed, folder, store, checks)?;
    match unfinished {
        Some(row) => preparation.take_over(row, proxy).await,
        None => preparation.begin(interrupts).await,
    }
}

fn open_store(folder: &StateFolder) -> Result<(Store, Option<ReleaseRow>), StoreError> {
    let mut store = Store::open(folder)?;
    let Some(row) = store.unfinished()? else { return Ok((store, None)) };
    let state = State::fold(&store.journal(row.id)?);
    if !state.is_final() {
        return Ok((store, Some(row)));
    }
    // It came to its end and died before that was recorded: over is over.
    store.end(row.id, RunEnd::of(&state).word(), state.ended_at.unwrap_or(state.at))?;
    Ok((store, None))
}

/// A store that cannot be used cannot say what a running proxy should do: it is told to send everything to stable.
async fn distrust(folder: &StateFolder, error: StoreError) -> RunError {
    if !matches!(error, StoreError::InUse { .. } | StoreError::PathTooLong { .. }) {
        take_back(&folder.proxy_socket()).await;
    }
    error.into()
}

/// Everything that is ready before a process is started or a socket is bound for clients.
struct Preparation<'a> {
    config: &'a RunConfig,
    feed: &'a Feed,
    folder: StateFolder,
    epoch: u64,
    store: SharedStore,
    checks: Vec<Check>,
    workload: Arc<dyn Workload>,
    load: Option<Load>,
    control: UnixListener,
}

impl<'a> Preparation<'a> {
    fn new(config: &'a RunConfig, feed: &'a Feed, folder: StateFolder, store: Store, checks: Vec<Check>) -> Result<Self, RunError> {
        let document = &config.document;
        let launch = Launch {
            state_dir: folder.path().to_owned(),
            document_dir: document.dir.clone(),
            serin_exe: config.serin_exe.clone(),
            previous: store.processes()?,
        };
        let (epoch, store) = (store.epoch(), Arc::new(Mutex::new(store)));
        let workload = workload(document, &launch, &store);
        let load = load(document, &launch, &store)?;
        let control = bind_control(&folder)?;
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
        let (links, router) = self.router()?;
        router.prepare(None, WeightBps::ZERO, false);
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

    async fn take_over(self, row: ReleaseRow, proxy: Option<ProxyLink>) -> Result<Started, RunError> {
        let resumed = match Resumed::read(row, &self.folder, &self.store) {
            Ok(resumed) => resumed,
            Err(error) => return Err(distrust(&self.folder, error).await),
        };
        self.note(format!("resuming {} run {} where it was: {}", resumed.row.name, resumed.row.run, resumed.state.phase.name()));
        let taken = self.serve_again(&resumed, proxy).await;
        let (clock, router, keeper) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                self.workload.detach();
                return Err(error);
            }
        };
        let checkpoint = CheckpointFile::new(self.folder.checkpoint());
        let remembered = checkpoint.load::<Remembered>(resumed.row.id);
        if let Err(reason) = &remembered
            && is_judged(&resumed.state.phase)
        {
            self.note(format!("evidence from before the restart is lost: {reason}"));
        }
        let remembered = remembered.ok();
        let last_seen = remembered.as_ref().map_or(resumed.state.at, |(at, _)| *at);
        let trial = remembered.as_ref().map(|(_, remembered)| remembered.trial.clone());
        let latched = resumed.latch.is_set();
        let plan = self.config.document.release.plan.clone();
        let release = Release::resume(plan, &resumed.journal, trial.as_ref(), last_seen, latched, self.epoch, clock.now());
        let meter = remembered.map(|(_, remembered)| remembered.meter);
        Ok(self.started(clock, resumed.row, resumed.latch, release, meter, router, keeper))
    }

    async fn serve_again(&self, resumed: &Resumed, proxy: Option<ProxyLink>) -> Result<(RunClock, EmbeddedRouter, ProxyKeeper), RunError> {
        resumed.adopt(self.workload.as_ref()).map_err(|error| RunError::Internal(error.0))?;
        let canary = self.workload.pool(Arm::Canary);
        if proxy.is_none() {
            // Nothing serves at the moment, so nothing is gained by sending clients to replicas that are not up yet. A
            // stable that does not come up is for the release to judge.
            self.note("the proxy is gone as well: waiting for stable before serving again".to_owned());
            let _ = self.workload.start(Arm::Stable).await;
        }
        let (links, router) = self.router()?;
        match &proxy {
            Some(_) => router.prepare(canary, resumed.weight(), resumed.matches()),
            // The release reads this back and asks for its weight again, once it sees fit.
            None => router.prepare(canary, WeightBps::ZERO, false),
        }
        let keeper = ProxyKeeper::start(self.proxy_launch(), proxy, links).map_err(|error| self.address_taken(&error))?;
        Ok((RunClock::start(resumed.state.at), router, keeper))
    }

    fn router(&self) -> Result<(LinkWatch, EmbeddedRouter), RunError> {
        let stable = self.workload.pool(Arm::Stable).ok_or_else(|| RunError::Internal("stable has no servers".to_owned()))?;
        let (links, link) = watch::channel(None);
        let router = EmbeddedRouter::new(&self.config.document.release, self.epoch, stable, self.folder.route_table(), link);
        Ok((links, router))
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
        let validated = &self.config.document.release;
        let world = Arc::new(World {
            router,
            workload: self.workload,
            stats: keeper.stats(),
            drain_ms: validated.traffic.drain_ms,
            deploy_timeout_ms: validated.plan.deploy_timeout_ms,
            canary: CanaryGate::default(),
            checks: self.checks,
        });
        let checkpoint = CheckpointFile::new(self.folder.checkpoint());
        let listen = validated.traffic.listen.to_string();
        let Self { folder, store, control, load, .. } = self;
        Started { folder, store, row, release, latch, checkpoint, meter, world, keeper, control, load, clock, listen }
    }

    fn proxy_launch(&self) -> ProxyLaunch {
        ProxyLaunch {
            serin_exe: self.config.serin_exe.clone(),
            listen: self.config.document.release.traffic.listen,
            socket: self.folder.proxy_socket(),
            table: self.folder.route_table(),
            log: self.folder.log("proxy"),
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
        let _ = self.feed.happenings.try_send(Happening::Note(text));
    }
}

/// Whether what was seen of the canary still matters.
fn is_judged(phase: &Phase) -> bool {
    matches!(phase, Phase::Stage { .. } | Phase::Promoting | Phase::Baking { .. } | Phase::Retreated { .. } | Phase::NeedsOperator { .. })
}

fn workload(document: &Document, launch: &Launch, store: &SharedStore) -> Arc<dyn Workload> {
    match &document.release.workload {
        WorkloadSpec::Processes(processes) => {
            let ledger = Arc::new(StoreLedger(Arc::clone(store)));
            Arc::new(ProcessesWorkload::new(processes.as_ref().clone(), launch.clone(), ledger))
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
fn reachable(listen: std::net::SocketAddr) -> std::net::SocketAddr {
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
