//! What the object of a router says and how it is changed, as data: nothing here asks a server.
//!
//! A lens reads the share that an object gives the canary, and makes the same object with another share. Everything that is not understood is
//! left as it is, and what would make the share mean something else is refused.

use std::fmt::Debug;

use kube::api::ApiResource;
use serde_json::{Map, Value, json};
use serin_core::WeightBps;

use crate::api::merge_patch;

/// One kind of router. Objects are whole: with their metadata.
pub trait Lens: Debug + Send + Sync {
    /// The kind of object.
    fn resource(&self) -> ApiResource;

    /// The object's name.
    fn name(&self) -> &str;

    /// Whether requests are told apart for declared matches.
    fn has_matches(&self) -> bool {
        false
    }

    /// What the object does.
    ///
    /// # Errors
    /// If that cannot be told: it leads to neither version.
    fn seen(&self, object: &Value) -> Result<Seen, LensError>;

    /// The object with this share. `matches`: whether declared matches are to be active.
    ///
    /// # Errors
    /// If it would not mean what was asked.
    fn shifted(&self, object: &Value, weight: WeightBps, matches: bool) -> Result<Value, LensError>;

    /// What of the canary a change has brought into the object, as names that [`without`](Self::without) knows it by. Nothing where the canary must
    /// be there before.
    fn added(&self, _before: &Value, _after: &Value) -> Vec<String> {
        Vec::new()
    }

    /// The object without that, as far as it is still there and has no share.
    fn without(&self, object: &Value, _added: &[String]) -> Value {
        object.clone()
    }

    /// Whether the object can be used at all.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, object: &Value) -> Result<(), LensError> {
        self.shifted(object, WeightBps::ZERO, self.has_matches()).map(drop)
    }

    /// Whether those who carry the object out say that they have taken its current generation. `is_retreat`: the canary is to have nothing, so that
    /// it does not matter whether its Service can be found.
    ///
    /// # Errors
    /// Who has not, or why it was refused.
    fn accepted(&self, object: &Value, is_retreat: bool) -> Result<(), String> {
        accepted(object, is_retreat)
    }

    /// What to do about an object that cannot be used.
    fn hint(&self) -> String;
}

/// What an object does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The canary's share: the largest, where rules differ.
    pub weight: WeightBps,
    /// Whether all rules give it the same share.
    pub even: bool,
    /// Whether the rules for declared matches are there.
    pub matches: bool,
}

/// Why an object cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LensError {
    /// Nothing in it leads to stable.
    #[error("nothing in it leads to {0}")]
    NoStable(String),
    /// Weights would mean something else than the release's.
    #[error("rule {rule} splits its traffic with {other}, which is neither stable's nor the canary's")]
    ThirdBackend {
        /// Position, from 0.
        rule: usize,
        /// The backend's name.
        other: String,
    },
    /// The declared matches do not fit.
    #[error("with the declared matches it would have {0}, more than its API allows")]
    TooLarge(String),
    /// A declared header is matched already, in a way that cannot be joined with the declared one.
    #[error(
        "rule {rule} matches the header {header} already, and not by its exact value: whether a declared match is within it cannot be told"
    )]
    HeaderTaken {
        /// Position, from 0.
        rule: usize,
        /// The header.
        header: String,
    },
    /// It cannot hold this share.
    #[error("it cannot give the canary {0}")]
    NotHeld(WeightBps),
    /// Something else is wrong with it.
    #[error("{0}")]
    Other(String),
}

/// What has to change to make `after` of `before`, as a merge patch of `spec` and annotations; nothing if they are equal.
#[must_use]
pub fn difference(before: &Value, after: &Value) -> Map<String, Value> {
    let ours = |object: &Value| {
        let annotations = object.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({}));
        json!({"spec": object.get("spec").unwrap_or(&Value::Null), "metadata": {"annotations": annotations}})
    };
    match merge_patch(&ours(before), &ours(after)) {
        Value::Object(patch) => patch,
        _ => Map::new(),
    }
}

/// By the conventions of most kinds: `status.observedGeneration`, and conditions that say what is not so.
fn accepted(object: &Value, is_retreat: bool) -> Result<(), String> {
    let number = |at: &str| object.pointer(at).and_then(Value::as_i64);
    let generation = number("/metadata/generation").unwrap_or(0);
    if let Some(observed) = number("/status/observedGeneration").filter(|observed| *observed < generation) {
        return Err(format!("its controller has not looked at generation {generation} yet, only at {observed}"));
    }
    let types: &[&str] =
        if is_retreat { &["Accepted", "Valid", "Reconciled"] } else { &["Accepted", "ResolvedRefs", "Valid", "Reconciled"] };
    conditions(object.pointer("/status"), generation, "its controller", types)
}

/// Conditions of these types that are about an older generation, or not `True`.
pub(super) fn conditions(status: Option<&Value>, generation: i64, who: &str, types: &[&str]) -> Result<(), String> {
    let all = status.and_then(|status| status.get("conditions")).and_then(Value::as_array).into_iter().flatten();
    for condition in all {
        let text = |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
        if !types.contains(&text("type")) {
            continue;
        }
        // Some write numbers as text.
        let observed = condition.get("observedGeneration").and_then(|one| one.as_i64().or_else(|| one.as_str()?.parse().ok()));
        if let Some(observed) = observed.filter(|observed| *observed < generation) {
            return Err(format!("{who} has not looked at generation {generation} yet, only at {observed}"));
        }
        if text("status") != "True" {
            return Err(format!("{who} says {} is not so: {}: {}", text("type"), text("reason"), text("message")));
        }
    }
    Ok(())
}

/// A kind that is known by its group and its names.
pub(crate) fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Text of a field; nothing of anything else.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Items of a field.
pub(super) fn items<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Sets a field of an object.
pub(super) fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_what_changed_and_nothing_else() {
        let before = json!({
            "metadata": {"name": "a", "annotations": {"kept": "1", "gone": "2"}, "generation": 3},
            "spec": {"rules": [1, 2], "same": {"a": 1}, "gone": true},
            "status": {"x": 1},
        });
        let mut after = before.clone();
        assert_eq!(difference(&before, &after), Map::new());
        after["spec"] = json!({"rules": [1, 3], "same": {"a": 1}});
        after["metadata"]["annotations"] = json!({"kept": "1", "new": "3"});
        let expected = json!({
            "spec": {"rules": [1, 3], "gone": null},
            "metadata": {"annotations": {"gone": null, "new": "3"}},
        });
        assert_eq!(Value::Object(difference(&before, &after)), expected);
    }

    #[test]
    fn what_controllers_say_is_listened_to() {
        let object = |status: Value| json!({"metadata": {"generation": 3}, "status": status});
        assert_eq!(accepted(&object(json!({})), false), Ok(()));
        assert_eq!(accepted(&object(json!({"observedGeneration": 3})), false), Ok(()));
        assert!(accepted(&object(json!({"observedGeneration": 2})), false).unwrap_err().contains("generation 3"));
        let condition = |of: &str, status: &str, observed: Value| json!({"conditions": [{"type": of, "status": status, "observedGeneration": observed}]});
        assert!(accepted(&object(condition("Reconciled", "False", json!("3"))), false).is_err());
        assert!(accepted(&object(condition("Reconciled", "True", json!("2"))), false).is_err());
        assert_eq!(accepted(&object(condition("Reconciled", "True", json!("3"))), false), Ok(()));
        assert_eq!(accepted(&object(condition("Odd", "False", json!(1))), false), Ok(()));
    }
}
