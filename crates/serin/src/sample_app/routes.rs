//! What each path answers.
//!
//! `/health`, `/ready`, `/metrics` and `/admin/behaviour` are never slowed down and never fail at random. Modes that break
//! connections hit everything but `/admin/behaviour`, which has to stay reachable to end them.

use std::{
    convert::Infallible,
    future::pending,
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::{Request, Response, body::Incoming};
use tokio::sync::mpsc;

use super::{
    Behaviour, Mode,
    app::App,
    body::{self, AppBody},
    server::Fault,
};

/// The most that `/bytes/N` sends: 1 GiB.
const MOST_BYTES: u64 = 1 << 30;
/// The longest that `/sleep/MS` sleeps: one hour.
const LONGEST_SLEEP_MS: u64 = 3_600_000;
/// The largest document for `/admin/behaviour`.
const MOST_ADMIN_BYTES: usize = 64 * 1024;

/// Answers one request, or breaks its connection by way of `fault`.
///
/// # Errors
/// None: what goes wrong is an answer.
pub(crate) async fn answer(app: &App, fault: mpsc::Sender<Fault>, request: Request<Incoming>) -> Result<Response<AppBody>, Infallible> {
    let mut response = match request.uri().path() {
        "/admin/behaviour" => admin(app, request).await,
        path => {
            let path = path.to_owned();
            match app.behaviour().mode {
                Mode::Ok => {}
                Mode::Hang | Mode::Crash => return pending().await,
                Mode::Garbage => return break_connection(Fault::Garbage, fault, request).await,
                Mode::Reset => return break_connection(Fault::Reset, fault, request).await,
            }
            match path.as_str() {
                "/health" => probe(app.behaviour().healthy, "healthy"),
                "/ready" => probe(app.behaviour().ready, "ready"),
                "/metrics" => plain(StatusCode::OK, app.metrics.render(&app.version)),
                path => counted(app, path, request).await,
            }
        }
    };
    if let Ok(version) = HeaderValue::from_str(&app.version) {
        response.headers_mut().insert("x-app-version", version);
    }
    Ok(response)
}

/// Hands the connection over once the request has been read in full; this answer never comes.
async fn break_connection(kind: Fault, fault: mpsc::Sender<Fault>, request: Request<Incoming>) -> Result<Response<AppBody>, Infallible> {
    let mut incoming = request.into_body();
    while let Some(Ok(_)) = incoming.frame().await {}
    // A full queue means that the connection is being broken already.
    let _ = fault.try_send(kind);
    pending().await
}

async fn counted(app: &App, path: &str, request: Request<Incoming>) -> Response<AppBody> {
    let _in_flight = app.metrics.begin();
    let start = Instant::now();
    let lot = app.draw(path, request.headers());
    if lot.hangs {
        return pending().await;
    }
    tokio::time::sleep(lot.delay).await;
    let response = match (app.has_started(), lot.fails) {
        (false, _) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{} is still starting\n", app.version)),
        (true, Some(code)) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            plain(status, format!("{} failed on request {path}\n", app.version))
        }
        (true, None) => app_route(app, path, request).await,
    };
    app.metrics.record(response.status().as_u16(), start.elapsed());
    if response.status().is_success() {
        app.metrics.record_order(lot.is_lost);
    }
    response
}

async fn app_route(app: &App, path: &str, request: Request<Incoming>) -> Response<AppBody> {
    let (kind, argument) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    match kind {
        "echo" => {
            let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
            let mut response = Response::new(body::echo(request.into_body()));
            if let Some(content_type) = content_type {
                response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            }
            response
        }
        "bytes" => match argument.parse() {
            Ok(count) if count <= MOST_BYTES => Response::new(body::zeros(count)),
            _ => bad_request(format!("expected /bytes/N with N from 0 to {MOST_BYTES}\n")),
        },
        "sleep" => match argument.parse() {
            Ok(ms) if ms <= LONGEST_SLEEP_MS => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                plain(StatusCode::OK, format!("{} slept {ms} ms\n", app.version))
            }
            _ => bad_request(format!("expected /sleep/MS with MS from 0 to {LONGEST_SLEEP_MS}\n")),
        },
        "status" => {
            match argument.parse().ok().filter(|code| (200..=599).contains(code)).and_then(|code| StatusCode::from_u16(code).ok()) {
                // These two have no body by definition, and a length would be wrong.
                Some(status @ (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)) => with_status(status, Response::new(body::text(""))),
                Some(status) => plain(status, format!("{} answers {status}\n", app.version)),
                None => bad_request("expected /status/CODE with CODE from 200 to 599\n".to_owned()),
            }
        }
        _ => plain(StatusCode::OK, format!("version {}\npid {}\npath {path}\n", app.version, std::process::id())),
    }
}

async fn admin(app: &App, request: Request<Incoming>) -> Response<AppBody> {
    let method = request.method().clone();
    if method == Method::GET {
        return json(StatusCode::OK, &app.behaviour());
    }
    if method != Method::PUT && method != Method::PATCH {
        let text = "expected GET to read the behaviour, PUT to replace it or PATCH to change single fields\n";
        return plain(StatusCode::METHOD_NOT_ALLOWED, text.to_owned());
    }
    let document = match Limited::new(request.into_body(), MOST_ADMIN_BYTES).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return bad_request(format!("cannot read the document of at most {MOST_ADMIN_BYTES} bytes: {error}\n")),
    };
    let updated = app.update(|current| if method == Method::PUT { Behaviour::from_json(&document) } else { current.patched(&document) });
    match updated {
        Ok(behaviour) => json(StatusCode::OK, &behaviour),
        Err(reason) => bad_request(format!("{reason}\n")),
    }
}

fn probe(good: bool, word: &str) -> Response<AppBody> {
    match good {
        true => plain(StatusCode::OK, format!("{word}\n")),
        false => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not {word}\n")),
    }
}

fn bad_request(text: String) -> Response<AppBody> {
    plain(StatusCode::BAD_REQUEST, text)
}

fn json(status: StatusCode, behaviour: &Behaviour) -> Response<AppBody> {
    match serde_json::to_vec(behaviour) {
        Ok(document) => with_type("application/json", with_status(status, Response::new(body::text(document)))),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn plain(status: StatusCode, text: String) -> Response<AppBody> {
    with_type("text/plain; charset=utf-8", with_status(status, Response::new(body::text(text))))
}

fn with_status(status: StatusCode, mut response: Response<AppBody>) -> Response<AppBody> {
    *response.status_mut() = status;
    response
}

fn with_type(content_type: &'static str, mut response: Response<AppBody>) -> Response<AppBody> {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
