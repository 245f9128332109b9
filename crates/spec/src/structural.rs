//! The schema of `spec` in the form that Kubernetes takes for custom resources: structural, with rules in CEL where a union needs one.
//!
//! It is made from the same JSON Schema as everything else, and never allows less than our own validation does:
//!
//! - References are inlined; titles, examples and formats of our own are left out. Unknown fields are refused by the API server's own field
//!   validation (`kubectl` asks for it), because a structural schema has no `additionalProperties: false`.
//! - A number or text (`5`, `"0.5%"`) has no type in a structural schema, save for whole numbers. Such a field keeps whatever it is given, and our
//!   own validation says what is wrong with it.
//! - Only what a cluster can run is in it: a document for one machine is refused when it is applied.

use serde_json::{Map, Value, json};

use crate::schema;

/// Fields that are for one machine, by the names of their types. Variables and files are the controller's own, which are nobody's who may write a
/// release.
const NOT_IN_A_CLUSTER: [(&str, &[&str]); 3] =
    [("Workload", &["processes", "external"]), ("Traffic", &["embedded"]), ("SecretReference", &["env", "file"])];

/// Keywords that a structural schema knows and that mean the same there. `default` does not: defaults would be written into objects by the API
/// server, and then count as said by their author.
const KEPT: [&str; 10] =
    ["description", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "required"];

/// The structural schema of a cluster release's `spec`.
#[must_use]
pub fn cluster_spec_schema() -> Value {
    let whole = schema::shared();
    let spec = whole.pointer("/$defs/Spec").unwrap_or(&Value::Null);
    structural(spec, whole, None)
}

/// `name`: of the definition, if it has one.
fn structural(given: &Value, whole: &Value, name: Option<&str>) -> Value {
    let mut made = Map::new();
    if let Some(reference) = given.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#')) {
        let name = reference.rsplit('/').next();
        if let Value::Object(inlined) = structural(whole.pointer(reference).unwrap_or(&Value::Null), whole, name) {
            made = inlined;
        }
        // What is said about the field is more exact than what is said about the type.
        made.extend(given.get("description").map(|text| ("description".to_owned(), text.clone())));
        return Value::Object(made);
    }
    let types = types(given);
    for keyword in KEPT {
        if let Some(value) = given.get(keyword) {
            made.insert(keyword.to_owned(), value.clone());
        }
    }
    for (exclusive, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if let Some(value) = given.get(exclusive) {
            made.insert(bound.to_owned(), value.clone());
            made.insert(exclusive.to_owned(), json!(true));
        }
    }
    let words = words(given);
    match types.as_slice() {
        _ if !words.is_empty() => {
            made.insert("type".to_owned(), json!("string"));
            made.insert("enum".to_owned(), json!(words));
        }
        ["object"] => object(given, whole, name, &mut made),
        ["array"] => {
            made.insert("type".to_owned(), json!("array"));
            made.insert("items".to_owned(), structural(given.get("items").unwrap_or(&Value::Null), whole, None));
        }
        [only] => {
            made.insert("type".to_owned(), json!(only));
        }
        _ => {
            made.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
        }
    }
    Value::Object(made)
}

fn object(given: &Value, whole: &Value, name: Option<&str>, made: &mut Map<String, Value>) {
    made.insert("type".to_owned(), json!("object"));
    if let Some(others @ Value::Object(_)) = given.get("additionalProperties") {
        made.insert("additionalProperties".to_owned(), structural(others, whole, None));
    }
    let left_out = NOT_IN_A_CLUSTER.iter().find(|(of, _)| Some(*of) == name).map_or(&[][..], |(_, fields)| fields);
    let fields = given.get("properties").and_then(Value::as_object).into_iter().flatten();
    let fields: Map<String, Value> = fields
        .filter(|(name, _)| !left_out.contains(&name.as_str()))
        .map(|(name, field)| (name.clone(), structural(field, whole, None)))
        .collect();
    if given.get("maxProperties").and_then(Value::as_u64) == Some(1) {
        // Rules in CEL cost by how often they may run; within lists and maps these two keywords say the same for nothing.
        match fields.keys().collect::<Vec<_>>().as_slice() {
            [only] => made.insert("required".to_owned(), json!([only])),
            _ => {
                made.insert("minProperties".to_owned(), json!(1));
                made.insert("maxProperties".to_owned(), json!(1))
            }
        };
    }
    let branches = given.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ways: Vec<&str> = branches.iter().filter_map(|branch| branch.get("required")?.get(0)?.as_str()).collect();
    if !ways.is_empty() {
        made.insert("x-kubernetes-validations".to_owned(), json!([exactly_one(&ways)]));
    }
    if !fields.is_empty() {
        made.insert("properties".to_owned(), Value::Object(fields));
    }
}

fn exactly_one(names: &[&str]) -> Value {
    let given: Vec<String> = names.iter().map(|name| format!("has(self.{name})")).collect();
    let rule = format!("[{}].filter(given, given).size() == 1", given.join(", "));
    json!({"rule": rule, "message": format!("exactly one of {} must be given", names.join(", "))})
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(only)) => vec![only],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The words of an enumeration that says something about each: `oneOf` with a constant each.
fn words(schema: &Value) -> Vec<&str> {
    let branches = schema.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    branches.iter().filter_map(|branch| branch.get("const").and_then(Value::as_str)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(value: &Value, at: &str, look: &mut impl FnMut(&str, &Map<String, Value>)) {
        match value {
            Value::Object(map) => {
                look(at, map);
                for (name, value) in map {
                    every(value, &format!("{at}.{name}"), look);
                }
            }
            Value::Array(items) => items.iter().for_each(|value| every(value, at, look)),
            _ => {}
        }
    }

    #[test]
    fn nothing_is_left_that_kubernetes_does_not_know() {
        every(&cluster_spec_schema(), "spec", &mut |at, map| {
            let is_fields = at.ends_with(".properties");
            for name in ["$ref", "$defs", "oneOf", "anyOf", "title", "examples", "format", "const", "default"] {
                assert!(is_fields || !map.contains_key(name), "{at} has {name}");
            }
            if map.get("additionalProperties") == Some(&json!(false)) {
                panic!("{at} forbids other fields");
            }
        });
    }

    #[test]
    fn every_field_has_a_type_or_keeps_what_it_is_given() {
        every(&cluster_spec_schema(), "spec", &mut |at, map| {
            for (name, field) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let is_typed = field.get("type").is_some_and(Value::is_string);
                assert!(is_typed || field.get("x-kubernetes-preserve-unknown-fields").is_some(), "{at}: {name}");
            }
        });
    }

    #[test]
    fn only_what_a_cluster_can_run() {
        let schema = cluster_spec_schema();
        let fields = |at: &str| schema.pointer(at).unwrap().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(fields("/properties/workload/properties"), ["kubernetes"]);
        assert_eq!(
            fields("/properties/traffic/properties"),
            ["custom", "gatewayApi", "ingressNginx", "istio", "replicas", "service", "traefik"]
        );
        assert_eq!(schema["properties"]["workload"]["required"], json!(["kubernetes"]));
        let ways = &schema.pointer("/properties/strategy/properties/canary/x-kubernetes-validations").unwrap()[0]["rule"];
        assert_eq!(ways, "[has(self.stages), has(self.preset), has(self.linear)].filter(given, given).size() == 1");
    }
}
