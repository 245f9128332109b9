//! What must not be shown of a document: who makes a mistake with a secret sends the message about it to others.
//!
//! The configuration of a server has the hashes of tokens, and people write the token itself there. So whatever is the value of a field
//! called `hash` is masked in lines that are shown, whichever mistake of the line they are shown for; and so is whatever looks like a token,
//! wherever it stands. Masks are as long as what they hide, so that places in the line stay right.

use std::borrow::Cow;

/// What every token begins with.
const TOKEN: &str = "serin_";
/// Shorter words may be anything; tokens are far longer.
const SHORTEST: usize = 16;
const SECRET_FIELD: &str = "hash";
const MASK: char = '*';

/// Whether a path is that of a field whose value is not shown.
pub(super) fn is_secret(path: &str) -> bool {
    path.rsplit('.').next().and_then(|last| last.split('[').next()) == Some(SECRET_FIELD)
}

/// A line of the document as it may be shown. `from`: the column, from 0, from which on it must not be shown at all.
pub(super) fn masked_line(line: &str, from: Option<usize>) -> Cow<'_, str> {
    if from.is_none() && !line.contains(SECRET_FIELD) && !line.contains(TOKEN) {
        return Cow::Borrowed(line);
    }
    let mut characters: Vec<char> = line.chars().collect();
    let mut at = 0;
    while at < characters.len() {
        at = match value_of_secret_field(&characters, at) {
            Some((start, end)) => mask(&mut characters, start, end),
            None => at + 1,
        };
    }
    if let Some(from) = from {
        let end = characters.len();
        mask(&mut characters, from, end);
    }
    mask_tokens(&mut characters);
    Cow::Owned(characters.into_iter().collect())
}

/// A text about the document as it may be shown.
pub(super) fn masked_text(text: String) -> String {
    if !text.contains(TOKEN) {
        return text;
    }
    let mut characters: Vec<char> = text.chars().collect();
    mask_tokens(&mut characters);
    characters.into_iter().collect()
}

/// The value after a key that begins at `at`, without its quotes.
fn value_of_secret_field(line: &[char], at: usize) -> Option<(usize, usize)> {
    let is_word = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-');
    if at > 0 && line.get(at - 1).is_some_and(is_word) {
        return None;
    }
    let mut next = at;
    for expected in SECRET_FIELD.chars() {
        (line.get(next) == Some(&expected)).then(|| next += 1)?;
    }
    while line.get(next).is_some_and(|c| matches!(c, '"' | '\'') || c.is_whitespace()) {
        next += 1;
    }
    (line.get(next) == Some(&':')).then_some(())?;
    next += 1;
    while line.get(next).is_some_and(|c| c.is_whitespace()) {
        next += 1;
    }
    let quote = line.get(next).copied().filter(|c| matches!(c, '"' | '\''));
    let start = next + usize::from(quote.is_some());
    let ends = |c: char| quote.map_or(matches!(c, ',' | '}' | '#'), |quote| c == quote);
    let end = line.iter().skip(start).position(|c| ends(*c)).map_or(line.len(), |length| start + length);
    (start < line.len()).then_some((start, end))
}

/// Leaves spaces as they are. Returns where it stopped.
fn mask(characters: &mut [char], start: usize, end: usize) -> usize {
    for character in characters.iter_mut().take(end).skip(start).filter(|c| !c.is_whitespace()) {
        *character = MASK;
    }
    end.max(start + 1)
}

fn mask_tokens(characters: &mut [char]) {
    let prefix: Vec<char> = TOKEN.chars().collect();
    let mut at = 0;
    while at < characters.len() {
        let start = at + prefix.len();
        at += 1;
        if characters.get(at - 1..start) == Some(&prefix[..]) {
            let length = characters.iter().skip(start).take_while(|c| c.is_ascii_alphanumeric()).count();
            if length >= SHORTEST {
                at = mask(characters, start, start + length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_fields_are_hidden_in_any_notation() {
        for (line, shown) in [
            (r#"- {name: ci, hash: "abc", role: x}"#, r#"- {name: ci, hash: "***", role: x}"#),
            ("- {name: ci, hash: ab c, role: x}", "- {name: ci, hash: ** *, role: x}"),
            ("  hash: abc  # of ci", "  hash: ***  # of ci"),
            (r#"  "hash" : 'a"b'"#, r#"  "hash" : '***'"#),
            (r#"hash: "never closed"#, r#"hash: "***** ******"#),
            ("hash:", "hash:"),
            ("rehash: abc, hashes: def", "rehash: abc, hashes: def"),
            ("hash: ä, hash: ß", "hash: *, hash: *"),
        ] {
            assert_eq!(masked_line(line, None), shown);
            assert_eq!(masked_line(line, None).chars().count(), line.chars().count());
        }
        assert_eq!(masked_line("    abc def", Some(4)), "    *** ***", "a value on a line of its own");
    }

    #[test]
    fn what_looks_like_a_token_is_hidden_everywhere() {
        let token = format!("serin_{}", "a1B2".repeat(10));
        let hidden = format!("serin_{}", "*".repeat(40));
        assert_eq!(masked_line(&format!("token: {token}"), None), format!("token: {hidden}"));
        assert_eq!(masked_text(format!("`{token}` is unknown")), format!("`{hidden}` is unknown"));
        assert_eq!(masked_text("see serin_api_requests_total".to_owned()), "see serin_api_requests_total");
        assert!(is_secret("spec.api.tcp.tokens[0].hash") && !is_secret("spec.hash.x") && !is_secret("document_hash"));
    }
}
