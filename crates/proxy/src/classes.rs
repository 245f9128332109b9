//! Kinds of errors, such as `503 GET /orders/*`: what failed, the method, the [route](crate::route).
//!
//! What failed is the status of an answer, or `transport`, `timeout` or `truncated`. Methods beyond those of HTTP are
//! `OTHER`. All of it is worked out only when a request has failed.
//!
//! The first [`MAX_ROUTES`] routes that fail in a process have a name, the rest are `other`; of every weight and assignment
//! the first [`MAX_CLASSES`] classes have one, on both arms together: if each arm had names of its own, the same error could be
//! `other` on one of them, and equal arms would differ in every such class. The bound is kept here for all workers together: if
//! each kept its own, the sum of their counts would have too many, some of them would lose their place, and a count that shrinks
//! reads as one that started anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use http::{HeaderValue, Method, Response, request::Parts, uri::PathAndQuery};
use serin_core::{
    WeightBps,
    traffic::{Assignment, MAX_ERROR_CLASSES, OTHER_ERRORS, Outcome},
};

use crate::{counters::CellKey, lock, route};

/// Most routes with a name in one proxy process.
const MAX_ROUTES: usize = 64;
/// Most classes with a name at one weight and assignment: in whichever order counts are added up, these and [`OTHER_ERRORS`] find a place.
const MAX_CLASSES: usize = MAX_ERROR_CLASSES - 2;

/// What a request asked for, kept until it ends.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    method: Method,
    path: Option<PathAndQuery>,
    route: Option<HeaderValue>,
}

impl Subject {
    pub(crate) fn of(parts: &Parts) -> Self {
        Self { method: parts.method.clone(), path: parts.uri.path_and_query().cloned(), route: None }
    }

    /// The answer may say which route it belongs to.
    pub(crate) fn answered<T>(&mut self, answer: &Response<T>) {
        self.route = answer.headers().get(route::ROUTE_HEADER).cloned();
    }

    fn route(&self) -> String {
        let named = self.route.as_ref().and_then(route::of_header);
        named.unwrap_or_else(|| route::of_path(self.path.as_ref().map_or("/", PathAndQuery::path)))
    }
}

/// The names that are taken.
#[derive(Debug, Default)]
pub(crate) struct ErrorClasses {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    routes: BTreeSet<String>,
    classes: BTreeMap<(WeightBps, Assignment), BTreeSet<String>>,
}

impl ErrorClasses {
    /// The class of a request of this cell that failed like this. `status`: of its answer.
    pub(crate) fn class(&self, key: CellKey, outcome: Outcome, status: u16, subject: &Subject) -> String {
        let route = subject.route();
        let mut known = lock(&self.known);
        let route = if admit(&mut known.routes, &route, MAX_ROUTES) { &route } else { OTHER_ERRORS };
        let method = method(&subject.method);
        let class = match outcome {
            Outcome::Transport => format!("transport {method} {route}"),
            Outcome::Timeout => format!("timeout {method} {route}"),
            Outcome::Truncated => format!("truncated {method} {route}"),
            _ => format!("{status} {method} {route}"),
        };
        let has_name = admit(known.classes.entry((key.weight, key.assignment)).or_default(), &class, MAX_CLASSES);
        if has_name { class } else { OTHER_ERRORS.to_owned() }
    }

    /// Forgets the classes of weights that `kept` does not know.
    pub(crate) fn retain(&self, kept: impl Fn(WeightBps) -> bool) {
        lock(&self.known).classes.retain(|(weight, _), _| kept(*weight));
    }
}

fn admit(names: &mut BTreeSet<String>, name: &str, most: usize) -> bool {
    names.contains(name) || (names.len() < most && names.insert(name.to_owned()))
}

fn method(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS
        | Method::TRACE
        | Method::CONNECT => method.as_str(),
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serin_core::traffic::Arm;

    use super::*;

    fn key(bps: u16) -> CellKey {
        CellKey { weight: WeightBps::new(bps).unwrap(), arm: Arm::Canary, assignment: Assignment::Random }
    }

    fn subject(method: &str, path: &str) -> Subject {
        Subject::of(&Request::builder().method(method).uri(path).body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_class_says_what_failed_where() {
        let classes = ErrorClasses::default();
        let mut named = subject("GET", "/orders/17");
        named.answered(&Response::builder().header("x-serin-route", "order by id").body(()).unwrap());
        for (outcome, status, subject, class) in [
            (Outcome::ServerError, 503, subject("GET", "/orders/17?card=4111"), "503 GET /orders/*"),
            (Outcome::ServerError, 500, named, "500 GET order_by_id"),
            (Outcome::Transport, 502, subject("POST", "/"), "transport POST /"),
            (Outcome::Timeout, 504, subject("PURGE", "/a"), "timeout OTHER /a"),
            (Outcome::Truncated, 200, subject("GET", "/a"), "truncated GET /a"),
        ] {
            assert_eq!(classes.class(key(1), outcome, status, &subject), class);
        }
    }

    #[test]
    fn routes_and_classes_are_bounded() {
        let classes = ErrorClasses::default();
        let class = |bps, status, path: &str| classes.class(key(bps), Outcome::ServerError, status, &subject("GET", path));
        for number in 0..MAX_CLASSES {
            assert_eq!(class(1, 500, &format!("/r{number}x")), format!("500 GET /r{number}x"));
        }
        assert_eq!(class(1, 500, "/last-but-one"), "other", "the weight is full");
        assert_eq!(class(2, 500, "/last-but-one"), "500 GET /last-but-one", "another weight is not");
        assert_eq!(class(2, 500, "/last"), "500 GET /last", "the 64th route");
        assert_eq!(class(2, 500, "/one-too-many"), "500 GET other");
        assert_eq!(class(2, 503, "/r0x"), "503 GET /r0x", "known routes go on");
        classes.retain(|weight| weight != key(1).weight);
        assert_eq!(class(1, 500, "/last"), "500 GET /last", "weights that begin anew have room");
    }

    #[test]
    fn an_error_has_the_same_name_on_both_arms() {
        let classes = ErrorClasses::default();
        let class = |arm, status| {
            let key = CellKey { arm, ..key(1) };
            classes.class(key, Outcome::ServerError, status, &subject("GET", "/x"))
        };
        // A shared outage with more kinds of errors than places: each arm meets them from another end.
        let kinds = 500..500 + u16::try_from(MAX_CLASSES).unwrap() + 10;
        let pairs: Vec<_> = kinds.clone().zip(kinds.clone().rev()).collect();
        let met: Vec<_> = pairs.iter().map(|(one, other)| [class(Arm::Stable, *one), class(Arm::Canary, *other)]).collect();
        assert!(met.iter().flatten().any(|class| class == OTHER_ERRORS));
        for status in kinds.clone() {
            assert_eq!(class(Arm::Stable, status), class(Arm::Canary, status), "{status}");
        }
        // What has a name now has had it from the beginning, on both arms.
        for ((one, other), [stable, canary]) in pairs.iter().zip(&met) {
            assert_eq!((&class(Arm::Canary, *one), &class(Arm::Stable, *other)), (stable, canary));
        }
        let named: BTreeSet<_> = kinds.map(|status| class(Arm::Stable, status)).collect();
        assert_eq!(named.len(), MAX_CLASSES + 1, "as many as have a place, and `other`");
    }
}
