//! One row of recorded data: what an arm did until a time, since the row before.

use std::collections::BTreeMap;

use serin_core::{
    Timestamp, WeightBps,
    traffic::{Arm, Counts, Outcome},
};

/// Seconds since the epoch that a row may have at most: the end of the year 9999. More is a time in other units.
const LATEST_S: f64 = 253_402_300_799.0;
/// The largest count: beyond it a floating point number is not exact.
const LARGEST_COUNT: f64 = 9_007_199_254_740_992.0;

/// A row whose numbers were checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) at: Timestamp,
    pub(crate) arm: Arm,
    /// The canary's share, if the row says it.
    pub(crate) weight: Option<WeightBps>,
    pub(crate) counts: Counts,
    /// Whether the row says how many requests were answered 4xx.
    pub(crate) has_client_errors: bool,
    pub(crate) cpu_percent: Option<f64>,
    pub(crate) memory_bytes: Option<f64>,
}

/// The fields of a row before they were held against each other.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) at: Option<Timestamp>,
    pub(super) arm: Option<Arm>,
    pub(super) weight: Option<WeightBps>,
    pub(super) requests: Option<u64>,
    pub(super) errors: Option<u64>,
    pub(super) client_errors: Option<u64>,
    pub(super) classes: BTreeMap<String, u64>,
    /// Latencies in milliseconds, with how many requests took that long.
    pub(super) latencies: Vec<(f64, u64)>,
    pub(super) cpu: Option<f64>,
    pub(super) memory: Option<f64>,
}

impl Fields {
    /// The row.
    ///
    /// # Errors
    /// What is missing or contradicts itself.
    pub(super) fn row(self) -> Result<Row, String> {
        let missing = |name: &str, expected: &str| format!("`{name}` is missing; expected {expected}");
        let at = self.at.ok_or_else(|| missing("at", "a time"))?;
        let arm = self.arm.ok_or_else(|| missing("arm", "`stable` or `canary`"))?;
        let requests = self.requests.ok_or_else(|| missing("requests", "a whole number"))?;
        let of_classes = self.classes.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
        let known = self.errors.or((!self.classes.is_empty()).then_some(of_classes));
        let errors = known.ok_or_else(|| missing("errors", "a whole number, 0 if there were none"))?;
        if of_classes > errors {
            return Err(format!("the error classes add up to {of_classes}, but there are only {errors} errors"));
        }
        let client_errors = self.client_errors.unwrap_or(0);
        let failed = errors.saturating_add(client_errors);
        if failed > requests {
            let what =
                if client_errors > 0 { format!("{errors} errors and {client_errors} client errors") } else { format!("{errors} errors") };
            return Err(format!("{what} of {requests} requests; expected at most as many as requests"));
        }
        let mut counts = Counts { error_classes: self.classes, ..Counts::default() };
        for (outcome, count) in
            [(Outcome::Success, requests - failed), (Outcome::ClientError, client_errors), (Outcome::ServerError, errors)]
        {
            counts.by_outcome[outcome.index()] = count;
        }
        // Where every request failed, the latencies are those of failures, which count as slow in any case.
        if errors < requests {
            for (ms, count) in self.latencies {
                counts.latency.add(serin_stats::bin_of_us(whole_us(ms)), count);
            }
            let (timed, answered) = (counts.latency.total(), requests - errors);
            if timed > answered {
                return Err(format!(
                    "{timed} latencies, but only {answered} requests did not fail; expected those of requests that did not"
                ));
            }
        }
        let has_client_errors = self.client_errors.is_some() || requests == 0;
        Ok(Row { at, arm, weight: self.weight, counts, has_client_errors, cpu_percent: self.cpu, memory_bytes: self.memory })
    }
}

/// `stable` or `canary`.
pub(super) fn arm(text: &str) -> Result<Arm, String> {
    let found = Arm::BOTH.into_iter().find(|arm| arm.as_str() == text);
    found.ok_or_else(|| format!("`arm` is '{}'; expected `stable` or `canary`", short(text)))
}

/// A time as RFC 3339, or as a number of seconds.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(number) = text.parse::<f64>() {
        return seconds(number);
    }
    let wrong = || format!("`at` is '{}'; expected a time such as `2026-01-02T03:04:05Z`, or a number of seconds", short(text));
    let instant: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(instant.as_millisecond()).map(Timestamp).map_err(|_| format!("`at` is '{}'; expected a time from 1970 on", short(text)))
}

/// A time as a number of seconds, from any beginning.
pub(super) fn seconds(number: f64) -> Result<Timestamp, String> {
    if !(0.0..=LATEST_S).contains(&number) {
        let hint = if number > LATEST_S { " (is it in milliseconds?)" } else { "" };
        return Err(format!("`at` is {number}{hint}; expected a number of seconds from 0 to {LATEST_S:.0}"));
    }
    Ok(Timestamp(whole(number * 1_000.0)))
}

/// The canary's share in percent.
pub(super) fn weight(percent: f64) -> Result<WeightBps, String> {
    let wrong = || format!("`weight` is {percent}; expected the canary's share in percent, 0 to 100 with at most two decimals");
    if !(0.0..=100.0).contains(&percent) {
        return Err(wrong());
    }
    let bps = (percent * 100.0).round();
    if (bps - percent * 100.0).abs() > 1e-6 {
        return Err(wrong());
    }
    u16::try_from(whole(bps)).ok().and_then(|bps| WeightBps::new(bps).ok()).ok_or_else(wrong)
}

/// A whole number from 0.
pub(super) fn count(name: &str, number: f64) -> Result<u64, String> {
    if !(0.0..=LARGEST_COUNT).contains(&number) || number.fract() != 0.0 {
        return Err(format!("`{name}` is {number}; expected a whole number from 0"));
    }
    Ok(whole(number))
}

/// A finite number from 0.
pub(super) fn gauge(name: &str, number: f64) -> Result<f64, String> {
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err(format!("`{name}` is {number}; expected a number from 0")) }
}

/// A text of the data, short enough for a message.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST).chain(['…']).collect() }
}

fn whole_us(ms: f64) -> u64 {
    whole((ms * 1_000.0).round())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats saturate, and the callers check the range")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}
