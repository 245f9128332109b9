//! Connections of one worker to endpoints, kept for reuse.
//!
//! A connection stands before a request is handed over, so that a failed connect never costs a request's body. Dropping a
//! connection in the middle of an exchange cuts it off; only a clean one goes back.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};

use crate::{body::RequestBody, lock};

/// Most idle connections to one endpoint, per worker.
const MAX_IDLE: usize = 256;
/// Longest time a connection is kept unused.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);
/// Bounds of an answer's head.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 200;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection within {0} ms")]
    Timeout(u64),
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    #[error("cannot begin HTTP: {0}")]
    Http(#[from] hyper::Error),
}

/// A connection that stands.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    /// Whether it has served another request before.
    pub(crate) reused: bool,
    address: String,
    received: Arc<AtomicU64>,
    task: Option<AbortHandle>,
}

impl Connection {
    /// Bytes received so far: unchanged after a failed request means that there was no answer at all.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Lets the connection finish what it is doing, at most so long, and then end.
    pub(crate) fn detach(mut self, patience: Duration) {
        let Some(task) = self.task.take() else { return };
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            task.abort();
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// The connections of one worker that wait for requests.
#[derive(Debug, Default)]
pub(crate) struct ConnectionPool {
    idle: Mutex<HashMap<String, Vec<(Connection, Instant)>>>,
}

impl ConnectionPool {
    /// A kept connection that is ready, newest first.
    pub(crate) fn reuse(&self, address: &str) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        let kept = idle.get_mut(address)?;
        // One that is not ready is about to be or about to close; the next one is tried and it keeps its place.
        let mut position = kept.len();
        while position > 0 {
            position -= 1;
            let (connection, since) = &kept[position];
            if connection.sender.is_closed() || since.elapsed() > MAX_IDLE_TIME {
                kept.remove(position);
            } else if connection.sender.is_ready() {
                return Some(kept.remove(position).0);
            }
        }
        None
    }

    /// A new connection.
    pub(crate) async fn connect(&self, address: &str, connect_ms: u64) -> Result<Connection, ConnectError> {
        timeout(Duration::from_millis(connect_ms), connect(address)).await.map_err(|_| ConnectError::Timeout(connect_ms))?
    }

    /// Keeps a connection whose exchange is complete.
    pub(crate) fn keep(&self, mut connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        connection.reused = true;
        let mut idle = lock(&self.idle);
        let kept = idle.entry(connection.address.clone()).or_default();
        if kept.len() < MAX_IDLE {
            kept.push((connection, Instant::now()));
        }
    }

    /// Drops what is closed, too old, or leads to an address that `wanted` does not know.
    pub(crate) fn prune(&self, wanted: impl Fn(&str) -> bool) {
        lock(&self.idle).retain(|address, kept| {
            kept.retain(|(connection, since)| !connection.sender.is_closed() && since.elapsed() <= MAX_IDLE_TIME);
            !kept.is_empty() && wanted(address)
        });
    }
}

async fn connect(address: &str) -> Result<Connection, ConnectError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let received = Arc::new(AtomicU64::new(0));
    let io = TokioIo::new(CountingStream { stream, received: received.clone() });
    let (sender, connection) =
        Builder::new().max_header_size(MAX_HEAD_BYTES).max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS).handshake(io).await?;
    // Its errors are also those of the request that it carries.
    let task = tokio::spawn(async move { _ = connection.await }).abort_handle();
    Ok(Connection { sender, reused: false, address: address.to_owned(), received, task: Some(task) })
}

/// Counts received bytes.
struct CountingStream {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for CountingStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.received.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        result
    }
}

impl AsyncWrite for CountingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
