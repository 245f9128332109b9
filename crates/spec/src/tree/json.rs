//! The tree as JSON, and the hash of its meaning.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Content, Node};

/// Digits of the hash that name a release.
const HASH_DIGITS: usize = 12;

impl Node {
    /// The node without its places.
    pub(crate) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.value.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(|item| item.to_json()).collect()),
            Content::Map(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect::<Map<_, _>>())
            }
        }
    }
}

/// The hash of a document's meaning: its version, kind, name and spec. Comments, layout, the order of fields, labels and annotations do not
/// change it.
pub(crate) fn document_hash(document: &Value) -> String {
    let mut canonical = String::new();
    for part in [&document["apiVersion"], &document["kind"], &document["metadata"]["name"], &document["spec"]] {
        write_canonical(part, &mut canonical);
        canonical.push('\n');
    }
    let digest = Sha256::digest(canonical.as_bytes());
    let mut hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hash.truncate(HASH_DIGITS);
    hash
}

/// JSON with sorted keys and without white space, whatever the order of `serde_json`'s maps is in this build.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_meaning_counts() {
        let hash = |metadata: Value, spec: Value| {
            document_hash(&json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Release", "metadata": metadata, "spec": spec}))
        };
        let first = hash(json!({"name": "a"}), json!({"x": 1, "y": [true, "z"]}));
        assert_eq!(first, hash(json!({"name": "a", "labels": {"team": "b"}}), json!({"y": [true, "z"], "x": 1})));
        assert_ne!(first, hash(json!({"name": "b"}), json!({"x": 1, "y": [true, "z"]})));
        assert_ne!(first, hash(json!({"name": "a"}), json!({"x": 2, "y": [true, "z"]})));
        assert_eq!(first.len(), 12);
        // Written down: a release must be recognised by the next version too.
        assert_eq!(first, "ee058db27d8a");
    }
}
