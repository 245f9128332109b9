//! Tests that may look at every error: ours at three paces, Lindon and Malek's, and an oracle that knows the fault.

use anyhow::Result;
use serin_stats::{ArmCounts, Batch, RatioConfig, RatioE, Share};

use super::Rule;
use crate::traffic::{Second, by_tick};
use crate::wiring::ReleaseErrors;

/// How often a test gets its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At every error.
    Event,
    /// Every 50 ms, at the end of the tick.
    Tick,
    /// So many seconds, as counters with the realised share.
    Scrape(u32),
}

/// Our test on errors in `harm` mode.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    test: Test,
    pace: Pace,
    open: [ArmCounts; 2],
}

#[derive(Debug, Clone)]
enum Test {
    Alone { test: Box<RatioE>, ln_threshold: f64 },
    InRelease(Box<ReleaseErrors>),
}

impl Ours {
    /// With the default configuration.
    pub(crate) fn new(pace: Pace, ln_threshold: f64) -> Result<Self> {
        Self::with(&RatioConfig::fail(1.0, 1.5), pace, ln_threshold)
    }

    /// With a configuration of its own.
    pub(crate) fn with(config: &RatioConfig, pace: Pace, ln_threshold: f64) -> Result<Self> {
        Ok(Self::of(Test::Alone { test: Box::new(RatioE::new(config)?), ln_threshold }, pace))
    }

    /// As in a release with the default document.
    pub(crate) fn in_release(pace: Pace) -> Result<Self> {
        Ok(Self::of(Test::InRelease(Box::new(ReleaseErrors::new()?)), pace))
    }

    fn of(test: Test, pace: Pace) -> Self {
        Self { test, pace, open: [ArmCounts::default(); 2] }
    }

    fn score(&mut self, canary_events: u64, stable_events: u64, weight: Share) -> bool {
        let batch = Batch { canary_events, stable_events, weight };
        match &mut self.test {
            Test::Alone { test, ln_threshold } => {
                test.update(batch);
                test.ln_e() >= *ln_threshold
            }
            Test::InRelease(test) => test.update(batch),
        }
    }

    fn scrape(&mut self, second: &Second<'_>, every_s: u32) -> Option<f64> {
        self.open[0].add(second.canary);
        self.open[1].add(second.stable);
        if !second.end_s.is_multiple_of(every_s) {
            return None;
        }
        let [canary, stable] = std::mem::take(&mut self.open);
        let weight = Share::realised(canary.requests, stable.requests)?;
        self.score(canary.events, stable.events, weight).then(|| f64::from(second.end_s))
    }
}

impl Rule for Ours {
    fn reads_events(&self) -> bool {
        !matches!(self.pace, Pace::Scrape(_))
    }

    fn observe(&mut self, second: &Second<'_>) -> Option<f64> {
        match self.pace {
            Pace::Scrape(every_s) => self.scrape(second, every_s),
            Pace::Event => {
                let mut events = second.events.iter();
                events
                    .find(|event| self.score(u64::from(event.is_canary), u64::from(!event.is_canary), second.share))
                    .map(|event| event.at_s)
            }
            Pace::Tick => by_tick(second.events).find_map(|(end_s, events)| {
                let canary = events.iter().filter(|event| event.is_canary).count() as u64;
                self.score(canary, events.len() as u64 - canary, second.share).then_some(end_s)
            }),
        }
    }
}

/// Lindon and Malek's multinomial test with a Dirichlet prior in the proportions of the weights (ANALYSIS 1.4).
///
/// Two-sided; here a rejection counts only while the canary has more than its share.
#[derive(Debug, Clone)]
pub(crate) struct LindonMalek {
    concentration: f64,
    ln_threshold: f64,
    ln_e: f64,
    canary: f64,
    stable: f64,
    /// Decide only at the end of each second.
    by_second: bool,
}

impl LindonMalek {
    /// Prior concentration 10.
    pub(crate) fn new(ln_threshold: f64, by_second: bool) -> Self {
        Self { concentration: 10.0, ln_threshold, ln_e: 0.0, canary: 0.0, stable: 0.0, by_second }
    }

    /// Scores one event by its predictive probability; whether the evidence now says that the canary is worse.
    fn score(&mut self, is_canary: bool, weight: f64) -> bool {
        let (seen, share) = if is_canary { (&mut self.canary, weight) } else { (&mut self.stable, 1.0 - weight) };
        let predicted = self.concentration * share + *seen;
        *seen += 1.0;
        let before = self.canary + self.stable - 1.0;
        self.ln_e += (predicted / (self.concentration + before) / share).ln();
        self.ln_e >= self.ln_threshold && self.canary > weight * (before + 1.0)
    }
}

impl Rule for LindonMalek {
    fn reads_events(&self) -> bool {
        true
    }

    fn observe(&mut self, second: &Second<'_>) -> Option<f64> {
        let weight = second.share.get();
        if !self.by_second {
            return second.events.iter().find(|event| self.score(event.is_canary, weight)).map(|event| event.at_s);
        }
        let last = second.events.iter().map(|event| self.score(event.is_canary, weight)).last();
        last.unwrap_or(false).then(|| f64::from(second.end_s))
    }
}

/// Wald's sequential test between the null and the true ratio, given the events: it knows the fault.
#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    ratio: f64,
    ln_threshold: f64,
    ln_e: f64,
}

impl Oracle {
    /// For a known ratio of canary's rate to stable's.
    pub(crate) fn new(ratio: f64, ln_threshold: f64) -> Self {
        Self { ratio, ln_threshold, ln_e: 0.0 }
    }

    /// Scores one event.
    pub(super) fn score(&mut self, is_canary: bool, weight: f64) -> bool {
        let z = weight * self.ratio + 1.0 - weight;
        self.ln_e += if is_canary { (self.ratio / z).ln() } else { -z.ln() };
        self.ln_e >= self.ln_threshold
    }
}

impl Rule for Oracle {
    fn reads_events(&self) -> bool {
        true
    }

    fn observe(&mut self, second: &Second<'_>) -> Option<f64> {
        let weight = second.share.get();
        second.events.iter().find(|event| self.score(event.is_canary, weight)).map(|event| event.at_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Event;

    fn failures_in_a_row(mut fails: impl FnMut() -> bool) -> usize {
        (1..100).find(|_| fails()).unwrap()
    }

    #[test]
    fn failures_in_a_row_that_decide_at_five_percent() {
        let (ln_100, weight) = (100_f64.ln(), Share::new(0.05).unwrap());
        let mut ours = Ours::new(Pace::Event, ln_100).unwrap();
        assert_eq!(failures_in_a_row(|| ours.score(1, 0, weight)), 3);
        // 1, 2.73, 11.4, 61, 393.
        let mut theirs = LindonMalek::new(ln_100, false);
        assert_eq!(failures_in_a_row(|| theirs.score(true, 0.05)), 5);
        let mut oracle = Oracle::new(200.0, ln_100);
        assert_eq!(failures_in_a_row(|| oracle.score(true, 0.05)), 2);
    }

    #[test]
    fn lindon_and_malek_agree_with_the_closed_form() {
        // Dirichlet (0.5, 9.5), 2 canary and 3 stable events: Gamma ratios over theta powers.
        let mut test = LindonMalek::new(f64::INFINITY, false);
        for is_canary in [true, false, false, true, false] {
            test.score(is_canary, 0.05);
        }
        let expected = (0.5 * 1.5) * (9.5 * 10.5 * 11.5) / (10.0 * 11.0 * 12.0 * 13.0 * 14.0) / (0.05_f64.powi(2) * 0.95_f64.powi(3));
        assert!((test.ln_e - expected.ln()).abs() < 1e-12);
    }

    #[test]
    fn a_better_canary_is_no_rollback() {
        let mut test = LindonMalek::new(100_f64.ln(), false);
        assert!(!(0..1_000).any(|_| test.score(false, 0.5)) && test.ln_e > 100.0);
    }

    #[test]
    fn ticks_decide_at_their_end_with_all_their_events() {
        let event = |at_s| Event { at_s, is_canary: true };
        let events = [event(0.01), event(0.02), event(0.33), event(0.34)];
        let counts = ArmCounts { requests: 10, events: 4 };
        let second = Second { end_s: 1, share: Share::new(0.05).unwrap(), canary: counts, stable: ArmCounts::default(), events: &events };
        let decided = |pace| Ours::new(pace, 100_f64.ln()).unwrap().observe(&second);
        assert_eq!(decided(Pace::Event), Some(0.33));
        assert!((decided(Pace::Tick).unwrap() - 0.35).abs() < 1e-12);
        assert_eq!(decided(Pace::Scrape(15)), None);
    }
}
