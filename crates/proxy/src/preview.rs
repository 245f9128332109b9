//! The preview address: a second door that leads to the canary and nowhere else, for as long as the table says so.
//!
//! The table decides with every request: as soon as one without a preview is in service, requests on connections that still stand are refused, in the
//! same swap that takes the weight. The socket follows at once. Requests through this door are counted apart, and none of them is carried out by
//! stable when the canary fails: whoever looks shall see that.
//!
//! An address that cannot be had is a reason to refuse a table, but none to serve no clients: a proxy that begins with the table of one that died, or
//! stands by for the one that still has the address, tries again until it has it.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::sleep,
};

use crate::worker::{self, Entry, Worker};

/// Between two attempts to get the address.
const RETRY: Duration = Duration::from_millis(100);

/// The door as the table in service wants it.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// With what was behind it last: whoever serves that may need a moment to let go of the address.
    Shut(Weak<TcpListener>),
    Open(Arc<TcpListener>),
    /// Open once the address can be had.
    Awaited(SocketAddr),
}

impl Door {
    /// The door for a table. `may_wait`: an address that somebody else has is waited for.
    ///
    /// # Errors
    /// Why the address cannot be had, for people.
    pub(crate) fn wanted(address: Option<SocketAddr>, before: &Self, may_wait: bool) -> Result<Self, String> {
        let Some(address) = address else { return Ok(Self::Shut(before.known())) };
        if let Some(listener) = before.known().upgrade().filter(|listener| listener.local_addr().is_ok_and(|known| known == address)) {
            return Ok(Self::Open(listener));
        }
        if matches!(before, Self::Awaited(known) if *known == address) {
            return Ok(before.clone());
        }
        match bind(address) {
            Ok(listener) => Ok(Self::Open(Arc::new(listener))),
            Err(_) if may_wait => Ok(Self::Awaited(address)),
            Err(error) => Err(format!(
                "cannot listen on the preview address {address}: {error}; stop what uses it (`ss -ltnp` shows it) or choose another"
            )),
        }
    }

    /// The last listener, for as long as anybody has it.
    fn known(&self) -> Weak<TcpListener> {
        match self {
            Self::Shut(listener) => listener.clone(),
            Self::Open(listener) => Arc::downgrade(listener),
            Self::Awaited(_) => Weak::new(),
        }
    }
}

impl Default for Door {
    fn default() -> Self {
        Self::Shut(Weak::new())
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Follows the door until the proxy stops.
pub(crate) async fn serve(worker: Arc<Worker>, connections: Arc<Semaphore>, alive: mpsc::Sender<()>) {
    let mut doors = worker.shared.preview.subscribe();
    let mut shutdown = worker.shared.shutdown.subscribe();
    while !worker.shared.stopping.load(Relaxed) {
        let door = doors.borrow_and_update().clone();
        tokio::select! {
            () = worker::shutting_down(&mut shutdown) => return,
            changed = doors.changed() => if changed.is_err() { return },
            () = attend(&worker, door, &connections, &alive) => {}
        }
    }
}

/// Serves one door; ends when another one should be looked at.
async fn attend(worker: &Arc<Worker>, door: Door, connections: &Arc<Semaphore>, alive: &mpsc::Sender<()>) {
    match door {
        Door::Shut(_) => std::future::pending().await,
        Door::Awaited(address) => {
            sleep(RETRY).await;
            open(&worker.shared.preview, address);
        }
        Door::Open(listener) => {
            // Let go of before the door's own: whoever finds that one gone can have the address.
            let accepting = listener.try_clone().and_then(tokio::net::TcpListener::from_std);
            match accepting {
                Ok(accepting) => worker::accept_all(worker, &accepting, connections, alive, Entry::Preview).await,
                Err(error) => {
                    tracing::warn!(%error, "the preview address cannot be served; trying again");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// Opens an awaited door if the address can be had now and is still wanted.
fn open(doors: &watch::Sender<Door>, address: SocketAddr) {
    if let Ok(listener) = bind(address) {
        doors.send_if_modified(|door| {
            let is_awaited = matches!(door, Door::Awaited(wanted) if *wanted == address);
            if is_awaited {
                *door = Door::Open(Arc::new(listener));
            }
            is_awaited
        });
    }
}
