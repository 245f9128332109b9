//! Objects before and after a merge patch, field by field. Knows no kind of object.
//!
//! Items of lists are told apart by their `name` where all have one that is unique, as Kubernetes does in most of its lists; elsewhere what is
//! equal at both ends of the list is left out, and what remains is compared from the end, because rules are put in front of others.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

/// One field that changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    /// Where it is, such as `spec.rules[0].backendRefs[checkout].weight`.
    pub path: String,
    /// What it is before; absent if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it is after; absent if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// The fields in which two values differ.
#[must_use]
pub fn fields(before: &Value, after: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    compare(String::new(), Some(before), Some(after), &mut found);
    found
}

fn compare(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Field>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let dot = if path.is_empty() { "" } else { "." };
                // Names with dots, as annotations have, would look like several fields.
                let field = if name.contains(['.', '/']) { format!("{path}[\"{name}\"]") } else { format!("{path}{dot}{name}") };
                compare(field, old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => lists(&path, old, new, found),
        (before, after) => found.push(Field { path, before: before.cloned(), after: after.cloned() }),
    }
}

fn lists(path: &str, old: &[Value], new: &[Value], found: &mut Vec<Field>) {
    if let (Some(old_names), Some(new_names)) = (names(old), names(new)) {
        for (name, item) in old_names.iter().zip(old) {
            let now = new_names.iter().position(|one| one == name).and_then(|place| new.get(place));
            compare(format!("{path}[{name}]"), Some(item), now, found);
        }
        for (name, item) in new_names.iter().zip(new).filter(|(name, _)| !old_names.contains(name)) {
            compare(format!("{path}[{name}]"), None, Some(item), found);
        }
        let is_order_alone = old_names != new_names && old_names.iter().collect::<BTreeSet<_>>() == new_names.iter().collect();
        if is_order_alone {
            found.push(Field { path: format!("{path} (order)"), before: Some(old_names.into()), after: Some(new_names.into()) });
        }
        return;
    }
    let head = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let most = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(old, new)| old == new).count();
    let (old, rest) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let extra = rest.len().saturating_sub(old.len());
    for (place, item) in rest.iter().enumerate() {
        let before = place.checked_sub(extra).and_then(|place| old.get(place + old.len().saturating_sub(rest.len())));
        compare(format!("{path}[{}]", head + place), before, Some(item), found);
    }
    for (place, item) in old.iter().take(old.len().saturating_sub(rest.len())).enumerate() {
        compare(format!("{path}[{}]", head + place), Some(item), None, found);
    }
}

/// The names of all items, if each has one and no two have the same.
fn names(items: &[Value]) -> Option<Vec<&str>> {
    let all: Option<Vec<&str>> = items.iter().map(|item| item.get("name")?.as_str()).collect();
    all.filter(|all| all.iter().collect::<BTreeSet<_>>().len() == all.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{merge_patch, merged};

    fn words(before: &Value, after: &Value) -> Vec<String> {
        let word = |value: &Option<Value>| value.as_ref().map_or("–".to_owned(), Value::to_string);
        fields(before, after).iter().map(|one| format!("{}: {} → {}", one.path, word(&one.before), word(&one.after))).collect()
    }

    #[test]
    fn fields_are_found_by_name_or_by_place() {
        let backend = |name: &str, weight: u32| json!({"name": name, "weight": weight});
        let before = json!({"spec": {"rules": [{"backendRefs": [backend("a", 1)]}], "x": 1}});
        let after = json!({"spec": {"rules": [{"backendRefs": [backend("a", 80), backend("b", 20)]}]}});
        let expected = [
            "spec.rules[0].backendRefs[a].weight: 1 → 80",
            r#"spec.rules[0].backendRefs[b]: – → {"name":"b","weight":20}"#,
            "spec.x: 1 → –",
        ];
        assert_eq!(words(&before, &after), expected);
        // A rule in front of one that changes as well.
        let before = json!({"rules": [{"k": 0}, {"w": 1}]});
        let after = json!({"rules": [{"k": 0}, {"m": 1}, {"w": 2}]});
        assert_eq!(words(&before, &after), [r#"rules[1]: – → {"m":1}"#, "rules[2].w: 1 → 2"]);
        assert_eq!(words(&after, &before), ["rules[1].w: 2 → 1", r#"rules[1]: {"m":1} → –"#]);
        assert_eq!(words(&json!({"a": {"b.c/d": "1"}}), &json!({"a": {"b.c/d": "2"}})), [r#"a["b.c/d"]: "1" → "2""#]);
        let order = words(&json!([{"name": "a"}, {"name": "b"}]), &json!([{"name": "b"}, {"name": "a"}]));
        assert_eq!(order, [r#" (order): ["a","b"] → ["b","a"]"#]);
    }

    #[test]
    fn patches_there_and_back() {
        let values = [
            json!({"a": {"b": 1, "c": [1, 2]}, "d": "x"}),
            json!({"a": {"b": 2}, "e": {"f": []}}),
            json!({}),
            json!({"a": {"c": [2, 1]}, "d": {"x": 1}}),
        ];
        for before in &values {
            for after in &values {
                let patch = merge_patch(before, after);
                assert_eq!(&merged(before, &patch), after, "{patch}");
                assert_eq!(before == after, patch == json!({}));
                assert_eq!(before == after, fields(before, after).is_empty());
            }
        }
    }
}
