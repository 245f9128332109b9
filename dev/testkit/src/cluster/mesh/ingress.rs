//! ingress-nginx: Ingresses, and those whose annotations make them the canary of another with the same host and path.
//!
//! Precedence as in its documentation: `canary-by-header`, then `canary-by-cookie`, then `canary-weight`. An Ingress whose canary has no
//! main one beside it gets no requests. The longest path wins, `Exact` before `Prefix`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    table::{Action, HeaderMatch, Host, Match, Rule, Text},
    world::{UpstreamKey, World, list, text},
};

const ANNOTATION: &str = "nginx.ingress.kubernetes.io";

/// One path of one Ingress.
struct Entry<'a> {
    host: String,
    path: Text,
    key: Option<UpstreamKey>,
    ingress: &'a Value,
}

/// The hosts of all Ingresses of class `nginx` (or none).
pub(super) fn hosts(world: &World) -> Vec<Host> {
    let (canaries, mains): (Vec<Entry<'_>>, Vec<Entry<'_>>) =
        entries(world).partition(|entry| annotation(entry.ingress, "canary") == "true");
    let mut hosts: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    let mut mains = mains;
    mains.sort_by_key(|entry| std::cmp::Reverse(rank(&entry.path)));
    for main in &mains {
        let canary = canaries.iter().find(|canary| canary.host == main.host && canary.path == main.path);
        hosts.entry(main.host.clone()).or_default().extend(rules(main, canary));
    }
    hosts.into_iter().map(|(host, rules)| Host { domains: vec![host], rules }).collect()
}

fn entries(world: &World) -> impl Iterator<Item = Entry<'_>> {
    let of_class =
        |(_, ingress): &(&(String, String), &Arc<Value>)| matches!(ingress["spec"]["ingressClassName"].as_str(), None | Some("nginx"));
    world.ingresses.iter().filter(of_class).flat_map(move |((namespace, _), ingress)| {
        list(&ingress["spec"]["rules"]).iter().flat_map(move |rule| {
            list(&rule["http"]["paths"]).iter().map(move |path| {
                let service = &path["backend"]["service"];
                let wanted = if service["port"]["number"].is_null() { &service["port"]["name"] } else { &service["port"]["number"] };
                let name = text(&service["name"]);
                let key = world.port(namespace, name, wanted).map(|port| UpstreamKey {
                    namespace: namespace.clone(),
                    service: name.to_owned(),
                    port,
                    subset: None,
                });
                let value = path["path"].as_str().unwrap_or("/").to_owned();
                let path = if path["pathType"] == "Exact" { Text::Exact(value) } else { Text::PathPrefix(value) };
                Entry { host: rule["host"].as_str().unwrap_or("*").to_owned(), path, key, ingress: ingress.as_ref() }
            })
        })
    })
}

fn rank(path: &Text) -> (usize, bool) {
    match path {
        Text::Exact(path) => (path.len(), true),
        Text::PathPrefix(path) | Text::Prefix(path) | Text::Regex(path) => (path.len(), false),
        Text::Present => (0, false),
    }
}

fn rules(main: &Entry<'_>, canary: Option<&Entry<'_>>) -> Vec<Rule> {
    let rule = |headers: Vec<HeaderMatch>, split: Vec<(Option<UpstreamKey>, u32)>| Rule {
        matches: vec![Match { path: Some(main.path.clone()), headers, ..Match::default() }],
        action: Action::Split(split),
        timeout_ms: None,
    };
    let to = |entry: &Entry<'_>| vec![(entry.key.clone(), 1)];
    let Some(canary) = canary else { return vec![rule(Vec::new(), to(main))] };
    let said = |name: &str| annotation(canary.ingress, name);
    let mut rules = Vec::new();
    let header = said("canary-by-header");
    if !header.is_empty() {
        let is = |value: Text| vec![HeaderMatch::new(header, value)];
        match (said("canary-by-header-value"), said("canary-by-header-pattern")) {
            ("", "") => {
                rules.push(rule(is(Text::Exact("always".to_owned())), to(canary)));
                rules.push(rule(is(Text::Exact("never".to_owned())), to(main)));
            }
            ("", pattern) => rules.push(rule(is(Text::Regex(format!(".*({pattern}).*"))), to(canary))),
            (value, _) => rules.push(rule(is(Text::Exact(value.to_owned())), to(canary))),
        }
    }
    let cookie = said("canary-by-cookie");
    if !cookie.is_empty() {
        let is = |value: &str| vec![HeaderMatch::new("cookie", Text::Regex(format!("(.*;\\s*)?{cookie}={value}(;.*)?")))];
        rules.push(rule(is("always"), to(canary)));
        rules.push(rule(is("never"), to(main)));
    }
    let number = |name: &str, default: u32| said(name).parse::<u32>().unwrap_or(default);
    let total = number("canary-weight-total", 100).max(1);
    let weight = number("canary-weight", 0).min(total);
    rules.push(rule(Vec::new(), vec![(main.key.clone(), total - weight), (canary.key.clone(), weight)]));
    rules
}

fn annotation<'a>(ingress: &'a Value, name: &str) -> &'a str {
    text(&ingress["metadata"]["annotations"][format!("{ANNOTATION}/{name}")])
}
