//! Whether a text is a plain selector of PromQL: a name, labels in braces, or both.

use crate::{diagnostic::quote, lower::Context, tree::Path};

/// Reports what is not a plain selector. Templates may stand wherever text may.
pub(super) fn check(text: &str, path: &Path, cx: &mut Context<'_>) {
    let Err(rest) = parse(text) else { return };
    let called = text.split(['(', ' ', '{']).next().unwrap_or_default();
    let is_function = text.trim_start().starts_with(called) && text.contains('(');
    let (message, help) = if is_function {
        let message = format!("counters are read as they are, without {}", quote(called));
        (message, "write the selector alone; Serin sums up its series, knows when counters begin anew, and makes rates of them")
    } else if rest.starts_with('[') {
        ("counters are read as they are, without a range".to_owned(), "leave out the range")
    } else {
        (format!("{} is not a plain selector", quote(text)), "for anything else there is `query`")
    };
    let place = if is_function { called } else { rest };
    let diagnostic = cx.error_within(path, place, "not-a-selector", message);
    cx.push(diagnostic.expected("a name with labels, such as `http_requests_total{version=\"{{arm}}\"}`").help(help));
}

/// The part that should not be there, or the whole if something is missing.
fn parse(text: &str) -> Result<(), &str> {
    let trimmed = text.trim();
    let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
    let name_ends = trimmed.find(|character| !is_name(character)).unwrap_or(trimmed.len());
    let (name, rest) = trimmed.split_at(name_ends);
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(trimmed);
    }
    let rest = rest.trim_start();
    if rest.is_empty() {
        return if name.is_empty() { Err(text) } else { Ok(()) };
    }
    let Some(labels) = rest.strip_prefix('{') else { return Err(rest) };
    let Some(end) = closing_brace(labels) else { return Err(trimmed) };
    if name.is_empty() && labels[..end].trim().is_empty() {
        return Err(trimmed);
    }
    match labels[end + 1..].trim() {
        "" => Ok(()),
        after => Err(after),
    }
}

/// Where the brace that is open closes; braces in quotes, and those of templates, do not count.
fn closing_brace(text: &str) -> Option<usize> {
    let mut quote: Option<u8> = None;
    let mut bytes = text.bytes().enumerate();
    while let Some((index, byte)) = bytes.next() {
        match (quote, byte) {
            (Some(b'"' | b'\''), b'\\') => drop(bytes.next()),
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'' | b'`') => quote = Some(byte),
            (None, b'}') => return Some(index),
            (None, b'{') => return None,
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_selectors() {
        for text in [
            "http_requests_total",
            " job:errors:total ",
            "http_requests_total{}",
            r#"http_requests_total{code=~"5..", version="{{arm}}"}"#,
            r#"{__name__="x"}"#,
            r#"x{path="a}b{c\"d"}"#,
            "x{path='a}'}",
        ] {
            assert_eq!(parse(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn everything_else() {
        for (text, rest) in [
            ("", ""),
            ("{}", "{}"),
            ("sum(x)", "(sum(x)".trim_start_matches("(sum")),
            ("x[5m]", "[5m]"),
            (r#"x{a="b"}[5m]"#, "[5m]"),
            (r#"x{a="b"} / y"#, "/ y"),
            (r#"x{a="b""#, r#"x{a="b""#),
            ("5xx", "5xx"),
            ("x + y", "+ y"),
        ] {
            assert_eq!(parse(text), Err(rest), "{text}");
        }
    }
}
