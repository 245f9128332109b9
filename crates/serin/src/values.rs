//! Durations and percentages as people write them on the command line.

use std::time::Duration;

/// The longest duration that any option takes: 30 days.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads `20ms`, `10s`, `1h30m`. A unit is required, so that nobody has to guess what a bare number means.
///
/// # Errors
/// A sentence that says what was expected.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a duration with its unit, such as 20ms, 10s or 1h30m, not '{text}'");
    let parsed: jiff::SignedDuration = text.trim().parse().map_err(|_| expected())?;
    let duration = Duration::try_from(parsed).map_err(|_| format!("a duration cannot be negative: '{text}'"))?;
    if duration > LONGEST {
        return Err(format!("a duration of more than 30 days is not accepted here: '{text}'"));
    }
    Ok(duration)
}

/// Reads a percentage such as `0.5%` and gives the share, 0 to 1.
///
/// # Errors
/// A sentence that says what was expected.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let expected = || format!("expected a percentage from 0% to 100%, such as 0.5%, not '{text}'");
    let number: f64 = text.trim().strip_suffix('%').ok_or_else(expected)?.trim_end().parse().map_err(|_| expected())?;
    if !(0.0..=100.0).contains(&number) {
        return Err(expected());
    }
    Ok(number / 100.0)
}

/// Whole milliseconds of a duration.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whole microseconds of a duration.
pub(crate) fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_sensible_size() {
        for (text, expected_ms) in [("20ms", 20), ("10s", 10_000), ("1h30m", 5_400_000), ("0s", 0), ("1.5s", 1_500), ("2m", 120_000)] {
            assert_eq!(duration(text).map(ms), Ok(expected_ms), "{text}");
        }
        for text in ["20", "", "fast", "-5s", "9000h", "10 apples"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_need_their_sign() {
        assert_eq!(percent("0.5%"), Ok(0.005));
        assert_eq!(percent("100 %"), Ok(1.0));
        for text in ["5", "0.05", "101%", "-1%", "NaN%", "%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
