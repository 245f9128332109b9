//! A proxy that is found running, and the addresses and names that it has.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use serin_core::WeightBps;
use serin_proxy::{LinkError, ProxyLink};
use tokio::time::{Instant, sleep};

use super::keeper::REPLACED_DRAIN_MS;

/// Time for a proxy that is replaced to give up its name.
const NAME_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at the name.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A proxy that serves this state folder already, whatever version of the protocol it speaks.
///
/// # Errors
/// If there is one that cannot be talked to: it must neither be ignored nor fought with.
pub async fn running_proxy(socket: &Path) -> Result<Option<ProxyLink>, LinkError> {
    let successor = next_name(socket);
    match connect(&successor).await? {
        // A control process died while it replaced the proxy, after the new one had begun to serve.
        Some(link) if !link.hello().standby => {
            let old = connect(socket).await?;
            if let Some(old) = &old {
                let _ = old.shutdown(REPLACED_DRAIN_MS).await;
            }
            take_name(&successor, socket).await.map_err(LinkError::Connect)?;
            Ok(Some(link))
        }
        // Before that: the new one ends by itself, because its control is gone.
        Some(_) | None => connect(socket).await,
    }
}

async fn connect(socket: &Path) -> Result<Option<ProxyLink>, LinkError> {
    match ProxyLink::connect_any(socket).await {
        Ok(link) => Ok(Some(link)),
        Err(LinkError::Connect(error)) if is_nobody(&error) => Ok(None),
        Err(error) => Err(error),
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
    // Under both names: a control process may have died while it replaced the proxy.
    for socket in [socket, &next_name(socket)] {
        let Ok(link) = ProxyLink::connect(socket).await else { continue };
        if let Ok(Some(mut table)) = link.current_table().await {
            table.version += 1;
            table.weight = WeightBps::ZERO;
            table.matches.clear();
            table.preview = None;
            if let Err(error) = link.apply(table).await {
                tracing::error!(%error, "the running proxy did not take traffic back from the canary");
            }
        }
    }
}

fn is_nobody(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, std::io::Error> {
    TcpListener::bind(address).map_err(|error| std::io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// Where the successor of the proxy at `socket` listens until that has given up its name. As long as that one, because there is
/// a limit to the length.
pub(super) fn next_name(socket: &Path) -> PathBuf {
    socket.with_extension("next")
}

/// Gives the successor the common name, once its predecessor has given it up: that one must not remove it later.
pub(super) async fn take_name(successor: &Path, socket: &Path) -> Result<(), std::io::Error> {
    let deadline = Instant::now() + NAME_PATIENCE;
    while socket.exists() && Instant::now() < deadline {
        sleep(LOOK_EVERY).await;
    }
    std::fs::rename(successor, socket)
}
