//! A worker: one thread with its own runtime, its own accept loop on the shared listener, its own connections to endpoints.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::StatusCode;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    answer::OwnAnswer,
    assign::Dice,
    client_io::{ClientIo, ConnectionFlags},
    counters::Shard,
    pool::ConnectionPool,
    preview, service,
    state::Shared,
};

/// Bounds of a request's head; larger ones are answered with 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// Few people look at a preview at a time, and none of them may take a client's place.
const MAX_PREVIEW_CONNECTIONS: usize = 256;
/// How often kept connections are looked through.
const PRUNE_EVERY: Duration = Duration::from_secs(5);
/// How long a connection without a request is kept once the proxy stops. Its next request may be under way already, and clients do
/// not repeat every request that meets a closed connection; those that come in this time are answered, and told to connect anew.
const LINGER: Duration = Duration::from_secs(1);
/// Wait after a failed accept (no file descriptor left): connections that end in the meantime make room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the requests of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) shard: Arc<Shard>,
    pub(crate) pool: ConnectionPool,
    pub(crate) dice: Mutex<Dice>,
    /// One worker serves the preview address: few people look at a time.
    has_preview: bool,
}

/// Where a client came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Where everybody does.
    Clients,
    /// Through the preview address.
    Preview,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, shard: Arc<Shard>, has_preview: bool) -> Self {
        Self { shared, shard, pool: ConnectionPool::default(), dice: Mutex::new(Dice::new()), has_preview }
    }
}

/// Serves, from when the proxy accepts, until shutdown and until the last request has ended or the deadline is reached.
pub(crate) async fn serve(worker: Arc<Worker>, listener: TcpListener, connections: Arc<Semaphore>) {
    let mut shutdown = worker.shared.shutdown.subscribe();
    let pruning = tokio::spawn(prune(worker.clone()));
    // Every connection holds a sender: the receiver ends with the last of them.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let mut accepting = worker.shared.accepting.subscribe();
    tokio::select! {
        // An error means that the whole proxy is gone.
        _ = accepting.wait_for(|accepting| *accepting) => {}
        () = shutting_down(&mut shutdown) => {}
    }
    let preview = worker.has_preview.then(|| {
        let own = Arc::new(Semaphore::new(MAX_PREVIEW_CONNECTIONS));
        tokio::spawn(preview::serve(worker.clone(), own, alive.clone()))
    });
    tokio::select! {
        () = shutting_down(&mut shutdown) => {}
        () = accept_all(&worker, &listener, &connections, &alive, Entry::Clients) => {}
    }
    if let Some(preview) = preview {
        preview.abort();
    }
    drop((listener, alive));
    pruning.abort();
    tokio::select! {
        _ = all_gone.recv() => {}
        () = deadline(shutdown) => tracing::warn!("the time for requests in flight is over; cutting off what is left"),
    }
}

/// Accepts for as long as it is polled.
pub(crate) async fn accept_all(
    worker: &Arc<Worker>,
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    alive: &mpsc::Sender<()>,
    entry: Entry,
) {
    loop {
        let (accepted, permit) = accept(listener, connections).await;
        match accepted {
            Ok((stream, peer)) => {
                let (worker, alive) = (worker.clone(), alive.clone());
                tokio::spawn(async move {
                    connection(worker, stream, peer, entry).await;
                    drop((permit, alive));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// With all permits taken no connection is accepted until one ends: the rest waits in the listener's queue.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (std::io::Result<(TcpStream, SocketAddr)>, Option<OwnedSemaphorePermit>) {
    let permit = connections.clone().acquire_owned().await.ok();
    (listener.accept().await, permit)
}

/// The deadline may move closer while it is waited for.
async fn deadline(mut shutdown: watch::Receiver<Option<Instant>>) {
    loop {
        let due = *shutdown.borrow_and_update();
        let Some(due) = due else {
            return;
        };
        tokio::select! {
            () = sleep_until(due) => return,
            changed = shutdown.changed() => if changed.is_err() { return },
        }
    }
}

async fn prune(worker: Arc<Worker>) {
    loop {
        sleep(PRUNE_EVERY).await;
        let live = worker.shared.live.load_full();
        worker.pool.prune(|address| {
            live.iter().any(|live| live.arms.iter().any(|arm| arm.endpoints.iter().any(|endpoint| endpoint.address == address)))
        });
    }
}

async fn connection(worker: Arc<Worker>, stream: TcpStream, peer: SocketAddr, entry: Entry) {
    // Small answers must not wait for each other; a connection that refuses the option is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let mut shutdown = worker.shared.shutdown.subscribe();
    let flags = Arc::new(ConnectionFlags::default());
    let io = TokioIo::new(ClientIo::new(stream, flags.clone(), worker.shared.clone()));
    let service = {
        let (worker, flags) = (worker.clone(), flags.clone());
        service_fn(move |request| service::handle(worker.clone(), peer, entry, flags.clone(), request))
    };
    let mut http = http1::Builder::new()
        // The connection keeps its own times, which tell an idle client from a slow one.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(io, service);
    let result = tokio::select! {
        result = &mut http => result,
        () = shutting_down(&mut shutdown) => tokio::select! {
            // A request that is here already comes before the end of the time for it.
            biased;
            result = &mut http => result,
            () = sleep(LINGER) => {
                std::pin::Pin::new(&mut http).graceful_shutdown();
                (&mut http).await
            }
        },
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "client connection ended early");
        if flags.speaks_h2() {
            refuse_h2(&worker, http.into_parts().io.into_inner().into_stream()).await;
        }
    }
}

pub(crate) async fn shutting_down(shutdown: &mut watch::Receiver<Option<Instant>>) {
    // An error means that the sender is gone, and with it the whole proxy.
    let _ = shutdown.wait_for(Option::is_some).await;
}

/// Tells a client that began with the HTTP/2 preface, in the only words there are here.
async fn refuse_h2(worker: &Worker, mut stream: TcpStream) {
    let text = "HTTP/2 is not supported yet: send HTTP/1.1";
    let answer = OwnAnswer::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "unsupported-http2", text);
    service::count_unsupported(worker, &answer);
    let head = format!(
        "HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain; charset=utf-8\r\n\
         x-serin-error: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}\n",
        answer.cause,
        text.len() + 1
    );
    // What the client has sent is read away for a moment: closing with unread bytes would take the answer from it.
    let farewell = async {
        stream.write_all(head.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(Duration::from_secs(1), farewell).await;
}
