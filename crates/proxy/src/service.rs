//! From a client's request to its answer: screen, assign, carry out, rescue, count.
//!
//! A canary request that fails before the head of an answer is carried out by stable once, if nothing of it was sent or
//! it is a GET, HEAD or OPTIONS without body. The failure counts on the canary with the assignment that led there; the
//! rescue counts on stable as a rescue. Answers 5xx of a version are its answers and are passed on.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use serin_core::traffic::{Arm, Assignment, Outcome};

use crate::{
    access_log::Line,
    answer::OwnAnswer,
    assign::Decision,
    body::{Passing, ProxyBody, RequestBody},
    classes::Subject,
    client_io::{Busy, ConnectionFlags},
    counters::CellKey,
    exchange::{self, Answered, Failure, Outgoing},
    headers, lock,
    seen::Session,
    state::Live,
    tracker::{About, LogContext, Tracker, now},
    worker::{Entry, Worker},
};

/// Answers one request.
pub(crate) async fn handle(
    worker: Arc<Worker>,
    peer: SocketAddr,
    entry: Entry,
    flags: Arc<ConnectionFlags>,
    request: Request<Incoming>,
) -> Result<Response<ProxyBody>, Infallible> {
    let busy = Busy::new(&flags);
    let mut response = respond(&worker, peer, entry, request).await;
    if worker.shared.stopping.load(Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.body_mut().hold(busy);
    Ok(response)
}

async fn respond(worker: &Arc<Worker>, peer: SocketAddr, entry: Entry, request: Request<Incoming>) -> Response<ProxyBody> {
    let started = Instant::now();
    let (mut parts, incoming) = request.into_parts();
    let live = worker.shared.live.load_full();
    let log = worker.shared.log.is_enabled().then(|| log_context(&parts, live.as_deref()));

    if let Some(answer) = unsupported(&parts) {
        count_unsupported(worker, &answer);
        return unassigned(worker, answer, started, log);
    }
    if let Err(malformed) = headers::to_upstream(&mut parts, peer.ip()) {
        let answer = OwnAnswer::new(StatusCode::BAD_REQUEST, "bad-request", malformed.to_string()).closing();
        return unassigned(worker, answer, started, log);
    }
    let Some(live) = live else {
        let text = "the proxy has no route table yet; it gets one when the release starts";
        let answer = OwnAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "no-route-table", text);
        return unassigned(worker, answer, started, log);
    };

    let decision = match entry {
        Entry::Clients => live.assigner.assign(&parts.headers, &mut lock(&worker.dice)),
        Entry::Preview if live.table.preview.is_some() => Decision::PREVIEW,
        Entry::Preview => {
            let answer = OwnAnswer::new(StatusCode::MISDIRECTED_REQUEST, "no-preview", "there is no preview at the moment").closing();
            return unassigned(worker, answer, started, log);
        }
    };
    let Decision { arm, assignment, client, set_cookie } = decision;
    let key = CellKey { weight: live.table.weight, arm, assignment };
    let session = client.zip(live.clients.as_ref()).map(|(client, clients)| Session::begin(clients, client));
    let mut tracker = Tracker::new(worker.clone(), &live, key, started, session, About { subject: Subject::of(&parts), log });
    let mut outgoing = Outgoing::new(parts, RequestBody::new(incoming));

    let mut result = exchange::on_arm(worker, &live, arm, &mut outgoing, &mut tracker).await;
    let mut served_by = arm;
    if let Err(failure) = &result
        && arm == Arm::Canary
        && assignment != Assignment::Preview
        && !failure.is_clients()
        && (failure.is_unsent() || outgoing.replayable())
    {
        let about = tracker.handed_over(failure.outcome());
        served_by = Arm::Stable;
        let key = CellKey { arm: Arm::Stable, assignment: Assignment::Rescue, ..key };
        tracker = Tracker::new(worker.clone(), &live, key, started, None, about);
        result = exchange::on_arm(worker, &live, Arm::Stable, &mut outgoing, &mut tracker).await;
        if result.is_ok() {
            worker.shared.rescued.fetch_add(1, Relaxed);
        }
    }
    match result {
        Ok(answered) => pass_on(worker, answered, tracker, &live, set_cookie.as_deref()),
        Err(failure) => {
            let answer = explain(&failure, served_by);
            tracker.status = answer.status.as_u16();
            tracker.finish(failure.outcome());
            own(worker, answer)
        }
    }
}

fn pass_on(worker: &Arc<Worker>, answered: Answered, mut tracker: Tracker, live: &Live, set_cookie: Option<&str>) -> Response<ProxyBody> {
    let Answered { response, connection, upload } = answered;
    tracker.answered(&response);
    let (mut parts, incoming) = response.into_parts();
    headers::to_client(&mut parts.headers);
    if let Some(Ok(cookie)) = set_cookie.map(HeaderValue::from_str) {
        parts.headers.append(header::SET_COOKIE, cookie);
    }
    parts.version = http::Version::HTTP_11;
    // What the connection to the endpoint left here is no business of the client's connection.
    parts.extensions.clear();
    let outcome = Outcome::of_status(tracker.status);
    let idle = Duration::from_millis(live.table.timeouts.idle_ms);
    let passing = Passing::new(worker.clone(), tracker, outcome, incoming, connection, upload, idle);
    Response::from_parts(parts, ProxyBody::upstream(passing))
}

/// What is not built yet.
fn unsupported(parts: &Parts) -> Option<OwnAnswer> {
    let grpc = parts.headers.get(header::CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()));
    let (cause, text) = if parts.method == Method::CONNECT {
        ("unsupported-connect", "CONNECT is not supported: this is a reverse proxy for HTTP/1.1 services")
    } else if parts.headers.get_all(header::UPGRADE).iter().any(|value| !is_only_h2c(value.as_bytes())) {
        ("unsupported-upgrade", "upgrades (WebSocket) are not supported yet; send the request without an Upgrade header")
    } else if grpc {
        ("unsupported-grpc", "gRPC is not supported yet: it needs HTTP/2")
    } else if !headers::only_chunked(&parts.headers) {
        ("unsupported-transfer-encoding", "the only transfer encoding supported is a single `chunked`")
    } else {
        return None;
    };
    Some(OwnAnswer::new(StatusCode::NOT_IMPLEMENTED, cause, text).closing())
}

/// Clients offer to go on in HTTP/2, and a server may answer in HTTP/1.1 all the same.
fn is_only_h2c(upgrade: &[u8]) -> bool {
    upgrade.split(|byte| *byte == b',').all(|offer| offer.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// `application/grpc` and `application/grpc+…`, but not `application/grpc-web`, which is at home in HTTP/1.1.
fn is_grpc(content_type: &[u8]) -> bool {
    let name = b"application/grpc";
    content_type.len() >= name.len()
        && content_type[..name.len()].eq_ignore_ascii_case(name)
        && content_type.get(name.len()).is_none_or(|next| b"+; ".contains(next))
}

/// Counts a request for what is not built yet, and says so in the log at the 1st, 2nd, 4th, 8th … time.
pub(crate) fn count_unsupported(worker: &Worker, answer: &OwnAnswer) {
    let count = worker.shared.unsupported.fetch_add(1, Relaxed) + 1;
    worker.shared.activity.happened();
    if count.is_power_of_two() {
        tracing::warn!(cause = answer.cause, count, "refused a request: {}", answer.text);
    }
}

fn explain(failure: &Failure, arm: Arm) -> OwnAnswer {
    let gateway = |status, cause, text| OwnAnswer::new(status, cause, text);
    match failure {
        Failure::NoHealthyEndpoint => {
            gateway(StatusCode::SERVICE_UNAVAILABLE, "no-healthy-endpoint", format!("no endpoint of {arm} is healthy"))
        }
        Failure::Connect { endpoint, timed_out: false } => {
            gateway(StatusCode::BAD_GATEWAY, "connect", format!("cannot connect to {arm} ({endpoint})"))
        }
        Failure::Connect { endpoint, timed_out: true } => {
            gateway(StatusCode::GATEWAY_TIMEOUT, "connect-timeout", format!("no connection to {arm} ({endpoint}) in time"))
        }
        Failure::Broken { endpoint } => {
            gateway(StatusCode::BAD_GATEWAY, "broken-answer", format!("{arm} ({endpoint}) broke the connection or did not answer in HTTP"))
        }
        Failure::Timeout { endpoint } => {
            gateway(StatusCode::GATEWAY_TIMEOUT, "response-timeout", format!("{arm} ({endpoint}) did not answer in time"))
        }
        Failure::ClientGone => OwnAnswer::new(StatusCode::BAD_REQUEST, "request-body", "the request's body broke off").closing(),
        Failure::ClientSlow => {
            OwnAnswer::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "the request's body did not arrive in time").closing()
        }
    }
}

fn own(worker: &Worker, answer: OwnAnswer) -> Response<ProxyBody> {
    if matches!(answer.status.as_u16(), 502..=504) {
        worker.shared.own_errors.fetch_add(1, Relaxed);
        worker.shared.activity.happened();
    }
    answer.into_response()
}

/// Answers a request that never came to an arm.
fn unassigned(worker: &Worker, answer: OwnAnswer, started: Instant, log: Option<Box<LogContext>>) -> Response<ProxyBody> {
    if let Some(log) = log {
        worker.shared.log.write(Line {
            time: now(),
            method: log.method,
            path: log.path,
            status: answer.status.as_u16(),
            outcome: None,
            arm: None,
            assignment: None,
            weight_bps: log.weight_bps,
            table_version: log.table_version,
            duration_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            bytes: answer.text.len() as u64 + 1,
        });
    }
    own(worker, answer)
}

fn log_context(parts: &Parts, live: Option<&Live>) -> Box<LogContext> {
    Box::new(LogContext {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        table_version: live.map_or(0, |live| live.table.version),
        weight_bps: live.map_or(0, |live| live.table.weight.canary_bps()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_from_grpc_web() {
        for (value, expected) in [
            ("application/grpc", true),
            ("Application/GRPC+proto", true),
            ("application/grpc; charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(value.as_bytes()), expected, "{value}");
        }
    }
}
