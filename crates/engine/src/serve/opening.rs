//! Opening a service: from what its folder remembers to a version that serves, or to a release that goes on.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serin_core::traffic::{Arm, by_arm};

use super::{
    queue::Queued,
    releasing::Releasing,
    service::{Condition, Down, Tools},
    standing::Standing,
    status::LastRun,
    version,
};
use crate::{
    preflight,
    process::{kill_leftover, leftover},
    router::{running_proxy, take_back},
    run::{
        Document, Feed, Happening, RunConfig, RunEnd, RunError,
        driver::Driver,
        start::{Ground, Preparation, distrust},
    },
    store::{ReleaseRow, Serving, StateFolder, Store, StoreError},
};

/// Time for processes that nobody wants any more to end.
const GRACE: Duration = Duration::from_secs(5);

/// What came of opening a service.
pub(super) struct Opened {
    pub(super) condition: Condition,
    pub(super) last: Option<LastRun>,
}

/// Why a service could not be opened, and whether that may pass.
struct Fault {
    text: String,
    passes: bool,
    /// Whether nothing is known that serves.
    blank: bool,
}

/// Opens a service: a release that was under way goes on, otherwise the version that served serves.
pub(super) async fn open(name: String, path: PathBuf, tools: Tools, declared: Option<Document>) -> Opened {
    let down = declared.clone();
    match try_open(&name, path, &tools, declared).await {
        Ok(opened) => opened,
        Err(Fault { text, passes, blank }) => {
            Opened { condition: Condition::Down(Box::new(Down { fault: text, passes, blank, declared: down })), last: None }
        }
    }
}

/// Where a release's happenings go.
pub(super) fn feed(name: &str, tools: &Tools, run: Option<i64>) -> Feed {
    let (events, service) = (Arc::clone(&tools.events), name.to_owned());
    // Publishing never waits, so nothing has to stand in between that could be full.
    Feed::calling(move |happening| match happening {
        Happening::Entry { entry, words } => {
            events.publish(entry.at, &service, run, words.unwrap_or_default(), Some(*entry));
        }
        Happening::Note(text) => events.publish(crate::process::now(), &service, run, (String::new(), text), None),
    })
}

/// What a release of a service is started with.
pub(super) fn config(document: Document, folder: &StateFolder, tools: &Tools) -> RunConfig {
    let state = folder.path().to_owned();
    RunConfig {
        document,
        state,
        serin_exe: tools.serin_exe.clone(),
        keep_serving: true,
        operator_patience: None,
        sockets: tools.sockets.clone(),
    }
}

/// The names of both versions' processes while a run is under way.
pub(super) fn names(serving: &Serving, run: i64) -> [String; 2] {
    [version::process_name(serving.version), version::process_name(run.unsigned_abs())]
}

async fn try_open(name: &str, path: PathBuf, tools: &Tools, declared: Option<Document>) -> Result<Opened, Fault> {
    let folder = StateFolder::create(&path)?;
    let found = tokio::task::block_in_place(|| Found::read(&folder, declared));
    let found = match found {
        Ok(Some(found)) => found,
        Ok(None) => {
            let text = format!("the folder {} says of no version that it serves; apply a document", folder.path().display());
            return Err(Fault { text, passes: false, blank: true });
        }
        Err(error) => {
            // What cannot be understood does not pass; a lock that is held or a disk that is full may.
            let passes = !matches!(error, StoreError::Damaged { .. } | StoreError::Newer { .. } | StoreError::PathTooLong { .. });
            return Err(Fault { text: distrust(&folder, error).await.to_string(), passes, blank: false });
        }
    };
    let (socket, is_judged) = (folder.proxy_socket(), found.is_judged);
    let opened = go_on(name, folder, tools, found).await;
    if opened.is_err() && is_judged {
        // Nobody judges the canary until this passes, so it gets no traffic either.
        take_back(&socket).await;
    }
    opened
}

/// From what the folder remembers to what serves.
async fn go_on(name: &str, folder: StateFolder, tools: &Tools, found: Found) -> Result<Opened, Fault> {
    let Found { store, serving, unfinished, last, is_replaced, .. } = found;
    let proxy = match running_proxy(&folder.proxy_socket()).await {
        Ok(proxy) => proxy,
        Err(error) => return Err(RunError::Proxy { reason: error.to_string() }.into()),
    };
    let document = reread(&serving.document_name, &serving.document)?;
    let epoch = store.epoch();
    let ground = Ground { folder, store: Arc::new(Mutex::new(store)), epoch };
    if let Some(row) = unfinished {
        let released = reread(&row.document_name, &row.document)?;
        let held = proxy.is_some() || tools.sockets.at(released.release.traffic.listen).is_some();
        let checks = preflight::static_checks(&released.release, &released.dir, ground.folder.path(), held);
        let config = config(released, &ground.folder, tools);
        let (feed, names, run) = (feed(name, tools, Some(row.id.0)), names(&serving, row.id.0), row.id.0);
        let preparation = Preparation::new(&config, &feed, ground, names, None, checks, None)?;
        let started = preparation.take_over(row, proxy).await?;
        let driver = Driver::new(started, feed);
        let releasing = Releasing { driver, serving, document, released: config.document, run };
        return Ok(Opened { condition: Condition::Releasing(Box::new(releasing)), last });
    }
    // What runs of a declared version that was never up is not what its correction describes, although it has the same name.
    clear_leftovers(&ground, (!is_replaced).then_some(&serving)).await;
    let held = proxy.is_some() || tools.sockets.at(document.release.traffic.listen).is_some();
    let checks = preflight::static_checks(&document.release, &document.dir, ground.folder.path(), held);
    let config = config(document, &ground.folder, tools);
    let feed = feed(name, tools, None);
    let arm = serving.arm;
    let names = by_arm(|any| version::process_name(if any == arm { serving.version } else { u64::MAX }));
    let stood = Preparation::new(&config, &feed, ground, names, None, checks, None)?.stand(arm, proxy).await?;
    let standing = Standing { stood, serving, document: config.document, arm };
    Ok(Opened { condition: Condition::Standing(Box::new(standing)), last })
}

/// What a folder remembers.
struct Found {
    store: Store,
    serving: Serving,
    unfinished: Option<ReleaseRow>,
    last: Option<LastRun>,
    /// The version that was declared before was never up, and another one takes its place.
    is_replaced: bool,
    /// A release is under way whose canary may have traffic that needs a judge.
    is_judged: bool,
}

impl Found {
    /// `None` if it was never said which version serves.
    fn read(folder: &StateFolder, declared: Option<Document>) -> Result<Option<Self>, StoreError> {
        let mut store = Store::open(folder)?;
        let mut is_replaced = false;
        let serving = match (store.serving()?, declared) {
            (Some(serving), None) => serving,
            // Declared anew before it was ever up, or known from an earlier server: what was proven counts.
            (Some(serving), Some(_)) if serving.release.is_some() => serving,
            (before, Some(document)) => {
                let serving = version::declared(&document);
                is_replaced = before.is_some_and(|before| before != serving);
                store.set_serving(&serving)?;
                serving
            }
            // It died after it was created and before it was recorded what serves.
            (None, None) => match Queued::kept(folder) {
                Some(queued) => {
                    let serving = version::declared(&queued.document);
                    store.set_serving(&serving)?;
                    serving
                }
                None => return Ok(None),
            },
        };
        let Some(row) = store.unfinished()? else {
            let last = last_run(&store, None)?;
            return Ok(Some(Self { store, serving, unfinished: None, last, is_replaced, is_judged: false }));
        };
        let state = store.journal(row.id)?.state();
        if !state.is_final() {
            let last = last_run(&store, Some(&row))?;
            return Ok(Some(Self { store, serving, unfinished: Some(row), last, is_replaced, is_judged: state.phase.is_judged() }));
        }
        // It came to its end and died before that was recorded: over is over.
        let end = RunEnd::of(&state);
        let serving = match end {
            // What a later run brought counts.
            RunEnd::Succeeded if serving.release.is_none_or(|release| release < row.id) => Serving {
                release: Some(row.id),
                arm: Arm::Canary,
                document_name: row.document_name.clone(),
                document: row.document.clone(),
                version: row.id.0.unsigned_abs(),
            },
            _ => serving,
        };
        let told = serde_json::to_string(&end).ok();
        store.end_with(row.id, end.word(), state.ended_at.unwrap_or(state.at), told.as_deref(), Some(&serving))?;
        let last = last_run(&store, None)?;
        Ok(Some(Self { store, serving, unfinished: None, last, is_replaced, is_judged: false }))
    }
}

/// The newest run that is over.
fn last_run(store: &Store, under_way: Option<&ReleaseRow>) -> Result<Option<LastRun>, StoreError> {
    let rows = store.releases(2)?;
    let Some(row) = rows.into_iter().find(|row| under_way.is_none_or(|current| current.id != row.id)) else { return Ok(None) };
    let Some(ended_at) = row.ended_at else { return Ok(None) };
    let told = row.end.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let end = match told {
        Some(end) => end,
        None => RunEnd::of(&store.journal(row.id)?.state()),
    };
    Ok(Some(LastRun { document_hash: row.document_hash, run: row.run, number: row.id.0, began_at: row.created_at, ended_at, end }))
}

/// Ends what still runs of versions that nobody wants any more.
async fn clear_leftovers(ground: &Ground, serving: Option<&Serving>) {
    let lock = || ground.store.lock().unwrap_or_else(PoisonError::into_inner);
    let records = tokio::task::block_in_place(|| lock().processes()).unwrap_or_default();
    let mine = serving.map(|serving| format!("{}-", version::process_name(serving.version)));
    let is_mine = |id: &str| mine.as_ref().is_some_and(|mine| id.starts_with(mine));
    for record in records.into_iter().filter(|record| !is_mine(&record.id)) {
        if leftover(&record) {
            tracing::warn!(replica = record.id, pid = record.pid, "stopping a process of an earlier release");
        }
        if kill_leftover(&record, GRACE).await
            && let Err(error) = tokio::task::block_in_place(|| lock().forget_process(&record.id))
        {
            tracing::warn!(replica = record.id, %error, "a stopped process could not be forgotten");
        }
    }
}

fn reread(origin: &str, text: &str) -> Result<Document, Fault> {
    Document::reread(origin, text.to_owned()).map_err(|diagnostics| Fault {
        text: format!("this version of serin does not accept the document that is in service: {diagnostics}; put the older version back"),
        passes: false,
        blank: false,
    })
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self { text: error.to_string(), passes: true, blank: false }
    }
}

impl From<RunError> for Fault {
    fn from(error: RunError) -> Self {
        Self { text: error.to_string(), passes: true, blank: false }
    }
}
