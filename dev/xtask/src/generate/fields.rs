//! The fields of one object of the schema as a table in Markdown: field, type, default, meaning.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::places::referred;

/// A default that is told in words goes into its column if it is no longer than this.
const LONGEST_DEFAULT_CHARS: usize = 100;

/// Formats of text and the heading in the document that explains each.
const FORMATS: &[(&str, &str, &str)] = &[
    ("serin-duration", "duration", "durations"),
    ("serin-weight", "percent", "percent-and-percentage-points"),
    ("serin-percentage", "percentage", "percent-and-percentage-points"),
    ("serin-size", "size", "sizes"),
    ("serin-name", "name", "names-paths-and-addresses"),
    ("serin-url-path", "path", "names-paths-and-addresses"),
    ("serin-listen", "address", "names-paths-and-addresses"),
];

/// Makes tables from a schema. `anchor` finds the section of a definition.
pub(super) struct Tables<'a> {
    pub(super) schema: &'a Value,
    pub(super) anchor: &'a dyn Fn(&str) -> Option<String>,
}

impl Tables<'_> {
    /// The table of an object. Its fields come in the order of `first`, then the required ones, then the others.
    ///
    /// # Errors
    /// If `first` names a field that does not exist, or a field has a type that this does not know.
    pub(super) fn table(&self, object: &Value, first: &[&str]) -> Result<String> {
        let fields = object.get("properties").and_then(Value::as_object).context("it has no fields")?;
        let required: Vec<&str> =
            object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut order: Vec<&str> = Vec::with_capacity(fields.len());
        for name in first.iter().chain(&required).copied().chain(fields.keys().map(String::as_str)) {
            if !fields.contains_key(name) {
                bail!("there is no field `{name}`");
            }
            if !order.contains(&name) {
                order.push(name);
            }
        }
        let mut table = String::from("| field | type | default | meaning |\n|---|---|---|---|\n");
        for name in order {
            let row = self.row(&fields[name], required.contains(&name)).with_context(|| format!("field `{name}`"))?;
            table += &format!("| `{name}` | {} |\n", row.map(|cell| cell.replace('|', "\\|").replace('\n', " ")).join(" | "));
        }
        Ok(table)
    }

    fn row(&self, field: &Value, is_required: bool) -> Result<[String; 3]> {
        let description = field.get("description").and_then(Value::as_str).context("it has no description")?;
        let (description, told_default) = match description.split_once(" Default: ") {
            Some((before, told)) if told.chars().count() <= LONGEST_DEFAULT_CHARS => {
                (before.to_owned(), Some(told.trim_end_matches('.').to_owned()))
            }
            Some((before, told)) => (format!("{before} Default: {told}"), Some("see meaning".to_owned())),
            None => (description.to_owned(), None),
        };
        let default = match (field.get("default"), told_default) {
            _ if is_required => "**required**".to_owned(),
            (Some(value), _) => code(value),
            (None, Some(told)) => told,
            (None, None) => "–".to_owned(),
        };
        let mut meaning = description;
        for (word, told) in self.words(field) {
            if let Some(told) = told {
                meaning += &format!("<br>`{word}`: {}", lower_first(told));
            }
        }
        let examples = field.get("examples").and_then(Value::as_array).filter(|_| field.get("format").is_none());
        if let Some(example) = examples.and_then(|examples| examples.first()) {
            meaning += &format!("<br>Example: {}", code(example));
        }
        Ok([self.kind(field)?, default, meaning])
    }

    /// What may be written.
    fn kind(&self, field: &Value) -> Result<String> {
        if let Some(name) = referred(field) {
            let words: Vec<String> = self.words(field).map(|(word, _)| format!("`{word}`")).collect();
            if !words.is_empty() {
                return Ok(any_of(&words));
            }
            let anchor = (self.anchor)(name).with_context(|| format!("no section is about {name}"))?;
            let definition = self.definition(name)?;
            let title = definition.get("title").and_then(Value::as_str).unwrap_or(name).to_lowercase();
            let text = if allows(definition, "string") { "text or " } else { "" };
            return Ok(format!("{text}[{title}](#{anchor})"));
        }
        if let Some(words) = field.get("enum").and_then(Value::as_array) {
            return Ok(any_of(&words.iter().map(code).collect::<Vec<_>>()));
        }
        if let Some((_, name, anchor)) = FORMATS.iter().find(|(format, ..)| field.get("format").is_some_and(|given| given == format)) {
            return Ok(format!("[{name}](#{anchor})"));
        }
        if allows(field, "number") && allows(field, "string") {
            return Ok("[limit](#metrics-and-their-units)".to_owned());
        }
        let kind = field.get("type").and_then(Value::as_str).context("its type is not known here")?;
        Ok(match kind {
            "array" => {
                let items = field.get("items").context("a list of nothing")?;
                format!("list of {}{}", self.kind(items)?, range(field, "minItems", "maxItems"))
            }
            "object" => {
                let values = field.get("additionalProperties").context("an object without a name")?;
                format!("map of text to {}", self.kind(values)?)
            }
            "string" => "text".to_owned(),
            "boolean" => "`true` or `false`".to_owned(),
            "integer" => format!("whole number{}", range(field, "minimum", "maximum")),
            "number" => format!("number{}", range(field, "minimum", "maximum")),
            other => bail!("the type {other} is not known here"),
        })
    }

    /// The words that a field may have, each with its meaning.
    fn words<'b>(&'b self, field: &'b Value) -> impl Iterator<Item = (&'b str, Option<&'b str>)> {
        let definition = referred(field).and_then(|name| self.schema.get("$defs")?.get(name));
        let list = |key: &str| definition.and_then(|definition| definition.get(key)).and_then(Value::as_array).into_iter().flatten();
        let told = list("oneOf").filter_map(|one| Some((one.get("const")?.as_str()?, one.get("description").and_then(Value::as_str))));
        told.chain(list("enum").filter_map(|word| Some((word.as_str()?, None))))
    }

    fn definition(&self, name: &str) -> Result<&Value> {
        self.schema.get("$defs").and_then(|all| all.get(name)).with_context(|| format!("the schema does not define {name}"))
    }
}

/// The objects among the schema's definitions: those that need a section.
pub(super) fn objects(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let all: Option<&Map<String, Value>> = schema.get("$defs").and_then(Value::as_object);
    all.into_iter().flatten().filter(|(_, definition)| definition.get("properties").is_some())
}

fn allows(schema: &Value, kind: &str) -> bool {
    schema.get("type").and_then(Value::as_array).is_some_and(|kinds| kinds.iter().any(|one| one == kind))
}

/// `, 1 to 64`; a lower bound of zero goes without saying.
fn range(field: &Value, least: &str, most: &str) -> String {
    let bound = |name: &str| field.get(name).and_then(Value::as_f64).filter(|bound| *bound > 0.0);
    match (bound(least), bound(most)) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    }
}

fn any_of(words: &[String]) -> String {
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A value as code, the way it is written in a document.
fn code(value: &Value) -> String {
    format!("`{}`", value.as_str().map_or_else(|| flow(value), str::to_owned))
}

/// YAML's flow style; texts in it are quoted, which is never wrong.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            format!("{{{}}}", map.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// With a small first letter, unless the first word is written in capitals.
fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return String::new() };
    let rest = characters.as_str();
    if rest.starts_with(char::is_uppercase) {
        return text.to_owned();
    }
    first.to_lowercase().chain(rest.chars()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(object: &Value, first: &[&str]) -> Result<String> {
        let schema = json!({"$defs": {
            "Gate": {"oneOf": [{"const": "auto", "description": "Nothing more."}, {"const": "manual", "description": "A person."}]},
            "Kind": {"oneOf": [{"const": "HTTPRoute", "description": "HTTP."}]},
            "Ready": {"title": "Ready", "properties": {}},
        }});
        let anchor = |name: &str| (name == "Ready").then(|| "readiness".to_owned());
        Tables { schema: &schema, anchor: &anchor }.table(object, first)
    }

    fn one(field: &Value) -> String {
        let object = json!({"properties": {"f": field}});
        table(&object, &[]).unwrap().lines().nth(2).unwrap().to_owned()
    }

    #[test]
    fn types_defaults_and_words() {
        let cases = [
            (json!({"description": "A.", "format": "serin-duration", "default": "5s"}), "| `f` | [duration](#durations) | `5s` | A. |"),
            (json!({"description": "A.", "$ref": "#/$defs/Ready"}), "| `f` | [ready](#readiness) | – | A. |"),
            (
                json!({"description": "A.", "$ref": "#/$defs/Gate"}),
                "| `f` | `auto` or `manual` | – | A.<br>`auto`: nothing more.<br>`manual`: a person. |",
            ),
            (json!({"description": "A.", "$ref": "#/$defs/Kind"}), "| `f` | `HTTPRoute` | – | A.<br>`HTTPRoute`: HTTP. |"),
            (json!({"description": "A. Default: a|b.", "type": "string"}), "| `f` | text | a\\|b | A. |"),
            (json!({"description": "A.", "type": "integer", "minimum": 0, "maximum": 9}), "| `f` | whole number, at most 9 | – | A. |"),
            (
                json!({"description": "A.", "type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string"}, "examples": [["a"]]}),
                "| `f` | list of text, 1 to 3 | – | A.<br>Example: `[\"a\"]` |",
            ),
            (json!({"description": "A.", "type": ["number", "string"]}), "| `f` | [limit](#metrics-and-their-units) | – | A. |"),
        ];
        for (field, row) in cases {
            assert_eq!(one(&field), row);
        }
    }

    #[test]
    fn asked_order_then_required_then_the_rest() {
        let text = |name: &str| json!({"description": name, "type": "string"});
        let object = json!({"properties": {"a": text("A"), "b": text("B"), "c": text("C")}, "required": ["c"]});
        let names = |first: &[&str]| -> Vec<String> {
            let table = table(&object, first).unwrap();
            table.lines().skip(2).map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
        };
        assert_eq!(names(&[]), ["c", "a", "b"]);
        assert_eq!(names(&["b"]), ["b", "c", "a"]);
        assert!(table(&object, &["gone"]).is_err());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for field in [json!({"type": "string"}), json!({"description": "A."}), json!({"description": "A.", "$ref": "#/$defs/Other"})] {
            assert!(table(&json!({"properties": {"f": field}}), &[]).is_err());
        }
    }
}
