//! Control's end of the control socket.
//!
//! Commands are answered one at a time. After a command without an answer in time the link is closed, because a late
//! answer could be taken for that of the next command: connect again and read the table back.
//!
//! Silence does not close a link: a proxy without news says so once a second, and one that hangs is noticed by the next command.

use std::{future::Future, net::TcpListener, os::fd::OwnedFd, path::Path, sync::Arc, time::Duration};

use serin_core::WeightBps;
use tokio::{
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::{Mutex, mpsc, watch},
    task::AbortHandle,
    time::timeout,
};

use crate::{
    descriptors::DescriptorReader,
    protocol::{FromProxy, Speaks, Stats, ToProxy},
    table::RouteTable,
    wire::{self, LineReader, MAX_FROM_PROXY, WireError},
};

/// Time for connecting and greeting, and for the answer to one command.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Why the proxy did not do it, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nothing listens on the socket, or it may not be opened.
    #[error("cannot connect to the proxy: {0}")]
    Connect(std::io::Error),
    /// The proxy speaks no version of the protocol that this program does.
    #[error(
        "the proxy (serin {version}) speaks protocol {theirs}, this program {}; use the same version of serin for both, or have \
         the proxy replaced",
        Speaks::OURS
    )]
    Protocol {
        /// What it speaks.
        theirs: Speaks,
        /// Version of its program.
        version: String,
    },
    /// No answer in time. Whether the command was obeyed is unknown; the link is closed.
    #[error("the proxy did not answer within 2 s")]
    Timeout,
    /// The table was refused; the one before is still served.
    #[error("the proxy refused route table {version} of epoch {epoch}: {reason}")]
    Rejected {
        /// Epoch of the refused table.
        epoch: u64,
        /// Version of the refused table.
        version: u64,
        /// Why.
        reason: String,
    },
    /// The proxy did not understand, or ended the conversation.
    #[error("the proxy said: {0}")]
    Refused(String),
    /// The answer does not belong to the command.
    #[error("the proxy gave an unexpected answer")]
    Unexpected,
    /// The link is dead.
    #[error("the link to the proxy is closed")]
    Closed,
}

/// What the proxy said about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHello {
    /// Version of its program.
    pub version: String,
    /// Random per process: a new one means that all counters started anew.
    pub instance: String,
    /// Its process id.
    pub pid: u32,
    /// Epoch and version of the table it served at that moment.
    pub table: Option<(u64, u64)>,
    /// What it speaks.
    pub speaks: Speaks,
    /// Whether it stood by at that moment: it accepts nothing until it is told to.
    pub standby: bool,
}

impl ProxyHello {
    /// The version of the protocol that is spoken on this link. `None`: there is none in common, and the proxy can be replaced
    /// but not be told anything else.
    #[must_use]
    pub fn protocol(&self) -> Option<u32> {
        Speaks::OURS.common(self.speaks)
    }
}

/// A table in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Its epoch.
    pub epoch: u64,
    /// Its version.
    pub version: u64,
    /// The canary's share now in force.
    pub weight: WeightBps,
}

/// A connection to a proxy process. Dropping it closes it; the proxy goes on serving.
#[derive(Debug)]
pub struct ProxyLink {
    hello: ProxyHello,
    commands: Mutex<Commands>,
    stats: watch::Receiver<Option<Arc<Stats>>>,
    closed: watch::Receiver<bool>,
    reader: AbortHandle,
}

#[derive(Debug)]
struct Commands {
    writer: OwnedWriteHalf,
    answers: mpsc::Receiver<Answer>,
}

/// An answer, with what came along.
type Answer = (FromProxy, Option<OwnedFd>);

impl ProxyLink {
    /// Connects and greets.
    ///
    /// # Errors
    /// If nothing listens, it does not answer within 2 s, or it speaks no version of the protocol that this program does.
    pub async fn connect(path: &Path) -> Result<Self, LinkError> {
        let link = Self::connect_any(path).await?;
        match link.hello.protocol() {
            Some(_) => Ok(link),
            None => Err(LinkError::Protocol { theirs: link.hello.speaks, version: link.hello.version.clone() }),
        }
    }

    /// Connects and greets, also a proxy that speaks no version of the protocol that this program does. With such a one only
    /// [`listener`](Self::listener) and [`shutdown`](Self::shutdown) work, and no counters come.
    ///
    /// # Errors
    /// If nothing listens, or it does not answer within 2 s.
    pub async fn connect_any(path: &Path) -> Result<Self, LinkError> {
        timeout(ANSWER_TIME, Self::greet(path)).await.map_err(|_| LinkError::Timeout)?
    }

    async fn greet(path: &Path) -> Result<Self, LinkError> {
        let stream = UnixStream::connect(path).await.map_err(LinkError::Connect)?;
        let (reader, mut writer) = stream.into_split();
        let mut reader = LineReader::new(DescriptorReader::new(reader), MAX_FROM_PROXY);
        let Speaks { newest, oldest } = Speaks::OURS;
        let greeting = ToProxy::Hello { protocol: newest, oldest: Some(oldest), version: env!("CARGO_PKG_VERSION").to_owned() };
        wire::write(&mut writer, &greeting).await.map_err(|_| LinkError::Closed)?;
        let hello = match reader.next::<FromProxy>().await {
            Ok(FromProxy::Hello { protocol, oldest, version, instance, pid, table, standby }) => {
                ProxyHello { version, instance, pid, table, speaks: Speaks::said(protocol, oldest), standby }
            }
            Ok(FromProxy::Error { reason }) => return Err(LinkError::Refused(reason)),
            Ok(_) | Err(WireError::Garbage(_)) => return Err(LinkError::Unexpected),
            Err(_) => return Err(LinkError::Closed),
        };
        let (answered, answers) = mpsc::channel(4);
        let (stats_seen, stats) = watch::channel(None);
        let (closing, closed) = watch::channel(false);
        let reader = tokio::spawn(listen(reader, answered, stats_seen, closing)).abort_handle();
        Ok(Self { hello, commands: Mutex::new(Commands { writer, answers }), stats, closed, reader })
    }

    /// What the proxy said about itself when the link began.
    #[must_use]
    pub fn hello(&self) -> &ProxyHello {
        &self.hello
    }

    /// Has this table served. When this returns, every later request follows it. Safe to repeat.
    ///
    /// # Errors
    /// [`LinkError::Rejected`] if it is invalid or older than the one in service; otherwise the link is dead and whether
    /// the table is served is unknown.
    pub async fn apply(&self, table: RouteTable) -> Result<Applied, LinkError> {
        let wanted = (table.epoch, table.version);
        match self.ask(&ToProxy::Table(Box::new(table))).await? {
            FromProxy::Applied { epoch, version, weight } if (epoch, version) == wanted => Ok(Applied { epoch, version, weight }),
            FromProxy::Rejected { epoch, version, reason } => Err(LinkError::Rejected { epoch, version, reason }),
            other => Err(unexpected(other)),
        }
    }

    /// Reads back the table in service.
    ///
    /// # Errors
    /// If the link is dead.
    pub async fn current_table(&self) -> Result<Option<RouteTable>, LinkError> {
        match self.ask(&ToProxy::Get).await? {
            FromProxy::Table(table) => Ok(table.map(|table| *table)),
            other => Err(unexpected(other)),
        }
    }

    /// A copy of the listening socket: as long as somebody holds it, clients wait for a successor of a proxy that died and are
    /// not refused.
    ///
    /// # Errors
    /// [`LinkError::Refused`] if the proxy is stopping; otherwise the link is dead.
    pub async fn listener(&self) -> Result<TcpListener, LinkError> {
        match self.ask_whole(&ToProxy::Listener).await? {
            (FromProxy::Listener, Some(descriptor)) => {
                let listener = TcpListener::from(descriptor);
                listener.local_addr().map_err(|_| LinkError::Unexpected)?;
                Ok(listener)
            }
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Tells a proxy that stands by to accept connections from now on. Safe to repeat.
    ///
    /// # Errors
    /// If the link is dead.
    pub async fn serve(&self) -> Result<(), LinkError> {
        match self.ask(&ToProxy::Serve).await? {
            FromProxy::Serving => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// The newest counters; `None` until the first arrive. Several may be skipped, none comes twice.
    #[must_use]
    pub fn stats(&self) -> watch::Receiver<Option<Arc<Stats>>> {
        self.stats.clone()
    }

    /// Tells the proxy to stop accepting, and to end when its requests have or `drain_ms` milliseconds are over. Does not
    /// wait for it: [`closed`](Self::closed) does.
    ///
    /// # Errors
    /// If the link is dead.
    pub async fn shutdown(&self, drain_ms: u64) -> Result<(), LinkError> {
        let mut commands = self.commands.lock().await;
        self.send(&mut commands, &ToProxy::Shutdown { drain_ms }).await
    }

    /// Whether the link is dead.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Ready when the link is dead.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closed = self.closed.clone();
        async move {
            // An error means that the reader is gone: dead as well.
            let _ = closed.wait_for(|closed| *closed).await;
        }
    }

    async fn ask(&self, command: &ToProxy) -> Result<FromProxy, LinkError> {
        self.ask_whole(command).await.map(|(answer, _)| answer)
    }

    async fn ask_whole(&self, command: &ToProxy) -> Result<Answer, LinkError> {
        let mut commands = self.commands.lock().await;
        // Complaints about earlier commands are not answers to this one.
        while commands.answers.try_recv().is_ok() {}
        // Whoever gives up waiting, by time or by being dropped, leaves an answer behind that must not meet a later command.
        let mut unanswered = CloseUnlessAnswered { reader: &self.reader, answered: false };
        self.send(&mut commands, command).await?;
        let answer = timeout(ANSWER_TIME, commands.answers.recv()).await.map_err(|_| LinkError::Timeout)?;
        unanswered.answered = answer.is_some();
        answer.ok_or(LinkError::Closed)
    }

    async fn send(&self, commands: &mut Commands, command: &ToProxy) -> Result<(), LinkError> {
        if self.is_closed() {
            return Err(LinkError::Closed);
        }
        match timeout(ANSWER_TIME, wire::write(&mut commands.writer, command)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(LinkError::Closed),
            Err(_) => {
                self.reader.abort();
                Err(LinkError::Timeout)
            }
        }
    }
}

impl Drop for ProxyLink {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Ends the reader, and with it the link.
struct CloseUnlessAnswered<'a> {
    reader: &'a AbortHandle,
    answered: bool,
}

impl Drop for CloseUnlessAnswered<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.reader.abort();
        }
    }
}

fn unexpected(answer: FromProxy) -> LinkError {
    match answer {
        FromProxy::Error { reason } => LinkError::Refused(reason),
        _ => LinkError::Unexpected,
    }
}

/// Says that the link is dead, however the reader ends.
struct Closing(watch::Sender<bool>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

async fn listen(
    mut reader: LineReader<DescriptorReader>,
    answers: mpsc::Sender<Answer>,
    stats: watch::Sender<Option<Arc<Stats>>>,
    closing: watch::Sender<bool>,
) {
    let _closing = Closing(closing);
    loop {
        match reader.next::<FromProxy>().await {
            Ok(FromProxy::Stats(newest)) => _ = stats.send_replace(Some(Arc::new(*newest))),
            Ok(answer) => {
                if let FromProxy::Error { reason } = &answer {
                    tracing::warn!(reason, "the proxy complained");
                }
                // Nobody waits for what does not fit.
                let _ = answers.try_send((answer, reader.stream_mut().take_descriptor()));
            }
            Err(error) => {
                tracing::debug!(%error, "link to the proxy ended");
                return;
            }
        }
    }
}
