//! Broken YAML in words for people who do not know how YAML is parsed.

use super::Span;
use crate::Diagnostic;

const QUOTE_TEMPLATE: &str = "a template such as `{{port}}` must be quoted: `\"{{port}}\"`";

/// Lines above the parser's place in which a tab may be the cause.
const NEAR: usize = 3;

/// The parser's error, with the probable cause. `open` is the innermost list or mapping that is not complete.
pub(super) fn explain(lines: &[&str], line: usize, column: usize, info: &str, open: Option<Span>) -> Diagnostic {
    for index in (0..line.min(lines.len())).rev().take(NEAR) {
        if let Some(column) = tab_in_indentation(lines[index]) {
            return Diagnostic::error("tab", Span { line: index + 1, column, length: 1 }, "a tab is used as indentation")
                .expected("spaces: YAML does not allow tabs here")
                .help("replace it by two spaces, and set the editor to do so in YAML files");
        }
    }
    let source = lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
    let help = if info.contains("unknown anchor") {
        "an alias `*name` needs an anchor `&name` before it; quote the value if it is meant as text".to_owned()
    } else if info.contains("quoted scalar") {
        "a quote that is opened before this place is not closed where it should be".to_owned()
    } else if source.contains("{{") {
        QUOTE_TEMPLATE.to_owned()
    } else if let Some(bracket) = open.and_then(|open| bracket_at(lines, open))
        && let Some(Span { line, column, .. }) = open
    {
        format!("the `{bracket}` on line {line}, column {column} is not closed")
    } else if source.contains(": %") || source.contains(": @") || source.contains(": `") {
        "a value that begins with `%`, `@` or a backquote must be quoted".to_owned()
    } else if info.contains("did not find expected key") || info.contains("indentation") {
        "the indentation fits no line above: align it with the fields that it belongs to".to_owned()
    } else {
        "look at the indentation, quotes and brackets here and on the line above".to_owned()
    };
    Diagnostic::error("syntax", Span { line, column, length: 1 }, format!("this is not valid YAML: {info}")).help(help)
}

/// A list or mapping where a field's name should be: nearly always a template without quotes.
pub(super) fn structure_as_name(lines: &[&str], place: Span) -> Diagnostic {
    let line: Vec<char> = lines.get(place.line.saturating_sub(1)).map(|line| line.chars().collect()).unwrap_or_default();
    let here = place.column.saturating_sub(1);
    if here > 0 && line.get(here) == Some(&'{') && line.get(here - 1) == Some(&'{') {
        let length = line.iter().skip(here).take_while(|character| **character != '}').count() + 1;
        let closed = line.get(here + length) == Some(&'}');
        let place = Span { column: place.column - 1, length: length + 1 + usize::from(closed), ..place };
        return Diagnostic::error("template", place, "a template is not quoted").help(QUOTE_TEMPLATE);
    }
    Diagnostic::error("key-not-text", place, "a list or mapping is used as a name").expected("a name")
}

/// The column of a tab before a line's first character, counted from 1.
fn tab_in_indentation(line: &str) -> Option<usize> {
    let content = line.trim_start();
    let indentation = &line[..line.len() - content.len()];
    if content.is_empty() { None } else { indentation.chars().position(|character| character == '\t').map(|index| index + 1) }
}

fn bracket_at(lines: &[&str], place: Span) -> Option<char> {
    let bracket = lines.get(place.line.checked_sub(1)?)?.chars().nth(place.column.checked_sub(1)?)?;
    matches!(bracket, '{' | '[').then_some(bracket)
}
