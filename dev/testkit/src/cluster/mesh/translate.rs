//! From the cluster's objects to what Envoy reads: pure, so that it can be tested without either.
//!
//! Where two objects claim a domain at one door, the kind that comes first wins (in the mesh: `VirtualService`, then routes of Services,
//! then Services); two of the same kind share it, their rules one after the other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    super::net::PodNetwork,
    http_route, ingress, service,
    table::{Action, Door, HeaderMatch, Host, Match, Rule, Text},
    traefik, virtual_service,
    world::{Upstream, UpstreamKey, World},
};

/// How Istio retries by default: what cannot have reached the application, and nothing else.
const RETRY_ON: &str = "connect-failure,refused-stream,reset-before-request";
const RETRIES: u32 = 2;

/// What Envoy is to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Translation {
    /// One route configuration for each door.
    pub(super) routes: BTreeMap<&'static str, Value>,
    pub(super) upstreams: BTreeMap<String, Upstream>,
}

/// See the module.
pub(super) fn translate(world: &World, network: &PodNetwork) -> Translation {
    let mut keys = BTreeSet::new();
    let mut routes = BTreeMap::new();
    for door in Door::ALL {
        let kinds = match door {
            Door::Gateway => vec![http_route::hosts(world, door)],
            Door::Mesh => vec![virtual_service::hosts(world), http_route::hosts(world, door), service::hosts(world)],
            Door::Nginx => vec![ingress::hosts(world)],
            Door::Traefik => vec![traefik::hosts(world)],
        };
        let hosts = merged(kinds);
        for rules in hosts.values() {
            keys.extend(rules.iter().flat_map(|rule| match &rule.action {
                Action::Split(parts) => parts.iter().filter_map(|(key, _)| key.clone()).collect(),
                Action::Answer(_) => Vec::new(),
            }));
        }
        routes.insert(door.name(), route_configuration(door, &hosts));
    }
    let upstreams = keys.iter().map(|key: &UpstreamKey| (key.name(), world.upstream(key, network))).collect();
    Translation { routes, upstreams }
}

/// Each domain once.
fn merged(kinds: Vec<Vec<Host>>) -> BTreeMap<String, Vec<Rule>> {
    let mut all: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for kind in kinds {
        let mut of_kind: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
        for host in kind {
            for domain in host.domains {
                of_kind.entry(domain).or_default().extend(host.rules.iter().cloned());
            }
        }
        for (domain, rules) in of_kind {
            all.entry(domain).or_insert(rules);
        }
    }
    all
}

fn route_configuration(door: Door, hosts: &BTreeMap<String, Vec<Rule>>) -> Value {
    let hosts = hosts.iter().map(|(domain, rules)| {
        json!({"name": domain, "domains": [domain], "routes": rules.iter().flat_map(|rule| routes(door, rule)).collect::<Vec<_>>()})
    });
    json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": door.name(),
        // A domain without a port is meant for all ports.
        "ignore_port_in_host_matching": door != Door::Mesh,
        "virtual_hosts": hosts.collect::<Vec<_>>(),
    })
}

/// Envoy has one match per route.
fn routes(door: Door, rule: &Rule) -> Vec<Value> {
    let all = [Match::default()];
    let matches = if rule.matches.is_empty() { &all } else { rule.matches.as_slice() };
    matches.iter().map(|one| route(door, one, rule)).collect()
}

fn route(door: Door, one: &Match, rule: &Rule) -> Value {
    let mut matched = match &one.path {
        None | Some(Text::Present) => json!({"prefix": "/"}),
        Some(Text::Exact(path)) => json!({"path": path}),
        Some(Text::PathPrefix(path)) if path.trim_end_matches('/').is_empty() => json!({"prefix": "/"}),
        Some(Text::PathPrefix(path)) => json!({"path_separated_prefix": path.trim_end_matches('/')}),
        Some(Text::Prefix(path)) => json!({"prefix": path}),
        Some(Text::Regex(path)) => json!({"safe_regex": {"regex": path}}),
    };
    let mut headers: Vec<Value> = one.headers.iter().map(header).collect();
    headers.extend(one.method.iter().map(|method| json!({"name": ":method", "string_match": {"exact": method}})));
    matched["headers"] = headers.into();
    let query = one.query.iter().map(|(name, value)| match value {
        Text::Present => json!({"name": name, "present_match": true}),
        value => json!({"name": name, "string_match": string_match(value)}),
    });
    matched["query_parameters"] = query.collect();
    match &rule.action {
        Action::Answer(status) => json!({"match": matched, "direct_response": {"status": status}}),
        Action::Split(parts) => {
            let mut action = split(door, parts);
            // None of ours: a request that takes long is the application's affair.
            action["timeout"] = format!("{}.{:03}s", rule.timeout_ms.unwrap_or(0) / 1000, rule.timeout_ms.unwrap_or(0) % 1000).into();
            action["retry_policy"] = json!({"retry_on": RETRY_ON, "num_retries": RETRIES});
            json!({"match": matched, "route": action})
        }
    }
}

/// A part that does not exist is a cluster that Envoy does not know, which answers with the code that its kind of router has for that.
fn split(door: Door, parts: &[(Option<UpstreamKey>, u32)]) -> Value {
    let not_found = if door == Door::Gateway { "INTERNAL_SERVER_ERROR" } else { "SERVICE_UNAVAILABLE" };
    let name = |key: &Option<UpstreamKey>| key.as_ref().map_or_else(|| "does-not-exist".to_owned(), UpstreamKey::name);
    let positive: Vec<_> = parts.iter().filter(|(_, weight)| *weight > 0).collect();
    let mut action = match positive[..] {
        [] => json!({"cluster": "does-not-exist"}),
        [(key, _)] => json!({"cluster": name(key)}),
        _ => {
            let clusters = positive.iter().map(|(key, weight)| json!({"name": name(key), "weight": weight}));
            json!({"weighted_clusters": {"clusters": clusters.collect::<Vec<_>>()}})
        }
    };
    action["cluster_not_found_response_code"] = not_found.into();
    action
}

fn header(one: &HeaderMatch) -> Value {
    let mut matched = match &one.value {
        Text::Present => json!({"name": one.name, "present_match": true}),
        value => json!({"name": one.name, "string_match": string_match(value)}),
    };
    if one.is_not {
        matched["invert_match"] = true.into();
    }
    matched
}

fn string_match(value: &Text) -> Value {
    match value {
        Text::Exact(value) => json!({"exact": value}),
        Text::Prefix(value) | Text::PathPrefix(value) => json!({"prefix": value}),
        Text::Regex(value) => json!({"safe_regex": {"regex": value}}),
        Text::Present => json!({"safe_regex": {"regex": ".*"}}),
    }
}

/// A door that knows no host.
pub(super) fn empty(door: Door) -> Value {
    route_configuration(door, &BTreeMap::new())
}
