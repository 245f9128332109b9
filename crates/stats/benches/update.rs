//! What one update of one metric costs: `cargo bench -p serin-stats`. The target is 1 µs per tick and metric, `ln E` included.

// The arguments are constants that are known to be valid.
#![allow(clippy::expect_used)]

use divan::{Bencher, black_box};
use serin_stats::{
    ArmCounts, ArmsBatch, Batch, ClassEvents, Coding, DEFAULT_MARGIN, DecayedHistogram, DiffE, ExceedanceE, FingerprintE, GaugeE, LimitE,
    PassE, RatioConfig, RatioCriterion, RatioE, RatioLimits, RatioMode, Share, StableRate,
};

fn main() {
    divan::main();
}

/// A tick at 1,000 requests per second, 5 % to the canary.
fn tick() -> ArmsBatch {
    let counts = |requests, events| ArmCounts { requests, events };
    ArmsBatch { canary: counts(3, 1), stable: counts(47, 1), weight: share() }
}

fn share() -> Share {
    Share::new(0.05).expect("a share")
}

fn events() -> Batch {
    Batch { canary_events: 1, stable_events: 1, weight: share() }
}

#[divan::bench]
fn ratio(bencher: Bencher<'_, '_>) {
    let mut test = RatioE::new(&RatioConfig::fail(1.0, 1.5)).expect("defaults");
    bencher.bench_local(|| {
        test.update(black_box(events()));
        test.ln_e()
    });
}

#[divan::bench]
fn ratio_without_events(bencher: Bencher<'_, '_>) {
    let mut test = RatioE::new(&RatioConfig::fail(1.0, 1.5)).expect("defaults");
    bencher.bench_local(|| {
        test.update(black_box(Batch { canary_events: 0, stable_events: 0, weight: share() }));
        test.ln_e()
    });
}

#[divan::bench]
fn ratio_criterion(bencher: Bencher<'_, '_>) {
    let limits = RatioLimits { ratio: Some(1.5), increase: Some(0.005) };
    let mut test = RatioCriterion::new(RatioMode::Limit, limits, StableRate::default()).expect("limits");
    bencher.bench_local(|| {
        test.update(black_box(tick()));
        test.ln_e()
    });
}

#[divan::bench(sample_size = 1000)]
fn pass(bencher: Bencher<'_, '_>) {
    let mut test = PassE::new(1.5, DEFAULT_MARGIN, StableRate::default()).expect("a tolerance");
    bencher.bench_local(|| {
        test.update(black_box(tick()));
        test.ln_e()
    });
}

/// With its projection, which is renewed as stable's past grows.
#[divan::bench(sample_size = 1000)]
fn difference(bencher: Bencher<'_, '_>) {
    let mut test = DiffE::pass_below(0.005, StableRate::default()).expect("a difference");
    bencher.bench_local(|| {
        test.update(black_box(tick()));
        test.ln_e()
    });
}

#[divan::bench]
fn limit(bencher: Bencher<'_, '_>) {
    let mut test = LimitE::above(0.05).expect("a limit");
    bencher.bench_local(|| {
        test.update(black_box(ArmCounts { requests: 50, events: 1 }));
        test.ln_e()
    });
}

#[divan::bench]
fn latency_quantile(bencher: Bencher<'_, '_>) {
    let mut past = DecayedHistogram::new(600_000.0).expect("a half-life");
    (0..100_000_u64).for_each(|request| past.add_us(20_000 + request % 50_000, 1));
    let mut test = ExceedanceE::new(0.99, 1.5, Coding::Strict).expect("a tolerance");
    test.retune(&past).expect("enough past");
    bencher.bench_local(|| {
        test.update(black_box(events()));
        test.ln_e()
    });
}

#[divan::bench]
fn gauge_block(bencher: Bencher<'_, '_>) {
    let mut test = GaugeE::new(1.2).expect("a tolerance");
    let mut block = 0.0;
    bencher.bench_local(|| {
        block = -block + 0.01;
        test.update(black_box(block)).expect("finite");
        test.ln_e_fail()
    });
}

/// Sixteen known classes, of which two had events.
#[divan::bench]
fn sixteen_error_classes(bencher: Bencher<'_, '_>) {
    let known: Vec<u64> = (0..16).collect();
    let mut test = FingerprintE::new(&RatioConfig::fail(1.0, 1.5), &known).expect("classes");
    let seen = [3, 7].map(|class| ClassEvents { class, canary_events: 1, stable_events: 1 });
    bencher.bench_local(|| {
        test.update(share(), black_box(&seen));
        test.ln_e()
    });
}
