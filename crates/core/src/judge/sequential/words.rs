//! Verdicts in words with their numbers.

use serin_stats::{ArmCounts, Interval};

use crate::{Unit, format_count, format_value, human_duration};

/// `9 of 212`.
pub(super) fn share_of(counts: ArmCounts) -> String {
    format!("{} of {}", format_count(counts.events), format_count(counts.requests))
}

/// `3.1× stable (99 % interval 1.7–5.9)`.
pub(super) fn times_stable(ratio: f64, interval: Interval, alpha: f64) -> String {
    let high = if interval.high.is_finite() { number(interval.high) } else { "∞".to_owned() };
    format!("{}× stable ({} % interval {}–{high})", number(ratio), number(100.0 * (1.0 - alpha)), number(interval.low))
}

/// `0.5pp`.
pub(super) fn points(share: f64) -> String {
    format!("{}pp", format_value(share, Unit::Share).trim_end_matches(" %"))
}

/// `1.5× stable or stable + 0.5pp, whichever is more`: a breach exceeds all that is given.
pub(super) fn limit(ratio: Option<f64>, increase: Option<String>) -> String {
    match (ratio, increase) {
        (Some(ratio), Some(increase)) => format!("{ratio}× stable or stable + {increase}, whichever is more"),
        (Some(ratio), None) => format!("{ratio}× stable"),
        (None, Some(increase)) => format!("stable + {increase}"),
        (None, None) => "none".to_owned(),
    }
}

/// How many requests are left until `ln_e` reaches `ln_needed`, if it goes on as in the `seen` requests so far. `None` while
/// it points nowhere.
pub(super) fn requests_left(ln_e: f64, ln_needed: f64, seen: f64) -> Option<f64> {
    let slope = ln_e / seen;
    (seen >= 20.0 && slope.is_finite() && ln_e > 0.05).then(|| ((ln_needed - ln_e) / slope).max(1.0))
}

/// `about 1,300 more requests`, rounded to two digits.
pub(super) fn about(requests: f64) -> String {
    let magnitude = 10_f64.powf((requests.max(1.0).log10().floor() - 1.0).max(0.0));
    let rounded = (requests / magnitude).ceil() * magnitude;
    // Saturates; nobody waits that long.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    format_count(rounded as u64)
}

/// `2m 10s`, of a time in seconds that is only an estimate.
pub(super) fn roughly(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = (seconds.clamp(1.0, 1e9).ceil() as u64).saturating_mul(1_000);
    let step = if whole > 120_000 { 60_000 } else { 1_000 };
    human_duration(whole.div_ceil(step) * step)
}

/// Two or three digits, all of them from a thousand on.
pub(super) fn number(value: f64) -> String {
    if value >= 1_000.0 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        return format_count(value.round() as u64);
    }
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 || size == 0.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [(3.149, "3.1"), (0.052, "0.05"), (12.0, "12"), (1234.4, "1,234"), (0.0, "0"), (99.0, "99")] {
            assert_eq!(number(value), expected);
        }
        for (requests, expected) in [(7.0, "7"), (132.0, "140"), (1_234.0, "1,300"), (98_765.0, "99,000")] {
            assert_eq!(about(requests), expected);
        }
        assert_eq!((roughly(0.2), roughly(75.0), roughly(200.0)), ("1 s".to_owned(), "1m 15s".to_owned(), "4m 00s".to_owned()));
    }

    #[test]
    fn nothing_is_promised_before_the_evidence_points_anywhere() {
        assert_eq!(requests_left(-1.0, 3.0, 500.0), None);
        assert_eq!(requests_left(1.0, 3.0, 5.0), None);
        assert_eq!(requests_left(1.0, 3.0, 500.0), Some(1_000.0));
    }
}
