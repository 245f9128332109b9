//! When requests are due. The schedule knows nothing of the server: a slow one does not slow the arrivals.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How arrivals are spread over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pattern {
    /// Independent of each other, as those of many users: exponential gaps.
    #[default]
    Poisson,
    /// At equal distances.
    Even,
}

/// The endless sequence of due times, as durations since the start.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pattern: Pattern,
    per_second: f64,
    rng: StdRng,
    count: u64,
    last_seconds: f64,
}

impl Arrivals {
    /// `per_second` must be positive and finite; the seed matters for [`Pattern::Poisson`] only.
    pub(crate) fn new(pattern: Pattern, per_second: f64, seed: u64) -> Self {
        Self { pattern, per_second, rng: StdRng::seed_from_u64(seed), count: 0, last_seconds: 0.0 }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let seconds = match self.pattern {
            // From the count, so that rounding does not add up.
            Pattern::Even => self.count as f64 / self.per_second,
            // `1 - u` lies in (0, 1]: its logarithm is finite.
            Pattern::Poisson => self.last_seconds - (1.0 - self.rng.random::<f64>()).ln() / self.per_second,
        };
        self.count += 1;
        self.last_seconds = seconds;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// Calls `fire` with the due time of each arrival, when it is due, until `length` has passed or the sender of `stop` is dropped.
/// Gives whether it was stopped. Overdue arrivals are fired at once and with their true due times.
///
/// It blocks its thread: timers of an async runtime tick in milliseconds, which would be a large part of a small latency.
pub(crate) fn pace(
    arrivals: Arrivals,
    start: Instant,
    length: Option<Duration>,
    stop: &Receiver<()>,
    mut fire: impl FnMut(Instant),
) -> bool {
    for offset in arrivals {
        let over = length.filter(|length| offset >= *length);
        let due = start + over.unwrap_or(offset);
        // Without a wait as well: a sender that cannot keep up must still see the stop.
        match stop.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return true,
        }
        if over.is_some() {
            return false;
        }
        fire(due);
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn even_arrivals_do_not_drift() {
        let mut arrivals = Arrivals::new(Pattern::Even, 3.0, 0);
        assert_eq!(arrivals.next(), Some(Duration::ZERO));
        assert_eq!(arrivals.nth(2_999_999 - 1), Some(Duration::from_secs_f64(2_999_999.0 / 3.0)));
    }

    #[test]
    fn poisson_arrivals_have_the_asked_rate_and_exponential_gaps() {
        let times: Vec<f64> = Arrivals::new(Pattern::Poisson, 50.0, 11).take(20_000).map(|at| at.as_secs_f64()).collect();
        let rate = 20_000.0 / times[19_999];
        assert!((rate / 50.0 - 1.0).abs() < 0.03, "{rate}");
        // An exponential gap exceeds its mean with probability 1/e.
        let long = times.windows(2).filter(|pair| pair[1] - pair[0] > 0.02).count() as f64 / 19_999.0;
        assert!((long - 0.368).abs() < 0.02, "{long}");
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn a_seed_repeats_the_arrivals() {
        let take = |seed| Arrivals::new(Pattern::Poisson, 9.0, seed).take(50).collect::<Vec<_>>();
        assert_eq!(take(4), take(4));
        assert_ne!(take(4), take(5));
    }

    #[test]
    fn overdue_arrivals_are_fired_with_their_true_due_times_and_the_end_is_kept() {
        let start = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let (_stop, stopped) = mpsc::channel();
        let mut due = Vec::new();
        let was_stopped = pace(Arrivals::new(Pattern::Even, 2.0, 0), start, Some(Duration::from_secs(2)), &stopped, |at| due.push(at));
        assert!(!was_stopped);
        assert_eq!(due, [0, 500, 1_000, 1_500].map(|ms| start + Duration::from_millis(ms)));
    }

    #[test]
    fn it_stops_when_told_even_if_it_cannot_keep_up() {
        let (stop, stopped) = mpsc::channel();
        let mut stop = Some(stop);
        let mut fired = 0;
        let start = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let was_stopped = pace(Arrivals::new(Pattern::Even, 1000.0, 0), start, None, &stopped, |_| {
            fired += 1;
            stop = None;
        });
        assert!(was_stopped);
        assert_eq!(fired, 1);
    }
}
