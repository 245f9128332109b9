//! Extremes and checkpoints: billions of requests, evidence beyond what a float can hold, and state that comes back exactly.

use serde::{Serialize, de::DeserializeOwned};
use serin_stats::{
    AnyLatencyE, ArmsBatch, Batch, Blocks, ClassEvents, Coding, DecayedHistogram, DiffE, Dispersion, Family, FingerprintE, GaugeE, LimitE,
    PassE, PoissonE, RatioConfig, RatioCriterion, RatioE, RatioLimits, RatioMode, ReleaseAlarm, StableRate,
};

use crate::support::{Rng, counts, events, share};

fn arms(canary: (u64, u64), stable: (u64, u64), weight: f64) -> ArmsBatch {
    ArmsBatch { canary: counts(canary.0, canary.1), stable: counts(stable.0, stable.1), weight: share(weight) }
}

#[test]
fn evidence_runs_through_hundreds_of_orders_of_magnitude_both_ways() {
    let mut ratio = RatioE::new(&RatioConfig::fail(1.0, 1.5)).unwrap();
    let mut pass = RatioE::new(&RatioConfig::pass(1.5)).unwrap();
    let mut limit = LimitE::above(0.05).unwrap();
    let mut below = LimitE::below(0.05).unwrap();
    let mut diff = DiffE::pass_below(0.005, StableRate::default()).unwrap();
    // Down: a billion requests of health. The reserve keeps FAIL alive; PASS has none and sinks for real when things go wrong.
    for _ in 0..1_000 {
        ratio.update(events(500, 9_500, 0.05));
        limit.update(counts(1_000_000, 1_000));
        pass.update(events(500, 1_000, 0.05));
        below.update(counts(1_000, 500));
        diff.update(arms((1_000, 500), (19_000, 19), 0.05));
    }
    assert!(ratio.ln_e() < 0.0 && ratio.ln_e() > -20.0, "{}", ratio.ln_e());
    assert!(limit.ln_e() < 0.0 && limit.ln_e() > -20.0, "{}", limit.ln_e());
    for sunk in [pass.ln_e(), below.ln_e(), diff.ln_e()] {
        assert!(sunk.is_finite() && sunk < -1_000.0, "{sunk}");
    }
    // Up, far beyond 1e300, and down again.
    for _ in 0..1_000 {
        ratio.update(events(1_000_000, 1_000_000, 0.05));
        limit.update(counts(1_000_000, 1_000_000));
        pass.update(events(500, 900_500, 0.05));
        below.update(counts(1_000_000, 0));
        diff.update(arms((1_000_000, 0), (19_000_000, 0), 0.05));
    }
    for high in [ratio.ln_e(), limit.ln_e(), pass.ln_e(), below.ln_e(), diff.ln_e()] {
        assert!(high.is_finite() && high > 1_000.0, "{high}");
    }
    for _ in 0..10 {
        ratio.update(Batch { canary_events: 0, stable_events: u64::MAX, weight: share(0.05) });
        limit.update(counts(u64::MAX, 0));
        limit.update(counts(u64::MAX, u64::MAX));
        below.update(counts(u64::MAX, u64::MAX));
    }
    for value in [ratio.ln_e(), limit.ln_e(), below.ln_e()] {
        assert!(!value.is_nan());
    }
}

#[test]
fn weights_of_none_and_all_stop_every_comparison() {
    let mut criterion =
        RatioCriterion::new(RatioMode::Limit, RatioLimits { ratio: Some(1.5), increase: None }, StableRate::default()).unwrap();
    let mut pass = PassE::new(1.5, 0.005, StableRate::default()).unwrap();
    let mut fingerprint = FingerprintE::new(&RatioConfig::fail(1.0, 1.5), &[1]).unwrap();
    let before = (criterion.ln_e(), pass.ln_e(), fingerprint.ln_e());
    for weight in [0.0, 1.0] {
        criterion.update(arms((1_000, 900), (1_000, 3), weight));
        pass.update(arms((1_000, 0), (1_000, 900), weight));
        fingerprint.update(share(weight), &[ClassEvents { class: 1, canary_events: 50, stable_events: 50 }]);
    }
    assert_eq!((criterion.ln_e(), pass.ln_e(), fingerprint.ln_e()), before);
    assert_eq!(criterion.seen(), [counts(0, 0), counts(0, 0)]);
}

/// Runs `steps` on one copy without a stop, and on another that is stored and read back before each step.
fn survives<T: Clone + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned>(start: T, mut step: impl FnMut(&mut T, u64)) {
    let (mut going, mut stopping) = (start.clone(), start);
    for round in 0..60 {
        let text = serde_json::to_string(&stopping).unwrap();
        stopping = serde_json::from_str(&text).unwrap();
        step(&mut going, round);
        step(&mut stopping, round);
        assert_eq!(going, stopping, "round {round}");
        assert_eq!(serde_json::to_string(&going).unwrap(), serde_json::to_string(&stopping).unwrap());
    }
}

fn random_arms(round: u64) -> ArmsBatch {
    let mut rng = Rng(round);
    let weight = rng.uniform();
    arms((rng.below(300), rng.below(9)), (rng.below(3_000), rng.below(60)), weight)
}

fn random_events(round: u64) -> Batch {
    let batch = random_arms(round);
    Batch { canary_events: batch.canary.events, stable_events: batch.stable.events, weight: batch.weight }
}

#[test]
fn a_checkpoint_changes_nothing_to_the_last_bit() {
    survives(RatioE::new(&RatioConfig::fail(1.0, 1.7)).unwrap(), |test, round| {
        test.set_tempering(1.0 / (1.0 + round as f64 / 7.0)).unwrap();
        test.update(random_events(round));
    });
    survives(PassE::new(1.5, 0.005, StableRate::default()).unwrap(), |test, round| test.update(random_arms(round)));
    survives(DiffE::fail_above(0.01, StableRate::default()).unwrap(), |test, round| test.update(random_arms(round)));
    survives(LimitE::above(0.03).unwrap(), |test, round| test.update(random_arms(round).canary));
    survives(PoissonE::above(0.3).unwrap(), |test, round| test.update(round % 3, 0.1 + round as f64 / 3.0).unwrap());
    survives(GaugeE::new(1.2).unwrap(), |test, round| test.update(Rng(round).normal()).unwrap());
    survives(Blocks::new(serin_stats::BlockConfig::default()), |test, round| {
        test.push(round * 15_000, 1.0 + Rng(round).uniform(), 1.3).unwrap();
    });
    let limits = RatioLimits { ratio: Some(1.5), increase: Some(0.005) };
    survives(RatioCriterion::new(RatioMode::Limit, limits, StableRate::default()).unwrap(), |test, round| {
        test.update(random_arms(round));
    });
    survives(FingerprintE::new(&RatioConfig::fail(1.0, 1.5), &[3, 4]).unwrap(), |test, round| {
        let batch = random_events(round);
        let class = ClassEvents { class: round % 9, canary_events: batch.canary_events, stable_events: batch.stable_events };
        test.update(batch.weight, &[class]);
    });
    survives(Dispersion::new(3).unwrap(), |test, round| {
        let mut rng = Rng(round);
        test.add_second(&[(rng.below(90), rng.below(9)), (rng.below(90), rng.below(9)), (rng.below(90), rng.below(9))]).unwrap();
    });
    survives(ReleaseAlarm::new(0.01, &[Family::Errors, Family::Latency, Family::Limits]).unwrap(), |alarm, round| {
        alarm.observe(1, round as f64 / 7.0);
    });
    let past = DecayedHistogram::new(600_000.0).unwrap();
    survives((past, AnyLatencyE::new(1.2, Coding::Harm).unwrap()), |(past, test), round| {
        test.retune(past);
        test.update([random_events(round), random_events(round + 1), random_events(round + 2)]);
        past.decay_ms(15_000);
        let mut rng = Rng(round);
        for _ in 0..50 {
            past.add_us(1_000 + rng.below(100_000), 1);
        }
    });
}
