//! The document's JSON Schema, made from the raw types.
//!
//! One source for four uses: editors complete and check with it, [`check`](crate::check) finds structural errors with it, people read it as the
//! reference, and Kubernetes' resource definition is generated from the same types.

use std::sync::OnceLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema, transform::transform_subschemas};
use serde_json::{Value, json};
use serin_core::plan::Metric;

use crate::raw::{Document, ServerDocument};

/// JSON Schema (draft 2020-12) of the release document.
///
/// Formats named `serin-…` are Serin's own; their `pattern` covers most of what they mean. What depends on several fields at once, such as the unit
/// of a limit, is not in it.
#[must_use]
pub fn schema() -> Value {
    shared().clone()
}

/// The schema, made once.
pub(crate) fn shared() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate::<Document>("release"))
}

/// The schema of a server's configuration, made once.
pub(crate) fn of_server() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate::<ServerDocument>("server"))
}

fn generate<T: JsonSchema>(kind: &str) -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    tidy(&mut schema);
    if let Some(Value::Object(definitions)) = schema.get_mut("$defs") {
        for (name, definition) in definitions {
            if let Value::Object(definition) = definition {
                definition.insert("title".to_owned(), json!(spaced(name)));
            }
        }
    }
    schema.insert("$id".to_owned(), json!(format!("https://serin.dev/schema/v1alpha1/{kind}.json")));
    schema.to_value()
}

/// The schema of a built-in metric's name.
pub(crate) fn builtin_metric(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": Metric::builtin_names()})
}

/// Makes `anyOf: [text, object]` one schema that allows both types: simpler to read, to check and to point at.
pub(crate) fn merge_text_and_object(schema: &mut Schema) {
    let Some(Value::Array(branches)) = schema.remove("anyOf") else { return };
    for branch in branches {
        let Value::Object(branch) = branch else { continue };
        for (keyword, value) in branch {
            if keyword != "type" && keyword != "description" {
                schema.insert(keyword, value);
            }
        }
    }
    schema.insert("type".to_owned(), json!(["string", "object"]));
}

/// `ProcessArm` as people read it: `Process arm`.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for character in name.chars() {
        match character {
            upper if upper.is_uppercase() && !words.is_empty() => {
                words.push(' ');
                words.extend(upper.to_lowercase());
            }
            other => words.push(other),
        }
    }
    words
}

/// A field that may be left out may not be written without a value: `ready:` with nothing behind it is a mistake.
///
/// Descriptions lose the line breaks that they have in the source.
fn tidy(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace("\n\n", "\u{0}").replace('\n', " ").replace('\u{0}', "\n\n");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(branches)) = schema.get_mut("anyOf") {
        branches.retain(|branch| branch.get("type") != Some(&json!("null")));
        if branches.len() == 1
            && let Some(Value::Array(branches)) = schema.remove("anyOf")
            && let Some(Value::Object(only)) = branches.into_iter().next()
        {
            for (keyword, value) in only {
                if schema.get(&keyword).is_none() {
                    schema.insert(keyword, value);
                }
            }
        }
    }
    transform_subschemas(&mut tidy, schema);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(value: &Value, look: &mut impl FnMut(&serde_json::Map<String, Value>)) {
        match value {
            Value::Object(map) => {
                look(map);
                map.values().for_each(|value| every(value, look));
            }
            Value::Array(items) => items.iter().for_each(|value| every(value, look)),
            _ => {}
        }
    }

    #[test]
    fn nothing_may_be_null() {
        assert!(!schema().to_string().contains("\"null\""));
    }

    #[test]
    fn every_field_is_described_and_every_format_is_known() {
        every(&schema(), &mut |map| {
            if let Some(Value::Object(fields)) = map.get("properties") {
                for (name, field) in fields {
                    assert!(field.get("description").is_some(), "{name} has no description");
                }
            }
            if let Some(Value::String(format)) = map.get("format")
                && format.starts_with("serin-")
            {
                assert!(crate::format::Format::from_name(format).is_some(), "{format}");
            }
        });
    }
}
