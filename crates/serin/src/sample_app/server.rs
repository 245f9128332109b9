//! Accepting, breaking and draining connections.
//!
//! After the stop signal: connections that already wait in the accept queue are still taken, since their clients think they are
//! connected; then the port is closed, idle connections are closed, busy ones finish their request. The drain has a deadline.

use std::{future::Future, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use super::{app::App, routes};
use crate::output;

/// Connections held at a time; further ones wait in the accept queue of the system.
const MOST_CONNECTIONS: usize = 10_000;
/// How long a kept connection may be idle, and a head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long to wait after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long writing garbage may take.
const GARBAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// No line of it looks like a status line.
const GARBAGE: &[u8] = b"\x16\x03\x01\xff this is not HTTP \x00\x01\x02\r\n\r\n";

/// How a connection is broken after its request was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Bytes that are not HTTP, then an orderly close.
    Garbage,
    /// A TCP reset.
    Reset,
}

/// Serves until `stop`, then drains for at most `drain_timeout`. Gives the number of connections that had to be cut off.
pub(crate) async fn serve(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>, drain_timeout: Duration) -> usize {
    let (closing, closing_seen) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&app), closing_seen.clone()));
                }
                Err(error) => {
                    output::note(&format!("sample app {}: cannot accept a connection: {error}", app.version));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    while connections.len() < MOST_CONNECTIONS
        && let Ok(Ok((stream, _))) = timeout(Duration::ZERO, listener.accept()).await
    {
        connections.spawn(connection(stream, Arc::clone(&app), closing_seen.clone()));
    }
    drop(listener);
    closing.send_replace(true);
    let _ = timeout(drain_timeout, async { while connections.join_next().await.is_some() {} }).await;
    connections.len()
}

async fn connection(stream: TcpStream, app: Arc<App>, mut closing: watch::Receiver<bool>) {
    // Only a hint to the system: an app that answers a little later is still an app.
    let _ = stream.set_nodelay(true);
    let (fault_sender, mut fault) = mpsc::channel(1);
    let service = service_fn(move |request| {
        let (app, fault) = (Arc::clone(&app), fault_sender.clone());
        async move { routes::answer(&app, fault, request).await }
    });
    let mut connection =
        http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).serve_connection(TokioIo::new(stream), service);
    let mut told = false;
    let fault = loop {
        tokio::select! {
            // What went wrong with a client is the client's to report.
            _ = &mut connection => return,
            Some(fault) = fault.recv() => break fault,
            _ = closing.wait_for(|closing| *closing), if !told => {
                told = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let mut stream = connection.into_parts().io.into_inner();
    match fault {
        Fault::Garbage => {
            let _ = timeout(GARBAGE_TIMEOUT, async {
                stream.write_all(GARBAGE).await?;
                stream.shutdown().await
            })
            .await;
        }
        Fault::Reset => {
            if let Err(error) = stream.set_zero_linger() {
                output::note(&format!("cannot make the connection end with a reset: {error}"));
            }
        }
    }
}
