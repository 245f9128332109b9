//! What every request goes through: who asks, what is there, may they, how often, is the body sound; then the work.
//!
//! Who asks comes first, so that nobody learns anything without a name, not even which paths there are. What changes something and is
//! refused is logged with who asked; what is done is in the journal, where the engine writes it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use serin_engine::{run::plain, serve::Who};
use tokio::time::timeout;

use crate::{
    answer::{Answer, ApiBody},
    identity::{Identity, Peer, identify},
    intake::{self, Query},
    limit::{Class, Key},
    model::{API_VERSION, VERSION_HEADER},
    ops,
    problem::Problem,
    routes::{self, Access, Params, Route},
    shared::{Shared, failed},
};

/// How long the work for a request may take; the engine's own patience is shorter.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request that may be carried out.
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    /// `None` on public routes.
    pub(crate) identity: Option<Identity>,
    pub(crate) service: Option<String>,
    pub(crate) run: Option<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: bytes::Bytes,
    pub(crate) head_only: bool,
}

/// What is known of a request while it is being looked at, for logs and metrics.
#[derive(Default)]
struct Known {
    route: Option<&'static Route>,
    who: Option<String>,
    /// Said already, or not worth a line.
    quiet: bool,
}

/// Answers a request, whatever it is.
pub(crate) async fn answer(shared: Arc<Shared>, peer: Peer, request: Request<Incoming>) -> Response<ApiBody> {
    let started = Instant::now();
    let _flying = shared.measured.request_began();
    let mut known = Known::default();
    let options = request.method() == Method::OPTIONS;
    let method = request.method().clone();
    let response = match look(&shared, &peer, request, &mut known).await {
        Ok(answer) => answer.response(),
        Err(problem) => {
            let route = known.route.map_or("none", |route| route.id);
            let changes = !matches!(method, Method::GET | Method::HEAD);
            let who = known.who.as_deref().unwrap_or("unknown");
            if !known.quiet && problem.status.is_server_error() {
                tracing::warn!(route, who, status = problem.status.as_u16(), code = problem.code, why = %problem.message, "API request failed");
            } else if !known.quiet && changes && known.who.is_some() {
                tracing::warn!(route, who, status = problem.status.as_u16(), code = problem.code, why = %plain(&problem.message), "API request refused");
            }
            problem.response()
        }
    };
    let route = known.route.filter(|_| !options).map_or("none", |route| route.id);
    shared.measured.request_ended(route, response.status(), started.elapsed());
    response
}

async fn look(shared: &Arc<Shared>, peer: &Peer, request: Request<Incoming>, known: &mut Known) -> Result<Answer, Problem> {
    let (Parts { method, uri, headers, .. }, body) = request.into_parts();
    let found = routes::at(uri.path());
    let wanted = if method == Method::HEAD { Method::GET } else { method.clone() };
    let here: Option<(&Route, Params<'_>)> = found.iter().find(|(route, _)| route.method == wanted).copied();
    known.route = here.map(|(route, _)| route);

    let public = here.is_some_and(|(route, _)| route.access == Access::Public);
    let identity = if public { None } else { Some(authenticate(shared, peer, &headers, known)?) };
    known.who = identity.as_ref().map(|identity| identity.name.clone());
    speaks(&headers)?;

    if found.is_empty() {
        return Err(Problem::no_route());
    }
    if method == Method::OPTIONS {
        return Ok(Answer::Options { allow: routes::allow(&found) });
    }
    let Some((route, params)) = here else { return Err(Problem::wrong_method(routes::allow(&found), &method)) };
    if let (Access::Needs(role), Some(identity)) = (route.access, &identity)
        && identity.role < role
    {
        return Err(Problem::forbidden(identity.role, role).close());
    }
    let key = match (&identity, peer) {
        (Some(identity), _) => Key::Identity(identity.name.clone()),
        (None, Peer::Remote { address }) => Key::address(*address),
        (None, Peer::Local { uid, .. }) => Key::Identity(format!("uid {uid}")),
    };
    shared.limiter.take(route.class, key, Instant::now()).map_err(|seconds| {
        // A flood must not become a flood of the log.
        known.quiet = true;
        Problem::too_many(seconds)
    })?;
    let query = Query::read(uri.query(), route.query)?;
    let body = intake::body(route.body, &headers, body, Duration::from_millis(shared.limits.body_ms)).await?;
    let call = Call {
        shared: Arc::clone(shared),
        identity,
        service: params.service.map(str::to_owned),
        run: params.run.map(str::to_owned),
        query,
        headers,
        body,
        head_only: method == Method::HEAD,
    };
    // In a task of its own, so that a panic becomes an answer and a client that goes away does not stop the work half-way.
    let op = route.op;
    let work = tokio::spawn(ops::carry_out(op, call));
    match timeout(PATIENCE, work).await {
        Err(_) => Err(Problem::late()),
        Ok(Err(error)) => Err(failed(&error)),
        Ok(Ok(done)) => done,
    }
}

fn authenticate(shared: &Shared, peer: &Peer, headers: &HeaderMap, known: &mut Known) -> Result<Identity, Problem> {
    let rights = Arc::clone(&shared.rights.borrow());
    let problem = match identify(&rights, peer, headers) {
        Ok(identity) => return Ok(identity),
        Err(problem) => problem,
    };
    known.quiet = true;
    let (key, from) = match peer {
        Peer::Remote { address } => (Key::address(*address), address.to_string()),
        Peer::Local { uid, .. } => (Key::Identity(format!("uid {uid}")), format!("uid {uid}")),
    };
    shared.measured.authentication_failed();
    // What is left of the request is not worth reading from someone unknown.
    match shared.limiter.take(Class::Failures, key, Instant::now()) {
        Err(seconds) => Err(Problem::too_many(seconds).close()),
        Ok(()) => {
            tracing::warn!(from, route = known.route.map_or("none", |route| route.id), why = %problem.message, "API access denied");
            Err(problem.close())
        }
    }
}

/// Clients may say which version of the API they mean; one that is not spoken here is refused before anything is done.
fn speaks(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(version) = headers.get(VERSION_HEADER) else { return Ok(()) };
    if version.to_str().ok().and_then(|text| text.parse().ok()) == Some(API_VERSION) {
        return Ok(());
    }
    let message = format!("this daemon speaks version {API_VERSION} of the API, and no other");
    Err(Problem::new(StatusCode::BAD_REQUEST, "unsupported-version", message)
        .hint("use a serin of the daemon's version; /v1/version tells it"))
}

impl Call {
    /// The service that the path names.
    pub(crate) fn service(&self) -> Result<&str, Problem> {
        self.service.as_deref().ok_or_else(Problem::internal)
    }

    /// Who asks, for the journal.
    pub(crate) fn who(&self, reason: Option<&str>) -> Result<Who, Problem> {
        let identity = self.identity.as_ref().ok_or_else(Problem::internal)?;
        let reason = reason.map(|reason| plain(reason.trim())).filter(|reason| !reason.is_empty());
        Ok(Who { name: identity.name.clone(), reason })
    }
}
