//! Latencies of both arms, second by second: lognormal with P50 50 ms and P99 321 ms, and what faults do to it.
//!
//! A latency is known in the tick in which its request arrives, for every rule alike: what that leaves out is a few hundred
//! milliseconds, against decisions that take seconds to minutes. A hanging request counts as slow like any other.

use anyhow::Result;
use serin_stats::{DEFAULT_HALF_LIFE_MS, DecayedHistogram, Histogram, Share, bin_of_us, normal_quantile};

use crate::random::{Counts, Random};
use crate::traffic::{BEFORE_S, TICKS, WEIGHT};

/// Median in microseconds.
const P50_US: f64 = 50_000.0;
/// The old P99 in microseconds.
pub(crate) const P99_US: f64 = 321_000.0;
/// How long a hanging request takes.
const HANG_US: f64 = 10_000_000.0;

/// What is wrong with the canary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Every request takes so many times as long.
    All(f64),
    /// The slowest 5 % of the requests take so many times as long.
    Tail(f64),
    /// This part of the requests hangs.
    Hang(f64),
}

impl Fault {
    /// The canary's latency where stable's would be this.
    fn apply(self, latency_us: f64, random: &mut Random) -> f64 {
        match self {
            Self::All(factor) => factor * latency_us,
            Self::Tail(factor) if latency_us > P50_US * (sigma() * normal_quantile(0.95)).exp() => factor * latency_us,
            Self::Hang(part) if random.chance(part) => HANG_US,
            Self::Tail(_) | Self::Hang(_) => latency_us,
        }
    }

    /// The part of the canary's requests that is slower than the old P99.
    pub(crate) fn slow_part(self) -> f64 {
        let above = |latency_us: f64| survival((latency_us / P50_US).ln() / sigma());
        match self {
            Self::All(factor) => above(P99_US / factor),
            Self::Tail(factor) => above(P99_US / factor).min(0.05).max(above(P99_US)),
            Self::Hang(part) => part + (1.0 - part) * above(P99_US),
        }
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// The tick within its second.
    pub(crate) tick: u8,
    /// Its bin in the histogram of `serin-stats`.
    pub(crate) bin: usize,
    /// Its latency in microseconds.
    pub(crate) latency_us: u64,
}

/// The histograms of a complete minute.
#[derive(Debug, Clone, Default)]
pub(crate) struct Minute {
    /// The canary's.
    pub(crate) canary: Histogram,
    /// Stable's.
    pub(crate) stable: Histogram,
    /// Those of a baseline of the canary's size that is as fast as stable.
    pub(crate) baseline: Histogram,
}

/// What happened in one second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LatencySecond<'a> {
    /// Its end, in seconds since the start of the stage.
    pub(crate) end_s: u32,
    /// The weight in force.
    pub(crate) share: Share,
    /// The canary's requests.
    pub(crate) canary: &'a [Sample],
    /// Stable's requests.
    pub(crate) stable: &'a [Sample],
    /// The last 60 s, at the end of every minute.
    pub(crate) minute: Option<&'a Minute>,
    /// Stable's latencies from before this second.
    pub(crate) past: &'a DecayedHistogram,
}

/// Traffic that makes such seconds.
#[derive(Debug, Clone)]
pub(crate) struct LatencyTraffic {
    fault: Fault,
    canary_requests: Counts,
    stable_requests: Counts,
    share: Share,
    canary: Vec<Sample>,
    stable: Vec<Sample>,
    open: Minute,
    minute: Minute,
    past: DecayedHistogram,
    second: u32,
}

impl LatencyTraffic {
    /// Traffic of both arms, after ten minutes of stable alone.
    pub(crate) fn new(rps: f64, fault: Fault, random: &mut Random) -> Result<Self> {
        let [canary_requests, stable_requests] = [rps * WEIGHT, rps * (1.0 - WEIGHT)].map(Counts::new);
        let mut past = DecayedHistogram::new(DEFAULT_HALF_LIFE_MS)?;
        for _ in 0..BEFORE_S {
            past.decay_ms(1_000);
            for _ in 0..stable_requests.draw(random) {
                past.add_us(whole_us(healthy_us(random)), 1);
            }
        }
        let empty = Minute::default();
        Ok(Self {
            fault,
            canary_requests,
            stable_requests,
            share: Share::new(WEIGHT)?,
            canary: Vec::new(),
            stable: Vec::new(),
            open: empty.clone(),
            minute: empty,
            past,
            second: 0,
        })
    }

    /// Draws the next second and hands it to `look`; then stable's latencies join the past.
    pub(crate) fn next<T>(&mut self, random: &mut Random, look: impl FnOnce(&LatencySecond<'_>) -> T) -> T {
        self.second += 1;
        let fault = self.fault;
        draw(&mut self.canary, self.canary_requests, random, |random| fault.apply(healthy_us(random), random));
        draw(&mut self.stable, self.stable_requests, random, healthy_us);
        for (histogram, samples) in [(&mut self.open.canary, &self.canary), (&mut self.open.stable, &self.stable)] {
            samples.iter().for_each(|sample| histogram.add(sample.bin, 1));
        }
        for _ in 0..self.canary_requests.draw(random) {
            self.open.baseline.record_us(whole_us(healthy_us(random)));
        }
        let complete = self.second.is_multiple_of(60);
        if complete {
            self.minute = std::mem::take(&mut self.open);
        }
        let seen = look(&LatencySecond {
            end_s: self.second,
            share: self.share,
            canary: &self.canary,
            stable: &self.stable,
            minute: complete.then_some(&self.minute),
            past: &self.past,
        });
        self.past.decay_ms(1_000);
        for sample in &self.stable {
            self.past.add_us(sample.latency_us, 1);
        }
        seen
    }
}

fn draw(samples: &mut Vec<Sample>, requests: Counts, random: &mut Random, latency: impl Fn(&mut Random) -> f64) {
    samples.clear();
    for _ in 0..requests.draw(random) {
        let latency_us = whole_us(latency(random));
        samples.push(Sample { tick: random.below(TICKS), bin: bin_of_us(latency_us), latency_us });
    }
}

fn healthy_us(random: &mut Random) -> f64 {
    P50_US * (sigma() * random.normal()).exp()
}

/// Standard deviation of the logarithm.
fn sigma() -> f64 {
    const Z_99: f64 = 2.326_347_874_040_841;
    // ln(321/50), which is no constant function.
    const LN_RATIO: f64 = 1.859_418_117_702_001_3;
    LN_RATIO / Z_99
}

/// The normal survival function, by inverting the quantile.
fn survival(z: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        // Quantiles fall as the survival grows.
        if -normal_quantile(middle) > z { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and far below 2^53")]
fn whole_us(latency_us: f64) -> u64 {
    latency_us as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_fit_the_quantiles() {
        assert!((P50_US * (sigma() * normal_quantile(0.99)).exp() - P99_US).abs() < 1e-6 * P99_US);
        for (z, expected) in [(0.0, 0.5), (1.959_964, 0.025), (-1.0, 0.841_345)] {
            assert!((survival(z) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn faults_make_as_many_slow_requests_as_they_say() {
        let mut random = Random::new(1, 0, 0, 0);
        for fault in [Fault::All(1.0), Fault::All(1.5), Fault::Tail(1.5), Fault::Tail(2.0), Fault::Hang(0.01)] {
            let slow = (0..200_000).filter(|_| fault.apply(healthy_us(&mut random), &mut random) > P99_US).count();
            let expected = 200_000.0 * fault.slow_part();
            assert!((slow as f64 - expected).abs() < 5.0 * expected.sqrt(), "{fault:?}: {slow} {expected}");
        }
        assert!((Fault::All(1.0).slow_part() - 0.01).abs() < 1e-9 && (Fault::Tail(2.0).slow_part() - 0.05).abs() < 1e-9);
    }

    #[test]
    fn minutes_hold_all_their_seconds_and_the_past_none_of_the_present() {
        let mut random = Random::new(2, 0, 0, 0);
        let mut traffic = LatencyTraffic::new(100.0, Fault::All(1.0), &mut random).unwrap();
        let mut since = [0, 0];
        for _ in 0..120 {
            let before = traffic.past.clone();
            traffic.next(&mut random, |second| {
                assert_eq!(*second.past, before);
                since[0] += second.canary.len() as u64;
                since[1] += second.stable.len() as u64;
                if let Some(minute) = second.minute {
                    assert_eq!([minute.canary.total(), minute.stable.total()], since);
                    assert!((150..450).contains(&minute.baseline.total()));
                    since = [0, 0];
                }
            });
        }
        assert!((9_000.0..70_000.0).contains(&traffic.past.total()));
    }
}
