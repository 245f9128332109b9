//! Merge patches (RFC 7386): what makes one object of another. Lists are replaced as a whole.

use serde_json::{Map, Value};

/// A value after a merge patch (RFC 7386).
#[must_use]
pub fn merged(before: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut after = before.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        if value.is_null() {
            after.remove(name);
        } else {
            let field = merged(after.get(name).unwrap_or(&Value::Null), value);
            after.insert(name.clone(), field);
        }
    }
    Value::Object(after)
}

/// Items of the list at this place; none if there is no list.
pub(crate) fn list<'a>(value: &'a Value, at: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(at).and_then(Value::as_array).into_iter().flatten()
}

/// The merge patch that makes one value of the other; an empty object if they are equal.
#[must_use]
pub fn merge_patch(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return after.clone() };
    let mut patch: Map<String, Value> =
        old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), Value::Null)).collect();
    for (name, value) in new {
        match old.get(name) {
            Some(same) if same == value => {}
            Some(old) => drop(patch.insert(name.clone(), merge_patch(old, value))),
            None => drop(patch.insert(name.clone(), value.clone())),
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_is_replaced_and_not_mixed() {
        let before = json!({"metadata": {"annotations": {"a": "1"}}, "spec": {"containers": [{"name": "x"}], "hostNetwork": true}});
        let after = json!({"metadata": {}, "spec": {"containers": [{"name": "y"}]}});
        let patch = merge_patch(&before, &after);
        let expected = json!({"metadata": {"annotations": null}, "spec": {"containers": [{"name": "y"}], "hostNetwork": null}});
        assert_eq!(patch, expected);
        assert_eq!(merged(&before, &patch), after);
    }
}
