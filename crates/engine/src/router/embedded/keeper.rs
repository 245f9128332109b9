//! Keeps the proxy process running and the link to it alive.
//!
//! The listening socket belongs to this process and is handed to the proxy as its standard input (a plain descriptor that
//! needs no unsafe code). So a proxy that dies leaves the socket open: clients wait in its queue for the few milliseconds
//! until the next one, and none is refused.
//!
//! A proxy that outlived an earlier control process is adopted: it keeps the socket, which nobody else holds. Should that
//! one die, clients are refused until its successor has bound the address anew.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serin_core::WeightBps;
use serin_proxy::{LinkError, ProxyLink, protocol::Stats};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::proxy_process::ProxyProcess;

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
}

/// The proxy process, kept alive.
#[derive(Debug)]
pub struct ProxyKeeper {
    link: watch::Receiver<Option<Arc<ProxyLink>>>,
    stats: watch::Receiver<Option<Arc<Stats>>>,
    stop: mpsc::Sender<Stop>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
enum Stop {
    Drain { drain_ms: u64 },
    Detach,
}

impl ProxyKeeper {
    /// Adopts a running proxy, or starts one. Links are published in `links` as they come.
    ///
    /// # Errors
    /// If there is none and the address cannot be bound; nothing was started then.
    pub fn start(launch: ProxyLaunch, existing: Option<ProxyLink>, links: LinkWatch) -> Result<Self, std::io::Error> {
        let listener = if existing.is_some() { None } else { Some(bind(launch.listen)?) };
        let process = existing.as_ref().map(|link| ProxyProcess::adopted(link.hello().pid));
        let link = links.subscribe();
        let (stats_out, stats) = watch::channel(None);
        let (stop, stop_in) = mpsc::channel(4);
        let worker = Worker { launch, listener, process, links, stats: stats_out };
        let task = tokio::spawn(worker.run(existing, stop_in));
        Ok(Self { link, stats, stop, task })
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

    /// Lets requests in flight end, at most `drain_ms`, and stops the proxy. Returns when it is gone.
    pub async fn stop(self, drain_ms: u64) {
        let _ = self.stop.send(Stop::Drain { drain_ms }).await;
        let _ = timeout(Duration::from_millis(drain_ms) + 2 * START_PATIENCE + END_SLACK, self.task).await;
    }

    /// Leaves the proxy running on its own.
    pub async fn detach(self) {
        let _ = self.stop.send(Stop::Detach).await;
        let _ = timeout(START_PATIENCE, self.task).await;
    }
}

/// A proxy that serves this state folder already.
///
/// # Errors
/// If there is one that cannot be talked to: it must neither be ignored nor fought with.
pub async fn running_proxy(socket: &Path) -> Result<Option<ProxyLink>, LinkError> {
    match ProxyLink::connect(socket).await {
        Ok(link) => Ok(Some(link)),
        Err(LinkError::Connect(error)) if is_nobody(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an address could be bound right now.
///
/// # Errors
/// What the system says, with the address.
pub fn bind_check(address: SocketAddr) -> Result<(), std::io::Error> {
    bind(address).map(drop)
}

/// Tells a running proxy, without knowing anything about its release, to send everything to stable. Does nothing if none runs.
pub async fn take_back(socket: &Path) {
    let Ok(link) = ProxyLink::connect(socket).await else { return };
    if let Ok(Some(mut table)) = link.current_table().await {
        table.version += 1;
        table.weight = WeightBps::ZERO;
        table.matches.clear();
        if let Err(error) = link.apply(table).await {
            tracing::error!(%error, "the running proxy did not take traffic back from the canary");
        }
    }
}

fn is_nobody(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

fn bind(address: SocketAddr) -> Result<TcpListener, std::io::Error> {
    TcpListener::bind(address).map_err(|error| std::io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

struct Worker {
    launch: ProxyLaunch,
    listener: Option<TcpListener>,
    process: Option<ProxyProcess>,
    links: LinkWatch,
    stats: watch::Sender<Option<Arc<Stats>>>,
}

impl Worker {
    async fn run(mut self, existing: Option<ProxyLink>, mut stop: mpsc::Receiver<Stop>) {
        let mut link = existing;
        let mut backoff = CONNECT_EVERY;
        loop {
            let Some(current) = link.take() else {
                let connected = tokio::select! {
                    started = self.start() => started,
                    asked = stop.recv() => return self.end(asked, None).await,
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
                            asked = stop.recv() => return self.end(asked, None).await,
                        }
                        backoff = (backoff * 2).min(LONGEST_BACKOFF);
                    }
                }
                continue;
            };
            let current = Arc::new(current);
            self.links.send_replace(Some(Arc::clone(&current)));
            let mut stats = current.stats();
            let asked = loop {
                tokio::select! {
                    changed = stats.changed() => {
                        if changed.is_err() {
                            break None;
                        }
                        let latest = stats.borrow_and_update().clone();
                        self.stats.send_replace(latest);
                    }
                    () = current.closed() => break None,
                    asked = stop.recv() => break Some(asked),
                }
            };
            self.links.send_replace(None);
            if let Some(asked) = asked {
                return self.end(asked, Some(current)).await;
            }
            tracing::info!("the link to the proxy broke");
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
                None => self.listener.insert(bind(self.launch.listen)?),
            };
            self.process = Some(ProxyProcess::spawn(&self.launch, listener)?);
        }
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let error = match ProxyLink::connect(&self.launch.socket).await {
                Ok(link) => return Ok(link),
                Err(error) => error,
            };
            let Some(process) = &mut self.process else { return Err(std::io::Error::other("the proxy is not there")) };
            if let Some(how) = process.ended() {
                return Err(std::io::Error::other(format!("it ended at once ({how}); see {}", self.launch.log.display())));
            }
            if Instant::now() >= deadline {
                process.kill().await;
                return Err(std::io::Error::other(format!("{error}; it was killed; see {}", self.launch.log.display())));
            }
            sleep(CONNECT_EVERY).await;
        }
    }

    async fn end(mut self, asked: Option<Stop>, link: Option<Arc<ProxyLink>>) {
        // Nobody to answer to any more counts as a wish to let it be.
        let Some(Stop::Drain { drain_ms }) = asked else { return };
        // Clients that come now shall be refused at once rather than wait for a proxy that will not come.
        self.listener = None;
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
