//! What Serin leaves on a Deployment that it has adopted, and the objects that it makes of it. Pure: nothing is read or written here.
//!
//! The canary's pods have other values than stable's for every label by which stable's Deployment or Service selects, so that neither counts
//! the other's pods. Everything else of them is as the Deployment's template says. The objects that are made carry none of the Deployment's own
//! labels and annotations: tools that deploy it by those would take the canary for theirs, and remove it.

use std::collections::BTreeSet;

use kube::{api::DynamicObject, core::ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::api::{ADOPTED, MADE, NEXT};

/// The longest value of a label.
const MAX_LABEL: usize = 63;
const SUFFIX: &str = "-canary";
/// All annotations of an object together may have 256 KiB, and those of others need some of it.
pub(super) const MAX_NEXT_BYTES: usize = 128 * 1024;

/// On an adopted Deployment: whose it is, and how it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// Identity of the release object.
    pub release: String,
    /// Its namespace and name, for people.
    pub name: String,
    /// The ReplicaSet of the proven version: for a time in which none has pods.
    pub proven: String,
    /// What the proven version read from `ConfigMaps` when it was adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// On an object that was made: by which release, of which Deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Identity of the release object.
    pub release: String,
    /// The Deployment.
    pub of: String,
}

impl Note {
    /// The note on a Deployment; `None` if there is none that can be read.
    #[must_use]
    pub fn on(metadata: &ObjectMeta) -> Option<Self> {
        serde_json::from_str(metadata.annotations.as_ref()?.get(ADOPTED)?).ok()
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Made {
    /// The note on an object; `None` if it was not made by Serin.
    #[must_use]
    pub fn on(metadata: &ObjectMeta) -> Option<Self> {
        serde_json::from_str(metadata.annotations.as_ref()?.get(MADE)?).ok()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// An edit that was put aside while the judged template was rolled out.
pub(super) fn put_aside(deployment: &DynamicObject) -> Option<Value> {
    serde_json::from_str(deployment.metadata.annotations.as_ref()?.get(NEXT)?).ok()
}

/// Another value for a label, always the same one for the same value.
pub(super) fn other_value(value: &str) -> String {
    if value.len() + SUFFIX.len() <= MAX_LABEL {
        return format!("{value}{SUFFIX}");
    }
    let hash: String = Sha256::digest(value.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let kept = value.get(..MAX_LABEL - SUFFIX.len() - hash.len() - 1).unwrap_or_default();
    format!("{kept}-{hash}{SUFFIX}")
}

/// Labels with other values for those that tell the arms apart; `fixed` are values that are given already.
pub(super) fn other_labels(labels: &Map<String, Value>, arm_labels: &BTreeSet<String>, fixed: &Map<String, Value>) -> Map<String, Value> {
    let mut made = labels.clone();
    for (name, value) in &mut made {
        if arm_labels.contains(name) {
            *value = json!(other_value(value.as_str().unwrap_or_default()));
        }
    }
    made.extend(fixed.clone());
    made
}

/// The template for the canary's pods.
pub(super) fn canary_template(template: &Value, arm_labels: &BTreeSet<String>, fixed: &Map<String, Value>) -> Value {
    let labels = template.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut made = template.clone();
    if let Some(fields) = made.as_object_mut() {
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("labels".to_owned(), Value::Object(other_labels(&labels, arm_labels, fixed)));
        }
    }
    made
}

/// The canary's Deployment, without replicas.
pub(super) fn canary_deployment(name: &str, made: &Made, of: &DynamicObject, selector: &Map<String, Value>, template: Value) -> Value {
    let mut spec = of.data.pointer("/spec").and_then(Value::as_object).cloned().unwrap_or_default();
    spec.remove("paused");
    spec.insert("replicas".to_owned(), json!(0));
    spec.insert("selector".to_owned(), json!({"matchLabels": selector}));
    spec.insert("template".to_owned(), template);
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(name, made), "spec": spec})
}

/// The canary's Service: the ports of stable's, and the canary's pods.
pub(super) fn canary_service(name: &str, made: &Made, stable_ports: &Value, selector: &Map<String, Value>) -> Value {
    let mut ports = stable_ports.clone();
    for port in ports.as_array_mut().into_iter().flatten() {
        // A port of the nodes can be had once only.
        port.as_object_mut().map(|port| port.remove("nodePort"));
    }
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(name, made),
        "spec": {"type": "ClusterIP", "selector": selector, "ports": ports},
    })
}

fn metadata(name: &str, made: &Made) -> Value {
    json!({"name": name, "labels": {"app.kubernetes.io/managed-by": "serin"}, "annotations": {MADE: made.text()}})
}

/// Where the release is deleted, so is this.
pub(super) fn owned_by(uid: &str, name: &str) -> Value {
    let version = format!("{}/{}", crate::api::GROUP, crate::api::VERSION);
    json!({"metadata": {"ownerReferences": [{"apiVersion": version, "kind": "Release", "name": name, "uid": uid}]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn labels_that_tell_the_arms_apart_have_other_values_that_fit() {
        let arm_labels = BTreeSet::from(["app".to_owned(), "part".to_owned()]);
        let given = labels(&json!({"app": "checkout", "team": "shop"}));
        assert_eq!(other_labels(&given, &arm_labels, &Map::new()), labels(&json!({"app": "checkout-canary", "team": "shop"})));
        let fixed = labels(&json!({"part": "other"}));
        assert_eq!(other_labels(&given, &arm_labels, &fixed)["part"], "other");
        let (long, longer) = ("a".repeat(57), format!("{}b", "a".repeat(62)));
        assert_eq!(other_value(&long).len(), MAX_LABEL);
        assert_ne!(other_value(&"a".repeat(63)), other_value(&longer));
        assert!(other_value(&long).ends_with("-canary"));
    }

    #[test]
    fn what_is_made_is_the_deployment_without_what_makes_it_that_one() {
        let of: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "checkout", "labels": {"argocd.argoproj.io/instance": "shop"}},
            "spec": {
                "replicas": 3, "paused": true, "minReadySeconds": 5, "selector": {"matchLabels": {"app": "checkout"}},
                "template": {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": []}},
            },
        }))
        .unwrap();
        let made = Made { release: "1".to_owned(), of: "checkout".to_owned() };
        let selector = labels(&json!({"app": "checkout-canary"}));
        let template = canary_template(&of.data["spec"]["template"], &BTreeSet::from(["app".to_owned()]), &Map::new());
        let canary = canary_deployment("checkout-canary", &made, &of, &selector, template);
        assert_eq!(
            canary["spec"],
            json!({
                "replicas": 0, "minReadySeconds": 5, "selector": {"matchLabels": {"app": "checkout-canary"}},
                "template": {"metadata": {"labels": {"app": "checkout-canary"}}, "spec": {"containers": []}},
            })
        );
        assert_eq!(canary["metadata"]["labels"], json!({"app.kubernetes.io/managed-by": "serin"}));
        let ports = json!([{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30_001}]);
        let service = canary_service("checkout-canary", &made, &ports, &selector);
        assert_eq!(service["spec"]["ports"], json!([{"name": "http", "port": 80, "targetPort": "http"}]));
        let metadata = serde_json::from_value(service["metadata"].clone()).unwrap();
        assert_eq!(Made::on(&metadata), Some(made));
    }
}
