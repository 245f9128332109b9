//! What runs in a cluster: which objects they are, where they are, and whether the router can lead to both.

use super::{
    Context,
    context::{DAY, MINUTE, SECOND},
};
use crate::{
    diagnostic::quote,
    raw::{self, ObjectName},
    tree::Path,
    validated::{ClusterRouter, ClusterTraffic, Pair, WorkloadKind},
};

/// One version's fields, whichever of them is given.
struct Named {
    kind: WorkloadKind,
    name: String,
    field: &'static str,
}

pub(super) fn lower(given: raw::Kubernetes, path: &Path, cx: &mut Context<'_>) -> Pair {
    let is_managed = given.deployment.is_some();
    let (at_stable, at_canary) = (path.key("stable"), path.key("canary"));
    let raw::StableWorkload { deployment, stateful_set, daemon_set, namespace: stable_namespace } = given.stable.unwrap_or_default();
    let (stable, _) = named([given.deployment.or(deployment), stateful_set, daemon_set]);
    // None was reported already.
    let stable = stable.unwrap_or_else(|| Named { kind: WorkloadKind::Deployment, name: String::new(), field: "deployment" });
    let asked = given.canary.unwrap_or_default();
    let has_replicas = asked.replicas.is_some();
    let (canary, another) = named([asked.deployment, asked.stateful_set, asked.daemon_set]);
    if let Some((first, second)) = canary.as_ref().zip(another) {
        let message = format!("{} and {} exclude each other", quote(first.field), quote(second.field));
        cx.push(cx.error_at_key(&at_canary.key(second.field), "several-of", message).expected("one of them"));
    }
    let canary = match canary {
        Some(named) => named,
        None if is_managed => Named { kind: WorkloadKind::Deployment, name: canary_of(&stable.name), field: "deployment" },
        None => {
            let message = "the pair has no `canary.deployment`";
            let diagnostic = cx.error_at_key(&at_stable, "missing-field", message);
            let diagnostic = diagnostic.expected("`canary: {deployment: NAME}`, or `statefulSet` or `daemonSet`");
            cx.push(diagnostic.help("with `deployment: NAME` instead of `stable`, Serin makes the canary itself"));
            Named { kind: WorkloadKind::Deployment, name: String::new(), field: "deployment" }
        }
    };
    let common = given.namespace.map(|name| name.0);
    let [own_stable, own_canary] = [stable_namespace, asked.namespace].map(|name| name.map(|name| name.0));
    if is_managed {
        check_managed(&canary, [common.is_some(), own_canary.is_some()], path, cx);
    }
    let is_half = own_stable.is_some() && own_canary.is_none() && common.is_none();
    if is_half {
        let message = "where stable is does not say where the canary is";
        let diagnostic = cx.error_at_key(&at_stable.key("namespace"), "missing-field", message);
        cx.push(diagnostic.expected("`canary.namespace` as well, or `namespace` beside `stable` for both"));
    }
    let namespace = own_stable.or_else(|| common.clone());
    let canary_namespace = own_canary.or(common).filter(|canary| Some(canary) != namespace.as_ref());
    if (stable.kind, &stable.name) == (canary.kind, &canary.name) && canary_namespace.is_none() && !is_half && !canary.name.is_empty() {
        let message = format!("stable and canary are the same {}, {}", canary.kind.name(), quote(&canary.name));
        let expected = format!("a second {} with labels of its own", canary.kind.name());
        cx.push(cx.error(&at_canary.key(canary.field), "same-deployment", message).expected(expected));
    }
    if canary.kind == WorkloadKind::DaemonSet && has_replicas {
        let message = "a DaemonSet has one pod on each of its nodes, and no number of replicas";
        cx.push(cx.error_at_key(&at_canary.key("replicas"), "not-for-this-kind", message).expected("no `replicas`"));
    }
    Pair {
        namespace,
        canary_namespace,
        kinds: [stable.kind, canary.kind],
        stable: stable.name,
        canary: canary.name,
        is_managed,
        canary_replicas: asked.replicas,
        ready_within_ms: cx.duration(&path.key("readyWithin"), given.ready_within.as_ref(), 10 * MINUTE, SECOND..=DAY),
    }
}

/// The first of the fields that are given. Whether stable has several is said by the document's structure.
fn named(given: [Option<ObjectName>; 3]) -> (Option<Named>, Option<Named>) {
    let kinds =
        [(WorkloadKind::Deployment, "deployment"), (WorkloadKind::StatefulSet, "statefulSet"), (WorkloadKind::DaemonSet, "daemonSet")];
    let mut all = given.into_iter().zip(kinds).filter_map(|(name, (kind, field))| Some(Named { kind, name: name?.0, field }));
    (all.next(), all.next())
}

/// Serin makes a canary of a Deployment only, and beside it.
fn check_managed(canary: &Named, [has_common, has_own]: [bool; 2], path: &Path, cx: &mut Context<'_>) {
    if canary.kind != WorkloadKind::Deployment {
        let message = "the canary that Serin makes of a Deployment is a Deployment";
        let diagnostic = cx.error_at_key(&path.key("canary").key(canary.field), "not-for-one-deployment", message);
        cx.push(diagnostic.expected("`deployment`").help("or give a pair: `stable` and `canary`"));
    }
    for (at, is_given) in [(path.key("namespace"), has_common), (path.key("canary").key("namespace"), has_own)] {
        if is_given {
            let message = "a Deployment that Serin makes a canary of is in the namespace of the release";
            let diagnostic = cx.error_at_key(&at, "not-for-one-deployment", message).expected("no `namespace`");
            cx.push(diagnostic.help("put the release into the Deployment's namespace, or give a pair: `stable` and `canary`"));
        }
    }
}

/// The name of the canary that Serin makes. Names of Deployments may be long, those of their pods are cut by the cluster itself.
fn canary_of(stable: &str) -> String {
    const MAX: usize = 253;
    const SUFFIX: &str = "-canary";
    let kept = stable.get(..stable.len().min(MAX - SUFFIX.len())).unwrap_or(stable);
    format!("{}{SUFFIX}", kept.trim_end_matches(['-', '.']))
}

/// Reports what a router that makes shares of replicas cannot do with the workload. `path`: of the workload.
pub(super) fn check_ratio(pair: &Pair, traffic: &ClusterTraffic, path: &Path, cx: &mut Context<'_>) {
    if !matches!(traffic.router, ClusterRouter::Replicas { .. }) {
        return;
    }
    if pair.canary_replicas.is_some() {
        let message = "how many replicas the canary has follows from the weight, where its share is made of them";
        let diagnostic = cx.error_at_key(&path.key("canary").key("replicas"), "not-for-this-router", message);
        cx.push(diagnostic.expected("no `replicas`; the most it may have is `traffic.replicas.max`"));
    }
    if pair.kinds[1] == WorkloadKind::DaemonSet {
        let message = "a DaemonSet is not scaled, so that no share can be made of its pods";
        let diagnostic = cx.error_at_key(&path.key("canary").key("daemonSet"), "not-for-this-router", message);
        cx.push(diagnostic.expected("a `deployment` or `statefulSet`, or a router that has weights"));
    }
}

/// Reports a router that cannot lead to both versions where they are: a Service selects pods beside it only. `at`: the router's field.
pub(super) fn check_reach(pair: &Pair, traffic: &ClusterTraffic, at: &Path, cx: &mut Context<'_>) {
    if pair.canary_namespace.is_none() {
        return;
    }
    let is_apart = |services: [(Option<String>, String); 2]| services[0].0 != services[1].0;
    let instead = match &traffic.router {
        ClusterRouter::Custom(_) => return,
        _ if traffic.services().is_some_and(is_apart) => return,
        ClusterRouter::GatewayApi { .. } => "`stableNamespace` and `canaryNamespace`, each where the pods are",
        ClusterRouter::Istio { .. } => "two hosts with their namespaces, such as `checkout.shop` and `checkout.trial`",
        _ => "`gatewayApi`, `istio` with two hosts, or both versions in one namespace",
    };
    let message = "the versions are in two namespaces, and this router does not name a Service in each";
    cx.push(cx.error_at_key(at, "not-for-this-router", message).expected(instead));
}
