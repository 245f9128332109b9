//! An open-loop load generator that counts lost requests.
//!
//! Open loop: requests are sent when they are due, however slow the answers are. Only the number in flight is bounded; what is
//! due beyond it is counted as not sent. At the end, requests in flight may finish within their timeout; after a signal they have
//! [`SIGNAL_DRAIN`], and a second signal ends the run at once.

mod arrivals;
mod client;
mod connection;
mod report;
mod tally;

pub(crate) use arrivals::Pattern;
pub(crate) use client::Target;
pub(crate) use report::Report;
pub(crate) use tally::Tally;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, runtime::Handle, sync::Semaphore, time};

use arrivals::Arrivals;
use client::Client;
use report::{Asked, EndedBy};

/// How long requests in flight may take to finish after a signal.
const SIGNAL_DRAIN: Duration = Duration::from_secs(3);
/// The pause between attempts to connect while the server is starting.
const WAIT_STEP: Duration = Duration::from_millis(50);
/// How often progress is told.
const PROGRESS_STEP: Duration = Duration::from_secs(1);

/// What to send, how much of it and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) url: String,
    pub(crate) method: String,
    pub(crate) target: Target,
    pub(crate) rps: f64,
    pub(crate) pattern: Pattern,
    /// Seed of the arrivals.
    pub(crate) seed: u64,
    /// `None` runs until a signal.
    pub(crate) duration: Option<Duration>,
    /// Idle connections that are kept.
    pub(crate) connections: usize,
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: u32,
    /// How long to wait for the server to accept connections before the start.
    pub(crate) wait: Duration,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The server did not come up.
    #[error(
        "nothing accepts connections at {host}:{port} after {waited_ms} ms ({reason}): start the server, or give it more time with --wait"
    )]
    NoServer { host: String, port: u16, waited_ms: u64, reason: String },
    /// A signal came while waiting for the server.
    #[error("stopped by a signal before anything was sent: {host}:{port} did not accept connections yet")]
    StoppedWaiting { host: String, port: u16 },
    /// The thread that paces the requests died.
    #[error("the pacing thread ended unexpectedly")]
    PacerDied,
}

/// Runs the load. `signal` gives one item for each SIGINT or SIGTERM; `progress` is called about every second.
///
/// # Errors
/// If the server does not accept connections in time.
pub(crate) async fn run(
    settings: Settings,
    mut signal: tokio::sync::mpsc::Receiver<()>,
    mut progress: impl FnMut(&Tally, Duration),
) -> Result<Report, LoadError> {
    let Target { host, port, .. } = settings.target.clone();
    tokio::select! {
        waited = wait_for_server(&host, port, settings.wait) => waited?,
        Some(()) = signal.recv() => return Err(LoadError::StoppedWaiting { host, port }),
    }
    let shooter = Arc::new(Shooter {
        client: Client::new(settings.target, settings.timeout, settings.connections),
        tally: Mutex::default(),
        in_flight: Arc::new(Semaphore::new(settings.max_in_flight as usize)),
    });
    let start = Instant::now();
    let (stop, stopped) = mpsc::channel();
    let arrivals = Arrivals::new(settings.pattern, settings.rps, settings.seed);
    let mut pacing = tokio::task::spawn_blocking({
        let shooter = Arc::clone(&shooter);
        move || shoot(&shooter, arrivals, start, settings.duration, &stopped)
    });

    let mut stop = Some(stop);
    let mut ticks = time::interval_at(time::Instant::now() + PROGRESS_STEP, PROGRESS_STEP);
    let (was_stopped, sending) = loop {
        tokio::select! {
            ended = &mut pacing => break ended.map_err(|_| LoadError::PacerDied)?,
            // Dropping the sender stops the pacer, whose end is seen above.
            Some(()) = signal.recv(), if stop.is_some() => stop = None,
            _ = ticks.tick() => progress(&shooter.tally(), start.elapsed()),
        }
    };
    // A little more than the timeout, for timers that are late.
    let drain = if was_stopped { SIGNAL_DRAIN.min(settings.timeout) } else { settings.timeout } + Duration::from_secs(1);
    tokio::select! {
        _ = time::timeout(drain, shooter.in_flight.acquire_many(settings.max_in_flight)) => {}
        Some(()) = signal.recv() => {}
    }
    let asked = Asked { url: settings.url, method: settings.method, arrivals: settings.pattern, rps: settings.rps };
    let ended_by = if was_stopped { EndedBy::Signal } else { EndedBy::Duration };
    let tally = shooter.tally().clone();
    Ok(Report::new(asked, &tally, sending, ended_by))
}

struct Shooter {
    client: Client,
    tally: Mutex<Tally>,
    in_flight: Arc<Semaphore>,
}

impl Shooter {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn one(&self, due: Instant, permit: tokio::sync::OwnedSemaphorePermit) {
        self.tally().begin(due.elapsed());
        let mut exchange = self.client.exchange().await;
        self.tally().end(&exchange, due.elapsed());
        drop(permit);
        if let Some(connection) = exchange.connection.take() {
            self.client.keep(connection).await;
        }
    }
}

/// Sends requests as they are due. Gives whether it was stopped, and how long it was sending.
fn shoot(shooter: &Arc<Shooter>, arrivals: Arrivals, start: Instant, length: Option<Duration>, stopped: &Receiver<()>) -> (bool, Duration) {
    let runtime = Handle::current();
    let was_stopped = arrivals::pace(arrivals, start, length, stopped, |due| match Arc::clone(&shooter.in_flight).try_acquire_owned() {
        Ok(permit) => {
            let shooter = Arc::clone(shooter);
            runtime.spawn(async move { shooter.one(due, permit).await });
        }
        Err(_) => shooter.tally().not_sent += 1,
    });
    (was_stopped, start.elapsed())
}

async fn wait_for_server(host: &str, port: u16, wait: Duration) -> Result<(), LoadError> {
    let start = time::Instant::now();
    let mut reason = "no answer".to_owned();
    loop {
        // At least one attempt, also with a wait of 0.
        let rest = wait.saturating_sub(start.elapsed()).max(WAIT_STEP);
        match time::timeout(rest, TcpStream::connect((host, port))).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => {}
        }
        if start.elapsed() >= wait {
            return Err(LoadError::NoServer { host: host.to_owned(), port, waited_ms: crate::values::ms(start.elapsed()), reason });
        }
        time::sleep(WAIT_STEP).await;
    }
}
