//! Which route of a service a request was for, so that errors of one kind are counted together.
//!
//! The route is what the service says in the header `x-serin-route` of its answer (which the client gets unchanged), at most
//! [`MAX_HEADER_CHARS`] characters of it; else it is the path, without query:
//! - Segments that look like values become `*`: numbers (digits, also with `-`, `.`, `_`, `:` or `,` between them, such as
//!   dates), 8 or more hex digits, and whatever is longer than [`MAX_SEGMENT_BYTES`] bytes, which a UUID is too.
//! - At most [`MAX_DEPTH`] segments; the rest becomes `**`. Empty segments are left out.
//!
//! Paths come from anybody: control characters, spaces, and everything outside of ASCII become `_`.

use http::HeaderValue;

/// Where a service says which route an answer belongs to.
pub(crate) const ROUTE_HEADER: http::HeaderName = http::HeaderName::from_static("x-serin-route");

const MAX_DEPTH: usize = 6;
const MAX_SEGMENT_BYTES: usize = 32;
const MIN_HEX: usize = 8;
const MAX_HEADER_CHARS: usize = 64;

/// The route that a path leads to.
pub(crate) fn of_path(path: &str) -> String {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let mut route = String::new();
    for segment in segments.by_ref().take(MAX_DEPTH) {
        route.push('/');
        if is_value(segment) {
            route.push('*');
        } else {
            route.extend(segment.chars().map(inert));
        }
    }
    if segments.next().is_some() {
        route.push_str("/**");
    }
    if route.is_empty() {
        route.push('/');
    }
    route
}

/// The route that a service names. `None` if it names none.
pub(crate) fn of_header(value: &HeaderValue) -> Option<String> {
    let name = value.as_bytes().trim_ascii();
    (!name.is_empty()).then(|| name.iter().take(MAX_HEADER_CHARS).map(|byte| inert(char::from(*byte))).collect())
}

fn is_value(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let number = || bytes.iter().any(u8::is_ascii_digit) && bytes.iter().all(|byte| byte.is_ascii_digit() || b"-._:,".contains(byte));
    let hex = || bytes.len() >= MIN_HEX && bytes.iter().all(u8::is_ascii_hexdigit);
    bytes.len() > MAX_SEGMENT_BYTES || number() || hex()
}

fn inert(character: char) -> char {
    if character.is_ascii_graphic() { character } else { '_' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_paths_become_stars() {
        for (path, route) in [
            ("/users/123/orders/9f86d081884c7d65", "/users/*/orders/*"),
            ("/users/6fa459ea-ee8a-3ca4-894e-db77e160355e", "/users/*"),
            ("/reports/2024-01-31/10.5", "/reports/*/*"),
            ("/v1/cafe/deadbee/DEADBEEF", "/v1/cafe/deadbee/*"),
            ("/files/this-name-is-32-characters-longx", "/files/this-name-is-32-characters-longx"),
            ("/files/this-name-is-33-characters-long-x", "/files/*"),
            ("/a/b/c/d/e/f", "/a/b/c/d/e/f"),
            ("/a/b/c/d/e/f/", "/a/b/c/d/e/f"),
            ("/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/**"),
            ("//a//b/", "/a/b"),
            ("/-/_", "/-/_"),
            ("/", "/"),
            ("", "/"),
            ("/caf\u{e9}/\u{1b}[31m", "/caf_/_[31m"),
            ("/a b\n500 GET /c", "/a_b_500_GET_/c"),
        ] {
            assert_eq!(of_path(path), route, "{path}");
        }
    }

    #[test]
    fn the_services_own_name_is_bounded_and_inert() {
        let of = |bytes: &[u8]| of_header(&HeaderValue::from_bytes(bytes).unwrap());
        assert_eq!(of(b"/orders/{id}").as_deref(), Some("/orders/{id}"));
        assert_eq!(of(b" list \xff orders ").as_deref(), Some("list___orders"));
        assert_eq!(of(&[b'x'; 100]).map(|name| name.len()), Some(64));
        assert_eq!(of(b"  "), None);
    }
}
