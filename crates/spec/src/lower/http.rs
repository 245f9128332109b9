//! Names and values of headers and cookies.

use super::Context;
use crate::{check::named, diagnostic::quote, tree::Path};

/// Headers that belong to one connection, or that the proxy needs itself: matching them would not mean what it says.
const UNFIT: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const MAX_VALUE: usize = 4096;

/// A header's name in lower case. `place` reports at the name or the value of a field.
pub(super) fn header_name(name: &str, path: &Path, at_key: bool, cx: &mut Context<'_>) -> String {
    let lower = name.to_ascii_lowercase();
    let problem = if !is_token(name) {
        Some((format!("{} is not the name of a header", quote(name)), "letters, digits and dashes, such as `x-canary`"))
    } else if lower == "cookie" {
        Some(("cookies are not looked at as a header".to_owned(), "`cookie: {name: value}`"))
    } else if UNFIT.contains(&lower.as_str()) {
        let message = format!("the header {} belongs to a connection or to the proxy and cannot be used", quote(name));
        Some((message, "a header that the client sets for the service, such as `x-canary`"))
    } else {
        None
    };
    if let Some((message, expected)) = problem {
        let diagnostic = if at_key { cx.error_at_key(path, "header-name", message) } else { cx.error(path, "header-name", message) };
        cx.push(diagnostic.expected(expected));
    }
    lower
}

/// A cookie's name.
pub(super) fn cookie_name(name: &str, path: &Path, at_key: bool, cx: &mut Context<'_>) -> String {
    if !is_token(name) {
        let message = format!("{} is not the name of a cookie", quote(name));
        let diagnostic = if at_key { cx.error_at_key(path, "cookie-name", message) } else { cx.error(path, "cookie-name", message) };
        cx.push(diagnostic.expected("letters, digits, dashes and underscores, such as `serin`"));
    }
    name.to_owned()
}

/// A value that a header can have: visible and not empty.
pub(super) fn header_value(value: &str, path: &Path, cx: &mut Context<'_>) {
    let visible = value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && value.trim() == value;
    refuse_value(value, visible, "visible ASCII characters without spaces at the ends", path, cx);
}

/// A value that a cookie can have.
pub(super) fn cookie_value(value: &str, path: &Path, cx: &mut Context<'_>) {
    let fits = value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\'));
    refuse_value(value, fits, "visible ASCII characters without spaces, quotes, commas, semicolons and backslashes", path, cx);
}

fn refuse_value(value: &str, fits: bool, expected: &str, path: &Path, cx: &mut Context<'_>) {
    if value.is_empty() {
        cx.push(cx.error(path, "empty-value", format!("{} has an empty value", named(path))).expected("the exact value to match"));
    } else if !fits || value.len() > MAX_VALUE {
        cx.push(cx.error(path, "bad-value", format!("{} cannot be {}", named(path), quote(value))).expected(expected));
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
