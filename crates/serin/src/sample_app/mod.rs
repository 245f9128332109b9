//! A small HTTP service for trying out releases, and for testing Serin itself.
//!
//! It behaves as told, by options, by a schedule, or at run time over `/admin/behaviour`. Failures are of two kinds: answers that
//! are wrong (errors, slowness), decided per request, and connections that break (hang, garbage, reset), done on the socket itself.

mod app;
mod behaviour;
mod body;
mod metrics;
mod routes;
mod server;

pub(crate) use behaviour::{Behaviour, Change, Mode};

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use app::App;

/// How the app starts and what happens to it later.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) host: IpAddr,
    /// 0 takes a free port.
    pub(crate) port: u16,
    pub(crate) version: String,
    pub(crate) behaviour: Behaviour,
    /// Changes with the time after the start at which they happen, in order.
    pub(crate) schedule: Vec<(Duration, Change)>,
    /// Seed of the random errors and latencies; chosen by the system if absent.
    pub(crate) seed: Option<u64>,
    /// Requests with this header fail as those of the error rate do.
    pub(crate) fail_header: Option<(http::HeaderName, http::HeaderValue)>,
    /// How long requests in flight may take to finish after SIGTERM.
    pub(crate) drain_timeout: Duration,
}

/// Said once the port is bound.
#[derive(Debug, Serialize)]
pub(crate) struct Listening {
    pub(crate) url: String,
    pub(crate) port: u16,
    pub(crate) version: String,
    pub(crate) pid: u32,
}

/// Why the app cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SampleAppError {
    /// Something else listens there.
    #[error("port {} of {} is in use: stop what listens there, or take another port with --port (0 finds a free one)", .0.port(), .0.ip())]
    PortInUse(SocketAddr),
    /// The address does not exist here, or may not be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    /// Signals or stdout failed.
    #[error("{doing}: {source}")]
    System { doing: &'static str, source: io::Error },
}

/// Serves until SIGTERM or SIGINT, then finishes what is in flight. Gives the number of connections that had to be cut off.
///
/// # Errors
/// If the port cannot be bound or signals cannot be watched.
pub(crate) async fn run(config: Config, announce: impl FnOnce(&Listening) -> io::Result<()>) -> Result<usize, SampleAppError> {
    let system = |doing| move |source| SampleAppError::System { doing, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("cannot watch for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot watch for SIGINT"))?;
    let address = SocketAddr::new(config.host, config.port);
    let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => SampleAppError::PortInUse(address),
        _ => SampleAppError::Bind { address, source },
    })?;
    let bound = listener.local_addr().map_err(system("cannot read the bound address"))?;
    let listening =
        Listening { url: format!("http://{bound}"), port: bound.port(), version: config.version.clone(), pid: std::process::id() };
    announce(&listening).map_err(system("cannot write to stdout"))?;

    let app = Arc::new(App::new(config.version, config.behaviour, config.fail_header, config.seed));
    let schedule = tokio::spawn(follow(config.schedule, Arc::clone(&app)));
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let unfinished = server::serve(listener, app, stop, config.drain_timeout).await;
    schedule.abort();
    Ok(unfinished)
}

async fn follow(schedule: Vec<(Duration, Change)>, app: Arc<App>) {
    let start = tokio::time::Instant::now();
    for (after, change) in schedule {
        tokio::time::sleep_until(start + after).await;
        app.apply(&change);
    }
}
