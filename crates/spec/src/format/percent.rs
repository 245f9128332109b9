//! Shares: weights (`5`, `5%`), percentages (`5%`) and percentage points (`0.5pp`).
//!
//! A weight is always percent and may leave the sign out. A limit may not: `0.05` could be 5 % or 0.05 %. An increase of a share is in
//! percentage points, because `0.5%` of a 1 % error rate is 0.005 points to one reader and half a point to another.

use super::{Malformed, decimal, is_number};
use crate::diagnostic::quote;

/// A weight in basis points, 1 to 10,000.
pub(crate) fn weight_bps(text: &str) -> Result<u16, Malformed> {
    const EXPECTED: &str = "a percentage above 0 and up to 100, with at most two decimals: `5`, `5%` or `0.5`";
    let wrong = |why: &str| Malformed::new(format!("the weight {} {why}", quote(text)), EXPECTED);
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    if number.starts_with('-') {
        return Err(wrong("is negative"));
    }
    let Some(bps) = decimal::<2>(number) else {
        return Err(if is_number(number) { wrong("has more than two decimals") } else { wrong("is not a percentage") });
    };
    match u16::try_from(bps) {
        Ok(0) => Err(wrong("gives the canary nothing")),
        Ok(bps @ 1..=10_000) => Ok(bps),
        _ => Err(wrong("is more than everything")),
    }
}

/// A percentage with its sign, as a fraction: `5%` is 0.05. Up to 1,000,000 %.
pub(crate) fn percentage(text: &str) -> Result<f64, Malformed> {
    const EXPECTED: &str = "a percentage such as `5%`";
    let wrong = |why: &str| Malformed::new(format!("{} {why}", quote(text)), EXPECTED);
    if let Some(number) = text.strip_suffix("pp")
        && is_number(number.trim_end())
    {
        let number = number.trim_end();
        return Err(wrong("is in percentage points, which are for differences").help(format!("write `{number}%`")));
    }
    let Some(number) = text.strip_suffix('%').map(str::trim_end) else {
        return Err(if is_number(text) { wrong("has no unit").help(percent_help(text)) } else { wrong("is not a percentage") });
    };
    fraction(number).ok_or_else(|| wrong("is not a percentage"))
}

/// Percentage points as a fraction: `0.5pp` is 0.005.
pub(crate) fn points(text: &str) -> Result<f64, Malformed> {
    const EXPECTED: &str = "percentage points such as `0.5pp`";
    let wrong = |why: &str| Malformed::new(format!("{} {why}", quote(text)), EXPECTED);
    if let Some(number) = text.strip_suffix("pp").map(str::trim_end) {
        return fraction(number).ok_or_else(|| wrong("is not a number of percentage points"));
    }
    if let Some(number) = text.strip_suffix('%').map(str::trim_end)
        && is_number(number)
    {
        return Err(wrong("is ambiguous: percent of stable's value, or percentage points?").help(format!(
            "write `{number}pp` for stable's value plus {number} percentage points; for a multiple of stable's value use `ratio`"
        )));
    }
    Err(if is_number(text) {
        wrong("has no unit").help(format!("write `{text}pp`"))
    } else {
        wrong("is not a number of percentage points")
    })
}

/// Percent as a fraction, rounded once: exact decimals go in, the nearest double comes out.
fn fraction(number: &str) -> Option<f64> {
    const MAX: u64 = 1_000_000;
    let millionths = decimal::<6>(number).filter(|millionths| *millionths <= MAX * 1_000_000)?;
    // Below 2^53, so the conversion is exact.
    #[expect(clippy::cast_precision_loss, reason = "at most 10^12")]
    Some(millionths as f64 / 1e8)
}

fn percent_help(number: &str) -> String {
    let share = number.starts_with("0.").then(|| decimal::<6>(number)).flatten().filter(|share| *share > 0);
    match share {
        Some(share) => {
            let percent = format!("{}.{:04}", share / 10_000, share % 10_000);
            let percent = percent.trim_end_matches('0').trim_end_matches('.');
            format!("write `{percent}%` if a share is meant, or `{number}%`")
        }
        None => format!("write `{number}%`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        for (text, bps) in
            [("5", 500), ("5%", 500), ("5 %", 500), ("0.5", 50), ("0.01", 1), ("33.33%", 3333), ("100", 10_000), ("5.0", 500)]
        {
            assert_eq!(weight_bps(text), Ok(bps), "{text}");
        }
        for (text, why) in [
            ("0", "gives the canary nothing"),
            ("101", "more than everything"),
            ("1000000", "more than everything"),
            ("-5", "negative"),
            ("0.005", "two decimals"),
            ("half", "not a percentage"),
            ("", "not a percentage"),
            ("%", "not a percentage"),
        ] {
            let error = weight_bps(text).unwrap_err();
            assert!(error.message.contains(why), "{text}: {}", error.message);
        }
    }

    #[test]
    fn percentages_and_points() {
        assert_eq!(percentage("5%"), Ok(0.05));
        assert_eq!(percentage("0.1%"), Ok(0.001));
        assert_eq!(points("0.5pp"), Ok(0.005));
        assert_eq!(points("20 pp"), Ok(0.2));
        assert_eq!(percentage("5").unwrap_err().help.unwrap(), "write `5%`");
        assert_eq!(percentage("0.05").unwrap_err().help.unwrap(), "write `5%` if a share is meant, or `0.05%`");
        assert_eq!(percentage("5pp").unwrap_err().help.unwrap(), "write `5%`");
        assert!(points("0.5%").unwrap_err().help.unwrap().contains("`0.5pp`"));
        assert_eq!(points("0.5").unwrap_err().help.unwrap(), "write `0.5pp`");
        for text in ["-5%", "x", "", "%", "1e3%", "10000000%"] {
            assert!(percentage(text).is_err(), "{text}");
            assert!(points(text).is_err(), "{text}");
        }
    }
}
