//! Releases of a cluster, and documents in the wrong place: a cluster's on one machine, or the other way round.

use serin_core::plan::{Analysis, Metric, Plan};

use super::{Context, criterion::Taken, pair, routers, strategy::Lowered};
use crate::{
    diagnostic::quote,
    raw::{self, Document},
    tree::Path,
    validated::{ClusterRelease, ClusterTraffic, EnvValue, Measures, Secret},
};

/// A document as a release of a cluster; `None` if errors were reported.
pub(crate) fn lower(document: Document, document_hash: String, cx: &mut Context<'_>) -> Option<ClusterRelease> {
    refuse_machine(&document, cx);
    let preview = preview_address(&document.spec.strategy, cx);
    let spec = Path::root().key("spec");
    let raw::Spec { workload, traffic, strategy, analysis } = document.spec;
    let workload = workload.kubernetes.map(|given| pair::lower(given, &spec.key("workload").key("kubernetes"), cx));
    let at_router = routers::given(&traffic).map(|field| spec.key("traffic").key(field));
    let traffic = routers::lower(traffic, &spec.key("traffic"), cx);
    let at_strategy = super::strategy::place(&strategy);
    let shape = super::Shape {
        target: traffic.as_ref().map_or("cluster", ClusterTraffic::target),
        measured: false,
        sees_traffic: false,
        deploy_timeout_ms: workload.as_ref().map_or(0, |pair| pair.ready_within_ms),
        sticky: false,
        has_matches: traffic.as_ref().is_some_and(|traffic| !traffic.matches.is_empty()),
    };
    let name = document.metadata.name.0;
    let (plan, measures) = super::plan(&name, strategy, analysis, &shape, cx)?;
    refuse_secrets(&measures, cx);
    if let Some(traffic) = &traffic {
        routers::check_weights(&plan, traffic, &at_strategy, cx);
        if let Some((at, workload)) = at_router.as_ref().zip(workload.as_ref()) {
            pair::check_reach(workload, traffic, at, cx);
            pair::check_ratio(workload, traffic, &spec.key("workload").key("kubernetes"), cx);
        }
        if let Some(at) = at_router.filter(|_| workload.as_ref().is_some_and(|workload| workload.is_managed)) {
            check_managed(traffic, &at, cx);
        }
        check_preview(&plan, traffic, preview.as_ref(), &at_strategy, cx);
    }
    if cx.has_errors() {
        return None;
    }
    Some(ClusterRelease { name, document_hash, plan, workload: workload?, traffic: traffic?, measures, preview })
}

/// Whether a document says anything that only a cluster has.
pub(crate) fn is_for_cluster(document: &Document) -> bool {
    document.spec.workload.kubernetes.is_some() || routers::given(&document.spec.traffic).is_some()
}

/// Reports what only a cluster can do.
pub(super) fn refuse_cluster(document: &Document, cx: &mut Context<'_>) {
    let spec = &document.spec;
    refuse_address(&spec.strategy, cx);
    let found = [
        (spec.workload.kubernetes.is_some(), "workload", "kubernetes", "`processes` or `external`"),
        (routers::given(&spec.traffic).is_some(), "traffic", routers::given(&spec.traffic).unwrap_or_default(), "`embedded`"),
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

/// On one machine the proxy's own preview is the address.
fn refuse_address(strategy: &raw::Strategy, cx: &mut Context<'_>) {
    if let Some((preview, at)) = super::strategy::preview(strategy)
        && preview.address.is_some()
    {
        let diagnostic = cx.error_at_key(&at.key("address"), "for-a-cluster", "the `address` of a preview is for a cluster");
        cx.push(diagnostic.expected("on one machine: `traffic.embedded.preview`"));
    }
}

/// Reports what only one machine can do.
fn refuse_machine(document: &Document, cx: &mut Context<'_>) {
    let spec = &document.spec;
    let found = [
        (spec.workload.processes.is_some(), "workload", "processes", "`kubernetes`"),
        (spec.workload.external.is_some(), "workload", "external", "`kubernetes`"),
        (
            spec.traffic.embedded.is_some(),
            "traffic",
            "embedded",
            "`gatewayApi`, `istio`, `ingressNginx`, `service`, `replicas`, `traefik` or `custom`",
        ),
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

/// Where the checks of a preview go. What only Serin's own proxy can count is refused.
fn preview_address(strategy: &raw::Strategy, cx: &mut Context<'_>) -> Option<String> {
    let (preview, at) = super::strategy::preview(strategy)?;
    let has_criteria = preview.criteria.as_ref().is_some_and(|criteria| !criteria.is_empty());
    for (field, is_given) in [("minRequests", preview.min_requests.is_some_and(|requests| requests > 0)), ("criteria", has_criteria)] {
        if is_given {
            let message = format!("`{field}` of a preview is not measured in a cluster: there Serin does not carry the traffic itself");
            cx.push(cx.error_at_key(&at.key(field), "not-measured", message).expected("`checks`, `gate: manual` or both"));
        }
    }
    let address = preview.address.clone()?;
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_host = |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    if !address.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port)) {
        let message = format!("{} is no host with a port", quote(&address));
        cx.push(cx.error(&at.key("address"), "format", message).expected("such as `checkout-canary.shop.svc:80`"));
    }
    Some(address)
}

/// The checks of a preview need an address.
fn check_preview(plan: &Plan, traffic: &ClusterTraffic, address: Option<&String>, strategy: &Path, cx: &mut Context<'_>) {
    let has_checks = plan.steps.iter().filter_map(|step| step.preview.as_ref()).any(|preview| !preview.checks.is_empty());
    if has_checks && address.is_none() && traffic.services().is_none() {
        let diagnostic = cx.error(
            &strategy.key("preview"),
            "no-preview-address",
            "the preview has no address: this router names no Service of the canary",
        );
        cx.push(diagnostic.expected("`address` with a host and port that lead to the canary alone"));
    }
}

/// Variables and files of a controller are its own: whoever may write a release must not be able to send them anywhere. Secrets beside the release
/// are another matter: the controller sees those that it was given a Role for.
fn refuse_secrets(measures: &Measures, cx: &mut Context<'_>) {
    for (at, what) in secrets(measures) {
        if !matches!(what, Some(Secret::Key { .. })) {
            let message = "in a cluster this would be read from the controller's own environment";
            let diagnostic = cx.error_at_key(&at, "for-a-machine", message);
            cx.push(match what {
                Some(_) => diagnostic.expected("`secretKeyRef` with the `name` of a Secret beside the release and a `key`"),
                None => diagnostic.expected("the value itself, if it is no secret"),
            });
        }
    }
}

/// On one machine there are no Secrets.
pub(super) fn refuse_secret_keys(measures: &Measures, cx: &mut Context<'_>) {
    for (at, what) in secrets(measures) {
        if matches!(what, Some(Secret::Key { .. })) {
            let diagnostic = cx.error_at_key(&at, "for-a-cluster", "`secretKeyRef` is for a cluster, not for this machine");
            cx.push(diagnostic.expected("`env` or `file`"));
        }
    }
}

/// Every reference of the sources with the field that it is in; `None`: a header's.
fn secrets(measures: &Measures) -> Vec<(Path, Option<&Secret>)> {
    let mut found = Vec::new();
    for (name, source) in &measures.sources {
        let at = Path::root().key("spec").key("analysis").key("sources").key(name).key("prometheus");
        let field = |name: &str| name.split('.').fold(at.clone(), |at, key| at.key(key));
        found.extend(source.secrets().into_iter().map(|(name, secret)| (field(name), Some(secret))));
        let references = source.headers.iter().filter(|(_, value)| !matches!(value, EnvValue::Literal(_)));
        found.extend(references.map(|(name, _)| (at.key("headers").key(name), None)));
    }
    found
}

/// Serin makes the canary's Service, and gives the canary's pods labels of its own making: a router that names pods otherwise would not find them.
fn check_managed(traffic: &ClusterTraffic, at: &Path, cx: &mut Context<'_>) {
    if traffic.services().is_some() {
        return;
    }
    let message = "a Deployment that is released in place needs a router that names a Service for each version, and this one does not";
    let expected = "`gatewayApi`, `ingressNginx`, `traefik`, or `istio` with two hosts and no `subset`";
    let diagnostic = cx.error_at_key(at, "not-for-one-deployment", message).expected(expected);
    cx.push(diagnostic.help("or give a pair: `stable` and `canary`, with labels that this router tells apart"));
}
