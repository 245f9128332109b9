//! What a plain scalar means: YAML 1.2's core schema.
//!
//! `yes`, `no`, `on` and `off` are text, not booleans. `.inf` and `.nan` are refused: no field of a release means anything by them.

use super::Content;

/// A number and the text it was written as.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    pub(crate) text: String,
    pub(crate) value: serde_json::Number,
}

impl Number {
    /// Whether it is written and readable as a whole number.
    pub(crate) fn is_whole(&self) -> bool {
        self.value.is_i64() || self.value.is_u64()
    }

    /// The value, rounded to the nearest double.
    pub(crate) fn as_f64(&self) -> f64 {
        self.value.as_f64().unwrap_or(f64::MAX)
    }
}

/// A plain scalar's meaning; `Err` if it is a number that no document can mean.
pub(super) fn resolve(text: &str) -> Result<Content, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Content::Null),
        "true" | "True" | "TRUE" => return Ok(Content::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Content::Bool(false)),
        _ => {}
    }
    if let Some(special) = text.strip_prefix(['+', '-']).unwrap_or(text).strip_prefix('.')
        && matches!(special.to_ascii_lowercase().as_str(), "inf" | "nan")
    {
        return Err("is not a number that a release can use");
    }
    match number(text) {
        Some(Some(value)) => Ok(Content::Number(Number { text: text.to_owned(), value })),
        Some(None) => Err("is a number that is too large"),
        None => Ok(Content::Text(text.to_owned())),
    }
}

/// `None`: no number. `Some(None)`: a number out of range.
fn number(text: &str) -> Option<Option<serde_json::Number>> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|digit| digit.is_digit(radix))
        {
            return Some(u64::from_str_radix(digits, radix).ok().map(Into::into));
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let whole = text.strip_prefix('+').unwrap_or(text);
        return Some(whole.parse::<u64>().map(Into::into).or_else(|_| whole.parse::<i64>().map(Into::into)).ok());
    }
    is_decimal(unsigned).then(|| text.parse::<f64>().ok().and_then(serde_json::Number::from_f64))
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?` without the sign.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, part)) => digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty()),
        None => !mantissa.is_empty() && digits(mantissa),
    };
    exponent_fits && mantissa_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_schema() {
        let is = |text: &str| match resolve(text) {
            Ok(Content::Null) => "null",
            Ok(Content::Bool(_)) => "bool",
            Ok(Content::Number(number)) if number.is_whole() => "whole",
            Ok(Content::Number(_)) => "number",
            Ok(_) => "text",
            Err(_) => "refused",
        };
        for (text, expected) in [
            ("", "null"),
            ("~", "null"),
            ("true", "bool"),
            ("yes", "text"),
            ("off", "text"),
            ("5", "whole"),
            ("-5", "whole"),
            ("0x1F", "whole"),
            ("0.5", "number"),
            (".5", "number"),
            ("5.", "number"),
            ("1e3", "number"),
            ("5%", "text"),
            ("30m", "text"),
            ("1_000", "text"),
            ("1.2.3", "text"),
            ("e5", "text"),
            (".", "text"),
            ("-", "text"),
            (".inf", "refused"),
            ("-.INF", "refused"),
            ("1e999", "refused"),
            ("99999999999999999999999", "refused"),
        ] {
            assert_eq!(is(text), expected, "{text}");
        }
    }
}
