//! Sizes: `10MiB`, `500MB`.
//!
//! Both families of units are known; abbreviations that mean either (`10M`) are refused.

use super::{Malformed, decimal, is_number};
use crate::diagnostic::quote;

const UNITS: [(&str, u64); 10] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const EXPECTED: &str = "a size such as `512KiB`, `10MiB`, `1.5GiB` or `500MB`";

/// The largest size: 1,024 TiB.
const MAX: u64 = 1 << 50;

/// A size in bytes, 0 to 1,024 TiB. Fractions of a byte are dropped.
pub(crate) fn bytes(text: &str) -> Result<u64, Malformed> {
    let wrong = |why: &str| Malformed::new(format!("the size {} {why}", quote(text)), EXPECTED);
    if text.starts_with('-') {
        return Err(wrong("is negative"));
    }
    let number_len = text.find(|character: char| !(character.is_ascii_digit() || character == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let unit = unit.trim_start();
    if !is_number(number) {
        return Err(wrong("cannot be read"));
    }
    if unit.is_empty() {
        return Err(wrong("has no unit").help(format!("write `{number}MiB`, or `{number}B` for bytes")));
    }
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(unknown_unit(text, number, unit));
    };
    let amount = decimal::<6>(number).ok_or_else(|| wrong("has too many digits"))?;
    let total = u128::from(amount) * u128::from(*scale) / 1_000_000;
    u64::try_from(total).ok().filter(|total| *total <= MAX).ok_or_else(|| wrong("is too large").help("the largest is `1024TiB`"))
}

fn unknown_unit(text: &str, number: &str, unit: &str) -> Malformed {
    let error = Malformed::new(format!("the size {} has an unknown unit {}", quote(text), quote(unit)), EXPECTED);
    let lower = unit.to_ascii_lowercase();
    if let Some((known, _)) = UNITS.iter().find(|(known, _)| known.to_ascii_lowercase() == lower) {
        return error.help(format!("write `{number}{known}`"));
    }
    match lower.strip_suffix('i').unwrap_or(&lower) {
        "k" | "m" | "g" | "t" => {
            let prefix = unit[..1].to_ascii_uppercase();
            error.help(format!("write `{number}{prefix}iB` (powers of 1,024) or `{number}{prefix}B` (powers of 1,000)"))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("10MiB", 10 << 20),
            ("500MB", 500_000_000),
            ("1.5GiB", 3 << 29),
            ("1KB", 1_000),
            ("1kB", 1_000),
            ("7B", 7),
            ("2 MiB", 2 << 20),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for (text, why, help) in [
            ("10", "has no unit", "`10MiB`"),
            ("10M", "unknown unit", "`10MiB`"),
            ("10Mi", "unknown unit", "`10MiB`"),
            ("10mib", "unknown unit", "`10MiB`"),
            ("-1MiB", "negative", ""),
            ("MiB", "cannot be read", ""),
            ("9999999TiB", "too large", ""),
            ("1€", "unknown unit", ""),
        ] {
            let error = bytes(text).unwrap_err();
            assert!(error.message.contains(why), "{text}: {}", error.message);
            assert!(error.help.unwrap_or_default().contains(help), "{text}");
        }
    }
}
