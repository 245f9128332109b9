//! Requests at a constant rate, each of them remembered: when it was on its way and how it ended.
//!
//! Half of them have a connection of their own, the others use kept ones. A kept connection that was closed while nothing was on its way
//! is replaced before it is used, as every client does; nothing is ever sent twice, so that an attempt that failed is seen as one.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Longer than anything may take on a starved machine: a request that takes longer is lost.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Requests of one target that can be on their way.
const LANES: u32 = 16;

/// The clock of shots and journals: wall time in microseconds, which never jumps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
    wall_us: u64,
}

impl Default for Clock {
    fn default() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), wall_us: us(wall) }
    }
}

impl Clock {
    /// Now.
    #[must_use]
    pub(super) fn now_us(&self) -> u64 {
        self.wall_us + us(self.start.elapsed())
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Shot {
    /// Which target, by its position.
    pub(super) target: usize,
    /// When it began: before the connection was made or used.
    pub(super) begun_us: u64,
    /// When its end was known.
    pub(super) ended_us: u64,
    /// How it ended.
    pub(super) outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With a complete answer.
    Answered {
        /// Status code.
        status: u16,
        /// What the sample app calls its version.
        version: String,
        /// The proxy made the answer up, because it could get none.
        made_by_proxy: bool,
    },
    /// Nobody listened.
    Refused,
    /// The connection broke, before or within the answer; what the system said.
    Broke(String),
    /// Nothing came in a minute.
    TimedOut,
}

/// Requests on their way. Dropping it lets them end.
#[derive(Debug)]
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    shots: Arc<Mutex<Vec<Shot>>>,
    lanes: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Sends `rps` requests per second to each of the targets until stopped.
    #[must_use]
    pub(super) fn start(clock: Clock, targets: &[SocketAddr], rps: u32) -> Self {
        let (stop, shots) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let lanes = targets.iter().enumerate().flat_map(|(target, address)| (0..LANES).map(move |lane| (target, *address, lane)));
        let lanes = lanes
            .map(|(target, address, lane)| {
                let (stop, shots) = (Arc::clone(&stop), Arc::clone(&shots));
                // Lanes take turns, so that together they keep the rate however long one of them waits.
                let every = Duration::from_secs(1) * LANES / rps;
                let begin = Instant::now() + every * lane / LANES;
                thread::spawn(move || {
                    let mut kept = None;
                    let mut due = begin;
                    while sleep_until(due, &stop) {
                        let begun_us = clock.now_us();
                        let keep = lane % 2 == 0;
                        let outcome = shoot(address, keep, &mut kept);
                        let shot = Shot { target, begun_us, ended_us: clock.now_us(), outcome };
                        shots.lock().unwrap_or_else(PoisonError::into_inner).push(shot);
                        due = (due + every).max(Instant::now());
                    }
                })
            })
            .collect();
        Self { stop, shots, lanes }
    }

    /// What was shot since a position in the list.
    #[must_use]
    pub(super) fn since(&self, position: usize) -> Vec<Shot> {
        let shots = self.shots.lock().unwrap_or_else(PoisonError::into_inner);
        shots.get(position..).unwrap_or_default().to_vec()
    }

    /// How many were shot.
    #[must_use]
    pub(super) fn count(&self) -> usize {
        self.shots.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lets all requests end and gives them.
    ///
    /// # Panics
    /// If a lane panicked.
    #[must_use]
    pub(super) fn stop(mut self) -> Vec<Shot> {
        self.stop.store(true, Relaxed);
        for lane in self.lanes.drain(..) {
            lane.join().unwrap();
        }
        std::mem::take(&mut *self.shots.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

impl Outcome {
    /// Whether it was answered by an app.
    #[must_use]
    pub(super) fn is_answered(&self) -> bool {
        matches!(self, Self::Answered { made_by_proxy: false, .. })
    }

    /// The app's version that answered.
    #[must_use]
    pub(super) fn version(&self) -> Option<&str> {
        match self {
            Self::Answered { version, .. } => Some(version),
            _ => None,
        }
    }
}

/// One request on a fresh connection.
#[must_use]
pub(super) fn one(address: SocketAddr) -> Outcome {
    shoot(address, false, &mut None)
}

fn shoot(address: SocketAddr, keep: bool, kept: &mut Option<TcpStream>) -> Outcome {
    match try_shoot(address, keep, kept) {
        Ok(outcome) => outcome,
        Err(error) => {
            *kept = None;
            match error.kind() {
                io::ErrorKind::ConnectionRefused => Outcome::Refused,
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Outcome::TimedOut,
                _ => Outcome::Broke(error.to_string()),
            }
        }
    }
}

fn try_shoot(address: SocketAddr, keep: bool, kept: &mut Option<TcpStream>) -> io::Result<Outcome> {
    let mut stream = match kept.take().filter(is_open) {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    let connection = if keep { "keep-alive" } else { "close" };
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {address}\r\nconnection: {connection}\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some((answer, is_kept)) = complete(&bytes) {
            if keep && is_kept {
                *kept = Some(stream);
            }
            return Ok(answer);
        }
        match stream.read(&mut chunk)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("closed after {} bytes", bytes.len()))),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// A complete answer with a length, and whether its connection stays open.
fn complete(bytes: &[u8]) -> Option<(Outcome, bool)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let length: usize = header("content-length")?.parse().ok()?;
    if bytes.len() < end + length {
        return None;
    }
    let outcome = Outcome::Answered {
        status: head.get(9..12)?.parse().ok()?,
        version: header("x-app-version").unwrap_or("(none)").to_owned(),
        made_by_proxy: header("x-serin-error").is_some(),
    };
    Some((outcome, header("connection") != Some("close")))
}

/// Whether the other side has not closed a connection on which nothing is on its way.
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut byte));
    let _ = stream.set_nonblocking(false);
    matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Says whether to go on.
fn sleep_until(due: Instant, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Relaxed) {
            return false;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
