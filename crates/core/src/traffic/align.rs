//! Counters of both arms, as other sources sample them, brought to one span of time (ANALYSIS 2.2).
//!
//! Sources sample each process at its own moments. Compared as they come, trouble that hits both arms at once shows in one of them first,
//! and that looks like a difference. So everything is counted up to the same moment, the *horizon*: one at which the canary was sampled and
//! up to which every other counter is known, too. There the canary's counts are exact; between two samples a counter is taken to have
//! grown evenly.
//!
//! - Raw counters, never rates: `increase()` and `rate()` lose the first failures of a series that begins with them, and extrapolate.
//! - A counter that falls began anew, and all it shows since is new.
//! - A series that appears counts from zero, if it belongs to the canary or to a process of stable that was known before: it began with
//!   the first thing it counts. A process of stable that was not known may be an old one that was found late, and only what it counts from
//!   then on is new.
//! - A series that falls silent, for two and a half of its own intervals, no longer holds up the horizon.
//! - What was counted before the first look is not of this release. Nothing is remembered across restarts: what happened in between is
//!   lost for both arms alike.
//!
//! Times are those of the source's clock, and only ever compared with each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serin_stats::ArmCounts;

use super::Arm;

/// The most series that one metric may have, over both arms and the whole release.
pub const MAX_SERIES: usize = 10_000;
/// How many of its own intervals a series may miss before it counts as silent.
const SILENT_AFTER_INTERVALS: f64 = 2.5;
/// The interval of a series that was sampled once, if no other has one, in milliseconds.
const USUAL_INTERVAL_MS: u64 = 60_000;

/// A counter's value at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When, in milliseconds of the source's clock.
    pub at_ms: u64,
    /// The counter.
    pub value: f64,
}

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Everything.
    All,
    /// What speaks against the arm.
    Bad,
    /// Everything but what speaks against the arm.
    Good,
}

/// A counter as a source has it: its newest samples, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Whose.
    pub arm: Arm,
    /// What it counts.
    pub part: Part,
    /// What tells it from the others, such as all of its labels.
    pub id: String,
    /// The process that has it.
    pub target: String,
    /// Its samples, oldest first.
    pub samples: Vec<Sample>,
}

/// The metric has more series than can be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_SERIES} series: name the labels that tell this service from others")]
pub struct TooManySeries;

/// Both arms' counters of one metric.
#[derive(Debug, Clone, Default)]
pub struct Aligner {
    tracks: BTreeMap<Key, Track>,
    /// Everything up to here is counted.
    horizon: Option<u64>,
    counted: [ArmCounts; 2],
}

type Key = (Arm, Part, String);

#[derive(Debug, Clone)]
struct Track {
    target: String,
    /// What was counted since the series is followed: the last point at or before the horizon, and all after it. Never empty.
    points: VecDeque<Point>,
    /// The counter itself.
    raw: f64,
    sampled_ms: u64,
    interval_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at_ms: u64,
    sum: f64,
}

impl Aligner {
    /// Takes what a source has now, which may overlap with what it had before, and gives what both arms counted since the horizon before,
    /// by [`Arm::index`]. `None` if there is nothing new, as the first time.
    ///
    /// Totals are to be asked for before their parts, so that no part is known to be missing where it was only asked for too early.
    ///
    /// # Errors
    /// If there are too many series. What was known stays.
    pub fn take(&mut self, series: &[Series]) -> Result<Option<[ArmCounts; 2]>, TooManySeries> {
        let known: BTreeSet<(Arm, String)> = self.tracks.iter().map(|((arm, ..), track)| (*arm, track.target.clone())).collect();
        for one in series {
            let key = (one.arm, one.part, one.id.clone());
            match self.tracks.get_mut(&key) {
                Some(track) => track.follow(&one.samples),
                None => {
                    let Some(first) = one.samples.iter().find(|sample| is_count(sample.value)) else { continue };
                    if self.tracks.len() >= MAX_SERIES {
                        return Err(TooManySeries);
                    }
                    let is_born = one.arm == Arm::Canary || known.contains(&(one.arm, one.target.clone()));
                    let born_at = self.horizon.filter(|_| is_born);
                    let mut track = Track::new(one.target.clone(), *first, born_at);
                    track.follow(&one.samples);
                    self.tracks.insert(key, track);
                }
            }
        }
        Ok(self.advance())
    }

    /// Whether an arm has counters of everything, but none of them was sampled lately.
    #[must_use]
    pub fn is_silent(&self, arm: Arm) -> bool {
        let of_arm = || self.tracks.iter().filter(move |((whose, part, _), _)| *whose == arm && *part == Part::All);
        let now = self.newest_ms();
        of_arm().next().is_some() && of_arm().all(|(_, track)| self.has_ended(track, now))
    }

    fn advance(&mut self) -> Option<[ArmCounts; 2]> {
        let horizon = self.next_horizon()?;
        let before = self.horizon.replace(horizon);
        let sums = super::by_arm(|arm| self.sums(arm, horizon));
        self.tracks.values_mut().for_each(|track| track.forget_before(horizon));
        let mut fresh = [ArmCounts::default(); 2];
        for ((fresh, counted), (requests, events)) in fresh.iter_mut().zip(&mut self.counted).zip(sums) {
            fresh.requests = requests.saturating_sub(counted.requests);
            // Where rounding left an event without its request, it counts with the next one.
            fresh.events = events.saturating_sub(counted.events).min(if before.is_some() { fresh.requests } else { u64::MAX });
            counted.add(*fresh);
        }
        before.map(|_| fresh)
    }

    /// The latest moment at which the canary was sampled and up to which every counter is known.
    fn next_horizon(&self) -> Option<u64> {
        let now = self.newest_ms();
        let live: Vec<(&Key, &Track)> = self.tracks.iter().filter(|(_, track)| !self.has_ended(track, now)).collect();
        let known_to = live.iter().map(|(_, track)| track.sampled_ms).min()?;
        let of_canary: Vec<&Track> = live.iter().filter(|((arm, ..), _)| *arm == Arm::Canary).map(|(_, track)| *track).collect();
        let horizon = if of_canary.is_empty() {
            Some(known_to)
        } else {
            let sampled = of_canary.iter().flat_map(|track| &track.points).map(|point| point.at_ms);
            sampled.filter(|at_ms| *at_ms <= known_to).max()
        };
        horizon.filter(|horizon| self.horizon.is_none_or(|before| *horizon > before))
    }

    fn sums(&self, arm: Arm, at_ms: u64) -> (u64, u64) {
        let sum = |part: Part| -> Option<f64> {
            let of_part = self.tracks.iter().filter(|((whose, what, _), _)| *whose == arm && *what == part);
            of_part.map(|(_, track)| track.sum_at(at_ms)).reduce(|a, b| a + b)
        };
        let all = sum(Part::All).unwrap_or(0.0);
        let has_good = self.tracks.keys().any(|(_, part, _)| *part == Part::Good);
        let bad = if has_good { all - sum(Part::Good).unwrap_or(0.0) } else { sum(Part::Bad).unwrap_or(0.0) };
        (whole(all), whole(bad))
    }

    fn newest_ms(&self) -> u64 {
        self.tracks.values().map(|track| track.sampled_ms).max().unwrap_or(0)
    }

    fn has_ended(&self, track: &Track, now_ms: u64) -> bool {
        let interval_ms = track.interval_ms.or_else(|| self.tracks.values().filter_map(|track| track.interval_ms).max());
        (now_ms - track.sampled_ms) as f64 > interval_ms.unwrap_or(USUAL_INTERVAL_MS) as f64 * SILENT_AFTER_INTERVALS
    }
}

impl Track {
    /// `born_at`: the horizon after which the series began with zero; `None` if nobody knows when it began.
    fn new(target: String, first: Sample, born_at: Option<u64>) -> Self {
        let mut points = VecDeque::new();
        match born_at {
            // Nothing of it may be counted into what is counted already.
            Some(horizon) => points.extend([
                Point { at_ms: horizon, sum: 0.0 },
                Point { at_ms: first.at_ms.max(horizon.saturating_add(1)), sum: first.value },
            ]),
            None => points.push_back(Point { at_ms: first.at_ms, sum: 0.0 }),
        }
        Self { target, points, raw: first.value, sampled_ms: first.at_ms, interval_ms: None }
    }

    fn follow(&mut self, samples: &[Sample]) {
        for sample in samples {
            if sample.at_ms <= self.sampled_ms || !is_count(sample.value) {
                continue;
            }
            let grown = if sample.value >= self.raw { sample.value - self.raw } else { sample.value };
            self.interval_ms = Some(sample.at_ms - self.sampled_ms);
            (self.raw, self.sampled_ms) = (sample.value, sample.at_ms);
            match self.points.back_mut() {
                Some(last) if sample.at_ms <= last.at_ms => last.sum += grown,
                last => {
                    let sum = last.map_or(0.0, |last| last.sum) + grown;
                    self.points.push_back(Point { at_ms: sample.at_ms, sum });
                }
            }
        }
    }

    fn sum_at(&self, at_ms: u64) -> f64 {
        let after = self.points.iter().position(|point| point.at_ms >= at_ms);
        match after.map(|index| (index.checked_sub(1).map(|before| self.points[before]), self.points[index])) {
            Some((Some(from), to)) => {
                let share = (at_ms - from.at_ms) as f64 / (to.at_ms - from.at_ms) as f64;
                if share >= 1.0 { to.sum } else { from.sum + (to.sum - from.sum) * share }
            }
            Some((None, first)) => first.sum,
            None => self.points.back().map_or(0.0, |last| last.sum),
        }
    }

    fn forget_before(&mut self, horizon: u64) {
        while self.points.get(1).is_some_and(|second| second.at_ms <= horizon) {
            self.points.pop_front();
        }
    }
}

fn is_count(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and a negative sum counts as nothing"
)]
fn whole(sum: f64) -> u64 {
    // Sums of interpolated shares may end just below the whole number that they stand for.
    (sum + 1e-6).floor() as u64
}

#[cfg(test)]
mod tests;
