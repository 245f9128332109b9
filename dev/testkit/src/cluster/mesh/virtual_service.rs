//! Istio: `VirtualService` with the subsets of `DestinationRule`.
//!
//! Rules are tried in their order; a rule without `match` matches all. A subset that no `DestinationRule` has, and a host that is no service, answer
//! with 503, as Istio's sidecars do. `sourceLabels` and `sourceNamespace` are facts about the client, which here says them itself, in
//! the headers `x-source-labels` (`region=eu,app=web`) and `x-source-namespace`. Gateways are not told apart. `fault`, `mirror` and
//! header operations are not carried out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    http_route::weight,
    service,
    table::{Action, HeaderMatch, Host, Match, Rule, Text},
    world::{UpstreamKey, World, list, text},
};

/// The header in which a client says what labels its pod has.
pub const SOURCE_LABELS: &str = "x-source-labels";
/// The header in which a client says what namespace its pod is in.
pub const SOURCE_NAMESPACE: &str = "x-source-namespace";

/// The hosts of all `VirtualServices`.
pub(super) fn hosts(world: &World) -> Vec<Host> {
    let of = |((namespace, _), object): (&(String, String), &std::sync::Arc<Value>)| {
        let names = list(&object["spec"]["hosts"]).iter().map(text);
        let domains = names.flat_map(|host| domains(world, namespace, host)).collect();
        let rules = list(&object["spec"]["http"]).iter().map(|rule| self::rule(world, namespace, rule)).collect();
        Host { domains, rules }
    };
    world.virtual_services.iter().map(of).collect()
}

/// A host that is a service is known by all its names.
fn domains(world: &World, namespace: &str, host: &str) -> Vec<String> {
    match service_of(namespace, host) {
        Some((namespace, name)) if world.service(&namespace, &name).is_some() => service::all_names(world, &namespace, &name),
        _ => vec![host.to_owned(), format!("{host}:*")],
    }
}

/// Namespace and name of a host that may be a service.
fn service_of(namespace: &str, host: &str) -> Option<(String, String)> {
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    match host.split('.').collect::<Vec<_>>()[..] {
        [name] => Some((namespace.to_owned(), name.to_owned())),
        [name, namespace] => Some((namespace.to_owned(), name.to_owned())),
        _ => None,
    }
}

fn rule(world: &World, namespace: &str, rule: &Value) -> Rule {
    let routes = list(&rule["route"]);
    let only = if routes.len() == 1 { 100 } else { 0 };
    let split = routes.iter().map(|route| (key(world, namespace, &route["destination"]), weight(&route["weight"], only))).collect();
    Rule {
        matches: list(&rule["match"]).iter().map(matched).collect(),
        action: Action::Split(split),
        timeout_ms: rule["timeout"].as_str().and_then(super::duration_ms),
    }
}

fn key(world: &World, from: &str, destination: &Value) -> Option<UpstreamKey> {
    let (namespace, service) = service_of(from, text(&destination["host"]))?;
    let port = world.port(&namespace, &service, &destination["port"]["number"])?;
    let subset = match destination["subset"].as_str() {
        Some(name) => Some((name.to_owned(), subset(world, &namespace, &service, name)?)),
        None => None,
    };
    Some(UpstreamKey { namespace, service, port, subset })
}

/// The labels of a subset, from the rules of any namespace.
fn subset(world: &World, namespace: &str, service: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let about = |((home, _), rule): &(&(String, String), &std::sync::Arc<Value>)| {
        service_of(home, text(&rule["spec"]["host"])).is_some_and(|(in_namespace, of)| in_namespace == namespace && of == service)
    };
    let subsets = world.destination_rules.iter().filter(about).flat_map(|(_, rule)| list(&rule["spec"]["subsets"]));
    let labels = subsets.filter(|subset| subset["name"] == name).find_map(|subset| subset["labels"].as_object())?;
    Some(labels.iter().map(|(key, value)| (key.clone(), text(value).to_owned())).collect())
}

fn matched(one: &Value) -> Match {
    let mut headers: Vec<HeaderMatch> = Vec::new();
    for (field, is_not) in [("headers", false), ("withoutHeaders", true)] {
        for (name, value) in one[field].as_object().into_iter().flatten() {
            headers.push(HeaderMatch { is_not, ..HeaderMatch::new(name, string_match(value)) });
        }
    }
    for (name, value) in one["sourceLabels"].as_object().into_iter().flatten() {
        let label = format!("(.*,)?{}={}(,.*)?", escaped(name), escaped(text(value)));
        headers.push(HeaderMatch::new(SOURCE_LABELS, Text::Regex(label)));
    }
    if let Some(namespace) = one["sourceNamespace"].as_str() {
        headers.push(HeaderMatch::new(SOURCE_NAMESPACE, Text::Exact(namespace.to_owned())));
    }
    let query = one["queryParams"].as_object().into_iter().flatten();
    Match {
        path: one.get("uri").map(string_match),
        method: one["method"]["exact"].as_str().map(str::to_owned),
        headers,
        query: query.map(|(name, value)| (name.clone(), string_match(value))).collect(),
    }
}

fn string_match(value: &Value) -> Text {
    let of = |kind: &str| value[kind].as_str().map(str::to_owned);
    of("exact")
        .map(Text::Exact)
        .or_else(|| of("prefix").map(Text::Prefix))
        .or_else(|| of("regex").map(Text::Regex))
        .unwrap_or(Text::Present)
}

/// Plain text within a regular expression.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_ascii_alphanumeric() || "-_/".contains(c) { vec![c] } else { vec!['\\', c] }).collect()
}
