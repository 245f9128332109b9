//! Fields: unknown ones, missing ones, and unions.

use serde_json::{Map, Value};

use super::{Checker, FEW, named, nearest, unbuilt};
use crate::{
    Diagnostic,
    diagnostic::{list, quote},
    tree::{Entry, Node, Path, Segment, Span},
};

impl<'a> Checker<'a> {
    pub(super) fn object(&mut self, node: &Node, entries: &[Entry], path: &Path, schema: &'a Value, place: Span) {
        let fields = schema.get("properties").and_then(Value::as_object);
        let mut meant = Vec::new();
        let mut unknown = false;
        for entry in entries {
            let below = path.key(&entry.key);
            match fields.and_then(|fields| fields.get(&entry.key)) {
                Some(field) => self.node(&entry.value, &below, field, entry.key_span),
                None => match schema.get("additionalProperties") {
                    Some(Value::Bool(false)) => {
                        unknown = true;
                        meant.extend(self.unknown_field(entry, path, fields));
                    }
                    Some(others @ Value::Object(_)) => self.node(&entry.value, &below, others, entry.key_span),
                    _ => {}
                },
            }
        }
        let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        // Something reserved in the place of the only thing there is: that was said, and is not also something missing.
        let reserved = path.segments().len() > 1 && entries.iter().any(|entry| unbuilt::is_reserved(path, &entry.key));
        for name in required.iter().filter_map(Value::as_str) {
            let given = entries.iter().any(|entry| entry.key == name);
            if !given && !meant.contains(&name) && !reserved && !node.flawed {
                self.missing_field(name, path, fields, place);
            }
        }
        let union = union(schema);
        if !union.is_empty() {
            self.exactly_one(entries, path, &union, unknown || node.flawed, place);
        }
    }

    /// Returns the field that was probably meant.
    fn unknown_field(&mut self, entry: &Entry, path: &Path, fields: Option<&'a Map<String, Value>>) -> Option<&'a str> {
        let below = path.key(&entry.key);
        let names: Vec<&'a str> = fields.map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default();
        if let Some(built) = unbuilt::field(path, &entry.key, &names) {
            self.report(built.diagnostic(entry.key_span).at(&below));
            return None;
        }
        let meant = if self.diagnostics.is_full() { None } else { nearest(&entry.key, names.iter().copied()) };
        let diagnostic = Diagnostic::error("unknown-field", entry.key_span, format!("unknown field {}", quote(&entry.key))).at(&below);
        let help = match meant {
            Some(meant) => Some(format!("did you mean {}?", quote(meant))),
            None if self.diagnostics.is_full() => None,
            None => self.elsewhere(&entry.key),
        };
        let expected = (names.len() <= FEW).then(|| list(names.iter().copied(), "or"));
        self.report(diagnostic.maybe_expected(expected).maybe_help(help));
        meant
    }

    /// Where a field of that very name would be right: fields are more often in the wrong place than made up.
    fn elsewhere(&self, name: &str) -> Option<String> {
        const MOST: usize = 4;
        let mut found = Vec::new();
        self.find_field(self.schema, name, &Path::root(), &mut found);
        found.dedup();
        (!found.is_empty() && found.len() <= MOST)
            .then(|| format!("a field of that name belongs into {}", list(found.iter().map(String::as_str), "or")))
    }

    fn find_field(&self, schema: &'a Value, name: &str, path: &Path, found: &mut Vec<String>) {
        let schema = self.resolve(schema);
        if let Some(items) = schema.get("items") {
            self.find_field(items, name, path, found);
        }
        for (field, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if field == name {
                found.push(path.pattern());
            }
            self.find_field(below, name, &path.key(field), found);
        }
    }

    fn missing_field(&mut self, name: &str, path: &Path, fields: Option<&'a Map<String, Value>>, place: Span) {
        let wanted = fields.and_then(|fields| fields.get(name)).map(|field| super::describe(self.resolve(field)));
        let message = match path.segments() {
            [.., Segment::Index(_)] => format!("{} has no {}", named(path), quote(name)),
            _ => format!("{} has no field {}", named(path), quote(name)),
        };
        let expected = wanted.map(|wanted| format!("{}: {wanted}", quote(name)));
        self.report(Diagnostic::error("missing-field", place, message).at(path).maybe_expected(expected));
    }

    fn exactly_one(&mut self, entries: &[Entry], path: &Path, union: &[&str], unknown: bool, place: Span) {
        let given: Vec<&Entry> =
            entries.iter().filter(|entry| union.contains(&entry.key.as_str()) || unbuilt::is_reserved(path, &entry.key)).collect();
        match given.as_slice() {
            // An unknown field was reported, and was probably meant to be the one.
            [] if unknown => {}
            [] => {
                let message = format!("{} says nothing", named(path));
                self.report(
                    Diagnostic::error("none-of", place, message)
                        .at(path)
                        .expected(format!("exactly one of {}", list(union.iter().copied(), "or"))),
                );
            }
            [_] => {}
            [first, second, ..] => {
                let message = format!("{} and {} exclude each other", quote(&first.key), quote(&second.key));
                self.report(
                    Diagnostic::error("several-of", second.key_span, message)
                        .at(path)
                        .expected(format!("exactly one of {}", list(union.iter().copied(), "or")))
                        .help(format!("{} is on line {}; remove one of them", quote(&first.key), first.key_span.line)),
                );
            }
        }
    }
}

/// Whether exactly one of the schema's fields must be given.
pub(super) fn is_union(schema: &Value) -> bool {
    !union(schema).is_empty()
}

/// The fields of which exactly one must be given.
fn union(schema: &Value) -> Vec<&str> {
    if schema.get("maxProperties").and_then(Value::as_u64) == Some(1) {
        return schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    }
    let branches = schema.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    branches.iter().filter_map(|branch| branch.get("required")?.get(0)?.as_str()).collect()
}
