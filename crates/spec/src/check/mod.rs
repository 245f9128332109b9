//! The structure of a document against its JSON Schema.
//!
//! A general validator says `"x" is not valid under any of the given schemas`. This one knows only the few keywords that the schema uses, and
//! says for each mistake where it is, what was expected, and what was probably meant. It reports all mistakes, and each only once: a
//! misspelled field is not also a missing one.

mod nearest;
mod object;
mod unbuilt;

pub(crate) use nearest::nearest;

use serde_json::Value;

use crate::{
    Diagnostic, Diagnostics,
    diagnostic::{list, quote},
    format::Format,
    tree::{Content, Node, Path, Span},
};

/// Lists of names up to this length are shown whole.
const FEW: usize = 14;

/// Reports everything in which a document differs from its schema.
pub(crate) fn check(root: &Node, schema: &Value, diagnostics: &mut Diagnostics) {
    let mut checker = Checker { schema, diagnostics };
    checker.node(root, &Path::root(), schema, root.first_place());
}

struct Checker<'a> {
    schema: &'a Value,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Checker<'a> {
    /// `place` is where to point if the node is no scalar.
    fn node(&mut self, node: &Node, path: &Path, schema: &'a Value, place: Span) {
        let schema = self.resolve(schema);
        let place = if node.scalar_text().is_some() { node.span } else { place };
        if matches!(node.content, Content::Null) {
            if node.flawed {
                return;
            }
            let message = format!("{} has no value", named(path));
            self.report(
                Diagnostic::error("no-value", place, message)
                    .at(path)
                    .expected(describe(schema))
                    .help("give it a value, or leave the field out if it is optional"),
            );
            return;
        }
        let words = words(schema);
        if !words.is_empty() {
            self.word(node, path, &words, place);
            return;
        }
        if let (Some(format), Some(text)) = (format(schema), node.scalar_text())
            && !matches!(node.content, Content::Bool(_))
            && let Err(malformed) = format.check(text)
        {
            self.report(
                Diagnostic::error("malformed", place, malformed.message).at(path).expected(malformed.expected).maybe_help(malformed.help),
            );
            return;
        }
        if !types(schema).iter().any(|kind| has_type(node, kind)) {
            self.wrong_type(node, path, schema, place);
            return;
        }
        match &node.content {
            Content::Map(entries) => self.object(node, entries, path, schema, place),
            Content::List(items) => {
                self.count(items.len(), "item", ["minItems", "maxItems"], path, schema, place);
                if let Some(item_schema) = schema.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.node(item, &path.index(index), item_schema, item.first_place());
                    }
                }
            }
            Content::Text(text) => self.count(text.chars().count(), "character", ["minLength", "maxLength"], path, schema, place),
            Content::Number(number) => self.range(number.as_f64(), &number.text, path, schema, place),
            Content::Null | Content::Bool(_) => {}
        }
    }

    fn word(&mut self, node: &Node, path: &Path, words: &[&str], place: Span) {
        let Some(text) = node.scalar_text() else {
            let message = format!("{} is {}", named(path), node.kind());
            self.report(Diagnostic::error("wrong-type", place, message).at(path).expected(list(words.iter().copied(), "or")));
            return;
        };
        if matches!(node.content, Content::Text(_)) && words.contains(&text) {
            return;
        }
        let help = nearest(text, words.iter().copied()).map(|word| format!("did you mean {}?", quote(word)));
        self.report(
            Diagnostic::error("unknown-word", place, format!("{} cannot be {}", named(path), quote(text)))
                .at(path)
                .expected(list(words.iter().copied(), "or"))
                .maybe_help(help),
        );
    }

    fn wrong_type(&mut self, node: &Node, path: &Path, schema: &Value, place: Span) {
        let types = types(schema);
        let found = match (node.scalar_text(), &node.content) {
            (Some(text), Content::Text(_)) => format!("the text {}", quote(text)),
            (Some(text), Content::Number(_)) => format!("the number {}", quote(text)),
            (Some(text), Content::Bool(_)) => quote(text),
            _ => node.kind().to_owned(),
        };
        let help = match (&node.content, node.scalar_text()) {
            (Content::Number(_) | Content::Bool(_), Some(text)) if types.contains(&"string") => Some(format!("quote it: `\"{text}\"`")),
            (Content::Text(text), _) if types.contains(&"boolean") => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "true" | "y" => Some("write `true`".to_owned()),
                "no" | "off" | "false" | "n" => Some("write `false`".to_owned()),
                _ => None,
            },
            (Content::Text(_) | Content::Map(_), _) if types == ["array"] => {
                Some("write it as a list: `[…]`, or a line for each item that begins with `- `".to_owned())
            }
            (Content::Text(text), _) if !types.contains(&"string") && text.parse::<f64>().is_ok() => {
                Some("leave out the quotes".to_owned())
            }
            (Content::List(items), _)
                if types == ["object"] && matches!(items.as_slice(), [only] if matches!(only.content, Content::Map(_))) =>
            {
                Some("leave out the `-` or the brackets".to_owned())
            }
            _ => None,
        };
        self.report(
            Diagnostic::error("wrong-type", place, format!("{} is {found}", named(path)))
                .at(path)
                .expected(describe(schema))
                .maybe_help(help),
        );
    }

    fn count(&mut self, count: usize, unit: &str, [min, max]: [&str; 2], path: &Path, schema: &Value, place: Span) {
        let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if bound(min).is_some_and(|min| count < min) {
            let message = if count == 0 { format!("{} is empty", named(path)) } else { format!("{} has too few {unit}s", named(path)) };
            let expected = bound(min).map(|min| format!("at least {min} {unit}{}", if min == 1 { "" } else { "s" }));
            self.report(Diagnostic::error("too-few", place, message).at(path).maybe_expected(expected));
        }
        if let Some(max) = bound(max).filter(|max| count > *max) {
            let message = format!("{} has {count} {unit}s", named(path));
            self.report(Diagnostic::error("too-many", place, message).at(path).expected(format!("at most {max} {unit}s")));
        }
    }

    fn range(&mut self, value: f64, text: &str, path: &Path, schema: &Value, place: Span) {
        let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
        // What the Rust type can hold; larger numbers have no use in a document.
        let (floor, ceiling) = match schema.get("format").and_then(Value::as_str) {
            Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
            // The largest whole number that survives a double, and so other tools.
            Some("uint64") => (Some(0.0), Some(9_007_199_254_740_991.0)),
            _ => (None, None),
        };
        let min = bound("minimum").or(floor);
        let max = bound("maximum").or(ceiling);
        if min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max) {
            return;
        }
        let expected = match (min, max) {
            (Some(min), Some(max)) => format!("{min} to {max}"),
            (Some(min), None) => format!("at least {min}"),
            (None, Some(max)) => format!("at most {max}"),
            (None, None) => return,
        };
        let message = format!("{} is out of range: {}", named(path), quote(text));
        self.report(Diagnostic::error("out-of-range", place, message).at(path).expected(expected));
    }

    /// Follows a reference into the schema's definitions.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        target.and_then(|pointer| self.schema.pointer(pointer)).unwrap_or(schema)
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }
}

/// What a message calls a place: its field in backquotes, a list's item by its number, or the document.
pub(crate) fn named(path: &Path) -> String {
    use crate::tree::Segment;
    match path.segments() {
        [] => "the document".to_owned(),
        [.., Segment::Key(key)] => quote(key),
        [.., Segment::Key(list), Segment::Index(index)] => format!("item {} of {}", index + 1, quote(list)),
        [.., Segment::Index(index)] => format!("item {}", index + 1),
    }
}

fn format(schema: &Value) -> Option<Format> {
    schema.get("format").and_then(Value::as_str).and_then(Format::from_name)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The words that are allowed, if the schema is a list of words.
fn words(schema: &Value) -> Vec<&str> {
    if let Some(Value::Array(words)) = schema.get("enum") {
        return words.iter().filter_map(Value::as_str).collect();
    }
    match schema.get("oneOf") {
        Some(Value::Array(branches)) => branches.iter().filter_map(|branch| branch.get("const").and_then(Value::as_str)).collect(),
        _ => schema.get("const").and_then(Value::as_str).into_iter().collect(),
    }
}

fn has_type(node: &Node, kind: &str) -> bool {
    match &node.content {
        Content::Null => false,
        Content::Bool(_) => kind == "boolean",
        Content::Number(number) => kind == "number" || (kind == "integer" && number.is_whole()),
        Content::Text(_) => kind == "string",
        Content::List(_) => kind == "array",
        Content::Map(_) => kind == "object",
    }
}

/// What a schema wants, in words.
fn describe(schema: &Value) -> String {
    let words = words(schema);
    if !words.is_empty() {
        return list(words, "or");
    }
    if let Some(format) = format(schema)
        && let Err(malformed) = format.check("")
    {
        return malformed.expected;
    }
    let names: Vec<&str> = types(schema)
        .into_iter()
        .map(|kind| match kind {
            "object" => "a mapping",
            "array" => "a list",
            "string" => "text",
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "`true` or `false`",
            other => other,
        })
        .collect();
    let mut description = names.join(" or ");
    if let Some(fields) = schema.get("properties").and_then(Value::as_object)
        && !fields.is_empty()
    {
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        description += &match (required.is_empty(), object::is_union(schema)) {
            (false, _) => format!(" with {}", list(required, "and")),
            (true, true) => format!(" with {}", list(fields.keys().map(String::as_str), "or")),
            (true, false) => format!(" with any of {}", list(fields.keys().map(String::as_str), "and")),
        };
    }
    description
}
