//! Releases of a cluster, and documents in the wrong place: a cluster's on one machine, or the other way round.

use serin_core::plan::{Analysis, Metric};

use super::{
    Context,
    context::{DAY, MINUTE, SECOND},
    criterion::Taken,
    strategy::Lowered,
    traffic,
};
use crate::{
    diagnostic::quote,
    raw::{self, Document},
    tree::Path,
    validated::{ClusterRelease, EnvValue, HttpRoute, Measures, Pair},
};

/// The name of the router that the HTTPRoute is in plans.
const TARGET: &str = "gateway-api";

/// A document as a release of a cluster; `None` if errors were reported.
pub(crate) fn lower(document: Document, document_hash: String, cx: &mut Context<'_>) -> Option<ClusterRelease> {
    refuse_machine(&document, cx);
    refuse_previews(&document.spec.strategy, cx);
    let spec = Path::root().key("spec");
    let raw::Spec { workload, traffic, strategy, analysis } = document.spec;
    let workload = workload.kubernetes.map(|given| pair(given, &spec.key("workload").key("kubernetes"), cx));
    let traffic = traffic.gateway_api.map(|given| http_route(given, &spec.key("traffic").key("gatewayApi"), cx));
    let shape = super::Shape {
        target: TARGET,
        measured: false,
        sees_traffic: false,
        deploy_timeout_ms: workload.as_ref().map_or(0, |pair| pair.ready_within_ms),
        sticky: false,
        has_matches: traffic.as_ref().is_some_and(|traffic| !traffic.matches.is_empty()),
    };
    let name = document.metadata.name.0;
    let (plan, measures) = super::plan(&name, strategy, analysis, &shape, cx)?;
    refuse_secrets(&measures, cx);
    if cx.has_errors() {
        return None;
    }
    Some(ClusterRelease { name, document_hash, plan, workload: workload?, traffic: traffic?, measures })
}

/// Whether a document says anything that only a cluster has.
pub(crate) fn is_for_cluster(document: &Document) -> bool {
    document.spec.workload.kubernetes.is_some() || document.spec.traffic.gateway_api.is_some()
}

/// Reports what only a cluster can do.
pub(super) fn refuse_cluster(document: &Document, cx: &mut Context<'_>) {
    let spec = &document.spec;
    let found = [
        (spec.workload.kubernetes.is_some(), "workload", "kubernetes", "`processes` or `external`"),
        (spec.traffic.gateway_api.is_some(), "traffic", "gatewayApi", "`embedded`"),
    ];
    for (section, field, instead) in found.into_iter().filter_map(|(is, section, field, instead)| is.then_some((section, field, instead))) {
        let at = Path::root().key("spec").key(section).key(field);
        let diagnostic = cx.error_at_key(&at, "for-a-cluster", format!("`{section}.{field}` is for a cluster, not for this machine"));
        cx.push(
            diagnostic
                .expected(format!("on one machine: {instead}"))
                .help("in a cluster `serin controller` runs this document: `kubectl apply -f` it there"),
        );
    }
}

/// Reports what only one machine can do.
fn refuse_machine(document: &Document, cx: &mut Context<'_>) {
    let spec = &document.spec;
    let found = [
        (spec.workload.processes.is_some(), "workload", "processes", "`kubernetes`"),
        (spec.workload.external.is_some(), "workload", "external", "`kubernetes`"),
        (spec.traffic.embedded.is_some(), "traffic", "embedded", "`gatewayApi`"),
    ];
    for (section, field, instead) in found.into_iter().filter_map(|(is, section, field, instead)| is.then_some((section, field, instead))) {
        let at = Path::root().key("spec").key(section).key(field);
        let diagnostic = cx.error_at_key(&at, "for-a-machine", format!("`{section}.{field}` is for one machine, not for a cluster"));
        cx.push(diagnostic.expected(format!("in a cluster: {instead}")).help("`serin run` and `serin serve` run documents of one machine"));
    }
}

/// In a cluster Serin does not carry the traffic: what is judged is measured by others. Default criteria and the default guard, which are about
/// built-in metrics, are left out; such that are written down are errors. `own_guards`: the names of those.
pub(super) fn leave_to_sources(
    analysis: &mut Analysis,
    taken: &Taken,
    own_guards: &[String],
    strategy: &Lowered,
    has_alerts: bool,
    cx: &mut Context<'_>,
) {
    let at_analysis = Path::root().key("spec").key("analysis");
    analysis.criteria.retain(|one| one.metric.external().is_some() || taken.get(&one.name).is_some_and(Option::is_some));
    analysis.guards.retain(|one| one.metric.external().is_some() || own_guards.contains(&one.name));
    let of_stages = strategy.steps.iter().enumerate().flat_map(|(index, step)| {
        let places = strategy.own_criteria.get(index);
        step.criteria.iter().map(move |one| (one, places.and_then(|places| places.get(&one.name)).and_then(Option::as_ref)))
    });
    let of_release = analysis.criteria.iter().map(|one| (one, taken.get(&one.name).and_then(Option::as_ref)));
    let mut unmeasured: Vec<(Metric, Path)> = of_release
        .chain(of_stages)
        .map(|(one, place)| (one.metric, place.map_or_else(|| at_analysis.key("criteria"), |place| place.key("metric"))))
        .collect();
    unmeasured.extend(analysis.guards.iter().map(|one| (one.metric, at_analysis.key("guards"))));
    let is_judged = has_alerts || !unmeasured.is_empty();
    for (metric, place) in unmeasured.into_iter().filter(|(metric, _)| metric.external().is_none()) {
        let message = format!("{} is not measured in a cluster: there Serin does not carry the traffic itself", quote(metric.name()));
        let diagnostic = cx.error(&place, "not-measured", message).expected("a metric of `analysis.metrics` that a source measures");
        cx.push(diagnostic.help("declare a source in `analysis.sources`, such as the Prometheus that scrapes your gateway or your pods"));
    }
    if !is_judged {
        let at = Path::root().key("spec").key("strategy");
        let message = "nothing judges this release: stages end by `onNoData` alone";
        let help = "declare a source and metrics in `analysis`, and criteria about them; crash loops and alerts need none";
        cx.push(cx.warning_at_key(&at, "not-judged", message).help(help));
    }
}

/// Routers of a cluster have no preview yet.
fn refuse_previews(strategy: &raw::Strategy, cx: &mut Context<'_>) {
    let at = super::strategy::place(strategy);
    let (place, name) = match (&strategy.blue_green, &strategy.canary) {
        (Some(_), _) => (at, "strategy.blueGreen"),
        (None, Some(canary)) if canary.preview.is_some() => (at.key("preview"), "strategy.canary.preview"),
        _ => return,
    };
    let diagnostic = cx.error_at_key(&place, "not-built", format!("`{name}` is not built yet for a cluster"));
    cx.push(diagnostic.expected("`canary` without a `preview`").help("on one machine `traffic.embedded` has previews"));
}

/// Variables and files of a controller are its own: whoever may write a release must not be able to send them anywhere.
fn refuse_secrets(measures: &Measures, cx: &mut Context<'_>) {
    for (name, source) in &measures.sources {
        let at = Path::root().key("spec").key("analysis").key("sources").key(name).key("prometheus");
        let has_reference = source.headers.values().any(|value| !matches!(value, EnvValue::Literal(_)));
        for (field, is_given) in [("auth", source.auth.is_some()), ("ca", source.ca.is_some()), ("headers", has_reference)] {
            if is_given {
                let message =
                    format!("secrets of sources are not built yet in a cluster: `{field}` would be read from the controller's own");
                let diagnostic = cx.error_at_key(&at.key(field), "not-built", message);
                cx.push(diagnostic.help("name a source that may be asked without, such as one beside the controller that adds the secret"));
            }
        }
    }
}

pub(super) fn pair(given: raw::Kubernetes, path: &Path, cx: &mut Context<'_>) -> Pair {
    let at_canary = path.key("canary").key("deployment");
    let is_managed = given.deployment.is_some();
    // Neither was reported already.
    let stable = given.deployment.or(given.stable.map(|stable| stable.deployment)).map(|name| name.0).unwrap_or_default();
    let asked = given.canary.unwrap_or_default();
    let canary = match asked.deployment {
        Some(name) => name.0,
        None if is_managed => canary_of(&stable),
        None => {
            let message = "the pair has no `canary.deployment`";
            let diagnostic = cx.error_at_key(&path.key("stable"), "missing-field", message).expected("`canary: {deployment: NAME}`");
            cx.push(diagnostic.help("with `deployment: NAME` instead of `stable`, Serin makes the canary itself"));
            String::new()
        }
    };
    if stable == canary && !canary.is_empty() {
        let message = format!("stable and canary are the same Deployment, {}", quote(&canary));
        cx.push(cx.error(&at_canary, "same-deployment", message).expected("a second Deployment with labels of its own"));
    }
    if is_managed && given.namespace.is_some() {
        let message = "a Deployment that Serin makes a canary of is in the namespace of the release";
        let diagnostic = cx.error_at_key(&path.key("namespace"), "not-for-one-deployment", message).expected("no `namespace`");
        cx.push(diagnostic.help("put the release into the Deployment's namespace, or give a pair: `stable` and `canary`"));
    }
    Pair {
        namespace: given.namespace.map(|name| name.0),
        stable,
        canary,
        is_managed,
        canary_replicas: asked.replicas,
        ready_within_ms: cx.duration(&path.key("readyWithin"), given.ready_within.as_ref(), 10 * MINUTE, SECOND..=DAY),
    }
}

/// The name of the canary that Serin makes. Names of Deployments may be long, those of their pods are cut by the cluster itself.
fn canary_of(stable: &str) -> String {
    const MAX: usize = 253;
    const SUFFIX: &str = "-canary";
    let kept = stable.get(..stable.len().min(MAX - SUFFIX.len())).unwrap_or(stable);
    format!("{}{SUFFIX}", kept.trim_end_matches(['-', '.']))
}

pub(super) fn http_route(given: raw::GatewayApi, path: &Path, cx: &mut Context<'_>) -> HttpRoute {
    let (stable_service, canary_service) = (given.stable_service.0, given.canary_service.0);
    if stable_service == canary_service {
        let message = format!("stable and canary are the same Service, {}", quote(&canary_service));
        cx.push(
            cx.error(&path.key("canaryService"), "same-service", message).expected("a second Service that selects the canary's pods only"),
        );
    }
    let at_match = path.key("match");
    let mut matches = Vec::new();
    for (index, rule) in given.matches.unwrap_or_default().into_iter().enumerate() {
        let at = at_match.index(index);
        if rule.cookie.as_ref().is_some_and(|cookies| !cookies.is_empty()) {
            let diagnostic = cx.error_at_key(&at.key("cookie"), "not-for-this-router", "an HTTPRoute cannot match cookies");
            cx.push(diagnostic.expected("`header` with names and exact values"));
        }
        matches.push(traffic::match_rule(rule, &at, cx));
    }
    HttpRoute { namespace: given.namespace.map(|name| name.0), route: given.route.0, stable_service, canary_service, matches }
}
