//! Values of limits, each in the unit of its metric.

use serin_core::{Unit, plan::Metric};

use crate::{
    diagnostic::quote,
    format::{self, Malformed},
};

/// The largest rate or count that makes sense.
const MAX_NUMBER: f64 = 1e12;

/// A value of a metric, as `max` and `min` have it.
pub(super) fn value(metric: Metric, text: &str) -> Result<f64, Malformed> {
    match metric.unit() {
        Unit::Share => format::percentage(text)
            .and_then(|share| if share > 1.0 { Err(malformed(text, "is more than all requests", "`0%` to `100%`")) } else { Ok(share) }),
        Unit::Milliseconds => milliseconds(text),
        Unit::PerSecond => {
            let number = text.strip_suffix("rps").map_or(text, str::trim_end);
            number_of(number).ok_or_else(|| malformed(text, "is not a number of requests per second", "a number such as `100` or `100rps`"))
        }
        // Of one core: a process with four threads may have 400 %.
        Unit::CpuPercent => format::percentage(text).map(|share| share * 100.0),
        Unit::Bytes => bytes(text),
        Unit::Count => count(text),
        Unit::Number => number_of(text).ok_or_else(|| malformed(text, "is not a number", "a number without a unit, such as `12.5`")),
    }
}

/// A difference between two values of a metric, as `increase` has it.
pub(super) fn difference(metric: Metric, text: &str) -> Result<f64, Malformed> {
    match metric.unit() {
        Unit::Share => format::points(text).and_then(|points| {
            if points > 1.0 { Err(malformed(text, "is more than all requests", "`0pp` to `100pp`")) } else { Ok(points) }
        }),
        Unit::CpuPercent => format::points(text).map(|points| points * 100.0),
        Unit::Milliseconds | Unit::PerSecond | Unit::Bytes | Unit::Count | Unit::Number => value(metric, text),
    }
}

/// A fall in percent of stable's value, as a fraction.
pub(super) fn fall(text: &str) -> Result<f64, Malformed> {
    const EXPECTED: &str = "a percentage of stable's value, above `0%` and up to `100%`";
    let fall = format::percentage(text)?;
    if fall > 0.0 && fall <= 1.0 { Ok(fall) } else { Err(malformed(text, "is no possible fall", EXPECTED)) }
}

fn milliseconds(text: &str) -> Result<f64, Malformed> {
    let micros = format::duration_us(text).map_err(|error| match text.parse::<f64>() {
        // Latencies without a unit are milliseconds nearly everywhere, but not in Prometheus.
        Ok(_) if !text.starts_with('-') => Malformed { help: Some(format!("write `{text}ms` for milliseconds")), ..error },
        _ => error,
    })?;
    // A year of microseconds is below 2^53, so the conversion is exact.
    #[expect(clippy::cast_precision_loss, reason = "at most 3.2 * 10^13")]
    Ok(micros as f64 / 1_000.0)
}

fn bytes(text: &str) -> Result<f64, Malformed> {
    let bytes = format::bytes(text)?;
    // 1,024 TiB is 2^50, so the conversion is exact.
    #[expect(clippy::cast_precision_loss, reason = "at most 2^50")]
    Ok(bytes as f64)
}

fn count(text: &str) -> Result<f64, Malformed> {
    text.parse::<u32>().map(f64::from).map_err(|_| malformed(text, "is not a count", "a whole number, such as `0` or `3`"))
}

fn number_of(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse::<f64>().ok().filter(|number| plain && (0.0..=MAX_NUMBER).contains(number))
}

fn malformed(text: &str, why: &str, expected: &str) -> Malformed {
    Malformed { message: format!("{} {why}", quote(text)), expected: expected.to_owned(), help: None }
}

#[cfg(test)]
mod tests {
    use serin_core::plan::Quantile;

    use super::*;

    #[test]
    fn values_have_the_unit_of_their_metric() {
        let latency = Metric::Latency(Quantile::P99);
        for (metric, text, expected) in [
            (Metric::ErrorRate, "5%", 0.05),
            (Metric::ErrorRate, "0%", 0.0),
            (latency, "500ms", 500.0),
            (latency, "0.5ms", 0.5),
            (latency, "1.5s", 1500.0),
            (Metric::RequestRate, "100", 100.0),
            (Metric::RequestRate, "0.5rps", 0.5),
            (Metric::Cpu, "250%", 250.0),
            (Metric::Memory, "512MiB", 536_870_912.0),
            (Metric::Restarts, "3", 3.0),
        ] {
            assert_eq!(value(metric, text), Ok(expected), "{text}");
        }
        for (metric, text) in [
            (Metric::ErrorRate, "0.05"),
            (Metric::ErrorRate, "101%"),
            (Metric::ErrorRate, "500ms"),
            (latency, "500"),
            (latency, "5%"),
            (Metric::RequestRate, "-1"),
            (Metric::RequestRate, "inf"),
            (Metric::RequestRate, "1e3"),
            (Metric::Cpu, "0.7"),
            (Metric::Memory, "512"),
            (Metric::Restarts, "1.5"),
        ] {
            assert!(value(metric, text).is_err(), "{text}");
        }
    }

    #[test]
    fn differences_of_shares_are_in_points() {
        assert_eq!(difference(Metric::ErrorRate, "0.5pp"), Ok(0.005));
        assert_eq!(difference(Metric::Cpu, "20pp"), Ok(20.0));
        assert_eq!(difference(Metric::Memory, "1GiB"), Ok(1_073_741_824.0));
        assert!(difference(Metric::ErrorRate, "0.5%").is_err());
        assert!(difference(Metric::ErrorRate, "101pp").is_err());
        assert_eq!(fall("2%"), Ok(0.02));
        assert!(fall("0%").is_err());
        assert!(fall("2pp").is_err());
    }
}
