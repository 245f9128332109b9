//! Text of a document made safe to show.
//!
//! A document may hold escape sequences, right-to-left overrides or a line of a megabyte. Nothing of that reaches a terminal.

/// The most characters of a document's text that are quoted in a message.
const MAX_QUOTED_CHARS: usize = 60;

/// Width a tab is shown with. Tabs are expanded to a fixed width rather than to stops, so that carets align whatever precedes them.
const TAB: &str = "    ";

/// The lines of a text as YAML sees them: ended by `\n`, `\r\n` or `\r`. A byte order mark is no part of them.
pub(crate) fn lines(text: &str) -> Vec<&str> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    while let Some(end) = rest.find(['\n', '\r']) {
        lines.push(&rest[..end]);
        let ended = &rest[end..];
        rest = ended.strip_prefix("\r\n").unwrap_or(&ended[1..]);
    }
    lines.push(rest);
    lines
}

/// A character as it is shown: what would move the cursor or hide itself is replaced by something that can be seen.
pub(crate) fn shown(character: char) -> std::borrow::Cow<'static, str> {
    match character {
        '\t' => TAB.into(),
        // The Unicode block of control pictures mirrors the control characters.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)).map_or("?".into(), |picture| picture.to_string().into()),
        '\u{7f}' => "\u{2421}".into(),
        '\u{80}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{ad}'
        | '\u{61c}' => "\u{fffd}".into(),
        other => other.to_string().into(),
    }
}

/// Text without anything that would move the cursor or hide itself.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// Text of the document for a message: in backquotes, visible, cut if it is long.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("`");
    for (index, character) in text.chars().enumerate() {
        if index == MAX_QUOTED_CHARS {
            quoted.push('…');
            break;
        }
        quoted.push_str(&match character {
            '\n' | '\r' => "⏎".into(),
            '\t' => " ".into(),
            other => shown(other),
        });
    }
    quoted.push('`');
    quoted
}

/// Names in a sentence: `a`, `b` or `c`.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>, word: &str) -> String {
    let names: Vec<String> = names.into_iter().map(quote).collect();
    match names.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} {word} {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_yaml_says() {
        assert_eq!(lines("a\nb\r\nc\rd"), ["a", "b", "c", "d"]);
        assert_eq!(lines(""), [""]);
        assert_eq!(lines("\u{feff}a\n"), ["a", ""]);
    }

    #[test]
    fn nothing_of_a_document_can_move_the_cursor() {
        assert_eq!(visible("a\u{1b}[31mb\u{202e}c"), "a␛[31mb\u{fffd}c");
        assert_eq!(quote("a\nb"), "`a⏎b`");
        assert_eq!(quote(&"x".repeat(200)).chars().count(), MAX_QUOTED_CHARS + 3);
    }

    #[test]
    fn names_are_listed_as_a_sentence_has_them() {
        assert_eq!(list(["a"], "or"), "`a`");
        assert_eq!(list(["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }
}
