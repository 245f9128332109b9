//! What systemd and a service say to each other: sockets that it opened, and whether the service is well.
//!
//! Everything here does nothing where there is no systemd, or where the unit does not ask for it.
//!
//! Sockets that systemd opened outlive every process of the service, also a restart in which all of them end: clients wait in
//! their queue meanwhile. Services find theirs by its address.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    sync::Arc,
    time::Duration,
};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// Most sockets that are taken over; systemd itself passes on no more.
const MAX_SOCKETS: usize = 4_096;
/// Shortest time between two signs of life.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// A listening socket that systemd opened.
#[derive(Debug)]
pub enum Listener {
    /// `ListenStream=` with an address.
    Tcp(TcpListener),
    /// `ListenStream=` with a path.
    Unix(UnixListener),
}

/// The listening sockets that systemd passed to this process, with their names, in its order. Sockets without a name of their own are
/// called `unknown`, as systemd has it, or `LISTEN_FD_n`, from 3 on, if it did not say.
///
/// Takes them and the variables that tell of them: only the first call finds any, and no child inherits either. To be called first of
/// all, before there are other threads, because those variables are removed.
///
/// # Errors
/// If something else than a listening stream socket was passed: the socket unit and this program do not fit together.
pub fn listeners() -> Result<Vec<(String, Listener)>, io::Error> {
    let names = std::env::var("LISTEN_FDNAMES").ok();
    let mut passed = ListenFd::from_env();
    let mut found = Vec::new();
    for index in 0..passed.len().min(MAX_SOCKETS) {
        let listener = match passed.take_unix_listener(index) {
            Ok(Some(unix)) => Listener::Unix(unix),
            _ => match passed.take_tcp_listener(index) {
                Ok(Some(tcp)) => Listener::Tcp(tcp),
                _ => return Err(unfit(&name(names.as_deref(), index))),
            },
        };
        found.push((name(names.as_deref(), index), listener));
    }
    Ok(found)
}

/// The TCP sockets that somebody else opened for the services, found by their addresses. Clones are the same sockets.
#[derive(Debug, Clone, Default)]
pub struct Sockets(Arc<BTreeMap<SocketAddr, Arc<TcpListener>>>);

impl Sockets {
    /// The TCP sockets among these. The others are dropped, which closes them.
    #[must_use]
    pub fn among(listeners: Vec<(String, Listener)>) -> Self {
        let tcp = |(_, listener)| match listener {
            Listener::Tcp(listener) => Some((listener.local_addr().ok()?, Arc::new(listener))),
            Listener::Unix(_) => None,
        };
        Self(Arc::new(listeners.into_iter().filter_map(tcp).collect()))
    }

    /// The socket that listens at this very address.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Option<Arc<TcpListener>> {
        self.0.get(&address).cloned()
    }

    /// Every address that a socket listens at.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.keys().copied()
    }
}

/// Says that the service is up: units that wait for it start, and from here on the watchdog counts.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says in a few words how things are, for `systemctl status`. One line.
pub fn status(text: &str) {
    let line: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(200).collect();
    tell(&[NotifyState::Status(&line)]);
}

/// Says that the service is ending by itself.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often a sign of life has to be given: half of the unit's `WatchdogSec=`. `None`: nobody waits for one.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| (limit / 2).max(LEAST_INTERVAL))
}

/// Gives a sign of life every `interval`. Never ends; to be run on the runtime whose life it tells of.
pub async fn watchdog(every: Duration) {
    let mut ticks = interval(every.max(LEAST_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// systemd that cannot be told must not stop what works without it.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told: {state:?}");
    }
}

fn name(names: Option<&str>, index: usize) -> String {
    let given = names.and_then(|names| names.split(':').nth(index)).filter(|name| !name.is_empty());
    given.map_or_else(|| format!("LISTEN_FD_{}", index + 3), str::to_owned)
}

fn unfit(name: &str) -> io::Error {
    let text = format!("systemd passed {name}, which is no listening TCP or unix stream socket; use ListenStream= in the socket unit");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_called_what_the_unit_calls_them() {
        assert_eq!(name(Some("shop:api"), 1), "api");
        assert_eq!(name(Some("shop::api"), 1), "LISTEN_FD_4");
        assert_eq!(name(None, 0), "LISTEN_FD_3");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(dir.path().join("api.sock")).unwrap();
        let all = vec![("api".to_owned(), Listener::Unix(unix)), ("shop".to_owned(), Listener::Tcp(tcp))];
        let sockets = Sockets::among(all);
        assert_eq!(sockets.addresses().collect::<Vec<_>>(), [address]);
        assert!(sockets.at(address).is_some());
    }

    #[test]
    fn without_systemd_there_is_nothing_to_do() {
        assert!(listeners().unwrap().is_empty());
        assert_eq!(watchdog_interval(), None);
        ready();
        status("two\nlines");
        stopping();
    }
}
