//! Names and paths of URLs.

use super::Malformed;
use crate::diagnostic::quote;

/// The longest name: that of a Kubernetes label value and a DNS label.
const MAX_NAME: usize = 63;

/// A name: lower-case letters, digits and dashes, at most 63, a letter or digit at both ends.
pub(crate) fn check_name(text: &str) -> Result<(), Malformed> {
    const EXPECTED: &str = "1 to 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit";
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-');
    if fits {
        return Ok(());
    }
    let error = Malformed::new(format!("the name {} cannot be used", quote(text)), EXPECTED);
    let mut repaired: String = text
        .to_lowercase()
        .chars()
        .map(|character| if u8::try_from(character).is_ok_and(allowed) { character } else { '-' })
        .take(MAX_NAME)
        .collect();
    repaired = repaired.trim_matches('-').to_owned();
    Err(if repaired.is_empty() { error } else { error.help(format!("for example {}", quote(&repaired))) })
}

/// The name of a Kubernetes object: names as above, joined by dots, at most 253 characters.
pub(crate) fn check_object_name(text: &str) -> Result<(), Malformed> {
    const EXPECTED: &str = "the name of an object: lower-case letters, digits, dashes and dots, such as `checkout-canary`";
    const MAX: usize = 253;
    let fits = text.len() <= MAX && text.split('.').all(|label| check_name(label).is_ok());
    if fits { Ok(()) } else { Err(Malformed::new(format!("no object of a cluster can have the name {}", quote(text)), EXPECTED)) }
}

/// The path of a URL, with an optional query.
pub(crate) fn check_address_path(text: &str) -> Result<(), Malformed> {
    const EXPECTED: &str = "a path that begins with `/`, such as `/ready`";
    const MAX: usize = 1024;
    let error = |why: &str| Malformed::new(format!("the path {} {why}", quote(text)), EXPECTED);
    if text.contains("://") {
        return Err(error("is a whole URL").help("only the path is needed: Serin knows the host and the port"));
    }
    if !text.starts_with('/') {
        return Err(error("does not begin with `/`").help(format!("write {}", quote(&format!("/{text}")))));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(error("has a character that a URL cannot have").help("write it percent-encoded, such as `%20` for a space"));
    }
    if text.contains('#') || text.len() > MAX {
        return Err(error("has a fragment or is too long"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "checkout", "check-out-2", "0"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for (bad, suggestion) in [
            ("Check Out", Some("for example `check-out`")),
            ("a_b", Some("for example `a-b`")),
            ("-a-", Some("for example `a`")),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(check_name(bad).unwrap_err().help.as_deref(), suggestion, "{bad}");
        }
        assert!(check_name(&"a".repeat(64)).is_err());
    }

    #[test]
    fn names_of_objects_may_have_dots() {
        for good in ["checkout", "checkout.example.com", "v1.2"] {
            assert!(check_object_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a..b", ".a", "Checkout", "a_b", "a.-b"] {
            assert!(check_object_name(bad).is_err(), "{bad}");
        }
        assert!(check_object_name(&["a"; 127].join(".")).is_ok());
        assert!(check_object_name(&["a"; 128].join(".")).is_err());
    }

    #[test]
    fn paths() {
        assert!(check_address_path("/ready?full=1").is_ok());
        for bad in ["ready", "", "http://x/ready", "/a b", "/a#b", "/é"] {
            assert!(check_address_path(bad).is_err(), "{bad}");
        }
    }
}
