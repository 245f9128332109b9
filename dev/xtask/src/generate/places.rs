//! Where in a document each object of the schema may stand: `spec.strategy.canary.stages[]`.

use std::collections::BTreeMap;

use serde_json::Value;

/// The places of each named object, in the order in which a reader of the schema comes to them.
pub(super) fn of(schema: &Value) -> BTreeMap<String, Vec<String>> {
    let mut places = BTreeMap::new();
    visit(schema, schema, "", &mut Vec::new(), &mut places);
    places
}

/// The name of the definition that a schema refers to.
pub(super) fn referred(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// `within`: the definitions on the way here, so that one that contains itself ends.
fn visit<'a>(root: &'a Value, schema: &'a Value, place: &str, within: &mut Vec<&'a str>, places: &mut BTreeMap<String, Vec<String>>) {
    if let Some(name) = referred(schema) {
        let Some(definition) = root.get("$defs").and_then(|all| all.get(name)).filter(|_| !within.contains(&name)) else { return };
        places.entry(name.to_owned()).or_default().push(place.to_owned());
        within.push(name);
        visit(root, definition, place, within, places);
        within.pop();
    }
    for (field, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let dot = if place.is_empty() { "" } else { "." };
        visit(root, inner, &format!("{place}{dot}{field}"), within, places);
    }
    if let Some(inner) = schema.get("items") {
        visit(root, inner, &format!("{place}[]"), within, places);
    }
    if let Some(inner) = schema.get("additionalProperties").filter(|inner| inner.is_object()) {
        visit(root, inner, &format!("{place}.*"), within, places);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_maps_and_objects_in_objects() {
        let schema = json!({
            "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"items": {"$ref": "#/$defs/A"}}, "c": {"additionalProperties": {"$ref": "#/$defs/B"}}},
            "$defs": {"A": {"properties": {"x": {"$ref": "#/$defs/B"}, "again": {"$ref": "#/$defs/A"}}}, "B": {"type": "string"}},
        });
        let places = of(&schema);
        assert_eq!(places["A"], ["a", "b[]"]);
        assert_eq!(places["B"], ["a.x", "b[].x", "c.*"]);
    }
}
