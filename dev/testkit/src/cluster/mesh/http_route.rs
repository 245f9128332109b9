//! Gateway API: `HTTPRoute` and `GRPCRoute`.
//!
//! Which rule wins does not depend on their order: exact path, then the longest prefix, then a method, then the number of header matches, then
//! that of query matches; only then the order. Weights of 0 get nothing; if all are 0, or the service is not there, the answer is 500, as
//! the standard says. So is it for a service in another namespace that no ReferenceGrant there lets the route name. Filters are not carried out.

use serde_json::{Value, json};

use super::{
    table::{Action, Door, HeaderMatch, Host, Match, Rule, Text},
    world::{UpstreamKey, World, list, text},
};

/// The hosts of a route at a door.
pub(super) fn hosts(world: &World, door: Door) -> Vec<Host> {
    let mut hosts = Vec::new();
    for (routes, is_grpc) in [(&world.http_routes, false), (&world.grpc_routes, true)] {
        for ((namespace, _), route) in routes {
            let domains: Vec<String> = match door {
                Door::Gateway if has_parent(route, "Gateway") => match list(&route["spec"]["hostnames"]) {
                    [] => vec!["*".to_owned()],
                    names => names.iter().map(|name| text(name).to_owned()).collect(),
                },
                Door::Mesh => list(&route["spec"]["parentRefs"])
                    .iter()
                    .filter(|parent| parent["kind"] == "Service")
                    .flat_map(|parent| {
                        super::service::all_names(world, parent["namespace"].as_str().unwrap_or(namespace), text(&parent["name"]))
                    })
                    .collect(),
                _ => Vec::new(),
            };
            if !domains.is_empty() {
                hosts.push(Host { domains, rules: rules(world, namespace, route, is_grpc) });
            }
        }
    }
    hosts
}

/// What a controller of Gateway API writes back: `parents` of the status. `of`: the route's kind and namespace.
pub(super) fn parents(world: &World, of: (&str, &str), route: &Value, controller: &str, now: &str) -> Value {
    let missing: Vec<String> =
        backends(route).filter(|backend| key(world, of, backend).is_none()).map(|b| text(&b["name"]).to_owned()).collect();
    let generation = &route["metadata"]["generation"];
    let old = |parent: &Value, kind: &str| {
        let mine = list(&route["status"]["parents"]).iter().find(|old| old["parentRef"] == *parent && old["controllerName"] == controller);
        mine.and_then(|mine| list(&mine["conditions"]).iter().find(|condition| condition["type"] == kind)).cloned()
    };
    let condition = |parent: &Value, kind: &str, is_true: bool, reason: &str, message: &str| {
        let status = if is_true { "True" } else { "False" };
        let same = old(parent, kind).filter(|old| old["status"] == status);
        let since = same.map_or_else(|| json!(now), |old| old["lastTransitionTime"].clone());
        json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": generation, "lastTransitionTime": since})
    };
    let parents = list(&route["spec"]["parentRefs"]).iter().map(|parent| {
        let resolved = if missing.is_empty() {
            condition(parent, "ResolvedRefs", true, "ResolvedRefs", "")
        } else {
            let message = format!("no such service, or no grant for it: {}", missing.join(", "));
            condition(parent, "ResolvedRefs", false, "BackendNotFound", &message)
        };
        json!({
            "parentRef": parent, "controllerName": controller,
            "conditions": [condition(parent, "Accepted", true, "Accepted", ""), resolved],
        })
    });
    parents.collect()
}

fn has_parent(route: &Value, kind: &str) -> bool {
    list(&route["spec"]["parentRefs"]).iter().any(|parent| parent["kind"].as_str().unwrap_or("Gateway") == kind)
}

fn backends(route: &Value) -> impl Iterator<Item = &Value> {
    list(&route["spec"]["rules"]).iter().flat_map(|rule| list(&rule["backendRefs"]))
}

/// `route`: its kind and namespace.
fn key(world: &World, route: (&str, &str), backend: &Value) -> Option<UpstreamKey> {
    let namespace = backend["namespace"].as_str().unwrap_or(route.1);
    let service = text(&backend["name"]);
    if !world.may_refer(route, namespace, service) {
        return None;
    }
    let port = world.port(namespace, service, &backend["port"])?;
    Some(UpstreamKey { namespace: namespace.to_owned(), service: service.to_owned(), port, subset: None })
}

fn rules(world: &World, namespace: &str, route: &Value, is_grpc: bool) -> Vec<Rule> {
    let mut rules = Vec::new();
    for rule in list(&route["spec"]["rules"]) {
        let backends: Vec<_> = list(&rule["backendRefs"])
            .iter()
            .map(|backend| {
                (key(world, (if is_grpc { "GRPCRoute" } else { "HTTPRoute" }, namespace), backend), weight(&backend["weight"], 1))
            })
            .collect();
        let action = if backends.iter().all(|(_, weight)| *weight == 0) { Action::Answer(500) } else { Action::Split(backends) };
        let timeout_ms = rule["timeouts"]["request"].as_str().and_then(super::duration_ms);
        let matches = match list(&rule["matches"]) {
            [] => vec![Match::default()],
            matches => matches.iter().map(|one| if is_grpc { grpc_match(one) } else { http_match(one) }).collect(),
        };
        rules.extend(matches.into_iter().map(|one| Rule { matches: vec![one], action: action.clone(), timeout_ms }));
    }
    // Stable: the order decides among equals.
    rules.sort_by_key(|rule| std::cmp::Reverse(rank(&rule.matches[0])));
    rules
}

fn rank(one: &Match) -> (u8, usize, bool, usize, usize) {
    let (kind, length) = match &one.path {
        Some(Text::Exact(path)) => (2, path.len()),
        Some(Text::Regex(path)) => (1, path.len()),
        Some(Text::PathPrefix(path) | Text::Prefix(path)) => (0, path.trim_end_matches('/').len()),
        Some(Text::Present) | None => (0, 0),
    };
    (kind, length, one.method.is_some(), one.headers.len(), one.query.len())
}

fn http_match(one: &Value) -> Match {
    let path = one["path"]["value"].as_str().map(|value| match text(&one["path"]["type"]) {
        "Exact" => Text::Exact(value.to_owned()),
        "RegularExpression" => Text::Regex(value.to_owned()),
        _ => Text::PathPrefix(value.to_owned()),
    });
    Match {
        path,
        method: one["method"].as_str().map(str::to_owned),
        headers: headers(one),
        query: list(&one["queryParams"]).iter().map(|query| (text(&query["name"]).to_owned(), value(query))).collect(),
    }
}

fn grpc_match(one: &Value) -> Match {
    let method = &one["method"];
    let path = match (method["service"].as_str(), method["method"].as_str()) {
        (Some(service), Some(method)) => Some(Text::Exact(format!("/{service}/{method}"))),
        (Some(service), None) => Some(Text::Prefix(format!("/{service}/"))),
        (None, Some(method)) => Some(Text::Regex(format!("/[^/]+/{method}"))),
        (None, None) => None,
    };
    Match { path, headers: headers(one), ..Match::default() }
}

fn headers(one: &Value) -> Vec<HeaderMatch> {
    list(&one["headers"]).iter().map(|header| HeaderMatch::new(text(&header["name"]), value(header))).collect()
}

fn value(named: &Value) -> Text {
    let value = text(&named["value"]).to_owned();
    if named["type"] == "RegularExpression" { Text::Regex(value) } else { Text::Exact(value) }
}

/// A weight, or what is meant without one.
pub(super) fn weight(value: &Value, default: u32) -> u32 {
    value.as_u64().map_or(default, |weight| u32::try_from(weight).unwrap_or(u32::MAX))
}
