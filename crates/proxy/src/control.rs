//! The control socket: who may tell the proxy what to do, and what they hear.
//!
//! A connection takes over when it has said a valid hello; the one before is told and closed, so that a control process
//! that hangs cannot keep a new one out. Losing control changes nothing for the data path. The socket file has mode
//! 0600 from the moment it has its name.
//!
//! A connection without a version in common takes nothing over. It may have the listening socket and may end the proxy, which is
//! what whoever starts a successor needs.

use std::{
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    activity::Pulse,
    descriptors,
    protocol::{FromProxy, Speaks, ToProxy},
    state::Shared,
    wire::{self, LineReader, MAX_TO_PROXY, WireError},
};

/// Time for the greeting.
const HELLO_TIME: Duration = Duration::from_secs(2);
/// Time for one message to be taken by the other side.
const WRITE_TIME: Duration = Duration::from_secs(5);
/// Wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
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

/// The name of a socket that was bound.
#[derive(Debug)]
pub(crate) struct Name {
    path: PathBuf,
    /// Device and inode.
    id: Option<(u64, u64)>,
}

impl Name {
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), id: id_of(path) }
    }

    /// Removes it, unless it belongs to another socket by now.
    pub(crate) fn remove(&self) {
        if self.id.is_some() && id_of(&self.path) == self.id {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|data| (data.dev(), data.ino()))
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
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(shared: &Shared, newest: &watch::Sender<u64>, stream: UnixStream) -> Result<(), WireError> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = LineReader::new(reader, MAX_TO_PROXY);
    let theirs = greet(shared, &mut reader, &mut writer).await?;
    if shared.speaks.common(theirs).is_none() {
        return serve_stranger(shared, theirs, &mut reader, &mut writer).await;
    }
    let mut mine = 0;
    newest.send_modify(|number| {
        *number += 1;
        mine = *number;
    });
    let ended = serve_control(shared, newest.subscribe(), mine, &mut reader, &mut writer).await;
    if shared.is_standby() && *newest.borrow() == mine {
        tracing::info!("control went away before this proxy took over; ending");
        shared.stop(Instant::now());
    }
    ended
}

async fn serve_control(
    shared: &Shared,
    mut newest: watch::Receiver<u64>,
    mine: u64,
    reader: &mut LineReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> Result<(), WireError> {
    let mut pulse = Pulse::new(&shared.activity);
    loop {
        tokio::select! {
            biased;
            () = superseded(&mut newest, mine) => {
                return refuse(writer, "another control process connected and took over").await;
            }
            message = reader.next::<ToProxy>() => match message {
                Ok(ToProxy::Listener) => hand_out(shared, writer).await?,
                Ok(message) => {
                    if let Some(answer) = obey(shared, message) {
                        send(writer, &answer).await?;
                    }
                }
                Err(error @ WireError::Garbage(_)) => {
                    send(writer, &FromProxy::Error { reason: error.to_string() }).await?;
                }
                Err(error @ WireError::TooLong(_)) => return refuse(writer, &error.to_string()).await,
                Err(error) => return Err(error),
            },
            mark = pulse.due(shared) => {
                pulse.sent(mark);
                if let Err(error) = send(writer, &FromProxy::Stats(Box::new(shared.stats()))).await {
                    obey_last_words(shared, reader).await;
                    return Err(error);
                }
            }
        }
    }
}

/// Who hung up may have said something before, such as that the proxy shall stop.
async fn obey_last_words(shared: &Shared, reader: &mut LineReader<OwnedReadHalf>) {
    while let Ok(Ok(message)) = timeout(HELLO_TIME, reader.next::<ToProxy>()).await {
        let _ = obey(shared, message);
    }
}

/// A control process of another version: what keeps its form in all of them, and nothing else.
async fn serve_stranger(
    shared: &Shared,
    theirs: Speaks,
    reader: &mut LineReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> Result<(), WireError> {
    loop {
        match reader.next::<ToProxy>().await {
            Ok(ToProxy::Listener) => hand_out(shared, writer).await?,
            Ok(message @ ToProxy::Shutdown { .. }) => _ = obey(shared, message),
            Ok(_) | Err(WireError::Garbage(_)) => {
                let reason = format!(
                    "this proxy speaks protocol {}, not {theirs}: it gives away its listening socket and stops if told to, no more; \
                     let `serin` of this version replace it, or use the same version for both",
                    shared.speaks
                );
                send(writer, &FromProxy::Error { reason }).await?;
            }
            Err(error @ WireError::TooLong(_)) => return refuse(writer, &error.to_string()).await,
            Err(error) => return Err(error),
        }
    }
}

/// Answers with the listening socket.
async fn hand_out(shared: &Shared, writer: &mut OwnedWriteHalf) -> Result<(), WireError> {
    let Some(listener) = shared.listener() else {
        return send(writer, &FromProxy::Error { reason: "the proxy is stopping and has no listening socket any more".to_owned() }).await;
    };
    let message = wire::line(&FromProxy::Listener)?;
    let sent = timeout(WRITE_TIME, descriptors::send(writer, &message, &*listener)).await;
    Ok(sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
}

async fn superseded(newest: &mut watch::Receiver<u64>, mine: u64) {
    // The sender lives as long as anyone listens.
    let _ = newest.wait_for(|number| *number != mine).await;
}

/// Answers the greeting with one, whatever the other side speaks; what that is.
async fn greet(shared: &Shared, reader: &mut LineReader<OwnedReadHalf>, writer: &mut OwnedWriteHalf) -> Result<Speaks, WireError> {
    let first = match timeout(HELLO_TIME, reader.next::<ToProxy>()).await {
        Ok(Ok(message)) => message,
        Ok(Err(WireError::Closed)) => return Err(WireError::Closed),
        Ok(Err(error)) => return refuse(writer, &error.to_string()).await.and(Err(WireError::Closed)),
        Err(_) => return refuse(writer, "no hello in time").await.and(Err(WireError::Closed)),
    };
    let ToProxy::Hello { protocol, oldest, .. } = first else {
        return refuse(writer, "the first message must be a hello").await.and(Err(WireError::Closed));
    };
    let hello = FromProxy::Hello {
        protocol: shared.speaks.newest,
        oldest: Some(shared.speaks.oldest),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: shared.instance.clone(),
        pid: std::process::id(),
        table: shared.table_id(),
        standby: shared.is_standby(),
    };
    send(writer, &hello).await?;
    Ok(Speaks::said(protocol, oldest))
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
        ToProxy::Serve => {
            if !shared.accepting.send_replace(true) {
                tracing::info!("told to take over: accepting connections");
            }
            Some(FromProxy::Serving)
        }
        // Answered with a descriptor, which is no matter of words.
        ToProxy::Listener => None,
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
