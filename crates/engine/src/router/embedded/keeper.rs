//! Keeps the proxy process running and the link to it alive.
//!
//! The listening socket belongs to this process and is handed to the proxy as its standard input (a plain descriptor that
//! needs no unsafe code). So a proxy that dies leaves the socket open: clients wait in its queue for the few milliseconds
//! until the next one, and none is refused.
//!
//! A proxy that outlived an earlier control process is adopted and asked for a copy of the socket, so that the same is true of
//! it from then on. If the socket was given from outside (socket activation), nobody has to be asked.
//!
//! Replacing a living proxy: a new one is started that stands by, gets the table in service, is told to accept, and only then the
//! old one is told to finish what it has. Clients notice nothing but that their kept connections are closed. A proxy that
//! speaks no version of the protocol that this program does is replaced as soon as it is found. The new one listens for control
//! under a name of its own until the old one has given up the common name; a control process that dies in between is succeeded
//! by one that looks under both ([`running_proxy`](super::running_proxy)).
//!
//! A proxy that has nothing to say is quiet for a second at a time. Whoever judges wants to see time pass, so the last counters
//! are repeated at every [`beat`](super::beat) for [`REPEAT_LIMIT`] after the last news, as long as no request is open; from then on a
//! proxy's sign of life each second is enough.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serin_proxy::{LinkError, ProxyLink, protocol::Stats};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    beat::next_beat,
    found::{bind, next_name, take_name},
    proxy_process::{ProxyProcess, Role},
};

/// Counters that are older are not repeated: nothing is decided in a hurry where nothing happens, and a proxy that was not heard of for
/// so long may have died or hang.
const REPEAT_LIMIT: Duration = Duration::from_millis(2_500);
/// A proxy that is silent for so long is asked whether it still answers. One that hangs does not, is killed and followed by another; one
/// that was merely starved does.
const SILENCE: Duration = Duration::from_secs(10);
/// Time for requests in flight in a proxy that is replaced, in milliseconds.
pub(super) const REPLACED_DRAIN_MS: u64 = 30_000;
const CONNECT_EVERY: Duration = Duration::from_millis(10);
const START_PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// What a proxy may take beyond its drain time.
const END_SLACK: Duration = Duration::from_secs(2);

/// Where the link to the proxy is published; `None` while the proxy is being started.
pub type LinkWatch = watch::Sender<Option<Arc<ProxyLink>>>;

/// How to start a proxy.
#[derive(Debug, Clone)]
pub struct ProxyLaunch {
    /// The running binary.
    pub serin_exe: PathBuf,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the proxy takes its route tables.
    pub socket: PathBuf,
    /// The route table to begin with, if the file is there.
    pub table: PathBuf,
    /// Where its own messages go.
    pub log: PathBuf,
    /// The listening socket, if it was given from outside; else `listen` is bound.
    pub listener: Option<Arc<TcpListener>>,
}

/// The proxy process, kept alive.
#[derive(Debug)]
pub struct ProxyKeeper {
    link: watch::Receiver<Option<Arc<ProxyLink>>>,
    stats: watch::Receiver<Option<Arc<Stats>>>,
    asks: mpsc::Sender<Ask>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Ask {
    Drain { drain_ms: u64 },
    Detach,
    Replace(oneshot::Sender<Result<(), std::io::Error>>),
}

impl ProxyKeeper {
    /// Adopts a running proxy, or starts one. Links are published in `links` as they come. One that speaks no version of the
    /// protocol that this program does is replaced, for which `launch.table` must be the table to serve.
    ///
    /// # Errors
    /// If there is none and the address cannot be bound; nothing was started then.
    pub fn start(launch: ProxyLaunch, existing: Option<ProxyLink>, links: LinkWatch) -> Result<Self, std::io::Error> {
        let listener = match &launch.listener {
            Some(listener) => Some(Arc::clone(listener)),
            None if existing.is_some() => None,
            None => Some(Arc::new(bind(launch.listen)?)),
        };
        let process = existing.as_ref().map(|link| ProxyProcess::adopted(link.hello().pid));
        let link = links.subscribe();
        let (stats_out, stats) = watch::channel(None);
        let (asks, asked) = mpsc::channel(4);
        let worker = Worker { launch, listener, process, links, stats: stats_out };
        let task = tokio::spawn(worker.run(existing, asked));
        Ok(Self { link, stats, asks, task })
    }

    /// The current link; `None` while the proxy is being started.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Option<Arc<ProxyLink>>> {
        self.link.clone()
    }

    /// The latest counters.
    #[must_use]
    pub fn stats(&self) -> watch::Receiver<Option<Arc<Stats>>> {
        self.stats.clone()
    }

    /// Starts a new proxy in place of the one that runs. No client is refused, and requests in flight end where they are, within
    /// 30 s. Returns when the new one serves.
    ///
    /// # Errors
    /// If the new one does not come up; the old one goes on then.
    pub async fn replace(&self) -> Result<(), std::io::Error> {
        let (answer, answered) = oneshot::channel();
        let gone = || std::io::Error::other("the proxy is being stopped");
        self.asks.send(Ask::Replace(answer)).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Lets requests in flight end, at most `drain_ms`, and stops the proxy. Returns when it is gone.
    pub async fn stop(self, drain_ms: u64) {
        let _ = self.asks.send(Ask::Drain { drain_ms }).await;
        let _ = timeout(Duration::from_millis(drain_ms) + 2 * START_PATIENCE + END_SLACK, self.task).await;
    }

    /// Leaves the proxy running on its own.
    pub async fn detach(self) {
        let _ = self.asks.send(Ask::Detach).await;
        let _ = timeout(START_PATIENCE, self.task).await;
    }
}

struct Worker {
    launch: ProxyLaunch,
    listener: Option<Arc<TcpListener>>,
    process: Option<ProxyProcess>,
    links: LinkWatch,
    stats: watch::Sender<Option<Arc<Stats>>>,
}

impl Worker {
    async fn run(mut self, existing: Option<ProxyLink>, mut asks: mpsc::Receiver<Ask>) {
        let mut link = match existing {
            Some(found) => self.adopt(found).await,
            None => None,
        };
        let mut backoff = CONNECT_EVERY;
        let mut promised: Option<oneshot::Sender<Result<(), std::io::Error>>> = None;
        loop {
            let Some(current) = link.take() else {
                let connected = tokio::select! {
                    started = self.start() => started,
                    asked = unless_replace(&mut asks) => return self.end(asked, None).await,
                };
                match connected {
                    Ok(fresh) => {
                        backoff = CONNECT_EVERY;
                        link = Some(fresh);
                    }
                    Err(error) => {
                        tracing::error!(%error, "the proxy does not start; trying again");
                        tokio::select! {
                            () = sleep(backoff) => {}
                            asked = unless_replace(&mut asks) => return self.end(asked, None).await,
                        }
                        backoff = (backoff * 2).min(LONGEST_BACKOFF);
                    }
                }
                continue;
            };
            self.keep_listener(&current).await;
            let current = Arc::new(current);
            self.links.send_replace(Some(Arc::clone(&current)));
            if let Some(answer) = promised.take() {
                let _ = answer.send(Ok(()));
            }
            while link.is_none() {
                match self.attend(&current, &mut asks).await {
                    Attended::Broke => {
                        self.links.send_replace(None);
                        tracing::info!("the link to the proxy broke");
                        break;
                    }
                    Attended::Replace(answer) => match self.replace(&current).await {
                        Ok(fresh) => (link, promised) = (Some(fresh), Some(answer)),
                        // The old one goes on.
                        Err(error) => _ = answer.send(Err(error)),
                    },
                    Attended::End(asked) => {
                        self.links.send_replace(None);
                        return self.end(asked, Some(current)).await;
                    }
                }
            }
        }
    }

    /// Passes counters on until the link breaks or somebody asks for something.
    async fn attend(&self, current: &ProxyLink, asks: &mut mpsc::Receiver<Ask>) -> Attended {
        let mut stats = current.stats();
        let mut news_at = Instant::now();
        let mut repeat_at = next_beat(news_at);
        let mut silent_until = news_at + SILENCE;
        loop {
            tokio::select! {
                changed = stats.changed() => {
                    if changed.is_err() {
                        return Attended::Broke;
                    }
                    let latest = stats.borrow_and_update().clone();
                    let now = Instant::now();
                    silent_until = now + SILENCE;
                    let before = self.stats.send_replace(latest.clone());
                    if before != latest {
                        news_at = now;
                    }
                    repeat_at = next_beat(now);
                }
                () = sleep_until(repeat_at), if news_at.elapsed() < REPEAT_LIMIT => {
                    let latest = stats.borrow().clone();
                    if latest.as_ref().is_some_and(|stats| stats.open.is_empty()) {
                        self.stats.send_replace(latest);
                    }
                    repeat_at = next_beat(Instant::now());
                }
                () = current.closed() => return Attended::Broke,
                () = sleep_until(silent_until) => {
                    tracing::error!("the proxy gave no sign of life for {} s; asking whether it still answers", SILENCE.as_secs());
                    return Attended::Broke;
                }
                asked = asks.recv() => return match asked {
                    Some(Ask::Replace(answer)) => Attended::Replace(answer),
                    asked => Attended::End(asked),
                },
            }
        }
    }

    /// The link to a proxy that was found; `None` if a new one has to be started.
    async fn adopt(&mut self, found: ProxyLink) -> Option<ProxyLink> {
        if found.hello().protocol().is_some() {
            return Some(found);
        }
        let hello = found.hello();
        tracing::info!(pid = hello.pid, version = hello.version, "the running proxy speaks another protocol: replacing it");
        match self.replace(&found).await {
            Ok(fresh) => Some(fresh),
            Err(error) => {
                tracing::error!(%error, "the proxy of another version could not be replaced while it serves; stopping it first");
                let told = found.shutdown(REPLACED_DRAIN_MS).await.is_ok();
                if let Some(process) = self.process.take() {
                    retire(process, told);
                }
                None
            }
        }
    }

    /// What keeps clients from being refused when the proxy dies.
    async fn keep_listener(&mut self, link: &ProxyLink) {
        if self.listener.is_some() {
            return;
        }
        match link.listener().await {
            Ok(listener) => self.listener = Some(Arc::new(listener)),
            Err(error) => tracing::warn!(%error, "the proxy keeps its listening socket to itself: should it die, clients are refused"),
        }
    }

    /// A link to a living proxy: the one that is there, or a new one. One that lives but cannot be talked to is killed: it
    /// would keep traffic on a canary that may have to lose it.
    async fn start(&mut self) -> Result<ProxyLink, std::io::Error> {
        if let Some(process) = &mut self.process {
            // A killed process is seen to be gone a moment after its link.
            process.wait(CONNECT_EVERY).await;
        }
        if self.process.as_mut().is_none_or(|process| process.ended().is_some()) {
            let listener = match &self.listener {
                Some(listener) => listener,
                None => self.listener.insert(Arc::new(bind(self.launch.listen)?)),
            };
            self.process = Some(ProxyProcess::spawn(&self.launch, &self.launch.socket, listener, Role::Serve)?);
        }
        let Some(process) = &mut self.process else { return Err(std::io::Error::other("the proxy is not there")) };
        greet(process, &self.launch.socket, &self.launch.log).await
    }

    /// See the module. `old` stays as it is if the new one does not come up.
    async fn replace(&mut self, old: &ProxyLink) -> Result<ProxyLink, std::io::Error> {
        self.keep_listener(old).await;
        let Some(listener) = &self.listener else {
            return Err(std::io::Error::other("it does not hand out its listening socket"));
        };
        let name = next_name(&self.launch.socket);
        let mut process = ProxyProcess::spawn(&self.launch, &name, listener, Role::Standby)?;
        let link = greet(&mut process, &name, &self.launch.log).await?;
        if let Err(error) = hand_over(old, &link).await {
            process.kill().await;
            return Err(std::io::Error::other(error));
        }
        // From here on the new one serves, whatever becomes of the old one.
        let told = old.shutdown(REPLACED_DRAIN_MS).await.is_ok();
        if let Some(before) = self.process.replace(process) {
            retire(before, told);
        }
        if let Err(error) = take_name(&name, &self.launch.socket).await {
            tracing::error!(%error, "the new proxy could not be given the name of its control socket; a restart will look under both");
        }
        Ok(link)
    }

    async fn end(mut self, asked: Option<Ask>, link: Option<Arc<ProxyLink>>) {
        // Nobody to answer to any more counts as a wish to let it be.
        let Some(Ask::Drain { drain_ms }) = asked else { return };
        // Clients that come now shall be refused at once rather than wait for a proxy that will not come.
        self.listener = None;
        self.launch.listener = None;
        let told = match link {
            Some(link) => link.shutdown(drain_ms).await.is_ok(),
            None => false,
        };
        let Some(mut process) = self.process.take() else { return };
        if !told {
            process.terminate();
        }
        if !process.wait(Duration::from_millis(drain_ms) + END_SLACK).await {
            process.kill().await;
        }
    }
}

/// Why the proxy was not attended to any longer.
enum Attended {
    Broke,
    Replace(oneshot::Sender<Result<(), std::io::Error>>),
    End(Option<Ask>),
}

/// The first wish that is not one for another proxy, while one is being started anyway.
async fn unless_replace(asks: &mut mpsc::Receiver<Ask>) -> Option<Ask> {
    loop {
        match asks.recv().await {
            Some(Ask::Replace(answer)) => _ = answer.send(Err(std::io::Error::other("a proxy is being started already"))),
            asked => return asked,
        }
    }
}

/// A link to a proxy that was just started, or killed if there is none in time.
async fn greet(process: &mut ProxyProcess, socket: &Path, log: &Path) -> Result<ProxyLink, std::io::Error> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let error = match ProxyLink::connect(socket).await {
            Ok(link) => return Ok(link),
            Err(error) => error,
        };
        if let Some(how) = process.ended() {
            return Err(std::io::Error::other(format!("it ended at once ({how}); see {}", log.display())));
        }
        if Instant::now() >= deadline {
            process.kill().await;
            return Err(std::io::Error::other(format!("{error}; it was killed; see {}", log.display())));
        }
        sleep(CONNECT_EVERY).await;
    }
}

/// The new proxy serves what the old one does, and begins to.
async fn hand_over(old: &ProxyLink, new: &ProxyLink) -> Result<(), LinkError> {
    // Without a common version there is only the file that it started with.
    if old.hello().protocol().is_some()
        && let Some(table) = old.current_table().await?
    {
        match new.apply(table).await {
            // The file was newer.
            Ok(_) | Err(LinkError::Rejected { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    new.serve().await
}

/// Sees to it that a replaced proxy ends, however long its last requests take within their time.
fn retire(mut process: ProxyProcess, told: bool) {
    tokio::spawn(async move {
        if !told {
            process.terminate();
        }
        if !process.wait(Duration::from_millis(REPLACED_DRAIN_MS) + END_SLACK).await {
            process.kill().await;
        }
    });
}
