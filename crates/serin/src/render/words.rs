//! Small words and numbers that several views share.

use jiff::{Timestamp as Instant, tz::TimeZone};
use serin_core::{Timestamp, Unit, format_value};

/// Names, reasons, paths and what workloads say come from outside: no control characters reach the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Local time of day.
pub(crate) fn clock_time(at: Timestamp) -> String {
    local(at, "%H:%M:%S")
}

/// Local time of day with milliseconds.
pub(crate) fn clock_time_ms(at: Timestamp) -> String {
    local(at, "%H:%M:%S%.3f")
}

fn local(at: Timestamp, format: &str) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    Instant::from_millisecond(ms).map_or_else(|_| "--:--:--".to_owned(), |at| at.to_zoned(TimeZone::system()).strftime(format).to_string())
}

/// A share of requests in percent.
pub(crate) fn share(value: f64) -> String {
    format_value(value, Unit::Share)
}

/// Milliseconds.
pub(crate) fn ms_short(value: f64) -> String {
    format_value(value, Unit::Milliseconds)
}

/// A value if there is one.
pub(crate) fn value_or_dash(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}
