//! Durations: `30m`, `1h30m`, `500ms`, `1.5s`.
//!
//! Parts go from the largest unit to the smallest, each at most once; only the last may have decimals. There is no default unit: `30` might
//! be half a minute or half an hour, and the difference is a release.

use super::{Malformed, decimal, is_number};
use crate::diagnostic::quote;

/// Units from the largest to the smallest, in microseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)];

/// Units that people write and what they mean here.
const ALIASES: [(&str, &str); 13] = [
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("hr", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("day", "d"),
    ("days", "d"),
];

/// A year: nothing in a release takes longer.
const MAX_US: u64 = 365 * 86_400_000_000;

const EXPECTED: &str = "a duration such as `500ms`, `30s`, `5m`, `1h30m` or `2d`";

/// A duration in whole milliseconds, 0 to 365 days.
pub(crate) fn duration_ms(text: &str) -> Result<u64, Malformed> {
    let micros = duration_us(text)?;
    if !micros.is_multiple_of(1_000) {
        return Err(Malformed::new(format!("the duration {} is finer than a millisecond", quote(text)), EXPECTED));
    }
    Ok(micros / 1_000)
}

/// A duration in microseconds, for latencies.
pub(crate) fn duration_us(text: &str) -> Result<u64, Malformed> {
    let wrong = |why: &str| Malformed::new(format!("the duration {} {why}", quote(text)), EXPECTED);
    if text.is_empty() {
        return Err(Malformed::new("the duration is empty", EXPECTED));
    }
    if text.starts_with('-') {
        return Err(wrong("is negative"));
    }
    if is_number(text) {
        return Err(wrong("has no unit").help(unit_help(text)));
    }
    let mut total: u64 = 0;
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut may_continue = true;
    while !rest.is_empty() {
        let number_len = rest.find(|character: char| !(character.is_ascii_digit() || character == '.')).unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        if !is_number(number) {
            return Err(wrong("cannot be read"));
        }
        if unit.is_empty() {
            return Err(if after.is_empty() { wrong("ends in a number without a unit") } else { wrong("cannot be read") });
        }
        let Some(position) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(unknown_unit(text, number, unit));
        };
        if !may_continue {
            return Err(wrong("has decimals before its last part"));
        }
        let scale = units[position].1;
        let amount = decimal::<6>(number).ok_or_else(|| wrong("cannot be read: it has too many digits"))?;
        let micros = u128::from(amount) * u128::from(scale);
        if !micros.is_multiple_of(1_000_000) {
            return Err(wrong("is finer than a microsecond"));
        }
        total = u64::try_from(micros / 1_000_000).ok().and_then(|micros| total.checked_add(micros)).unwrap_or(u64::MAX);
        may_continue = !number.contains('.');
        units = &units[position + 1..];
        rest = next;
    }
    if total > MAX_US {
        return Err(wrong("is longer than a year").help("the longest is `365d`"));
    }
    Ok(total)
}

/// Milliseconds in the shortest way to write them: `90000` is `1m30s`.
pub(crate) fn short(ms: u64) -> String {
    let mut rest = ms.saturating_mul(1_000);
    let mut out = String::new();
    for (unit, scale) in UNITS {
        if rest >= scale {
            out += &format!("{}{unit}", rest / scale);
            rest %= scale;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

fn unit_help(number: &str) -> String {
    if number == "0" { "write `0s`".to_owned() } else { format!("write `{number}s` for seconds or `{number}m` for minutes") }
}

fn unknown_unit(text: &str, number: &str, unit: &str) -> Malformed {
    let error = Malformed::new(format!("the duration {} has an unknown unit {}", quote(text), quote(unit)), EXPECTED);
    let lower = unit.to_ascii_lowercase();
    if let Some((_, meant)) = ALIASES.iter().find(|(alias, _)| *alias == lower) {
        return error.help(format!("write `{number}{meant}`"));
    }
    match lower.as_str() {
        "w" | "week" | "weeks" => error.help("weeks are written in days: `7d`"),
        "us" | "ns" => error.help("the smallest unit is `ms`"),
        lower if UNITS.iter().any(|(name, _)| *name == lower) => {
            if unit == lower {
                error.help("units go from the largest to the smallest, each once: `1h30m`")
            } else {
                error.help(format!("units are written small: `{number}{lower}`"))
            }
        }
        _ => error.help("the units are `d`, `h`, `m`, `s` and `ms`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, ms) in [
            ("30m", 1_800_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("1d", 86_400_000),
            ("2d12h", 216_000_000),
            ("0s", 0),
            ("1m0.25s", 60_250),
            ("365d", 31_536_000_000),
        ] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        assert_eq!(duration_us("0.5ms"), Ok(500));
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("30", "has no unit"),
            ("0", "has no unit"),
            ("", "is empty"),
            ("-5m", "is negative"),
            ("5M", "unknown unit"),
            ("5min", "unknown unit"),
            ("1m1h", "unknown unit"),
            ("1m1m", "unknown unit"),
            ("1.5h30m", "decimals before"),
            ("1h30", "without a unit"),
            ("h", "cannot be read"),
            ("1 h", "cannot be read"),
            ("1..5s", "cannot be read"),
            ("0.5ms", "finer than a millisecond"),
            ("366d", "longer than a year"),
            ("99999999999999999999d", "too many digits"),
            ("18446744073709d", "longer than a year"),
        ] {
            let error = duration_ms(text).unwrap_err();
            assert!(error.message.contains(why), "{text}: {}", error.message);
        }
        assert_eq!(duration_ms("5min").unwrap_err().help.unwrap(), "write `5m`");
    }

    #[test]
    fn written_short_and_read_back() {
        for ms in [0, 1, 999, 1_000, 90_000, 3_600_000, 86_400_000 + 61_001] {
            assert_eq!(duration_ms(&short(ms)), Ok(ms), "{}", short(ms));
        }
        assert_eq!(short(90_000), "1m30s");
    }
}
