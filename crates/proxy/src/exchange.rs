//! One request on one arm: find an endpoint, connect, send, wait for the head of the answer.
//!
//! What may be tried again, so that nothing is ever done twice that must not be:
//! - A failed connect: always, since nothing was sent. Each endpoint once, at most [`MAX_ENDPOINTS_TRIED`].
//! - A kept connection that turns out to be closed before the request was written: on a new connection.
//! - A kept connection that dies without a byte of an answer: on a new connection, for GET, HEAD and OPTIONS without body.
//!
//! Everything else is for the caller to judge by [`Failure::is_unsent`] and [`Outgoing::replayable`].

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::body::Incoming;
use serin_core::traffic::{Arm, Outcome};
use tokio::time::{Instant, sleep_until};

use crate::{
    body::{RequestBody, Stage, Upload},
    endpoint::EndpointState,
    headers, lock,
    pool::{ConnectError, Connection},
    state::Live,
    table::Timeouts,
    tracker::Tracker,
    worker::Worker,
};

/// Most endpoints of one arm that a request tries to connect to.
const MAX_ENDPOINTS_TRIED: usize = 3;

/// A request on its way out. Its body can be handed over only once.
#[derive(Debug)]
pub(crate) struct Outgoing {
    parts: Parts,
    body: Option<RequestBody>,
    replayable: bool,
}

impl Outgoing {
    pub(crate) fn new(parts: Parts, body: RequestBody) -> Self {
        let safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        Self { replayable: safe && body.is_empty(), parts, body: Some(body) }
    }

    /// Whether it may be sent again although it may have been received.
    pub(crate) fn replayable(&self) -> bool {
        self.replayable
    }

    /// `None`: its body is gone, and sending it without would be another request.
    fn request(&mut self, endpoint: &EndpointState) -> Option<Request<RequestBody>> {
        let body = match self.body.take() {
            Some(body) => body,
            None if self.replayable => RequestBody::empty(),
            None => return None,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.parts.headers.clone();
        if !request.headers().contains_key(header::HOST)
            && let Ok(host) = HeaderValue::from_str(&endpoint.address)
        {
            request.headers_mut().insert(header::HOST, host);
        }
        Some(request)
    }
}

/// The head of an answer and what its body needs.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: Connection,
    pub(crate) upload: Arc<Upload>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Every endpoint of the arm is unhealthy; none was tried.
    NoHealthyEndpoint,
    /// No connection; nothing was sent. The id is that of the endpoint tried last.
    Connect { endpoint: String, timed_out: bool },
    /// The connection broke, or the answer is not HTTP/1.
    Broken { endpoint: String },
    /// No head of an answer in time.
    Timeout { endpoint: String },
    /// The client broke off within the request's body.
    ClientGone,
    /// The client did not send its body in time.
    ClientSlow,
}

impl Failure {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::NoHealthyEndpoint | Self::Connect { .. } | Self::Broken { .. } => Outcome::Transport,
            Self::Timeout { .. } => Outcome::Timeout,
            Self::ClientGone | Self::ClientSlow => Outcome::ClientAborted,
        }
    }

    /// Whether no byte of the request was sent, so that it can be sent elsewhere whatever it is.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self, Self::NoHealthyEndpoint | Self::Connect { .. })
    }

    pub(crate) fn is_clients(&self) -> bool {
        matches!(self, Self::ClientGone | Self::ClientSlow)
    }
}

/// Carries out a request on an arm. Stable is tried even if all its endpoints are unhealthy; the canary is not.
pub(crate) async fn on_arm(
    worker: &Worker,
    live: &Live,
    arm: Arm,
    outgoing: &mut Outgoing,
    tracker: &mut Tracker,
) -> Result<Answered, Failure> {
    let endpoints = live.arm(arm);
    let mut tried = Vec::new();
    let mut last = Failure::NoHealthyEndpoint;
    while tried.len() < MAX_ENDPOINTS_TRIED {
        let picked = endpoints.pick(&tried, arm == Arm::Stable, &mut lock(&worker.dice).rng);
        let Some(endpoint) = picked else {
            break;
        };
        tracker.at(&endpoint);
        match at_endpoint(worker, &endpoint, &live.table.timeouts, outgoing).await {
            Ok(answered) => return Ok(answered),
            Err(Lost::Connect(error)) => {
                tracing::debug!(%arm, endpoint = endpoint.id, %error, "connect failed");
                let timed_out = matches!(error, ConnectError::Timeout(_));
                endpoint.refused(endpoints.failure_limit, error.to_string());
                last = Failure::Connect { endpoint: endpoint.id.clone(), timed_out };
                tried.push(endpoint);
            }
            Err(Lost::Exchange(failure)) => {
                tracing::debug!(%arm, endpoint = endpoint.id, ?failure, "request failed");
                return Err(failure);
            }
        }
    }
    tracker.leave();
    Err(last)
}

enum Lost {
    Connect(ConnectError),
    Exchange(Failure),
}

async fn at_endpoint(
    worker: &Worker,
    endpoint: &Arc<EndpointState>,
    timeouts: &Timeouts,
    outgoing: &mut Outgoing,
) -> Result<Answered, Lost> {
    let mut kept = worker.pool.reuse(&endpoint.address);
    loop {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => {
                let connected = worker.pool.connect(&endpoint.address, timeouts.connect_ms).await;
                let connection = connected.map_err(Lost::Connect)?;
                endpoint.connected();
                connection
            }
        };
        let received = connection.received();
        let request = outgoing.request(endpoint).ok_or_else(|| broken(endpoint))?;
        let upload = request.body().upload();
        match head(&mut connection, request, &upload, timeouts).await {
            Ok(response) if is_understood(&response) => return Ok(Answered { response, connection, upload }),
            Ok(_) => return Err(broken(endpoint)),
            Err(NoHead::Unsent(body)) => {
                outgoing.body = Some(body);
                if !connection.reused {
                    let closed = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                    return Err(Lost::Connect(closed.into()));
                }
            }
            Err(NoHead::Broken) => {
                let silent = connection.received() == received;
                if !(connection.reused && silent && outgoing.replayable) {
                    return Err(broken(endpoint));
                }
            }
            Err(NoHead::Timeout) => {
                return Err(Lost::Exchange(Failure::Timeout { endpoint: endpoint.id.clone() }));
            }
            Err(NoHead::Client(failure)) => return Err(Lost::Exchange(failure)),
        }
    }
}

fn broken(endpoint: &EndpointState) -> Lost {
    Lost::Exchange(Failure::Broken { endpoint: endpoint.id.clone() })
}

/// Switching protocols was never asked for, and a transfer coding that is not undone here would reach the client as content.
fn is_understood(response: &Response<Incoming>) -> bool {
    response.status() != StatusCode::SWITCHING_PROTOCOLS && headers::only_chunked(response.headers())
}

enum NoHead {
    /// The connection was closed before the request was written: here is its body back.
    Unsent(RequestBody),
    Broken,
    Timeout,
    Client(Failure),
}

async fn head(
    connection: &mut Connection,
    request: Request<RequestBody>,
    upload: &Upload,
    timeouts: &Timeouts,
) -> Result<Response<Incoming>, NoHead> {
    let started = Instant::now();
    let due = || {
        let limit_ms = if upload.stage() == Stage::Done { timeouts.response_ms } else { timeouts.idle_ms };
        upload.last().max(started) + Duration::from_millis(limit_ms)
    };
    let mut answer = std::pin::pin!(connection.sender.try_send_request(request));
    loop {
        tokio::select! {
            biased;
            result = &mut answer => {
                return result.map_err(|mut error| match error.take_message() {
                    Some(request) => NoHead::Unsent(request.into_body()),
                    None if upload.stage() == Stage::Failed => NoHead::Client(Failure::ClientGone),
                    None => NoHead::Broken,
                });
            }
            () = sleep_until(due()) => {
                if due() > Instant::now() {
                    continue;
                }
                return Err(match upload.stage() {
                    Stage::AwaitingClient => NoHead::Client(Failure::ClientSlow),
                    Stage::Failed => NoHead::Client(Failure::ClientGone),
                    Stage::Unwanted | Stage::Done => NoHead::Timeout,
                });
            }
        }
    }
}
