//! Counting how requests went.
//!
//! Every due request is counted exactly once: `scheduled = sent + not_sent`, and `sent = answered + failures + unfinished`.
//! Latency counts from the moment at which the request was *due*, not from when it was sent: a stalled generator or server does
//! not hide in it. Timed-out requests are in the distribution with the time after which they were given up, as a lower bound.

use std::{collections::BTreeMap, time::Duration};

use serin_stats::Histogram;

use super::client::{Exchange, FailureKind};
use crate::values::us;

/// Different values of `x-app-version` that are told apart; more are counted as [`OTHER_VERSIONS`].
const MOST_VERSIONS: usize = 50;
/// Longest value of `x-app-version` that is kept, in characters.
const LONGEST_VERSION: usize = 100;
/// The name under which answers without `x-app-version` are counted.
pub(crate) const NO_VERSION: &str = "(none)";
/// The name under which further versions are counted.
pub(crate) const OTHER_VERSIONS: &str = "(other)";

/// What has been counted so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    /// Due requests beyond the allowed number in flight.
    pub(crate) not_sent: u64,
    pub(crate) answered: u64,
    pub(crate) reconnected: u64,
    pub(crate) body_bytes: u64,
    pub(crate) by_code: BTreeMap<u16, u64>,
    pub(crate) by_version: BTreeMap<String, u64>,
    pub(crate) failures: BTreeMap<FailureKind, u64>,
    pub(crate) made_by_proxy: u64,
    /// The first failure of each kind in words.
    pub(crate) examples: BTreeMap<FailureKind, String>,
    /// Microseconds from due to the end of the answer.
    pub(crate) latency: Histogram,
    pub(crate) latency_max_us: u64,
    /// Microseconds from due to being sent: how well the generator itself keeps up.
    pub(crate) lag: Histogram,
    pub(crate) lag_max_us: u64,
}

impl Tally {
    /// Counts a request that begins now, `lag` after it was due.
    pub(crate) fn begin(&mut self, lag: Duration) {
        self.sent += 1;
        self.lag.record_us(us(lag));
        self.lag_max_us = self.lag_max_us.max(us(lag));
    }

    /// Counts how a request ended, `latency` after it was due.
    pub(crate) fn end(&mut self, exchange: &Exchange, latency: Duration) {
        self.reconnected += u64::from(exchange.reconnected);
        match &exchange.result {
            Ok(answer) => {
                self.answered += 1;
                self.body_bytes = self.body_bytes.saturating_add(answer.body_bytes);
                *self.by_code.entry(answer.status).or_default() += 1;
                self.made_by_proxy += u64::from(answer.made_by_proxy);
                self.count_version(answer.version.as_deref().unwrap_or(NO_VERSION));
            }
            Err(failure) => {
                *self.failures.entry(failure.kind).or_default() += 1;
                self.examples.entry(failure.kind).or_insert_with(|| failure.detail.clone());
            }
        }
        if exchange.result.as_ref().err().is_none_or(|failure| failure.kind == FailureKind::Timeout) {
            self.latency.record_us(us(latency));
            self.latency_max_us = self.latency_max_us.max(us(latency));
        }
    }

    /// How many requests failed in this way.
    pub(crate) fn failed(&self, kind: FailureKind) -> u64 {
        self.failures.get(&kind).copied().unwrap_or(0)
    }

    /// Sent, but neither answered nor failed yet.
    pub(crate) fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.answered + self.failures.values().sum::<u64>())
    }

    /// Requests that were lost on the way: every failure but a timeout, and the answers that the proxy made up.
    pub(crate) fn lost(&self) -> u64 {
        self.failures.values().sum::<u64>() - self.failed(FailureKind::Timeout) + self.made_by_proxy
    }

    fn count_version(&mut self, version: &str) {
        let version: String = version.chars().take(LONGEST_VERSION).collect();
        if let Some(count) = self.by_version.get_mut(&version) {
            *count += 1;
        } else {
            let name = if self.by_version.len() < MOST_VERSIONS { version } else { OTHER_VERSIONS.to_owned() };
            *self.by_version.entry(name).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::client::Answer, *};

    #[test]
    fn versions_are_bounded_and_nothing_is_dropped() {
        let mut tally = Tally::default();
        for number in 0..200_u16 {
            let answer = Answer { status: 200, version: Some(format!("v{number}")), made_by_proxy: false, body_bytes: 1 };
            tally.begin(Duration::ZERO);
            tally.end(&Exchange { result: Ok(answer), reconnected: false, connection: None }, Duration::from_millis(1));
        }
        assert_eq!(tally.by_version.len(), MOST_VERSIONS + 1);
        assert_eq!(tally.by_version[OTHER_VERSIONS], 150);
        assert_eq!(tally.by_version.values().sum::<u64>(), 200);
        assert_eq!((tally.in_flight(), tally.lost(), tally.body_bytes), (0, 0, 200));
    }
}
