//! Traefik: `IngressRoute` with a `Host(…)` rule, to services and weighted `TraefikServices`.
//!
//! Of the rule language, `Host` and `PathPrefix` joined with `&&` are understood; an `IngressRoute` with anything else gets no requests.

use serde_json::Value;

use super::{
    http_route::weight,
    table::{Action, Host, Match, Rule, Text},
    world::{UpstreamKey, World, list, text},
};

/// How deep weighted services may refer to each other.
const DEPTH: u8 = 5;

/// The hosts of all routes.
pub(super) fn hosts(world: &World) -> Vec<Host> {
    let mut hosts = Vec::new();
    for ((namespace, _), route) in &world.ingress_routes {
        for one in list(&route["spec"]["routes"]) {
            let Some((domain, path)) = parse(text(&one["match"])) else { continue };
            let services: Vec<_> = list(&one["services"]).iter().collect();
            let split = split(world, namespace, &services, DEPTH);
            let rule = Rule { matches: vec![Match { path, ..Match::default() }], action: Action::Split(split), timeout_ms: None };
            hosts.push(Host { domains: vec![domain], rules: vec![rule] });
        }
    }
    hosts
}

/// Weights of services within services multiply.
fn split(world: &World, namespace: &str, services: &[&Value], depth: u8) -> Vec<(Option<UpstreamKey>, u32)> {
    let mut all = Vec::new();
    for service in services {
        let namespace = service["namespace"].as_str().unwrap_or(namespace);
        let (name, share) = (text(&service["name"]), weight(&service["weight"], 1));
        if service["kind"] != "TraefikService" {
            let key = world.port(namespace, name, &service["port"]).map(|port| UpstreamKey {
                namespace: namespace.to_owned(),
                service: name.to_owned(),
                port,
                subset: None,
            });
            all.push((key, share));
            continue;
        }
        let object = world.traefik_services.get(&(namespace.to_owned(), name.to_owned()));
        let inner: Vec<&Value> = object.map(|object| list(&object["spec"]["weighted"]["services"]).iter().collect()).unwrap_or_default();
        if inner.is_empty() || depth == 0 {
            all.push((None, share));
            continue;
        }
        let parts = split(world, namespace, &inner, depth - 1);
        all.extend(parts.into_iter().map(|(key, part)| (key, part.saturating_mul(share))));
    }
    all
}

fn parse(rule: &str) -> Option<(String, Option<Text>)> {
    let (mut host, mut path) = (None, None);
    for part in rule.split("&&").map(str::trim) {
        let (function, argument) = part.split_once('(')?;
        let argument = argument.strip_suffix(')')?.trim().trim_matches(['`', '"']).to_owned();
        match function {
            "Host" => host = Some(argument),
            "PathPrefix" => path = Some(Text::Prefix(argument)),
            _ => return None,
        }
    }
    Some((host?, path))
}
