//! Sequential tests on latencies: ours (P99, and P50, P90 and P99 together), ours on a bucket of scraped counters, the band test on
//! whole distributions, and an oracle.

use anyhow::Result;
use serin_stats::{AnyLatencyE, BINS, Batch, Coding, LatencyCode, RatioConfig, RatioE, Share};

use super::event_tests::Oracle;
use super::{LatencyRule, Rule as _};
use crate::latency::{LatencySecond, P99_US, Sample};
use crate::traffic::{Event, Second, TICKS};

/// What people tolerate: 1.2 times stable's.
const TOLERANCE: f64 = 1.2;

/// `P99` and `any` in harm mode at two thresholds, from one set of tests: [P99, any, P99 in a release, any in a release].
#[derive(Debug, Clone)]
pub(crate) struct OurLatency {
    any: AnyLatencyE,
    thresholds: [f64; 2],
    /// When each decided.
    pub(crate) decided: [Option<f64>; 4],
}

impl OurLatency {
    /// With thresholds for a single test and in a release.
    pub(crate) fn new(thresholds: [f64; 2]) -> Result<Self> {
        Ok(Self { any: AnyLatencyE::new(TOLERANCE, Coding::Harm)?, thresholds, decided: [None; 4] })
    }

    /// Takes one second, tick by tick, with the thresholds that were tuned on the past.
    pub(crate) fn observe(&mut self, second: &LatencySecond<'_>) {
        if self.decided.iter().all(Option::is_some) {
            return;
        }
        let codes = self.any.retune(second.past);
        let none = [Batch { canary_events: 0, stable_events: 0, weight: second.share }; 3];
        let mut ticks = [none; TICKS as usize];
        count(&mut ticks, second.canary, &codes, |code| code.canary_edge_us, |batch| batch.canary_events += 1);
        count(&mut ticks, second.stable, &codes, |code| code.stable_edge_us, |batch| batch.stable_events += 1);
        for (tick, batches) in (1_u8..).zip(ticks) {
            self.any.update(batches);
            // Neither rises without slow requests of the canary.
            if batches.iter().all(|batch| batch.canary_events == 0) {
                continue;
            }
            let at_s = f64::from(second.end_s - 1) + f64::from(tick) / f64::from(TICKS);
            let evidence = [self.any.parts[2].ln_e(), self.any.ln_e()];
            for (index, decided) in self.decided.iter_mut().enumerate().filter(|(_, decided)| decided.is_none()) {
                *decided = (evidence[index % 2] >= self.thresholds[index / 2]).then_some(at_s);
            }
        }
    }
}

fn count(
    ticks: &mut [[Batch; 3]; TICKS as usize],
    samples: &[Sample],
    codes: &[Option<LatencyCode>; 3],
    edge_us: impl Fn(&LatencyCode) -> u64,
    add: impl Fn(&mut Batch),
) {
    let edges_us = codes.map(|code| code.as_ref().map_or(u64::MAX, &edge_us));
    for sample in samples {
        for (batch, edge_us) in ticks[usize::from(sample.tick)].iter_mut().zip(edges_us) {
            if sample.latency_us >= edge_us {
                add(batch);
            }
        }
    }
}

/// RatioE on the requests above the 250 ms bucket (stable's P97.8), from counters every 15 s with the realised share.
#[derive(Debug, Clone)]
pub(crate) struct ScrapedBucket {
    test: RatioE,
    ln_threshold: f64,
    /// Requests and slow requests, canary's then stable's.
    open: [(u64, u64); 2],
}

impl ScrapedBucket {
    const EDGE_US: u64 = 250_000;
    const EVERY_S: u32 = 15;

    /// At this threshold.
    pub(crate) fn new(ln_threshold: f64) -> Result<Self> {
        Ok(Self { test: RatioE::new(&RatioConfig::fail(1.0, 1.5))?, ln_threshold, open: [(0, 0); 2] })
    }
}

impl LatencyRule for ScrapedBucket {
    fn observe(&mut self, second: &LatencySecond<'_>) -> Option<f64> {
        for (open, samples) in self.open.iter_mut().zip([second.canary, second.stable]) {
            open.0 += samples.len() as u64;
            open.1 += samples.iter().filter(|sample| sample.latency_us > Self::EDGE_US).count() as u64;
        }
        if !second.end_s.is_multiple_of(Self::EVERY_S) {
            return None;
        }
        let [(canary, canary_events), (stable, stable_events)] = std::mem::take(&mut self.open);
        self.test.update(Batch { canary_events, stable_events, weight: Share::realised(canary, stable)? });
        (self.test.ln_e() >= self.ln_threshold).then(|| f64::from(second.end_s))
    }
}

/// The band test on empirical distributions (ANALYSIS 1.4), one-sided, every 10 s: the canary is stochastically slower if somewhere
/// stable's distribution function lies above the canary's by more than both radii, each arm at half of the level.
#[derive(Debug, Clone)]
pub(crate) struct BandTest {
    alpha: f64,
    counts: [Vec<u64>; 2],
}

impl BandTest {
    /// At this level.
    pub(crate) fn new(alpha: f64) -> Self {
        Self { alpha, counts: [vec![0; BINS], vec![0; BINS]] }
    }

    fn is_slower(&self) -> bool {
        let [canary, stable] = &self.counts;
        let [n, m] = [canary, stable].map(|counts| counts.iter().sum::<u64>() as f64);
        if n < 1.0 || m < 1.0 {
            return false;
        }
        let reach = radius(n, self.alpha / 2.0) + radius(m, self.alpha / 2.0);
        let mut below = [0, 0];
        canary.iter().zip(stable).any(|(canary, stable)| {
            below[0] += canary;
            below[1] += stable;
            below[1] as f64 / m - below[0] as f64 / n > reach
        })
    }
}

impl LatencyRule for BandTest {
    fn observe(&mut self, second: &LatencySecond<'_>) -> Option<f64> {
        for (counts, samples) in self.counts.iter_mut().zip([second.canary, second.stable]) {
            samples.iter().for_each(|sample| counts[sample.bin] += 1);
        }
        (second.end_s.is_multiple_of(10) && self.is_slower()).then(|| f64::from(second.end_s))
    }
}

/// `0.85 sqrt((ln ln(e n) + 0.8 ln(1612/a))/n)`, valid for all n at once.
fn radius(n: f64, alpha: f64) -> f64 {
    0.85 * (((1.0 + n.ln()).ln() + 0.8 * (1_612.0 / alpha).ln()) / n).sqrt()
}

/// The oracle on requests above the true P99, told how often the canary exceeds it.
#[derive(Debug, Clone)]
pub(crate) struct LatencyOracle {
    oracle: Oracle,
}

impl LatencyOracle {
    /// For a known part of slow requests on the canary; stable's is 1 %.
    pub(crate) fn new(slow_part: f64, ln_threshold: f64) -> Self {
        Self { oracle: Oracle::new(slow_part / 0.01, ln_threshold) }
    }
}

impl LatencyRule for LatencyOracle {
    fn observe(&mut self, second: &LatencySecond<'_>) -> Option<f64> {
        let start_s = f64::from(second.end_s - 1);
        let moments = |samples: &[Sample], is_canary| -> Vec<Event> {
            let slow = samples.iter().filter(|sample| sample.latency_us as f64 > P99_US);
            slow.map(|sample| Event { at_s: start_s + f64::from(sample.tick + 1) / f64::from(TICKS), is_canary }).collect()
        };
        let mut events = moments(second.canary, true);
        events.extend(moments(second.stable, false));
        events.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        let none = serin_stats::ArmCounts::default();
        self.oracle.observe(&Second { end_s: second.end_s, share: second.share, canary: none, stable: none, events: &events })
    }
}

#[cfg(test)]
mod tests {
    use serin_stats::ExceedanceE;

    use super::*;
    use crate::latency::{Fault, LatencyTraffic};
    use crate::random::Random;

    #[test]
    fn the_radius_is_that_of_the_theorem() {
        // ln ln(e 9000) = ln 10.105 = 2.313, 0.8 ln(322400) = 10.147, 0.85 sqrt(12.460/9000) = 0.03163.
        assert!((radius(9_000.0, 0.005) - 0.031_63).abs() < 1e-5);
    }

    #[test]
    fn the_band_needs_both_radii() {
        let mut test = BandTest::new(0.01);
        test.counts[0][500] = 1_000;
        test.counts[1][500] = 100_000;
        assert!(!test.is_slower());
        test.counts[0][500] = 0;
        test.counts[0][600] = 1_000;
        assert!(test.is_slower());
        // A faster canary is not slower.
        test.counts[0][600] = 0;
        test.counts[0][400] = 1_000;
        assert!(!test.is_slower());
    }

    #[test]
    fn parts_of_any_are_the_single_tests() {
        let mut random = Random::new(3, 0, 0, 0);
        let mut traffic = LatencyTraffic::new(100.0, Fault::All(1.3), &mut random).unwrap();
        let (mut ours, mut alone) =
            (OurLatency::new([f64::INFINITY; 2]).unwrap(), ExceedanceE::new(0.99, TOLERANCE, Coding::Harm).unwrap());
        for _ in 0..30 {
            traffic.next(&mut random, |second| {
                ours.observe(second);
                let code = alone.retune(second.past).unwrap();
                for tick in 0..TICKS {
                    let slow = |samples: &[Sample], edge_us| {
                        samples.iter().filter(|sample| sample.tick == tick && sample.latency_us >= edge_us).count() as u64
                    };
                    alone.update(Batch {
                        canary_events: slow(second.canary, code.canary_edge_us),
                        stable_events: slow(second.stable, code.stable_edge_us),
                        weight: second.share,
                    });
                }
            });
        }
        assert_eq!(ours.any.parts[2].ln_e(), alone.ln_e());
        assert!(alone.events() > 10);
    }
}
