//! Who splits the traffic in a cluster. What a router cannot do is an error here: a match that it cannot tell apart, a weight that it cannot hold.

use std::collections::BTreeMap;

use serin_core::plan::Plan;

use super::{Context, traffic::match_rule};
use crate::{
    diagnostic::quote,
    raw::{self, GatewayRouteKind, MatchRule as RawRule},
    tree::Path,
    validated::{Arms, ClusterRouter, ClusterTraffic, CustomRouter, Destination, GatewayKind, MatchRule},
};

/// What all requests are if a custom router does not say it.
const TOTAL: u32 = 100;

/// What a router can tell requests apart by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Matches {
    Headers,
    HeadersAndCookies,
    /// ingress-nginx: one header, or one cookie with this value.
    OneThing,
}

/// The router of a document for a cluster, if it names one. The rest of `traffic` is for one machine.
pub(super) fn lower(given: raw::Traffic, path: &Path, cx: &mut Context<'_>) -> Option<ClusterTraffic> {
    if let Some(given) = given.gateway_api {
        return Some(gateway_api(given, &path.key("gatewayApi"), cx));
    }
    if let Some(given) = given.istio {
        return Some(istio(given, &path.key("istio"), cx));
    }
    if let Some(given) = given.ingress_nginx {
        return Some(ingress_nginx(given, &path.key("ingressNginx"), cx));
    }
    if let Some(given) = given.service {
        return Some(service(given, &path.key("service"), cx));
    }
    if let Some(given) = given.replicas {
        return Some(replicas(given, &path.key("replicas"), cx));
    }
    if let Some(given) = given.traefik {
        let services = arms(given.stable_service, given.canary_service, &path.key("traefik"), cx);
        let router = ClusterRouter::Traefik { traefik_service: given.traefik_service.0, services };
        return Some(ClusterTraffic { namespace: given.namespace.map(|name| name.0), matches: Vec::new(), router });
    }
    given.custom.map(|given| custom(given, &path.key("custom"), cx))
}

/// The field of the router, if it is one of a cluster.
pub(super) fn given(traffic: &raw::Traffic) -> Option<&'static str> {
    [
        (traffic.gateway_api.is_some(), "gatewayApi"),
        (traffic.istio.is_some(), "istio"),
        (traffic.ingress_nginx.is_some(), "ingressNginx"),
        (traffic.service.is_some(), "service"),
        (traffic.replicas.is_some(), "replicas"),
        (traffic.traefik.is_some(), "traefik"),
        (traffic.custom.is_some(), "custom"),
    ]
    .into_iter()
    .find_map(|(is, name)| is.then_some(name))
}

/// Reports stages whose weight the router cannot hold. Which shares replicas can make is known in the cluster alone.
pub(super) fn check_weights(plan: &Plan, traffic: &ClusterTraffic, strategy: &Path, cx: &mut Context<'_>) {
    if matches!(traffic.router, ClusterRouter::Replicas { .. }) && plan.steps.iter().any(|step| step.is_preview()) {
        let message = "a preview switches everything at once, for which no ratio of replicas is needed";
        cx.push(cx.error_at_key(strategy, "not-for-this-router", message).expected("`traffic.service` with the same labels"));
    }
    let total = match &traffic.router {
        ClusterRouter::Service { .. } => 1,
        ClusterRouter::Custom(custom) => custom.total,
        _ => return,
    };
    let is_held = |bps: u16| (u64::from(bps) * u64::from(total)).is_multiple_of(10_000);
    let Some(step) = plan.steps.iter().find(|step| !step.is_preview() && !is_held(step.weight().canary_bps())) else { return };
    let (message, expected) = match total {
        1 => (
            format!("the selector of a Service cannot give the canary {}: it selects one version or the other", step.weight()),
            "stages of 100 %, or a router that has weights".to_owned(),
        ),
        total => (
            format!("{} is no whole number of {total}, which stands for all requests in this router", step.weight()),
            format!("weights in steps of {} %, or a larger `traffic.custom.total`", 100.0 / f64::from(total)),
        ),
    };
    cx.push(cx.error_at_key(strategy, "not-for-this-router", message).expected(expected));
}

fn gateway_api(given: raw::GatewayApi, path: &Path, cx: &mut Context<'_>) -> ClusterTraffic {
    let kind = match given.kind {
        None | Some(GatewayRouteKind::Http) => GatewayKind::Http,
        Some(GatewayRouteKind::Grpc) => GatewayKind::Grpc,
    };
    let [stable_namespace, canary_namespace] = [given.stable_namespace, given.canary_namespace].map(|name| name.map(|name| name.0));
    let common = given.namespace.as_ref().map(|name| &name.0);
    let services = if stable_namespace.as_ref().or(common) == canary_namespace.as_ref().or(common) {
        arms(given.stable_service, given.canary_service, path, cx)
    } else {
        // Of two namespaces the names may be the same.
        Arms { stable: given.stable_service.0, canary: given.canary_service.0, ..Arms::default() }
    };
    let services = Arms { stable_namespace, canary_namespace, ..services };
    ClusterTraffic {
        namespace: given.namespace.map(|name| name.0),
        matches: matches(given.matches, Matches::Headers, "a route of the Gateway API", path, cx),
        router: ClusterRouter::GatewayApi { kind, route: given.route.0, services },
    }
}

fn istio(given: raw::Istio, path: &Path, cx: &mut Context<'_>) -> ClusterTraffic {
    let destination = |given: raw::IstioDestination| Destination { host: given.host.0, subset: given.subset.map(|name| name.0) };
    let (stable, canary) = (destination(given.stable), destination(given.canary));
    if stable == canary {
        let diagnostic = cx.error_at_key(&path.key("canary"), "same-service", "stable and canary are the same destination");
        cx.push(diagnostic.expected("another `host`, or another `subset` of the same"));
    } else if stable.host == canary.host && (stable.subset.is_none() || canary.subset.is_none()) {
        let message = "one destination is a subset of the other, which leads to the pods of both";
        cx.push(cx.error_at_key(&path.key("canary"), "same-service", message).expected("a `subset` for both, or two hosts"));
    }
    ClusterTraffic {
        namespace: given.namespace.map(|name| name.0),
        matches: matches(given.matches, Matches::HeadersAndCookies, "a VirtualService", path, cx),
        router: ClusterRouter::Istio { virtual_service: given.virtual_service.0, stable, canary, routes: given.routes },
    }
}

fn ingress_nginx(given: raw::IngressNginx, path: &Path, cx: &mut Context<'_>) -> ClusterTraffic {
    let (ingress, canary_ingress) = (given.ingress.0, given.canary_ingress.0);
    if ingress == canary_ingress {
        let message = format!("stable and canary are the same Ingress, {}", quote(&ingress));
        cx.push(cx.error(&path.key("canaryIngress"), "same-ingress", message).expected("a second Ingress with the canary annotation"));
    }
    let services = arms(given.stable_service, given.canary_service, path, cx);
    ClusterTraffic {
        namespace: given.namespace.map(|name| name.0),
        matches: matches(given.matches, Matches::OneThing, "ingress-nginx", path, cx),
        router: ClusterRouter::IngressNginx { ingress, canary_ingress, services },
    }
}

/// Labels that tell the versions' pods apart: of one name, and not all of one value.
fn labels(given: (&BTreeMap<String, String>, &BTreeMap<String, String>), path: &Path, cx: &mut Context<'_>) {
    let at = path.key("canary");
    let (stable, canary) = given;
    if !stable.keys().eq(canary.keys()) {
        let message = "stable and canary are told apart by different labels: the selector would lose one of them at each switch";
        cx.push(cx.error_at_key(&at, "different-labels", message).expected("the same names as in `stable`, with the canary's values"));
    } else if stable == canary {
        let diagnostic = cx.error_at_key(&at, "same-service", "stable and canary have the same labels");
        cx.push(diagnostic.expected("another value for at least one of them"));
    }
}

fn replicas(given: raw::ReplicaRatio, path: &Path, cx: &mut Context<'_>) -> ClusterTraffic {
    labels((&given.stable, &given.canary), path, cx);
    let raw::ReplicaRatio { service, namespace, stable, canary, max } = given;
    let router = ClusterRouter::Replicas { service: service.0, stable, canary, max };
    ClusterTraffic { namespace: namespace.map(|name| name.0), matches: Vec::new(), router }
}

fn service(given: raw::ServiceSelector, path: &Path, cx: &mut Context<'_>) -> ClusterTraffic {
    labels((&given.stable, &given.canary), path, cx);
    ClusterTraffic {
        namespace: given.namespace.map(|name| name.0),
        matches: Vec::new(),
        router: ClusterRouter::Service { service: given.service.0, stable: given.stable, canary: given.canary },
    }
}

fn custom(given: raw::CustomRouter, path: &Path, cx: &mut Context<'_>) -> ClusterTraffic {
    let (group, version) = given.api_version.rsplit_once('/').unwrap_or(("", &given.api_version));
    let is_lower =
        |text: &str, more: &[u8]| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || more.contains(&byte));
    if !is_lower(group, b".-") || !version.starts_with('v') || version.len() < 2 || !is_lower(version, b"") {
        let message = format!("{} is no group and version", quote(&given.api_version));
        cx.push(cx.error(&path.key("apiVersion"), "format", message).expected("such as `projectcontour.io/v1`"));
    }
    if !given.kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) || !given.kind.starts_with(|first: char| first.is_ascii_uppercase()) {
        let message = format!("{} is no kind", quote(&given.kind));
        cx.push(cx.error(&path.key("kind"), "format", message).expected("such as `HTTPProxy`"));
    }
    let plural = given.plural.unwrap_or_else(|| format!("{}s", given.kind.to_lowercase()));
    if plural.is_empty() || !is_lower(&plural, b"") {
        let message = format!("{} is no name of a kind in URLs", quote(&plural));
        cx.push(cx.error(&path.key("plural"), "format", message).expected("such as `httpproxies`"));
    }
    pointer(&given.canary_weight, &path.key("canaryWeight"), cx);
    if let Some(stable) = &given.stable_weight {
        let at = path.key("stableWeight");
        pointer(stable, &at, cx);
        if *stable == given.canary_weight {
            cx.push(cx.error(&at, "same-field", "stable's weight is the same field as the canary's"));
        }
    }
    let router = CustomRouter {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: given.kind,
        plural,
        name: given.name.0,
        canary_weight: given.canary_weight,
        stable_weight: given.stable_weight,
        total: given.total.unwrap_or(TOTAL).max(1),
    };
    ClusterTraffic { namespace: given.namespace.map(|name| name.0), matches: Vec::new(), router: ClusterRouter::Custom(router) }
}

/// Weights stand in the spec or in annotations: not in what others say about the object, nor in what it is called.
fn pointer(text: &str, path: &Path, cx: &mut Context<'_>) {
    let is_within = ["/spec/", "/metadata/annotations/"].iter().any(|start| text.strip_prefix(start).is_some_and(|rest| !rest.is_empty()));
    if !is_within || text.len() > 250 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("{} is no JSON pointer to a field of `spec` or `metadata.annotations`", quote(text));
        cx.push(cx.error(path, "format", message).expected("such as `/spec/routes/0/services/1/weight`"));
    }
}

fn arms(stable: raw::Name, canary: raw::Name, path: &Path, cx: &mut Context<'_>) -> Arms {
    let (stable, canary) = (stable.0, canary.0);
    if stable == canary {
        let message = format!("stable and canary are the same Service, {}", quote(&canary));
        let diagnostic = cx.error(&path.key("canaryService"), "same-service", message);
        cx.push(diagnostic.expected("a second Service that selects the canary's pods only"));
    }
    Arms { stable, canary, ..Arms::default() }
}

fn matches(given: Option<Vec<RawRule>>, can: Matches, router: &str, path: &Path, cx: &mut Context<'_>) -> Vec<MatchRule> {
    let at_match = path.key("match");
    let mut matches = Vec::new();
    for (index, rule) in given.unwrap_or_default().into_iter().enumerate() {
        let at = at_match.index(index);
        if can == Matches::Headers && rule.cookie.as_ref().is_some_and(|cookies| !cookies.is_empty()) {
            let diagnostic = cx.error_at_key(&at.key("cookie"), "not-for-this-router", format!("{router} cannot match cookies"));
            cx.push(diagnostic.expected("`header` with names and exact values"));
        }
        if can == Matches::HeadersAndCookies && rule.cookie.as_ref().is_some_and(|cookies| cookies.len() > 1) {
            let message = format!("{router} has one condition about all cookies, so that several cannot be asked for together");
            let diagnostic = cx.error_at_key(&at.key("cookie"), "not-for-this-router", message);
            cx.push(diagnostic.expected("one cookie in a rule"));
        }
        let rule = match_rule(rule, &at, cx);
        if can == Matches::OneThing {
            one_thing(&rule, router, &at, cx);
        }
        matches.push(rule);
    }
    matches
}

fn one_thing(rule: &MatchRule, router: &str, at: &Path, cx: &mut Context<'_>) {
    if rule.headers.len() + rule.cookies.len() > 1 {
        let diagnostic = cx.error(at, "not-for-this-router", format!("{router} can match one header or one cookie, not several together"));
        cx.push(diagnostic.expected("`header` or `cookie` with one name and value"));
    } else if rule.cookies.iter().any(|cookie| cookie.value != "always") {
        let message = format!("{router} sends a cookie's owner to the canary if its value is `always`, and knows no other");
        cx.push(cx.error_at_key(&at.key("cookie"), "not-for-this-router", message).expected("the value `always`, or a `header`"));
    }
}
