//! A client's connection: time limits while no request is being worked on, and while the client does not read.
//!
//! - Between requests: the table's idle time. From the first byte of a request until its head is complete: 10 s, so that
//!   clients that send their head drop by drop cannot hold connections for long.
//! - While an answer waits for the client to read: the idle time without progress.
//! - While a request is being worked on, the limits of the exchange and of its bodies apply instead.
//!
//! It also recognises clients that begin with the HTTP/2 preface, so that they can be told that it is not spoken here.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use crate::state::Shared;

/// From the first byte of a request until its head is complete.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The first bytes of HTTP/2 with prior knowledge; no HTTP/1 request begins like this.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Flags of one connection, shared with its requests.
#[derive(Debug, Default)]
pub(crate) struct ConnectionFlags {
    busy: AtomicBool,
    requests: AtomicU64,
    speaks_h2: AtomicBool,
}

impl ConnectionFlags {
    pub(crate) fn speaks_h2(&self) -> bool {
        self.speaks_h2.load(Relaxed)
    }
}

/// A request is being worked on as long as this lives.
#[derive(Debug)]
pub(crate) struct Busy(Arc<ConnectionFlags>);

impl Busy {
    pub(crate) fn new(flags: &Arc<ConnectionFlags>) -> Self {
        flags.busy.store(true, Relaxed);
        flags.requests.fetch_add(1, Relaxed);
        Self(flags.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Relaxed);
    }
}

/// See the module.
pub(crate) struct ClientIo {
    stream: TcpStream,
    flags: Arc<ConnectionFlags>,
    shared: Arc<Shared>,
    first_read: bool,
    /// Number of requests when `read` was set: a head whose request came and went is over.
    requests: u64,
    read: ReadPhase,
    read_sleep: Option<Pin<Box<Sleep>>>,
    write_sleep: Option<Pin<Box<Sleep>>>,
}

/// What the next byte of the client belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadPhase {
    /// A request that is being worked on.
    Busy,
    /// The next request, which has not begun.
    Idle(Instant),
    /// The head of a request.
    Head(Instant),
}

impl ClientIo {
    pub(crate) fn new(stream: TcpStream, flags: Arc<ConnectionFlags>, shared: Arc<Shared>) -> Self {
        // Whoever connects wants something: the first head has the short limit from the start.
        let read = ReadPhase::Head(Instant::now());
        Self { stream, flags, shared, first_read: true, requests: 0, read, read_sleep: None, write_sleep: None }
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.shared.idle_ms())
    }

    /// Whether a request is being worked on.
    fn note_request(&mut self) -> bool {
        let busy = self.flags.busy.load(Relaxed);
        let requests = self.flags.requests.load(Relaxed);
        if busy || requests != self.requests {
            self.requests = requests;
            self.read = ReadPhase::Busy;
        }
        busy
    }

    fn poll_read_limit(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.note_request() {
            return Poll::Pending;
        }
        let due = match self.read {
            ReadPhase::Busy => {
                let now = Instant::now();
                self.read = ReadPhase::Idle(now);
                now + self.idle()
            }
            ReadPhase::Idle(since) => since + self.idle(),
            ReadPhase::Head(since) => since + HEAD_TIME,
        };
        poll_until(&mut self.read_sleep, due, cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// For a write that made no progress (`pending`) or some.
    fn poll_write_limit<T>(&mut self, result: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_sleep = None;
            return result;
        }
        let due = self.write_sleep.as_ref().map_or_else(|| Instant::now() + self.idle(), |sleep| sleep.deadline());
        poll_until(&mut self.write_sleep, due, cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn poll_until(sleep: &mut Option<Pin<Box<Sleep>>>, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
    if sleep.deadline() != due {
        sleep.as_mut().reset(due);
    }
    sleep.as_mut().poll(cx)
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => self.poll_read_limit(cx),
            Poll::Ready(result) => {
                let fresh = &buf.filled()[before..];
                if std::mem::take(&mut self.first_read) && fresh.starts_with(H2_PREFACE) {
                    self.flags.speaks_h2.store(true, Relaxed);
                }
                if !self.note_request() && !fresh.is_empty() && !matches!(self.read, ReadPhase::Head(_)) {
                    self.read = ReadPhase::Head(Instant::now());
                }
                Poll::Ready(result)
            }
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, data);
        self.poll_write_limit(result, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.poll_write_limit(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
