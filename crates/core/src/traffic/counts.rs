//! Counts of requests by outcome, with the latencies of those that did not fail.

use serde::{Deserialize, Serialize};
use serin_stats::Histogram;

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
}

impl Counts {
    /// Counts one finished request.
    pub fn record(&mut self, outcome: Outcome, latency_us: u64) {
        let slot = &mut self.by_outcome[outcome.index()];
        *slot = slot.saturating_add(1);
        if !outcome.is_error() && outcome != Outcome::ClientAborted {
            self.latency.record_us(latency_us);
        }
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
        match self.latency.since(&earlier.latency) {
            Ok(latency) => Self { by_outcome, latency },
            Err(_) => self.clone(),
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
    fn a_restarted_counter_is_taken_as_all_new() {
        let mut old = Counts::default();
        old.record(Outcome::Success, 10);
        old.record(Outcome::Success, 10);
        let mut fresh = Counts::default();
        fresh.record(Outcome::Success, 20);
        assert_eq!(fresh.since(&old), fresh);
    }
}
