//! The life of a proxy process: start, serve, drain, end.
//!
//! Ends after a shutdown message or SIGTERM (or SIGINT): accepting stops, requests in flight may finish until the
//! deadline, then they are cut off. A second signal cuts them off at once.
//!
//! A proxy that stands by does everything but accept: it shares its listening socket with the one that it shall replace. It
//! accepts when control says so, and ends if control does not within [`STANDBY_TIME`] or goes away.

use std::{
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, mpsc, watch},
    time::{Instant, timeout_at},
};

use crate::{
    control, health,
    protocol::Speaks,
    state::Shared,
    table::RouteTable,
    worker::{self, Worker},
};

/// Time for requests in flight after SIGTERM.
const SIGNAL_DRAIN: Duration = Duration::from_secs(30);
/// Time in which a proxy that stands by must be told to serve.
const STANDBY_TIME: Duration = Duration::from_secs(30);
/// Most client connections at one time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 10_000;

/// What a proxy needs to run.
#[derive(Debug)]
pub struct ProxyConfig {
    /// Where clients connect: already bound, and never rebound here.
    pub listener: TcpListener,
    /// File of the unix socket for control; made with mode 0600, replacing a stale one.
    pub control_socket: PathBuf,
    /// The table to serve from the first request on. `None`: requests get 503 until control sends one.
    pub table: Option<RouteTable>,
    /// Number of worker threads; 0: one per available core.
    pub workers: usize,
    /// Accept nothing until control says so: the listening socket is served by another proxy, which this one shall replace.
    pub standby: bool,
    /// [`Speaks::OURS`]; another range for tests of what happens between versions.
    pub speaks: Speaks,
}

/// Why a proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The table given at the start cannot be served.
    #[error("the saved route table cannot be served: {0}")]
    Table(String),
    /// The control socket cannot be made.
    #[error("cannot listen on the control socket {}: {source}", path.display())]
    ControlSocket {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system refused a thread, a timer, a signal handler or a copy of the listener.
    #[error("cannot start: {what}: {source}")]
    Start {
        /// What was refused.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A worker thread died: a bug. The other workers were stopped.
    #[error("a worker thread died unexpectedly; this is a bug, please report it with the log")]
    WorkerDied,
}

/// Serves until told to stop; blocks.
///
/// # Errors
/// If it cannot start. Once it serves, nothing but a bug makes it fail.
pub fn run(config: ProxyConfig) -> Result<(), ProxyError> {
    let ProxyConfig { listener, control_socket, table, workers, standby, speaks } = config;
    let workers = if workers == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { workers };
    let shown = listener.try_clone().map_err(start("a copy of the listener"))?;
    let shared = Arc::new(Shared::new(workers, speaks, shown, !standby));
    let served = serve(&shared, listener, &control_socket, table);
    let log_ended = shared.log.stop();
    served.and(if log_ended { Ok(()) } else { Err(ProxyError::WorkerDied) })
}

fn serve(shared: &Arc<Shared>, listener: TcpListener, control_socket: &Path, table: Option<RouteTable>) -> Result<(), ProxyError> {
    if let Some(table) = table {
        shared.begin_with(table).map_err(ProxyError::Table)?;
    }
    listener.set_nonblocking(true).map_err(start("the listener's mode"))?;
    let runtime = runtime().map_err(start("the control runtime"))?;
    let mut prepared = Vec::new();
    for (number, shard) in shared.counters.shards().iter().enumerate() {
        let worker = Arc::new(Worker::new(shared.clone(), shard.clone(), number == 0));
        let listener = listener.try_clone().map_err(start("a copy of the listener"))?;
        let runtime = self::runtime().map_err(start("a worker's runtime"))?;
        prepared.push((worker, listener, runtime));
    }
    // The copies that stay are dropped when the proxy stops, so that nobody waits in the queue of a socket that nobody serves.
    drop(listener);
    let refused = |source| ProxyError::ControlSocket { path: control_socket.to_owned(), source };
    let socket = control::bind(control_socket).map_err(refused)?;

    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Every worker holds a sender: the receiver ends with the last of them.
    let (alive, all_gone) = mpsc::channel::<()>(1);
    let mut threads = Vec::new();
    let mut started = Ok(());
    for (number, (worker, listener, runtime)) in prepared.into_iter().enumerate() {
        let (alive, connections) = (alive.clone(), connections.clone());
        let thread = std::thread::Builder::new().name(format!("serin-proxy-{number}")).spawn(move || {
            let result = work(&runtime, worker, listener, connections);
            // Cuts off what is left before this worker counts as gone, and does not wait for a name lookup that hangs.
            runtime.shutdown_background();
            drop(alive);
            result
        });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(source) => {
                started = Err(ProxyError::Start { what: "a worker thread", source });
                shared.stop(Instant::now());
                break;
            }
        }
    }
    drop(alive);
    let conducted = started.and_then(|()| runtime.block_on(conduct(shared, socket, control_socket, all_gone)));
    runtime.shutdown_background();
    shared.stop(Instant::now());
    let mut result = conducted;
    for thread in threads {
        let ended = thread.join().unwrap_or(Err(ProxyError::WorkerDied));
        result = result.and(ended);
    }
    result
}

fn work(runtime: &Runtime, worker: Arc<Worker>, listener: TcpListener, connections: Arc<Semaphore>) -> Result<(), ProxyError> {
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(start("a worker's listener"))?;
        worker::serve(worker, listener, connections).await;
        Ok(())
    })
}

/// Runs control and health checks until every worker is gone.
async fn conduct(
    shared: &Arc<Shared>,
    socket: std::os::unix::net::UnixListener,
    control_socket: &Path,
    mut all_gone: mpsc::Receiver<()>,
) -> Result<(), ProxyError> {
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let socket = tokio::net::UnixListener::from_std(socket).map_err(start("the control socket's events"))?;
    let name = control::Name::of(control_socket);
    let control = tokio::spawn(control::listen(shared.clone(), socket));
    tokio::spawn(health::supervise(shared.clone()));
    let mut shutdown = shared.shutdown.subscribe();
    let mut accepting = shared.accepting.subscribe();
    let patience = Instant::now() + STANDBY_TIME;
    let mut stopping = false;
    loop {
        tokio::select! {
            // Workers that were told to stop may all be gone by now: the order tells them from those that died.
            biased;
            _ = shutdown.wait_for(Option::is_some), if !stopping => {
                stopping = true;
                // The name is free for a successor from now on; control connections that stand go on.
                control.abort();
                name.remove();
            }
            _ = all_gone.recv() => return if stopping { Ok(()) } else { Err(ProxyError::WorkerDied) },
            () = unwanted(&mut accepting, patience), if !stopping => {
                tracing::info!("nobody told this proxy to take over; ending");
                shared.stop(Instant::now());
            }
            _ = terminate.recv() => signalled(shared, stopping),
            _ = interrupt.recv() => signalled(shared, stopping),
        }
    }
}

/// Ready when a proxy that stands by has not been told to serve in time; else never.
async fn unwanted(accepting: &mut watch::Receiver<bool>, patience: Instant) {
    if timeout_at(patience, accepting.wait_for(|accepting| *accepting)).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

fn signalled(shared: &Shared, again: bool) {
    let drain = if again { Duration::ZERO } else { SIGNAL_DRAIN };
    tracing::info!(drain_s = drain.as_secs(), "told to stop by a signal");
    shared.stop(Instant::now() + drain);
}

fn signals(kind: SignalKind) -> Result<Signal, ProxyError> {
    signal(kind).map_err(start("a signal handler"))
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn start(what: &'static str) -> impl Fn(io::Error) -> ProxyError {
    move |source| ProxyError::Start { what, source }
}
