//! Every route, once: what it needs, what it takes and what it answers. Dispatch, rights, limits, the OpenAPI document and the tests of
//! rights all read this table, so that a route without rights or without documentation cannot exist.

use std::sync::LazyLock;

use http::Method;

use crate::{Role, limit::Class};

/// The largest body of most requests, in bytes.
const SMALL: usize = 64 * 1024;
/// The largest document, and what JSON adds to it: every character may be escaped, but real documents have few that are.
const DOCUMENT: usize = 2 * serin_spec::MAX_DOCUMENT_BYTES + SMALL;
/// Alertmanager sends whole groups. One that is refused for its size would be a rollback that does not happen.
const ALERTS: usize = 1024 * 1024;

/// A route.
#[derive(Debug)]
pub struct Route {
    /// The method. `HEAD` goes wherever `GET` does.
    pub method: Method,
    /// The path; `{service}` and `{run}` stand for one segment each.
    pub path: &'static str,
    /// A name for metrics, logs and generated clients.
    pub id: &'static str,
    /// Who may use it.
    pub access: Access,
    /// What it is for.
    pub summary: &'static str,
    pub(crate) class: Class,
    pub(crate) body: Option<Body>,
    pub(crate) query: &'static [(&'static str, &'static str)],
    pub(crate) answer: Answers,
    pub(crate) op: Op,
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone who can connect. Nothing is told that is worth knowing.
    Public,
    /// Whoever has this role or a higher one.
    Needs(Role),
}

/// The JSON that a route takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body {
    pub(crate) schema: &'static str,
    pub(crate) most_bytes: usize,
    pub(crate) required: bool,
}

/// What a route answers when all is well.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answers {
    Json(&'static str),
    /// Any JSON object.
    Document,
    Metrics,
    Events,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Services,
    Service,
    Act(Verb),
    Weight,
    Apply,
    Delete,
    Runs,
    Journal,
    Explain,
    Events,
    Alerts,
    Version,
    OpenApi,
    Live,
    Ready,
    Metrics,
}

/// Orders that need nothing but a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Pause,
    Resume,
    Approve,
    Reject,
    Promote,
    Abort,
    Retry,
    Rollback,
}

const VIEWER: Access = Access::Needs(Role::Viewer);
const OPERATOR: Access = Access::Needs(Role::Operator);
const ADMIN: Access = Access::Needs(Role::Admin);

/// Every route.
#[must_use]
pub fn routes() -> &'static [Route] {
    &ROUTES
}

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(table);

fn table() -> Vec<Route> {
    vec![
        read("/v1/services", "services", "Every service with what it is doing.", Op::Services, "Services"),
        read("/v1/services/{service}", "service", "A service with what it is doing, and its release.", Op::Service, "ServiceStatus"),
        read("/v1/services/{service}/explain", "explain", "Why a service is as it is, and what can be done.", Op::Explain, "Explanation"),
        Route {
            query: &[("limit", "How many, 1 to 1000; 20 if not given.")],
            ..read("/v1/services/{service}/runs", "runs", "The newest runs of a service.", Op::Runs, "Runs")
        },
        Route {
            query: &[("after", "Only entries after this `seq`; 0 if not given."), ("limit", "How many, 1 to 5000; 1000 if not given.")],
            ..read(
                "/v1/services/{service}/runs/{run}/journal",
                "journal",
                "The journal of a run, which is given by its number or as `latest`.",
                Op::Journal,
                "Journal",
            )
        },
        act("/v1/services/{service}/pause", "pause", "Stands still at the current weight; judging goes on.", Verb::Pause),
        act("/v1/services/{service}/resume", "resume", "Goes on after a pause, at the plan's weight.", Verb::Resume),
        act("/v1/services/{service}/approve", "approve", "Lets a stage that waits for approval go on.", Verb::Approve),
        abort("/v1/services/{service}/reject", "reject", "Refuses approval: rolls back.", Verb::Reject),
        act("/v1/services/{service}/promote", "promote", "Skips the remaining stages: all traffic to the canary.", Verb::Promote),
        abort("/v1/services/{service}/abort", "abort", "Takes all traffic back to stable and ends the release.", Verb::Abort),
        act("/v1/services/{service}/retry", "retry", "Releases the last document once more, after it was rolled back.", Verb::Retry),
        abort(
            "/v1/services/{service}/rollback",
            "rollback",
            "Goes back to the version before, also after a success as long as it is kept.",
            Verb::Rollback,
        ),
        order(
            "/v1/services/{service}/weight",
            "weight",
            "Sets the canary's share by hand and pauses there.",
            OPERATOR,
            body("SetWeight", SMALL, true),
            Answers::Json("Accepted"),
            Op::Weight,
        ),
        order(
            "/v1/releases",
            "apply",
            "Begins a release, creating the service if need be. Applying the same document again changes nothing.",
            ADMIN,
            body("Apply", DOCUMENT, true),
            Answers::Json("Applied"),
            Op::Apply,
        ),
        Route {
            method: Method::DELETE,
            ..order(
                "/v1/services/{service}",
                "delete",
                "Stops a service for good. Its journals stay.",
                ADMIN,
                body("Reason", SMALL, false),
                Answers::Json("Deleted"),
                Op::Delete,
            )
        },
        Route {
            query: &[
                ("service", "Only events of this service."),
                ("after", "Only events after the one with this id; the header `Last-Event-ID` comes first."),
            ],
            answer: Answers::Events,
            ..read(
                "/v1/events",
                "events",
                "What happens, as server-sent events. `event: reset` says that events were missed and the state is to be read anew.",
                Op::Events,
                "ServerEvent",
            )
        },
        Route {
            class: Class::Aborts,
            ..order(
                "/v1/alertmanager",
                "alertmanager",
                "Alertmanager's webhook: a firing alert that names a service with a release aborts it.",
                OPERATOR,
                body("Alerts", ALERTS, true),
                Answers::Json("AlertsTaken"),
                Op::Alerts,
            )
        },
        read("/v1/version", "version", "The versions of API and program.", Op::Version, "Version"),
        Route { answer: Answers::Document, ..read("/v1/openapi.json", "openapi", "This document.", Op::OpenApi, "") },
        Route {
            access: Access::Public,
            ..read("/healthz", "healthz", "Whether the daemon answers, and its services' tasks do.", Op::Live, "Health")
        },
        Route {
            access: Access::Public,
            ..read("/readyz", "readyz", "Whether every service was found again after a start.", Op::Ready, "Health")
        },
        Route {
            answer: Answers::Metrics,
            ..read("/metrics", "metrics", "Metrics of the daemon and its releases, in Prometheus' text format.", Op::Metrics, "")
        },
    ]
}

fn read(path: &'static str, id: &'static str, summary: &'static str, op: Op, schema: &'static str) -> Route {
    let answer = Answers::Json(schema);
    Route { method: Method::GET, path, id, access: VIEWER, summary, class: Class::Calls, body: None, query: &[], answer, op }
}

fn act(path: &'static str, id: &'static str, summary: &'static str, verb: Verb) -> Route {
    order(path, id, summary, OPERATOR, body("Reason", SMALL, false), Answers::Json("Accepted"), Op::Act(verb))
}

fn abort(path: &'static str, id: &'static str, summary: &'static str, verb: Verb) -> Route {
    Route { class: Class::Aborts, ..act(path, id, summary, verb) }
}

fn order(path: &'static str, id: &'static str, summary: &'static str, access: Access, body: Body, answer: Answers, op: Op) -> Route {
    Route { method: Method::POST, path, id, access, summary, class: Class::Calls, body: Some(body), query: &[], answer, op }
}

fn body(schema: &'static str, most_bytes: usize, required: bool) -> Body {
    Body { schema, most_bytes, required }
}

/// The parts of a path that its pattern leaves open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Params<'a> {
    pub(crate) service: Option<&'a str>,
    pub(crate) run: Option<&'a str>,
}

/// What is at a path: every route there with its parameters. Empty if there is nothing.
pub(crate) fn at(path: &str) -> Vec<(&'static Route, Params<'_>)> {
    routes().iter().filter_map(|route| Some((route, params(route.path, path)?))).collect()
}

/// The methods of routes, as the header `Allow` wants them.
pub(crate) fn allow(routes: &[(&'static Route, Params<'_>)]) -> String {
    let mut methods: Vec<&str> = Vec::new();
    for (route, _) in routes {
        methods.push(route.method.as_str());
        if route.method == Method::GET {
            methods.push("HEAD");
        }
    }
    methods.push("OPTIONS");
    methods.join(", ")
}

fn params<'a>(pattern: &str, path: &'a str) -> Option<Params<'a>> {
    let mut found = Params::default();
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        let segment = segments.next()?;
        match wanted {
            "{service}" if is_segment(segment) => found.service = Some(segment),
            "{run}" if is_segment(segment) => found.run = Some(segment),
            _ if wanted == segment => {}
            _ => return None,
        }
    }
    segments.next().is_none().then_some(found)
}

/// What names of services are made of; also safe to repeat in answers and logs, because no token looks like that.
pub(crate) fn is_segment(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(path: &str) -> Vec<&'static str> {
        at(path).iter().map(|(route, _)| route.id).collect()
    }

    #[test]
    fn paths_lead_to_their_routes() {
        assert_eq!(ids("/v1/services"), ["services"]);
        assert_eq!(ids("/v1/services/shop"), ["service", "delete"]);
        assert_eq!(at("/v1/services/shop/pause")[0].1.service, Some("shop"));
        let (route, params) = at("/v1/services/shop/runs/latest/journal")[0];
        assert_eq!((route.id, params.service, params.run), ("journal", Some("shop"), Some("latest")));
        for nothing in [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v1/services/",
            "//v1/services",
            "/v1/services/a/pause/",
            "/v1/services/a%2fb",
            "/V1/services",
            "/v2/services",
            "/v1/services/serin_A/pause",
        ] {
            assert!(ids(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn routes_have_names_of_their_own_and_rights() {
        for (index, route) in routes().iter().enumerate() {
            let others = &routes()[..index];
            assert!(others.iter().all(|other| other.id != route.id), "{}", route.id);
            assert!(others.iter().all(|other| (other.path, &other.method) != (route.path, &route.method)), "{}", route.path);
            // Only health is told to everyone, and whatever changes something needs more than a viewer.
            assert_eq!(route.access == Access::Public, matches!(route.op, Op::Live | Op::Ready), "{}", route.id);
            assert_eq!(route.method == Method::GET, route.access == VIEWER || route.access == Access::Public, "{}", route.id);
        }
    }

    #[test]
    fn what_a_path_allows() {
        assert_eq!(allow(&at("/v1/services/shop")), "GET, HEAD, DELETE, OPTIONS");
        assert_eq!(allow(&at("/v1/releases")), "POST, OPTIONS");
    }
}
