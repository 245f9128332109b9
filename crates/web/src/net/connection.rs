//! One task per listener, and one per connection.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serin_engine::run::login_name;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Certificate, Listeners, Places, patient::Patient};
use crate::{ApiError, identity::Peer, limit::Key, pipeline, shared::Shared};

/// The most of a request's head that is read, in bytes.
const MOST_HEAD_BYTES: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;
/// Connections over the unix socket, whatever there may be over TCP.
const MOST_LOCAL: usize = 64;
/// How long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A client that is silent for so long is asked by the kernel whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long requests under way may take when the API stops.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Accepts connections until the API is told to stop, then lets requests under way end.
pub(crate) async fn accept(listeners: Listeners, shared: Arc<Shared>) -> Result<(), ApiError> {
    let mut tasks = JoinSet::new();
    // Kept until all is over, so that a client which finds the file finds someone behind it.
    let mut file = None;
    if let Some((listener, socket_file)) = listeners.unix {
        let listener = UnixListener::from_std(listener).map_err(ApiError::Thread)?;
        file = Some(socket_file);
        tasks.spawn(local(listener, Arc::clone(&shared)));
    }
    if let Some((listener, _, certificate)) = listeners.tcp {
        let listener = TcpListener::from_std(listener).map_err(ApiError::Thread)?;
        tasks.spawn(remote(listener, certificate.map(Arc::new), Arc::clone(&shared)));
    }
    while tasks.join_next().await.is_some() {}
    drop(file);
    Ok(())
}

async fn local(listener: UnixListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(shared.limits.connections.clamp(1, MOST_LOCAL)));
    let mut connections = JoinSet::new();
    while let Some((place, accepted)) = next(&places, &shared, &mut connections, listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let Ok(credentials) = stream.peer_cred() else { continue };
        // Here, and not on a helper thread: an abort must not wait behind what keeps those busy.
        let uid = credentials.uid();
        let name = login_name(uid).unwrap_or_else(|| "unnamed".to_owned()).into();
        let (peer, shared) = (Peer::Local { uid, name }, Arc::clone(&shared));
        connections.spawn(async move {
            serve(stream, peer, &shared).await;
            drop(place);
        });
    }
    while connections.join_next().await.is_some() {}
}

async fn remote(listener: TcpListener, certificate: Option<Arc<Certificate>>, shared: Arc<Shared>) {
    let limits = shared.limits;
    let most = limits.connections.max(1);
    let each = Places::new(most, limits.connections_per_address.unwrap_or(most.div_ceil(2)));
    let places = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    while let Some((place, accepted)) = next(&places, &shared, &mut connections, listener.accept()).await {
        let Ok((stream, from)) = accepted else { continue };
        let address = from.ip().to_canonical();
        // More than its share: let go at once, so that others get the place.
        let Some(own) = each.take(Key::address(address)) else { continue };
        let (peer, certificate, shared) = (Peer::Remote { address }, certificate.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            if prepare(&stream).is_ok() {
                match certificate {
                    None => serve(stream, peer, &shared).await,
                    Some(certificate) => {
                        let acceptor = TlsAcceptor::from(certificate.current(Instant::now()));
                        if let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await {
                            serve(stream, peer, &shared).await;
                        }
                    }
                }
            }
            drop((place, own));
        });
    }
    while connections.join_next().await.is_some() {}
}

/// The next connection, once there is a place for it; until then clients wait in the kernel's queue. `None` when the API stops.
async fn next<T>(
    places: &Arc<Semaphore>,
    shared: &Shared,
    connections: &mut JoinSet<()>,
    accept: impl Future<Output = io::Result<T>>,
) -> Option<(tokio::sync::OwnedSemaphorePermit, io::Result<T>)> {
    // What has ended is taken out here, or the set grows without end.
    while connections.try_join_next().is_some() {}
    let wait = async {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        let accepted = accept.await;
        if accepted.is_err() {
            // Out of file descriptors, most likely: the next attempt needs one to be free again.
            sleep(Duration::from_millis(100)).await;
        }
        Some((place, accepted))
    };
    tokio::select! {
        () = shared.stopped() => None,
        next = wait => next,
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6))
}

async fn serve<IO>(stream: IO, peer: Peer, shared: &Arc<Shared>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = shared.limits;
    let io = TokioIo::new(Patient::new(stream, Duration::from_millis(limits.write_ms)));
    let service = service_fn(|request| {
        let (shared, peer) = (Arc::clone(shared), peer.clone());
        async move { Ok::<_, Infallible>(pipeline::answer(shared, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.head_ms))
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    tokio::select! {
        // How a connection ends is the client's business.
        _ = connection.as_mut() => return,
        () = shared.stopped() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_WORDS, connection).await;
}
