//! One stage of a release, second by second: Poisson arrivals, binomial outcomes, both arms at once.
//!
//! Errors and good requests are drawn as independent Poisson counts, which is the same distribution as binomial outcomes of Poisson
//! arrivals. The moments of the errors within a second are uniform, and are drawn only while a rule that reads them is undecided.

use anyhow::Result;
use serin_stats::{ArmCounts, Share};

use crate::random::{Counts, Random};
use crate::rules::Rule;
use crate::summary::Outcome;

/// Length of the stage in seconds.
pub(crate) const STAGE_S: u32 = 1_800;
/// The canary's share unless a part says otherwise.
pub(crate) const WEIGHT: f64 = 0.05;

/// Seconds of stable traffic that are known before the stage.
pub(crate) const BEFORE_S: u32 = 600;
/// Ticks of the built-in proxy in a second: how often it reports its counts.
pub(crate) const TICKS: u8 = 20;
/// Length of a tick in seconds.
pub(crate) const TICK_S: f64 = 0.05;

/// The events of each tick that has any, with the moment of its end in seconds; `events` in order of time.
pub(crate) fn by_tick(events: &[Event]) -> impl Iterator<Item = (f64, &[Event])> {
    let tick = |event: &Event| (event.at_s * f64::from(TICKS)).floor();
    let end_s = move |events: &[Event]| events.first().map_or(0.0, |first| (tick(first) + 1.0) / f64::from(TICKS));
    events.chunk_by(move |a, b| tick(a) == tick(b)).map(move |events| (end_s(events), events))
}

/// What the traffic of one second is drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rates {
    /// Requests per second, both arms.
    pub(crate) rps: f64,
    /// The canary's share.
    pub(crate) weight: f64,
    /// Probability of an error on stable.
    pub(crate) stable_error: f64,
    /// Probability of an error on the canary.
    pub(crate) canary_error: f64,
}

impl Rates {
    /// The canary's share as the tests take it.
    pub(crate) fn share(&self) -> Result<Share> {
        Ok(Share::new(self.weight)?)
    }
}

/// An error and its moment in seconds since the start of the stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Event {
    /// When.
    pub(crate) at_s: f64,
    /// Which arm.
    pub(crate) is_canary: bool,
}

/// What happened in one second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Second<'a> {
    /// Its end, in seconds since the start of the stage.
    pub(crate) end_s: u32,
    /// The weight in force.
    pub(crate) share: Share,
    /// The canary's requests; events are errors.
    pub(crate) canary: ArmCounts,
    /// Stable's requests.
    pub(crate) stable: ArmCounts,
    /// The errors of both arms in order of time; empty when no undecided rule reads them.
    pub(crate) events: &'a [Event],
}

/// Draws seconds from rates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampler {
    rates: Rates,
    share: Share,
    canary: [Counts; 2],
    stable: [Counts; 2],
}

impl Sampler {
    /// For constant rates.
    pub(crate) fn new(rates: Rates) -> Result<Self> {
        let arm = |rps: f64, error: f64| [Counts::new(rps * (1.0 - error)), Counts::new(rps * error)];
        Ok(Self {
            rates,
            share: rates.share()?,
            canary: arm(rates.rps * rates.weight, rates.canary_error),
            stable: arm(rates.rps * (1.0 - rates.weight), rates.stable_error),
        })
    }

    /// One second of both arms: the canary's, then stable's.
    pub(crate) fn draw(&self, random: &mut Random) -> (ArmCounts, ArmCounts) {
        (draw_arm(&self.canary, random), draw_arm(&self.stable, random))
    }
}

/// Plays a stage of `seconds` to all rules until each has decided or time is up.
///
/// # Errors
/// If a rate is out of range.
pub(crate) fn play(seconds: u32, rates: impl Fn(u32) -> Rates, rules: &mut [Box<dyn Rule>], random: &mut Random) -> Result<Vec<Outcome>> {
    let mut outcomes = vec![None; rules.len()];
    let (mut requests, mut failed) = (0.0, 0.0);
    let mut events = Vec::new();
    let mut sampler = Sampler::new(rates(0))?;
    for second in 0..seconds {
        let now = rates(second);
        if now != sampler.rates {
            sampler = Sampler::new(now)?;
        }
        let (canary, stable) = sampler.draw(random);
        events.clear();
        if rules.iter().zip(&outcomes).any(|(rule, outcome)| outcome.is_none() && rule.reads_events()) {
            spread(f64::from(second), canary.events, stable.events, random, &mut events);
        }
        let seen = Second { end_s: second + 1, share: sampler.share, canary, stable, events: &events };
        for (rule, outcome) in rules.iter_mut().zip(&mut outcomes) {
            if outcome.is_none()
                && let Some(at_s) = rule.observe(&seen)
            {
                *outcome = Some(decided(at_s, &seen, requests, failed));
            }
        }
        requests += canary.requests as f64;
        failed += canary.events as f64;
        if outcomes.iter().all(Option::is_some) {
            break;
        }
    }
    let undecided = Outcome { decided_s: None, requests, failed };
    Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or(undecided)).collect())
}

/// Canary requests and failures up to a moment within this second, given those before it.
fn decided(at_s: f64, second: &Second<'_>, requests: f64, failed: f64) -> Outcome {
    let end_s = f64::from(second.end_s);
    if at_s >= end_s {
        let (requests, failed) = (requests + second.canary.requests as f64, failed + second.canary.events as f64);
        return Outcome { decided_s: Some(end_s), requests, failed };
    }
    let failures = second.events.iter().filter(|event| event.is_canary && event.at_s <= at_s).count();
    let part = at_s - (end_s - 1.0);
    Outcome { decided_s: Some(at_s), requests: requests + part * second.canary.requests as f64, failed: failed + failures as f64 }
}

/// The errors of one second at uniform moments, in order.
pub(crate) fn spread(start_s: f64, canary: u64, stable: u64, random: &mut Random, events: &mut Vec<Event>) {
    let (mut canary_left, mut left) = (canary as f64, (canary + stable) as f64);
    let first = events.len();
    events.extend((0..canary + stable).map(|_| Event { at_s: start_s + random.unit(), is_canary: false }));
    let new = &mut events[first..];
    new.sort_unstable_by(|a, b| a.at_s.total_cmp(&b.at_s));
    for event in new {
        event.is_canary = random.unit() * left < canary_left;
        canary_left -= f64::from(u8::from(event.is_canary));
        left -= 1.0;
    }
}

fn draw_arm([good, bad]: &[Counts; 2], random: &mut Random) -> ArmCounts {
    let events = bad.draw(random);
    ArmCounts { requests: good.draw(random) + events, events }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(f64);

    impl Rule for At {
        fn reads_events(&self) -> bool {
            true
        }
        fn observe(&mut self, second: &Second<'_>) -> Option<f64> {
            (f64::from(second.end_s) >= self.0).then_some(self.0)
        }
    }

    fn rates() -> Rates {
        Rates { rps: 100.0, weight: 0.05, stable_error: 0.01, canary_error: 0.2 }
    }

    #[test]
    fn outcomes_count_up_to_the_decision() {
        let mut random = Random::new(1, 0, 0, 0);
        let mut rules: Vec<Box<dyn Rule>> = vec![Box::new(At(300.0)), Box::new(At(600.0)), Box::new(At(9e9)), Box::new(At(450.5))];
        let outcomes = play(STAGE_S, |_| rates(), &mut rules, &mut random).unwrap();
        for (outcome, expected_s) in outcomes.iter().zip([300.0, 600.0, 1_800.0, 450.5]) {
            assert!((outcome.requests / (5.0 * expected_s) - 1.0).abs() < 0.1, "{outcome:?}");
            assert!((outcome.failed / expected_s - 1.0).abs() < 0.2, "{outcome:?}");
        }
        assert_eq!(outcomes.iter().map(|outcome| outcome.decided_s).collect::<Vec<_>>(), [Some(300.0), Some(600.0), None, Some(450.5)]);
    }

    #[test]
    fn ticks_have_their_length_and_end_after_their_events() {
        assert!((f64::from(TICKS) * TICK_S - 1.0).abs() < 1e-12);
        let events = [7.01, 7.04, 7.33, 7.34, 7.36].map(|at_s| Event { at_s, is_canary: true });
        let ticks: Vec<(f64, usize)> = by_tick(&events).map(|(end_s, events)| (end_s, events.len())).collect();
        assert_eq!(ticks, [(7.05, 2), (7.35, 2), (7.4, 1)]);
    }

    #[test]
    fn events_are_in_order_and_as_many_as_counted() {
        let mut random = Random::new(2, 0, 0, 0);
        let mut events = Vec::new();
        spread(7.0, 3, 9, &mut random, &mut events);
        assert_eq!((events.len(), events.iter().filter(|event| event.is_canary).count()), (12, 3));
        assert!(events.is_sorted_by_key(|event| event.at_s) && events.iter().all(|event| (7.0..8.0).contains(&event.at_s)));
    }
}
