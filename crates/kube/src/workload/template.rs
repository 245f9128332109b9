//! Which version a Deployment is, and how one version is handed from the canary's Deployment to stable's.
//!
//! Two Deployments of a pair must differ in some labels, or their selectors would fight over pods; those labels say which arm a pod is, not which
//! version. So a version is the pod template without the labels that selectors of the Deployments or Services look at, hashed over the JSON
//! with sorted keys: fields that a later version of this program knows, or does not, make no difference.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// The version that a pod template is, as 16 hexadecimal digits. `arm_labels`: names of the labels that tell the arms apart.
#[must_use]
pub fn version_of(template: &Value, arm_labels: &BTreeSet<String>) -> String {
    let mut template = template.clone();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|name, _| !arm_labels.contains(name));
        }
        metadata.retain(|name, value| {
            matches!(name.as_str(), "labels" | "annotations") && value.as_object().is_some_and(|all| !all.is_empty())
        });
    }
    let mut canonical = String::new();
    write_canonical(&template, &mut canonical);
    Sha256::digest(canonical.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The judged template as stable's: with stable's own values for the labels that tell the arms apart.
#[must_use]
pub fn promoted(judged: &Value, stable: &Value, arm_labels: &BTreeSet<String>) -> Value {
    let mut made = judged.clone();
    let labels_of = |template: &Value| template.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut labels: Map<String, Value> = labels_of(judged).into_iter().filter(|(name, _)| !arm_labels.contains(name)).collect();
    labels.extend(labels_of(stable).into_iter().filter(|(name, _)| arm_labels.contains(name)));
    if let Some(fields) = made.as_object_mut() {
        let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("labels".to_owned(), Value::Object(labels));
        }
    }
    made
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            out.push('{');
            let sorted: BTreeMap<&String, &Value> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            for (name, value) in sorted {
                out.push_str(&Value::String(name.clone()).to_string());
                out.push(':');
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arm_labels() -> BTreeSet<String> {
        BTreeSet::from(["app".to_owned(), "track".to_owned()])
    }

    fn template(app: &str, image: &str) -> Value {
        json!({
            "metadata": {"creationTimestamp": null, "labels": {"app": app, "team": "shop"}},
            "spec": {"containers": [{"name": "main", "image": image, "env": [{"name": "A", "value": "1"}]}]},
        })
    }

    #[test]
    fn the_version_is_what_runs_and_not_which_arm_it_is() {
        let version = |template: &Value| version_of(template, &arm_labels());
        assert_eq!(version(&template("checkout", "v1")), version(&template("checkout-canary", "v1")));
        assert_ne!(version(&template("checkout", "v1")), version(&template("checkout", "v2")));
        let mut annotated = template("checkout", "v1");
        annotated["metadata"]["annotations"] = json!({"restarted": "now"});
        assert_ne!(version(&annotated), version(&template("checkout", "v1")), "an annotation rolls the pods as well");
        annotated["metadata"]["annotations"] = json!({});
        assert_eq!(version(&annotated), version(&template("checkout", "v1")));
    }

    #[test]
    fn order_of_fields_means_nothing_and_order_of_lists_does() {
        let version = |text: &str| version_of(&serde_json::from_str(text).unwrap(), &arm_labels());
        assert_eq!(version(r#"{"spec":{"a":1,"b":null,"c":[1,2]}}"#), version(r#"{"spec":{"c":[1,2],"a":1}}"#));
        assert_ne!(version(r#"{"spec":{"c":[1,2]}}"#), version(r#"{"spec":{"c":[2,1]}}"#));
        assert_ne!(version(r#"{"spec":{"a":"1"}}"#), version(r#"{"spec":{"a":1}}"#));
    }

    #[test]
    fn what_is_promoted_is_the_judged_version_with_stables_labels() {
        let (stable, judged) = (template("checkout", "v1"), template("checkout-canary", "v2"));
        let made = promoted(&judged, &stable, &arm_labels());
        assert_eq!(made["metadata"]["labels"], json!({"app": "checkout", "team": "shop"}));
        assert_eq!(made["spec"], judged["spec"]);
        assert_eq!(version_of(&made, &arm_labels()), version_of(&judged, &arm_labels()));
    }
}
