//! Seeded simulations of a few cells of the benchmark (ANALYSIS 3 and 5). Alarm rates and costs have generous bounds; the exact
//! properties are tested elsewhere.

use serin_stats::{
    AnyLatencyE, ArmsBatch, Batch, Coding, DecayedHistogram, ExceedanceE, GaugeE, LimitE, PassE, RatioConfig, RatioCriterion, RatioE,
    RatioLimits, RatioMode, StableRate,
};

use crate::support::{Rng, counts, events, share};

const STAGE_SECONDS: f64 = 1_800.0;
const WEIGHT: f64 = 0.05;

fn ln_threshold() -> f64 {
    100_f64.ln()
}

/// One stage, event by event: failed canary requests at the decision, or `None` without one.
fn failures_to_decision(rng: &mut Rng, rps: f64, base: f64, canary_rate: f64) -> Option<u64> {
    let mut test = RatioE::new(&RatioConfig::fail(1.0, 1.5)).unwrap();
    let (canary, stable) = (rps * WEIGHT * canary_rate, rps * (1.0 - WEIGHT) * base);
    let (mut now, mut failures) = (0.0, 0);
    loop {
        now += rng.exponential(canary + stable);
        if now > STAGE_SECONDS {
            return None;
        }
        let is_canary = rng.chance(canary / (canary + stable));
        failures += u64::from(is_canary);
        test.update(events(u64::from(is_canary), u64::from(!is_canary), WEIGHT));
        if test.ln_e() >= ln_threshold() {
            return Some(failures);
        }
    }
}

#[test]
fn equal_arms_are_seldom_rolled_back() {
    let mut rng = Rng(1);
    let (mut alarms, mut runs) = (0, 0);
    for (rps, base) in [(10.0, 0.02), (100.0, 0.005), (100.0, 0.01)] {
        for _ in 0..400 {
            runs += 1;
            alarms += u32::from(failures_to_decision(&mut rng, rps, base, base).is_some());
        }
    }
    // At most 1 % in theory; 0.4 % in the reference simulation.
    assert!(alarms <= 18, "{alarms} of {runs}");
}

#[test]
fn faults_cost_about_what_the_reference_simulation_says() {
    let mut rng = Rng(2);
    // Fault, runs, mean failed requests of the reference, and the target for a single test.
    for (rps, base, canary, expected, target) in [
        (100.0, 0.005, 0.025, 9.1, 10.0),
        (100.0, 0.005, 0.01, 31.2, 34.0),
        (100.0, 0.005, 1.0, 3.3, 4.0),
        (1000.0, 0.005, 0.0075, 81.9, 88.0),
    ] {
        let runs = 300;
        let found: Vec<u64> = (0..runs).filter_map(|_| failures_to_decision(&mut rng, rps, base, canary)).collect();
        assert!(found.len() * 100 >= runs * 97, "{} of {runs} found", found.len());
        let mean = found.iter().sum::<u64>() as f64 / found.len() as f64;
        assert!(mean > expected * 0.8 && mean < target * 1.1, "rate {canary}: {mean} failed, expected {expected}");
    }
}

#[test]
fn an_outage_after_a_day_is_found_within_ten_failures() {
    // A limit has 15 % of the budget of a release with all kinds of criteria. The last two had some 400,000 failures in the day.
    let in_a_release = (100.0_f64 / 0.15).ln();
    for (rps, base) in [(1_u64, 0.0005), (50, 0.0005), (1_000, 0.0005), (100, 0.04), (1_000, 0.005)] {
        let mut rng = Rng(3);
        let mut test = LimitE::above(0.05).unwrap();
        for _ in 0..24 * 3_600 {
            test.update(counts(rps, rng.poisson(rps as f64 * base).min(rps)));
        }
        assert!(test.ln_e() < 0.0);
        let failures = (1..).find(|_| {
            test.update(counts(1, 1));
            test.ln_e() >= in_a_release
        });
        assert!(failures.is_some_and(|failures| failures <= 10), "{rps} at {base}: {failures:?}");
    }
}

#[test]
fn late_faults_are_found_nearly_as_fast() {
    let mut rng = Rng(4);
    let mut total = 0;
    for _ in 0..100 {
        let mut test = RatioE::new(&RatioConfig::fail(1.0, 1.5)).unwrap();
        for _ in 0..450 {
            let is_canary = rng.chance(WEIGHT);
            test.update(events(u64::from(is_canary), u64::from(!is_canary), WEIGHT));
        }
        let theta = WEIGHT * 5.0 / (WEIGHT * 5.0 + 1.0 - WEIGHT);
        while test.ln_e() < ln_threshold() {
            let is_canary = rng.chance(theta);
            total += u64::from(is_canary);
            test.update(events(u64::from(is_canary), u64::from(!is_canary), WEIGHT));
        }
    }
    // 117 s at 0.025 * 5 per second in the reference.
    assert!((900..2_000).contains(&total), "{total} failed requests in 100 runs");
}

#[test]
fn limit_mode_spares_most_of_what_harm_mode_rolls_back() {
    let run = |rng: &mut Rng, mode, ratio: f64| {
        let limits = RatioLimits { ratio: Some(1.5), increase: None };
        let mut criterion = RatioCriterion::new(mode, limits, StableRate::default()).unwrap();
        (0..1_800).any(|_| {
            let batch = ArmsBatch {
                canary: counts(50, rng.poisson(50.0 * 0.01 * ratio).min(50)),
                stable: counts(950, rng.poisson(9.5)),
                weight: share(WEIGHT),
            };
            criterion.update(batch);
            criterion.fails(ln_threshold())
        })
    };
    let mut rng = Rng(5);
    let mut share_of = |mode, ratio| (0..60).filter(|_| run(&mut rng, mode, ratio)).count();
    let (limit, harm) = (share_of(RatioMode::Limit, 1.2), share_of(RatioMode::Harm, 1.2));
    assert!(limit <= 12 && harm >= 18, "limit {limit}, harm {harm} of 60");
    assert_eq!(share_of(RatioMode::Limit, 2.0), 60);
}

#[test]
fn healthy_canaries_pass_and_those_at_the_margin_seldom_do() {
    let run = |rng: &mut Rng, canary_rate: f64| {
        let mut past = StableRate::default();
        past.add(counts(60_000, 300));
        let mut test = PassE::new(1.5, 0.005, past).unwrap();
        (0..600).any(|_| {
            test.update(ArmsBatch {
                canary: counts(15, rng.poisson(15.0 * canary_rate).min(15)),
                stable: counts(285, rng.poisson(285.0 * 0.005)),
                weight: share(WEIGHT),
            });
            test.ln_e() >= 20_f64.ln()
        })
    };
    let mut rng = Rng(6);
    let healthy = (0..150).filter(|_| run(&mut rng, 0.005)).count();
    let margin = (0..300).filter(|_| run(&mut rng, 0.01)).count();
    assert!(healthy >= 135 && margin <= 24, "healthy {healthy} of 150, at the margin {margin} of 300");
}

/// The log ratio as AR(1) samples every 15 s with a deviation of 10 %, averaged over blocks: how many of `runs` are flagged high
/// within 30 minutes.
fn gauge_flags(rng: &mut Rng, runs: u32, rho: f64, shift: f64, samples_per_block: usize) -> u32 {
    let innovation = 0.1 * (1.0 - rho * rho).sqrt();
    let flagged = |rng: &mut Rng| {
        let mut test = GaugeE::new(1.0).unwrap();
        let mut state = 0.1 * rng.normal();
        (0..120 / samples_per_block).any(|_| {
            let mut sum = 0.0;
            for _ in 0..samples_per_block {
                state = rho * state + innovation * rng.normal();
                sum += (1.0 + shift).ln() + state;
            }
            test.update(sum / samples_per_block as f64).unwrap();
            test.ln_e_fail() >= ln_threshold()
        })
    };
    (0..runs).map(|_| u32::from(flagged(rng))).sum()
}

#[test]
fn gauges_that_resemble_themselves_are_not_flagged() {
    let mut rng = Rng(7);
    assert!(gauge_flags(&mut rng, 2_000, 0.0, 0.0, 5) <= 20);
    assert!(gauge_flags(&mut rng, 2_000, 0.6, 0.0, 5) <= 40);
    assert!(gauge_flags(&mut rng, 2_000, 0.9, 0.0, 12) <= 40);
    assert!(gauge_flags(&mut rng, 500, 0.6, 0.1, 5) >= 400);
    assert!(gauge_flags(&mut rng, 500, 0.9, 0.2, 12) >= 325);
}

/// Lognormal latency with P50 50 ms and P99 321 ms, in microseconds.
fn latency_us(rng: &mut Rng, slowdown: f64) -> u64 {
    (50_000.0 * slowdown * (0.8 * rng.normal()).exp()) as u64
}

/// Seconds until `latency: any` and P99 alone decide, at 100 rps.
fn latency_decisions(rng: &mut Rng, slowdown: f64, seconds: u64) -> (Option<u64>, Option<u64>) {
    let mut past = DecayedHistogram::new(600_000.0).unwrap();
    for _ in 0..20_000 {
        past.add_us(latency_us(rng, 1.0), 1);
    }
    let mut any = AnyLatencyE::new(1.2, Coding::Harm).unwrap();
    let mut tail = ExceedanceE::new(0.99, 1.2, Coding::Harm).unwrap();
    let (mut any_at, mut tail_at) = (None, None);
    for second in 1..=seconds {
        tail.retune(&past);
        let codes = any.retune(&past).map(Option::unwrap);
        let mut batches = [Batch { canary_events: 0, stable_events: 0, weight: share(WEIGHT) }; 3];
        let mut seen = Vec::new();
        for _ in 0..rng.poisson(100.0) {
            let is_canary = rng.chance(WEIGHT);
            let latency = latency_us(rng, if is_canary { slowdown } else { 1.0 });
            for (batch, code) in batches.iter_mut().zip(codes) {
                if is_canary && latency >= code.canary_edge_us {
                    batch.canary_events += 1;
                } else if !is_canary && latency >= code.stable_edge_us {
                    batch.stable_events += 1;
                }
            }
            if !is_canary {
                seen.push(latency);
            }
        }
        any.update(batches);
        tail.update(batches[2]);
        past.decay_ms(1_000);
        seen.into_iter().for_each(|latency| past.add_us(latency, 1));
        any_at = any_at.or((any.ln_e() >= ln_threshold()).then_some(second));
        tail_at = tail_at.or((tail.ln_e() >= ln_threshold()).then_some(second));
        if any_at.is_some() && tail_at.is_some() {
            break;
        }
    }
    (any_at, tail_at)
}

#[test]
fn slow_canaries_are_found_in_seconds_and_equal_ones_left_alone() {
    let mut rng = Rng(8);
    let mut any: Vec<u64> = Vec::new();
    let mut tail: Vec<u64> = Vec::new();
    for _ in 0..21 {
        let (any_at, tail_at) = latency_decisions(&mut rng, 1.5, 600);
        any.push(any_at.unwrap_or(u64::MAX));
        tail.push(tail_at.unwrap_or(u64::MAX));
    }
    any.sort_unstable();
    tail.sort_unstable();
    // Reference medians: 20 s and 64 s. Targets: 30 s and 90 s.
    assert!(any[10] <= 30 && tail[10] <= 90, "any {} s, P99 {} s", any[10], tail[10]);
    let false_alarms = (0..40).filter(|_| latency_decisions(&mut rng, 1.0, 200).0.is_some()).count();
    assert!(false_alarms <= 3, "{false_alarms} of 40");
}
