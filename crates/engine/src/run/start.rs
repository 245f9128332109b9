//! Everything before the first decision of a release.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serin_core::{
    Timestamp,
    judge::Checkpoint,
    release::{Check, CheckStatus, Release, State},
    traffic::Arm,
};
use serin_proxy::ProxyLink;
use serin_spec::validated::Workload as WorkloadSpec;
use tokio::{net::UnixListener, sync::mpsc};

use super::{
    Document, Feed, Happening, RunConfig, RunError,
    clock::RunClock,
    effects::{CanaryGate, World},
    ledger::{SharedStore, StoreLedger},
    meter::TrafficMeter,
};
use crate::{
    preflight,
    process::{ReplicaRecord, ReplicaSet, kill_leftover, load_spec},
    router::{EmbeddedRouter, ProxyKeeper, ProxyLaunch, take_back},
    store::{CheckpointFile, Latch, NewRelease, ReleaseRow, StateFolder, Store, StoreError},
    workload::{ExternalWorkload, Launch, ProcessesWorkload, Workload},
};

/// Time for processes of an earlier release to end by themselves.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);

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
    pub(super) start: Box<dyn FnOnce() -> ReplicaSet + Send>,
}

pub(super) async fn start(config: &RunConfig, feed: &Feed, interrupts: &mut mpsc::Receiver<()>) -> Result<Started, RunError> {
    let document = &config.document;
    let folder = StateFolder::create(&config.state)?;
    let (store, unfinished) = open_store(&folder).await?;
    if let Some(row) =
        unfinished.iter().find(|row| (&row.name, &row.document_hash) != (&document.release.name, &document.release.document_hash))
    {
        return Err(RunError::OtherRelease {
            folder: folder.path().display().to_string(),
            name: row.name.clone(),
            document: row.document_name.clone(),
        });
    }
    if unfinished.is_none() {
        clear_leftovers(&folder, &store, feed).await?;
    }
    let adopting = ProxyLink::connect(&folder.proxy_socket()).await.is_ok();
    let checks = preflight::static_checks(&document.release, &document.dir, folder.path(), adopting);
    // A release that is under way is not stopped by a disk that filled up meanwhile: that would leave it without a judge.
    if unfinished.is_none() && checks.iter().any(|check| check.status == CheckStatus::Fail) {
        return Err(RunError::Preflight(checks));
    }
    Preparation { config, feed, folder, store, checks }.start(unfinished, interrupts).await
}

/// Opens the store. One that cannot be read cannot say what a running proxy should do, so that it is told to send
/// everything to stable.
async fn open_store(folder: &StateFolder) -> Result<(Store, Option<ReleaseRow>), RunError> {
    let opened = Store::open(folder).and_then(|store| {
        let unfinished = store.unfinished()?;
        if let Some(row) = &unfinished {
            store.journal(row.id)?;
        }
        Ok((store, unfinished))
    });
    if let Err(StoreError::Damaged { .. } | StoreError::Database { .. } | StoreError::Newer { .. }) = &opened {
        take_back(&folder.proxy_socket()).await;
    }
    Ok(opened?)
}

/// Stops what an ended release left running because serin died while it was putting things away.
async fn clear_leftovers(folder: &StateFolder, store: &Store, feed: &Feed) -> Result<(), RunError> {
    if let Ok(link) = ProxyLink::connect(&folder.proxy_socket()).await {
        let _ = feed.happenings.try_send(Happening::Note("stopping the proxy of an earlier release".to_owned()));
        let _ = link.shutdown(0).await;
        let _ = tokio::time::timeout(LEFTOVER_GRACE, link.closed()).await;
    }
    for record in store.processes()? {
        let _ = feed.happenings.try_send(Happening::Note(format!("stopping {} (pid {}) of an earlier release", record.id, record.pid)));
        if kill_leftover(&record, LEFTOVER_GRACE).await {
            store.forget_process(&record.id)?;
        }
    }
    Ok(())
}

struct Preparation<'a> {
    config: &'a RunConfig,
    feed: &'a Feed,
    folder: StateFolder,
    store: Store,
    checks: Vec<Check>,
}

impl Preparation<'_> {
    async fn start(self, unfinished: Option<ReleaseRow>, interrupts: &mut mpsc::Receiver<()>) -> Result<Started, RunError> {
        let previous = self.store.processes()?;
        let proxy = proxy_launch(self.config, &self.folder);
        let (epoch, store) = (self.store.epoch(), Arc::new(Mutex::new(self.store)));
        let document = &self.config.document;
        let launch = Launch {
            state_dir: self.folder.path().to_owned(),
            document_dir: document.dir.clone(),
            serin_exe: self.config.serin_exe.clone(),
            previous,
        };
        let workload = workload(document, &launch, &store);
        let control = bind_control(&self.folder)?;
        let resumed = match unfinished {
            Some(row) => Some(Resumed::read(row, &self.folder, &store)?),
            None => None,
        };
        let note = |text: String| {
            let _ = self.feed.happenings.try_send(Happening::Note(text));
        };
        match &resumed {
            Some(resumed) => {
                note(format!("resuming {} run {} where it was: {}", resumed.row.name, resumed.row.run, resumed.state.phase.name()));
                resumed.adopt(workload.as_ref())?;
            }
            None => {
                note("starting stable".to_owned());
                let started = tokio::select! {
                    started = workload.start(Arm::Stable) => Some(started),
                    _ = interrupts.recv() => None,
                };
                if !matches!(started, Some(Ok(()))) {
                    let _ = workload.stop(Arm::Stable).await;
                    let Some(Err(error)) = started else { return Err(RunError::Interrupted) };
                    let hint = "repair stable before you release: there would be nothing to go back to";
                    return Err(RunError::Preflight(
                        [self.checks, vec![preflight::outcome("stable is healthy", "", Err(error.0), hint)]].concat(),
                    ));
                }
            }
        }
        let Some(stable) = workload.pool(Arm::Stable) else {
            return Err(RunError::Internal("stable has no servers".to_owned()));
        };
        let (link_out, link_in) = tokio::sync::watch::channel(None);
        let router = EmbeddedRouter::new(&document.release, epoch, stable, self.folder.route_table(), link_in);
        let latched = resumed.as_ref().is_some_and(|resumed| resumed.latch.is_set());
        match &resumed {
            Some(resumed) => router.prepare(workload.pool(Arm::Canary), resumed.weight(), resumed.matches()),
            None => router.prepare(None, serin_core::WeightBps::ZERO, false),
        }
        let keeper = ProxyKeeper::start(proxy).await;
        let keeper = match keeper {
            Ok(keeper) => keeper,
            Err(error) => {
                let _ = workload.stop(Arm::Stable).await;
                let hint = "stop what uses the address (`ss -ltnp` shows it) or change traffic.embedded.listen";
                return Err(RunError::Preflight(
                    [self.checks, vec![preflight::outcome("listen address", "", Err(error.to_string()), hint)]].concat(),
                ));
            }
        };
        forward(keeper.link(), link_out);
        let clock = RunClock::start(resumed.as_ref().map_or(Timestamp(0), |resumed| resumed.state.at));
        let world = Arc::new(World {
            router,
            workload,
            stats: keeper.stats(),
            drain_ms: document.release.traffic.drain_ms,
            deploy_timeout_ms: document.release.plan.deploy_timeout_ms,
            canary: CanaryGate::default(),
            checks: self.checks,
        });
        let load = load(document, &launch, &store)?;
        let checkpoint = CheckpointFile::new(self.folder.checkpoint());
        let plan = document.release.plan.clone();
        let (row, latch, release, meter) = match resumed {
            Some(resumed) => {
                let remembered = checkpoint.load::<Remembered>(resumed.row.id);
                let last_seen = remembered.as_ref().map_or(resumed.state.at, |(at, _)| *at);
                let trial = remembered.as_ref().map(|(_, remembered)| remembered.trial);
                let release = Release::resume(plan, &resumed.journal, trial.as_ref(), last_seen, latched, epoch, clock.now());
                (resumed.row, resumed.latch, release, remembered.map(|(_, remembered)| remembered.meter))
            }
            None => {
                let new = NewRelease {
                    name: &document.release.name,
                    document_hash: &document.release.document_hash,
                    document_name: &document.name,
                    document: &document.text,
                };
                let row = store.lock().unwrap_or_else(PoisonError::into_inner).begin(new, clock.now())?;
                if row.run > 1 {
                    note(format!("this document was run before: this is run {}", row.run));
                }
                let latch = Latch::open(self.folder.latch(row.id))?;
                (row, latch, Release::new(plan, epoch, clock.now()), None)
            }
        };
        let listen = document.release.traffic.listen.to_string();
        Ok(Started { folder: self.folder, store, row, release, latch, checkpoint, meter, world, keeper, control, load, clock, listen })
    }
}

fn proxy_launch(config: &RunConfig, folder: &StateFolder) -> ProxyLaunch {
    ProxyLaunch {
        serin_exe: config.serin_exe.clone(),
        listen: config.document.release.traffic.listen,
        socket: folder.proxy_socket(),
        table: folder.route_table(),
        log: folder.log("proxy"),
    }
}

/// An interrupted run as the store remembers it.
struct Resumed {
    row: ReleaseRow,
    journal: Vec<serin_core::release::Entry>,
    state: State,
    latch: Latch,
}

impl Resumed {
    fn read(row: ReleaseRow, folder: &StateFolder, store: &SharedStore) -> Result<Self, RunError> {
        let latch = Latch::open(folder.latch(row.id))?;
        let journal = store.lock().unwrap_or_else(PoisonError::into_inner).journal(row.id)?;
        let state = State::fold(&journal);
        Ok(Self { row, journal, state, latch })
    }

    /// Finds the processes again. Arms that the release had not started or had stopped stay as they are.
    fn adopt(&self, workload: &dyn Workload) -> Result<(), RunError> {
        let internal = |error: crate::workload::WorkloadError| RunError::Internal(error.0);
        workload.adopt(Arm::Stable).map_err(internal)?;
        if self.state.deployed && !self.state.is_final() {
            workload.adopt(Arm::Canary).map_err(internal)?;
        }
        Ok(())
    }

    /// What the routers were last asked for; nothing if the latch says that traffic was taken back since.
    fn weight(&self) -> serin_core::WeightBps {
        if self.latch.is_set() { serin_core::WeightBps::ZERO } else { self.state.asked_weight() }
    }

    fn matches(&self) -> bool {
        !self.latch.is_set() && self.state.targets.values().any(|target| target.matches)
    }
}

fn workload(document: &Document, launch: &Launch, store: &SharedStore) -> Arc<dyn Workload> {
    match &document.release.workload {
        WorkloadSpec::Processes(processes) => {
            Arc::new(ProcessesWorkload::new(processes.as_ref().clone(), launch.clone(), Arc::new(StoreLedger(Arc::clone(store)))))
        }
        WorkloadSpec::External(external) => Arc::new(ExternalWorkload::new(external.clone())),
    }
}

fn load(document: &Document, launch: &Launch, store: &SharedStore) -> Result<Option<Load>, RunError> {
    let WorkloadSpec::Processes(processes) = &document.release.workload else { return Ok(None) };
    let Some(command) = &processes.load else { return Ok(None) };
    let url = format!("http://{}", reachable(document.release.traffic.listen));
    let spec = load_spec(command, &url, &launch.context()).map_err(|error| RunError::Internal(error.to_string()))?;
    let adopt: Vec<ReplicaRecord> = launch.previous.iter().filter(|record| record.id == spec.id).cloned().collect();
    let ledger = Arc::new(StoreLedger(Arc::clone(store)));
    Ok(Some(Load { start: Box::new(move || ReplicaSet::start(vec![spec], adopt, ledger)) }))
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

/// The router is made before the proxy runs; this hands it the links as they come.
fn forward(mut from: tokio::sync::watch::Receiver<Option<Arc<ProxyLink>>>, to: tokio::sync::watch::Sender<Option<Arc<ProxyLink>>>) {
    tokio::spawn(async move {
        loop {
            let link = from.borrow_and_update().clone();
            to.send_replace(link);
            if from.changed().await.is_err() {
                return;
            }
        }
    });
}
