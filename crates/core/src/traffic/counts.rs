//! Counts of requests by outcome, with the latencies of those that did not fail.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serin_stats::Histogram;

/// Most kinds of errors that one set of counts keeps apart; the rest are counted as [`OTHER_ERRORS`].
pub const MAX_ERROR_CLASSES: usize = 64;

/// The class of errors that found no place of their own.
pub const OTHER_ERRORS: &str = "other";

/// How a request ended, seen from the client's side of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// 1xx and 2xx.
    Success,
    /// 3xx.
    Redirect,
    /// 4xx: the client's fault, a metric of its own.
    ClientError,
    /// 5xx answered by the version.
    ServerError,
    /// Could not connect, connection reset, or an answer that is not HTTP.
    Transport,
    /// No answer in time.
    Timeout,
    /// The body ended before its declared end.
    Truncated,
    /// The client went away first: counted apart, neither good nor bad.
    ClientAborted,
}

impl Outcome {
    /// Every outcome, in the order of its index.
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::Redirect,
        Self::ClientError,
        Self::ServerError,
        Self::Transport,
        Self::Timeout,
        Self::Truncated,
        Self::ClientAborted,
    ];

    /// Position in [`ALL`](Self::ALL): for arrays by outcome.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Success => 0,
            Self::Redirect => 1,
            Self::ClientError => 2,
            Self::ServerError => 3,
            Self::Transport => 4,
            Self::Timeout => 5,
            Self::Truncated => 6,
            Self::ClientAborted => 7,
        }
    }

    /// The outcome of a complete answer with this status code.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            0..300 => Self::Success,
            300..400 => Self::Redirect,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    /// Whether this counts as an error of the version: 5xx, transport errors, timeouts and truncated answers.
    #[must_use]
    pub fn is_error(self) -> bool {
        matches!(self, Self::ServerError | Self::Transport | Self::Timeout | Self::Truncated)
    }
}

/// Requests by outcome and the latencies of those that are not errors.
///
/// Errors are kept out of the latencies so that fast failures cannot make a version look fast.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Number of requests by [`Outcome::index`].
    pub by_outcome: [u64; 8],
    /// Latencies of finished requests that are neither errors nor client aborts, in microseconds.
    pub latency: Histogram,
    /// How old requests were when their client went away, in microseconds.
    #[serde(default)]
    pub gave_up: Histogram,
    /// Errors by what failed on which route, such as `503 GET /orders/*`; at most [`MAX_ERROR_CLASSES`].
    #[serde(default)]
    pub error_classes: BTreeMap<String, u64>,
}

impl Counts {
    /// Counts one finished request.
    pub fn record(&mut self, outcome: Outcome, latency_us: u64) {
        let slot = &mut self.by_outcome[outcome.index()];
        *slot = slot.saturating_add(1);
        match outcome {
            Outcome::ClientAborted => self.gave_up.record_us(latency_us),
            outcome if outcome.is_error() => {}
            _ => self.latency.record_us(latency_us),
        }
    }

    /// Counts the class of an error that was [recorded](Self::record).
    pub fn record_class(&mut self, class: &str) {
        self.add_class(class, 1);
    }

    /// How many requests were slow or failed: took `edge_us` or longer (a bin edge), failed at any age, or were given up on
    /// at that age or later. Requests that are still running are not among them.
    #[must_use]
    pub fn slow_or_failed(&self, edge_us: u64) -> u64 {
        let given_up = self.gave_up.count_at_or_above_us(edge_us);
        self.latency.count_at_or_above_us(edge_us).saturating_add(given_up).saturating_add(self.errors())
    }

    /// Requests that ended this way.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.by_outcome[outcome.index()]
    }

    /// Every request, whatever became of it.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.by_outcome.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Requests that count: all but those whose client went away.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.all().saturating_sub(self.of(Outcome::ClientAborted))
    }

    /// Requests that count as errors of the version.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let errors = Outcome::ALL.into_iter().filter(|outcome| outcome.is_error());
        errors.fold(0, |sum, outcome| sum.saturating_add(self.of(outcome)))
    }

    /// Adds `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.by_outcome.iter_mut().zip(other.by_outcome) {
            *mine = mine.saturating_add(theirs);
        }
        self.latency.merge(&other.latency);
        self.gave_up.merge(&other.gave_up);
        for (class, count) in &other.error_classes {
            self.add_class(class, *count);
        }
    }

    /// What was counted since `earlier`, an older state of the same counter. If any count shrank, the counter started
    /// anew and everything in it is new.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut by_outcome = [0; 8];
        for (index, slot) in by_outcome.iter_mut().enumerate() {
            match self.by_outcome[index].checked_sub(earlier.by_outcome[index]) {
                Some(rest) => *slot = rest,
                None => return self.clone(),
            }
        }
        let mut error_classes = self.error_classes.clone();
        for (class, before) in &earlier.error_classes {
            match error_classes.get_mut(class).and_then(|now| now.checked_sub(*before).map(|rest| *now = rest)) {
                Some(()) => {}
                None => return self.clone(),
            }
        }
        error_classes.retain(|_, count| *count > 0);
        match (self.latency.since(&earlier.latency), self.gave_up.since(&earlier.gave_up)) {
            (Ok(latency), Ok(gave_up)) => Self { by_outcome, latency, gave_up, error_classes },
            _ => self.clone(),
        }
    }

    fn add_class(&mut self, class: &str, count: u64) {
        let known = self.error_classes.contains_key(class) || self.error_classes.len() + 1 < MAX_ERROR_CLASSES;
        let class = if known { class } else { OTHER_ERRORS };
        match self.error_classes.get_mut(class) {
            Some(sum) => *sum = sum.saturating_add(count),
            None => drop(self.error_classes.insert(class.to_owned(), count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_place() {
        for (position, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), position);
        }
    }

    #[test]
    fn client_aborts_are_neither_requests_nor_errors_and_errors_have_no_latency() {
        let mut counts = Counts::default();
        counts.record(Outcome::Success, 1_000);
        counts.record(Outcome::ServerError, 5);
        counts.record(Outcome::ClientAborted, 5);
        assert_eq!((counts.requests(), counts.errors(), counts.latency.total()), (2, 1, 1));
    }

    #[test]
    fn slow_requests_are_those_that_ran_long_failed_or_were_given_up_on_late() {
        let mut counts = Counts::default();
        for (outcome, latency_us) in [
            (Outcome::Success, 2_000_000),
            (Outcome::Success, 1_000),
            (Outcome::ServerError, 1),
            (Outcome::ClientAborted, 3_000_000),
            (Outcome::ClientAborted, 10),
        ] {
            counts.record(outcome, latency_us);
        }
        assert_eq!(counts.slow_or_failed(1_000_000), 3);
    }

    #[test]
    fn error_classes_are_bounded_and_subtract() {
        let mut old = Counts::default();
        for class in 0..100 {
            old.record(Outcome::ServerError, 1);
            old.record_class(&format!("500 GET /{class}"));
        }
        assert_eq!(old.error_classes.len(), MAX_ERROR_CLASSES);
        assert_eq!(old.error_classes[OTHER_ERRORS], 37);
        let mut new = old.clone();
        new.record(Outcome::ServerError, 1);
        new.record_class("500 GET /0");
        let delta = new.since(&old);
        assert_eq!(delta.error_classes, BTreeMap::from([("500 GET /0".to_owned(), 1)]));
        assert_eq!(old.since(&new), old, "a counter that started anew");
    }

    #[test]
    fn a_restarted_counter_is_taken_as_all_new() {
        let mut old = Counts::default();
        old.record(Outcome::Success, 10);
        old.record(Outcome::Success, 10);
        let mut fresh = Counts::default();
        fresh.record(Outcome::Success, 20);
        assert_eq!(fresh.since(&old), fresh);
    }
}
