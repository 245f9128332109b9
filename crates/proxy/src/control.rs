//! The control socket: who may tell the proxy what to do, and what they hear.
//!
//! A connection takes over when it has said a valid hello; the one before is told and closed, so that a control process
//! that hangs cannot keep a new one out. Losing control changes nothing for the data path. The socket file has mode
//! 0600 from the moment it has its name.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Semaphore, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    protocol::{FromProxy, PROTOCOL, ToProxy},
    state::Shared,
    wire::{self, LineReader, MAX_TO_PROXY, WireError},
};

/// How often counters are sent.
const STATS_EVERY: Duration = Duration::from_millis(50);
/// Time for the greeting.
const HELLO_TIME: Duration = Duration::from_secs(2);
/// Time for one message to be taken by the other side.
const WRITE_TIME: Duration = Duration::from_secs(5);
/// Most connections at one time; more wait in the socket's queue.
const MAX_CONNECTIONS: usize = 16;

/// Binds the socket file.
///
/// # Errors
/// If a living process listens there, or the file cannot be made.
pub(crate) fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it"));
    }
    let mut unready = path.as_os_str().to_owned();
    unready.push(format!(".{}", std::process::id()));
    let unready = PathBuf::from(unready);
    remove_if_there(&unready)?;
    let listener = std::os::unix::net::UnixListener::bind(&unready)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(0o600))?;
    // Takes the place of a stale one.
    std::fs::rename(&unready, path)?;
    Ok(listener)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Accepts connections for ever.
pub(crate) async fn listen(shared: Arc<Shared>, listener: UnixListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let newest = Arc::new(watch::Sender::new(0_u64));
    loop {
        let slot = slots.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let (shared, newest) = (shared.clone(), newest.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(&shared, &newest, stream).await {
                        tracing::debug!(%error, "control connection ended");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control connection; trying again");
                sleep(STATS_EVERY).await;
            }
        }
    }
}

async fn converse(shared: &Shared, newest: &watch::Sender<u64>, stream: UnixStream) -> Result<(), WireError> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = LineReader::new(reader, MAX_TO_PROXY);
    greet(shared, &mut reader, &mut writer).await?;

    let mut mine = 0;
    newest.send_modify(|number| {
        *number += 1;
        mine = *number;
    });
    let mut newest = newest.subscribe();
    let mut ticks = interval(STATS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = superseded(&mut newest, mine) => {
                return refuse(&mut writer, "another control process connected and took over").await;
            }
            message = reader.next::<ToProxy>() => match message {
                Ok(message) => {
                    if let Some(answer) = obey(shared, message) {
                        send(&mut writer, &answer).await?;
                    }
                }
                Err(error @ WireError::Garbage(_)) => {
                    send(&mut writer, &FromProxy::Error { reason: error.to_string() }).await?;
                }
                Err(error @ WireError::TooLong(_)) => return refuse(&mut writer, &error.to_string()).await,
                Err(error) => return Err(error),
            },
            _ = ticks.tick() => send(&mut writer, &FromProxy::Stats(Box::new(shared.stats()))).await?,
        }
    }
}

async fn superseded(newest: &mut watch::Receiver<u64>, mine: u64) {
    // The sender lives as long as anyone listens.
    let _ = newest.wait_for(|number| *number != mine).await;
}

async fn greet(
    shared: &Shared,
    reader: &mut LineReader<tokio::net::unix::OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> Result<(), WireError> {
    let first = match timeout(HELLO_TIME, reader.next::<ToProxy>()).await {
        Ok(Ok(message)) => message,
        Ok(Err(WireError::Closed)) => return Err(WireError::Closed),
        Ok(Err(error)) => return refuse(writer, &error.to_string()).await.and(Err(WireError::Closed)),
        Err(_) => return refuse(writer, "no hello in time").await.and(Err(WireError::Closed)),
    };
    let refusal = match first {
        ToProxy::Hello { protocol: PROTOCOL, .. } => {
            let hello = FromProxy::Hello {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                instance: shared.instance.clone(),
                pid: std::process::id(),
                table: shared.table_id(),
            };
            return send(writer, &hello).await;
        }
        ToProxy::Hello { protocol, .. } => {
            format!("this proxy speaks protocol {PROTOCOL}, not {protocol}; use the same version of serin for both")
        }
        _ => "the first message must be a hello".to_owned(),
    };
    refuse(writer, &refusal).await.and(Err(WireError::Closed))
}

fn obey(shared: &Shared, message: ToProxy) -> Option<FromProxy> {
    match message {
        ToProxy::Hello { .. } => Some(FromProxy::Error { reason: "hello was said already".to_owned() }),
        ToProxy::Table(table) => {
            let (epoch, version) = (table.epoch, table.version);
            Some(match shared.apply(*table) {
                Ok(weight) => {
                    tracing::info!(epoch, version, %weight, "route table in service");
                    FromProxy::Applied { epoch, version, weight }
                }
                Err(reason) => {
                    tracing::warn!(epoch, version, reason, "route table refused");
                    FromProxy::Rejected { epoch, version, reason }
                }
            })
        }
        ToProxy::Get => {
            let live = shared.live.load_full();
            Some(FromProxy::Table(live.map(|live| Box::new(live.table.clone()))))
        }
        ToProxy::Shutdown { drain_ms } => {
            tracing::info!(drain_ms, "control asked to stop");
            shared.stop(Instant::now() + Duration::from_millis(drain_ms.min(MAX_DRAIN_MS)));
            None
        }
    }
}

/// Longest drain: a day, in milliseconds.
const MAX_DRAIN_MS: u64 = 86_400_000;

async fn refuse(writer: &mut OwnedWriteHalf, reason: &str) -> Result<(), WireError> {
    send(writer, &FromProxy::Error { reason: reason.to_owned() }).await
}

async fn send(writer: &mut OwnedWriteHalf, message: &FromProxy) -> Result<(), WireError> {
    timeout(WRITE_TIME, wire::write(writer, message)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
