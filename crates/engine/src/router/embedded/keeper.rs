//! Keeps the proxy process running and the link to it alive.
//!
//! The listening socket belongs to this process and is handed to the proxy as its standard input (a plain descriptor that
//! needs no unsafe code). So a proxy that dies leaves the socket open: clients wait in its queue for the few milliseconds
//! until the next one, and none is refused. A proxy that outlived an earlier control process is adopted instead; its socket
//! stays its own.

use std::{
    fs::OpenOptions,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use serin_core::WeightBps;
use serin_proxy::{ProxyLink, protocol::Stats};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

const CONNECT_EVERY: Duration = Duration::from_millis(10);
const START_PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

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
    adopted: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stop {
    Drain { drain_ms: u64 },
    Detach,
}

impl ProxyKeeper {
    /// Adopts a running proxy or starts one.
    ///
    /// # Errors
    /// If there is none and the address cannot be bound; nothing was started then.
    pub async fn start(launch: ProxyLaunch) -> Result<Self, std::io::Error> {
        let existing = ProxyLink::connect(&launch.socket).await.ok();
        let adopted = existing.is_some();
        let listener = if adopted { None } else { Some(bind(launch.listen)?) };
        let (link_out, link) = watch::channel(None);
        let (stats_out, stats) = watch::channel(None);
        let (stop, stop_in) = mpsc::channel(4);
        let worker = Worker { launch, listener, child: None, link: link_out, stats: stats_out };
        let task = tokio::spawn(worker.run(existing, stop_in));
        Ok(Self { link, stats, stop, task, adopted })
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

    /// Whether the proxy was running before.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Lets requests in flight end, at most `drain_ms`, and stops the proxy.
    pub async fn stop(self, drain_ms: u64) {
        let _ = self.stop.send(Stop::Drain { drain_ms }).await;
        let _ = timeout(Duration::from_millis(drain_ms) + START_PATIENCE, self.task).await;
    }

    /// Leaves the proxy running on its own.
    pub async fn detach(self) {
        let _ = self.stop.send(Stop::Detach).await;
        let _ = timeout(START_PATIENCE, self.task).await;
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

fn bind(address: SocketAddr) -> Result<TcpListener, std::io::Error> {
    TcpListener::bind(address).map_err(|error| std::io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

struct Worker {
    launch: ProxyLaunch,
    listener: Option<TcpListener>,
    child: Option<Child>,
    link: watch::Sender<Option<Arc<ProxyLink>>>,
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
                        sleep(backoff).await;
                        backoff = (backoff * 2).min(LONGEST_BACKOFF);
                    }
                }
                continue;
            };
            let current = Arc::new(current);
            self.link.send_replace(Some(Arc::clone(&current)));
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
            self.link.send_replace(None);
            if let Some(asked) = asked {
                return self.end(asked, Some(current)).await;
            }
            tracing::warn!("the link to the proxy broke");
        }
    }

    /// A link to a living proxy: the one that is there, or a new one.
    async fn start(&mut self) -> Result<ProxyLink, std::io::Error> {
        let alive = match &mut self.child {
            Some(child) => child.try_wait()?.is_none(),
            None => false,
        };
        if !alive {
            // An adopted proxy whose link broke may still live.
            if self.child.is_none()
                && let Ok(link) = ProxyLink::connect(&self.launch.socket).await
            {
                return Ok(link);
            }
            self.spawn()?;
        }
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match ProxyLink::connect(&self.launch.socket).await {
                Ok(link) => return Ok(link),
                Err(error) if Instant::now() >= deadline => {
                    if let Some(child) = &mut self.child {
                        child.start_kill()?;
                        child.wait().await?;
                    }
                    return Err(std::io::Error::other(format!("{error}; see {}", self.launch.log.display())));
                }
                Err(_) => {}
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                return Err(std::io::Error::other(format!("it ended at once ({status}); see {}", self.launch.log.display())));
            }
            sleep(CONNECT_EVERY).await;
        }
    }

    fn spawn(&mut self) -> Result<(), std::io::Error> {
        let listener = match &self.listener {
            Some(listener) => listener,
            None => self.listener.insert(bind(self.launch.listen)?),
        };
        let log = OpenOptions::new().create(true).append(true).open(&self.launch.log)?;
        let mut command = Command::new(&self.launch.serin_exe);
        command
            .arg("proxy")
            .arg("--control")
            .arg(&self.launch.socket)
            .arg("--table")
            .arg(&self.launch.table)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone()?)))
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            // Ctrl-C in the terminal is for the control process; the data path ends when that says so.
            .process_group(0)
            .kill_on_drop(false);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    async fn end(mut self, asked: Option<Stop>, link: Option<Arc<ProxyLink>>) {
        // Nobody to answer to any more counts as a wish to let it be.
        let Some(Stop::Drain { drain_ms }) = asked else { return };
        let told = match link {
            Some(link) => link.shutdown(drain_ms).await.is_ok(),
            None => false,
        };
        let Some(child) = &mut self.child else { return };
        let patience = if told { Duration::from_millis(drain_ms) + Duration::from_secs(2) } else { Duration::ZERO };
        if timeout(patience, child.wait()).await.is_err() {
            let _ = child.start_kill();
            let _ = child.wait().await;
        }
    }
}
