//! How a workload is, as its object says.
//!
//! A Deployment and a StatefulSet have a number of replicas that is asked for; a DaemonSet has as many as there are nodes for it, which its status
//! says. What is asked of all three is the same: that all pods there should be are there, are of the template as it is, and serve.

use std::collections::BTreeSet;

use kube::api::{ApiResource, DynamicObject};
use serde_json::{Map, Value};
use serin_spec::validated::WorkloadKind;

use super::template::version_of;

/// How a workload is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArmSeen {
    /// Replicas that are asked for.
    pub wanted: i32,
    /// Replicas that serve.
    pub ready: i32,
    /// Whether all that is asked for is there, and nothing else.
    pub settled: bool,
    /// The same, by a status that may be older than the last change. Anybody's annotation is a change for a moment.
    pub complete: bool,
    /// The version of its template. A Deployment that is paused may run another one.
    pub version: String,
    /// Whether it rolls out no edits.
    pub paused: bool,
    /// Labels that its pods have, as a selector.
    pub selector: String,
    /// What its own controller says is wrong.
    pub trouble: Option<String>,
}

/// Deployments as JSON.
#[must_use]
pub fn deployments() -> ApiResource {
    workloads(WorkloadKind::Deployment)
}

/// A kind of workload as JSON.
#[must_use]
pub fn workloads(kind: WorkloadKind) -> ApiResource {
    let plural = match kind {
        WorkloadKind::Deployment => "deployments",
        WorkloadKind::StatefulSet => "statefulsets",
        WorkloadKind::DaemonSet => "daemonsets",
    };
    resource(kind.name(), plural)
}

pub(super) fn replica_sets() -> ApiResource {
    resource("ReplicaSet", "replicasets")
}

pub(super) fn controller_revisions() -> ApiResource {
    resource("ControllerRevision", "controllerrevisions")
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        api_version: "apps/v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// How a workload is. `may_lag`: it is paused by us, so that no pod runs its template while that was edited.
pub(super) fn seen(kind: WorkloadKind, deployment: &DynamicObject, arm_labels: &BTreeSet<String>, may_lag: bool) -> ArmSeen {
    let number = |at: &str| i32::try_from(deployment.data.pointer(at).and_then(Value::as_i64).unwrap_or(0)).unwrap_or(i32::MAX);
    let wanted = match kind {
        WorkloadKind::DaemonSet => number("/status/desiredNumberScheduled"),
        _ => deployment.data.pointer("/spec/replicas").map_or(1, |_| number("/spec/replicas")),
    };
    let is_observed = deployment.data.pointer("/status/observedGeneration").and_then(Value::as_i64) >= deployment.metadata.generation;
    let counts = match kind {
        WorkloadKind::DaemonSet => ["currentNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady"],
        _ => ["replicas", "updatedReplicas", "availableReplicas", "readyReplicas"],
    };
    let [total, updated, available, ready] = counts.map(|name| number(&format!("/status/{name}")));
    let conditions = deployment.data.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let text = |condition: &Value, field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let trouble = conditions
        .filter(|one| match text(one, "type").as_str() {
            "Progressing" => text(one, "reason") == "ProgressDeadlineExceeded",
            "ReplicaFailure" => text(one, "status") == "True",
            _ => false,
        })
        .map(|one| format!("{}: {}", text(one, "reason"), text(one, "message")))
        .next();
    let paused = is_paused(deployment);
    let complete = total == wanted && available == wanted && (updated == wanted || (may_lag && paused));
    ArmSeen {
        wanted,
        ready,
        settled: is_observed && complete,
        complete,
        version: version_of(template_in(deployment), arm_labels),
        paused,
        selector: selector_of(deployment),
        trouble: trouble.filter(|_| is_observed),
    }
}

pub(super) fn is_paused(deployment: &DynamicObject) -> bool {
    deployment.data.pointer("/spec/paused").and_then(Value::as_bool).unwrap_or(false)
}

/// To be looked at.
pub(super) fn template_in(object: &DynamicObject) -> &Value {
    object.data.pointer("/spec/template").unwrap_or(&Value::Null)
}

/// To be changed.
pub(super) fn template_of(object: &DynamicObject) -> Value {
    template_in(object).clone()
}

pub(super) fn match_labels(deployment: &DynamicObject) -> Map<String, Value> {
    deployment.data.pointer("/spec/selector/matchLabels").and_then(Value::as_object).cloned().unwrap_or_default()
}

pub(super) fn has_expressions(deployment: &DynamicObject) -> bool {
    deployment.data.pointer("/spec/selector/matchExpressions").and_then(Value::as_array).is_some_and(|all| !all.is_empty())
}

pub(super) fn selector_of(deployment: &DynamicObject) -> String {
    selector_text(&match_labels(deployment))
}

pub(super) fn selector_text(labels: &Map<String, Value>) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
    labels.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_two(status: &Value, paused: bool, may_lag: bool) -> ArmSeen {
        let object = json!({
            "metadata": {"name": "checkout", "generation": 3},
            "spec": {"replicas": 2, "paused": paused, "selector": {"matchLabels": {"app": "checkout", "track": "canary"}}, "template": {}},
            "status": status,
        });
        seen(WorkloadKind::Deployment, &serde_json::from_value(object).unwrap(), &BTreeSet::new(), may_lag)
    }

    #[test]
    fn settled_is_all_of_the_current_template_and_nothing_else() {
        let all = json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2});
        assert!(of_two(&all, false, false).settled);
        for (field, value) in [("observedGeneration", 2), ("replicas", 3), ("updatedReplicas", 1), ("availableReplicas", 1)] {
            let mut other = all.clone();
            other[field] = json!(value);
            assert!(!of_two(&other, false, false).settled, "{field}");
            // Somebody's annotation makes the status an older one without a replica less.
            assert_eq!(of_two(&other, false, false).complete, field == "observedGeneration", "{field}");
            // One that was paused by us and edited since goes on with the pods that it has.
            assert_eq!(of_two(&other, true, true).settled, field == "updatedReplicas", "{field}");
            assert!(!of_two(&other, true, false).settled && !of_two(&other, false, true).settled, "{field}");
        }
        assert!(!of_two(&json!({}), false, false).settled);
        assert_eq!(of_two(&json!({}), false, false).selector, "app=checkout,track=canary");
    }

    #[test]
    fn its_own_controllers_complaints_are_passed_on() {
        let late = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out"});
        let status = |generation: i64| json!({"observedGeneration": generation, "conditions": [late]});
        assert_eq!(of_two(&status(3), false, false).trouble.unwrap(), "ProgressDeadlineExceeded: has timed out");
        assert_eq!(of_two(&status(2), false, false).trouble, None, "about an older template");
    }

    #[test]
    fn a_daemon_set_has_as_many_as_there_are_nodes_for_it() {
        let of = |status: Value| {
            let object = json!({"metadata": {"name": "shop", "generation": 3}, "spec": {"template": {}}, "status": status});
            seen(WorkloadKind::DaemonSet, &serde_json::from_value(object).unwrap(), &BTreeSet::new(), false)
        };
        let all = json!({"observedGeneration": 3, "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": 2,
            "numberAvailable": 2, "numberReady": 2});
        let found = of(all.clone());
        assert!((found.wanted, found.ready) == (2, 2) && found.settled && found.complete, "{found:?}");
        for (field, value) in
            [("observedGeneration", 2), ("currentNumberScheduled", 3), ("updatedNumberScheduled", 1), ("numberAvailable", 1)]
        {
            let mut other = all.clone();
            other[field] = json!(value);
            assert!(!of(other).settled, "{field}");
        }
        assert_eq!(of(json!({})).wanted, 0, "its controller has not said how many");
    }
}
