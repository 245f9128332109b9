//! Bodies on their way through: frame by frame, never gathered, with the idle limit and the count of how they ended.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serin_core::traffic::Outcome;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{client_io::Busy, pool::Connection, tracker::Tracker, worker::Worker};

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no byte in either direction for {0} ms")]
    Idle(u128),
}

/// Where a request's body is. Shared between the side that sends it and the side that watches the clock.
#[derive(Debug)]
pub(crate) struct Upload {
    origin: Instant,
    last_us: AtomicU64,
    stage: AtomicU8,
}

/// What the upload does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// The endpoint does not take more at the moment.
    Unwanted,
    /// The endpoint would take more but the client does not send.
    AwaitingClient,
    /// All of it has been passed on.
    Done,
    /// The client broke off.
    Failed,
}

impl Upload {
    pub(crate) fn new(stage: Stage) -> Self {
        Self { origin: Instant::now(), last_us: AtomicU64::new(0), stage: AtomicU8::new(stage as u8) }
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Unwanted,
            1 => Stage::AwaitingClient,
            2 => Stage::Done,
            _ => Stage::Failed,
        }
    }

    /// When it last moved.
    pub(crate) fn last(&self) -> Instant {
        self.origin + Duration::from_micros(self.last_us.load(Relaxed))
    }

    fn moved(&self, stage: Stage) {
        let us = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_us.store(us, Relaxed);
        self.stage.store(stage as u8, Relaxed);
    }
}

/// A client's body on its way to an endpoint.
#[derive(Debug)]
pub(crate) struct RequestBody {
    inner: Option<Incoming>,
    upload: Arc<Upload>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming) -> Self {
        let stage = if inner.is_end_stream() { Stage::Done } else { Stage::Unwanted };
        let inner = (stage != Stage::Done).then_some(inner);
        Self { inner, upload: Arc::new(Upload::new(stage)) }
    }

    pub(crate) fn empty() -> Self {
        Self { inner: None, upload: Arc::new(Upload::new(Stage::Done)) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_none()
    }

    pub(crate) fn upload(&self) -> Arc<Upload> {
        self.upload.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(&mut *inner).poll_frame(cx) else {
            this.upload.stage.store(Stage::AwaitingClient as u8, Relaxed);
            return Poll::Pending;
        };
        this.upload.moved(match &frame {
            Some(Err(_)) => Stage::Failed,
            Some(Ok(_)) if !inner.is_end_stream() => Stage::Unwanted,
            _ => Stage::Done,
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// What a client gets.
#[derive(Debug)]
pub(crate) struct ProxyBody {
    source: Source,
    /// Marks the client's connection as idle when the answer is through.
    busy: Option<Busy>,
}

#[derive(Debug)]
enum Source {
    Own(Full<Bytes>),
    Upstream(Box<Passing>),
}

impl ProxyBody {
    pub(crate) fn own(text: Bytes) -> Self {
        Self { source: Source::Own(Full::new(text)), busy: None }
    }

    pub(crate) fn upstream(passing: Passing) -> Self {
        Self { source: Source::Upstream(Box::new(passing)), busy: None }
    }

    pub(crate) fn hold(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            Source::Own(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Source::Upstream(passing) => passing.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.is_end_stream(),
            Source::Upstream(passing) => passing.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => text.size_hint(),
            Source::Upstream(passing) => passing.incoming.size_hint(),
        }
    }
}

/// An endpoint's body on its way to the client. Its end decides the outcome of the request.
#[derive(Debug)]
pub(crate) struct Passing {
    incoming: Incoming,
    worker: Arc<Worker>,
    tracker: Tracker,
    outcome: Outcome,
    connection: Option<Connection>,
    upload: Arc<Upload>,
    idle: Duration,
    last: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Passing {
    /// `outcome`: what it is if the body arrives whole.
    pub(crate) fn new(
        worker: Arc<Worker>,
        tracker: Tracker,
        outcome: Outcome,
        incoming: Incoming,
        connection: Connection,
        upload: Arc<Upload>,
        idle: Duration,
    ) -> Self {
        let connection = Some(connection);
        let last = Instant::now();
        let mut passing = Self { incoming, worker, tracker, outcome, connection, upload, idle, last, sleep: None };
        if passing.incoming.is_end_stream() {
            passing.complete();
        }
        passing
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            ready!(self.poll_idle(cx));
            self.fail();
            return Poll::Ready(Some(Err(BodyError::Idle(self.idle.as_millis()))));
        };
        match frame {
            Some(Ok(frame)) => {
                self.last = Instant::now();
                self.tracker.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                // The client's side does not ask again once the declared length is through.
                if self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.fail();
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    /// Ready when nothing moved in either direction for the idle time.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.last.max(self.upload.last()) + self.idle;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            ready!(sleep.as_mut().poll(cx));
        }
    }

    fn complete(&mut self) {
        self.tracker.finish(self.outcome);
        if let Some(connection) = self.connection.take() {
            if self.upload.stage() == Stage::Done {
                self.worker.pool.keep(connection);
            } else {
                connection.detach(self.idle);
            }
        }
    }

    fn fail(&mut self) {
        let by_client = self.upload.stage() == Stage::Failed;
        self.tracker.finish(if by_client { Outcome::ClientAborted } else { Outcome::Truncated });
        self.connection = None;
    }
}
