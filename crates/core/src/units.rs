//! Units of measured values and how people read them.

use serde::{Deserialize, Serialize};

/// What a metric's number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A share of requests, 0 to 1, shown in percent.
    Share,
    /// Milliseconds.
    Milliseconds,
    /// Requests per second.
    PerSecond,
    /// CPU time per wall time in percent of one core.
    CpuPercent,
    /// Bytes.
    Bytes,
    /// A plain count.
    Count,
    /// A number whose unit only its source knows.
    Number,
}

/// A value with its unit as people read it: `0.31 %`, `182 ms`, `95.1 req/s`, `38 %`, `112 MiB`, `3`.
#[must_use]
pub fn format_value(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Share => format!("{} %", significant(value * 100.0)),
        Unit::Milliseconds if value >= 10_000.0 => format!("{} s", significant(value / 1000.0)),
        Unit::Milliseconds => format!("{} ms", significant(value)),
        Unit::PerSecond => format!("{} req/s", significant(value)),
        Unit::CpuPercent => format!("{} %", significant(value)),
        Unit::Bytes => bytes(value),
        Unit::Count | Unit::Number => significant(value),
    }
}

/// A count with its digits in groups of three: `1,234,567`.
#[must_use]
pub fn format_count(count: u64) -> String {
    let digits = count.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// At most three significant digits, without trailing zeros.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 0.1 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn bytes(value: f64) -> String {
    const STEP: f64 = 1024.0;
    let mut scaled = value;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if scaled.abs() < STEP {
            return format!("{} {unit}", significant(scaled));
        }
        scaled /= STEP;
    }
    format!("{} TiB", significant(scaled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        for (count, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(format_count(count), expected);
        }
    }

    #[test]
    fn values_read_as_people_write_them() {
        for (value, unit, expected) in [
            (0.0031, Unit::Share, "0.31 %"),
            (1.0, Unit::Share, "100 %"),
            (0.0, Unit::Share, "0 %"),
            (182.4, Unit::Milliseconds, "182 ms"),
            (12_300.0, Unit::Milliseconds, "12.3 s"),
            (95.13, Unit::PerSecond, "95.1 req/s"),
            (38.0, Unit::CpuPercent, "38 %"),
            (117_440_512.0, Unit::Bytes, "112 MiB"),
            (3.0, Unit::Count, "3"),
        ] {
            assert_eq!(format_value(value, unit), expected);
        }
    }
}
