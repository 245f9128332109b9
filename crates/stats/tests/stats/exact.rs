//! The property that everything rests on, summed over all outcomes: a step's mean factor is at most 1 on the whole null.

use proptest::prelude::*;
use serin_stats::{ArmsBatch, ClassEvents, DiffE, FingerprintE, LimitE, PoissonE, RatioConfig, RatioE, StableRate};

use crate::support::{binomial, counts, events, hypergeometric, poisson, share};

const SLACK: f64 = 1e-9;

/// `sum of probability * E_after / E_before`.
fn mean_factor(ln_before: f64, outcomes: impl Iterator<Item = (f64, f64)>) -> f64 {
    outcomes.filter(|(probability, _)| *probability > 0.0).map(|(probability, ln_after)| probability * (ln_after - ln_before).exp()).sum()
}

fn theta(weight: f64, ratio: f64) -> f64 {
    weight * ratio / (weight * ratio + 1.0 - weight)
}

/// The mean factor of a batch of `total` events at true ratio `ratio`, given that they happened.
fn ratio_mean<const K: usize>(test: &RatioE<K>, total: u64, weight: f64, ratio: f64) -> f64 {
    mean_factor(
        test.ln_e(),
        (0..=total).map(|canary| {
            let mut after = test.clone();
            after.update(events(canary, total - canary, weight));
            (binomial(total, canary, theta(weight, ratio)), after.ln_e())
        }),
    )
}

type History = Vec<(u64, u64, f64)>;

fn histories() -> impl Strategy<Value = History> {
    prop::collection::vec((0_u64..6, 0_u64..60, 0.01_f64..0.99), 0..20)
}

fn after_history<const K: usize>(config: &RatioConfig<K>, history: &History) -> RatioE<K> {
    let mut test = RatioE::new(config).unwrap();
    for (canary, stable, weight) in history {
        test.update(events(*canary, *stable, *weight));
    }
    test
}

proptest! {
    #[test]
    fn ratio_is_fair_on_its_boundary_and_never_better_inside(
        history in histories(), total in 1_u64..40, weight in 0.001_f64..0.999, inside in 0.0_f64..1.0, eta in 0.05_f64..1.0
    ) {
        for rho0 in [1.0, 1.5] {
            let mut test = after_history(&RatioConfig::fail(rho0, 1.5), &history);
            let boundary = ratio_mean(&test, total, weight, rho0);
            prop_assert!((boundary - 1.0).abs() < SLACK, "boundary {boundary}");
            prop_assert!(ratio_mean(&test, total, weight, inside * rho0) < 1.0 + SLACK);
            test.set_tempering(eta).unwrap();
            prop_assert!(ratio_mean(&test, total, weight, rho0) < 1.0 + SLACK);
            prop_assert!(ratio_mean(&test, total, weight, inside * rho0) < 1.0 + SLACK);
            // An absolute tolerance moves the alternatives between batches.
            test.set_rho1(1.0 + 50.0 * eta).unwrap();
            prop_assert!(ratio_mean(&test, total, weight, rho0) < 1.0 + SLACK);
        }
    }

    #[test]
    fn pass_and_fall_are_fair_on_their_boundary_and_above(
        history in histories(), total in 1_u64..40, weight in 0.001_f64..0.999, beyond in 1.0_f64..20.0
    ) {
        let pass = after_history(&RatioConfig::pass(1.5), &history);
        prop_assert!((ratio_mean(&pass, total, weight, 1.5) - 1.0).abs() < SLACK);
        prop_assert!(ratio_mean(&pass, total, weight, 1.5 * beyond) < 1.0 + SLACK);
        let fall = after_history(&RatioConfig::fall(), &history);
        prop_assert!((ratio_mean(&fall, total, weight, 1.0) - 1.0).abs() < SLACK);
        prop_assert!(ratio_mean(&fall, total, weight, beyond) < 1.0 + SLACK);
    }

    #[test]
    fn stratified_assignment_is_no_easier_to_alarm(history in histories(), block in 2_u64..60, part in 0.02_f64..0.98, hit in 0.0_f64..1.0) {
        let canaries = ((block as f64 * part) as u64).clamp(1, block - 1);
        let total = ((block as f64 * hit) as u64).max(1);
        let test = after_history(&RatioConfig::fail(1.0, 1.5), &history);
        let mean = mean_factor(test.ln_e(), (0..=total).map(|canary| {
            let mut after = test.clone();
            after.update(events(canary, total - canary, canaries as f64 / block as f64));
            (hypergeometric(block, canaries, total, canary), after.ln_e())
        }));
        prop_assert!(mean < 1.0 + SLACK, "{mean}");
    }

    #[test]
    fn stratified_blocks_are_no_easier_event_by_event_either(block in 4_u64..40, part in 0.05_f64..0.95, total in 1_u64..9) {
        let canaries = ((block as f64 * part) as u64).clamp(1, block - 1);
        let total = total.min(block);
        let test = RatioE::new(&RatioConfig::fail(1.0, 1.5)).unwrap();
        let mean = mean_factor(0.0, (0..1_u64 << total).map(|labels| {
            let canary = u64::from(labels.count_ones());
            let mut after = test.clone();
            for event in 0..total {
                let is_canary = labels >> event & 1;
                after.update(events(is_canary, 1 - is_canary, canaries as f64 / block as f64));
            }
            let orders = binomial(total, canary, 0.5) * 2_f64.powi(total as i32);
            (hypergeometric(block, canaries, total, canary) / orders, after.ln_e())
        }));
        prop_assert!(mean < 1.0 + SLACK, "{mean}");
    }

    #[test]
    fn limit_is_fair_at_the_limit_and_never_better_below(
        history in prop::collection::vec((0_u64..300, 0_u64..8), 0..12), limit in 0.002_f64..0.6, below in 0.0_f64..1.0, requests in 1_u64..120
    ) {
        let mut above = LimitE::above(limit).unwrap();
        let mut under = LimitE::below(limit).unwrap();
        for (requests, failures) in history {
            above.update(counts(requests, failures));
            under.update(counts(requests, failures));
        }
        let mean = |n: u64, p: f64| mean_factor(above.ln_e(), (0..=n).map(|k| {
            let mut after = above.clone();
            after.update(counts(n, k));
            (binomial(n, k, p), after.ln_e())
        }));
        let mean_under = |n: u64, p: f64| mean_factor(under.ln_e(), (0..=n).map(|k| {
            let mut after = under.clone();
            after.update(counts(n, k));
            (binomial(n, k, p), after.ln_e())
        }));
        prop_assert!((mean(1, limit) - 1.0).abs() < SLACK);
        prop_assert!(mean(requests, limit) < 1.0 + SLACK);
        // What a batch loses for not knowing the order of its requests.
        prop_assert!(mean(requests, limit) > 0.5, "{}", mean(requests, limit));
        prop_assert!(mean(requests, limit * below) < 1.0 + SLACK);
        prop_assert!((mean_under(requests, limit) - 1.0).abs() < SLACK);
        prop_assert!(mean_under(requests, limit + (1.0 - limit) * below) < 1.0 + SLACK);
    }

    #[test]
    fn poisson_is_at_most_fair_at_the_rate_and_below(
        history in prop::collection::vec((0_u64..4, 0.0_f64..500.0), 0..10), expected in 0.001_f64..4.0, below in 0.001_f64..1.0
    ) {
        let mut test = PoissonE::above(0.01).unwrap();
        for (count, seconds) in history {
            test.update(count, seconds).unwrap();
        }
        // The largest alternative, 30 times the rate, makes terms up to some 200 events count.
        let mean = |true_mean: f64| mean_factor(test.ln_e(), (0..300).map(|k| {
            let mut after = test.clone();
            after.update(k, expected / 0.01).unwrap();
            (poisson(true_mean, k), after.ln_e())
        }));
        prop_assert!(mean(expected) < 1.0 + SLACK && mean(expected) > 0.5, "{}", mean(expected));
        prop_assert!(mean(expected * below) < 1.0 + SLACK);
    }

    #[test]
    fn difference_is_at_most_fair_on_the_null_for_fixed_counts(
        past in (1_u64..100_000, 0.0_f64..0.2), stable_rate in 0.0001_f64..0.5, beyond in 0.0_f64..0.4, canary in 1_u64..16, stable in 1_u64..24
    ) {
        let mut rate = StableRate::default();
        rate.add(counts(past.0, (past.0 as f64 * past.1) as u64));
        for (test, canary_rate) in [
            (DiffE::pass_below(0.05, rate).unwrap(), stable_rate + 0.05 + beyond),
            (DiffE::fail_above(0.05, rate).unwrap(), (stable_rate + 0.05 - beyond).max(0.0)),
            (DiffE::pass_not_lower(0.01, rate).unwrap(), (stable_rate - 0.01 - beyond).max(0.0)),
        ] {
            if stable_rate - 0.01 < 0.0 {
                continue;
            }
            let outcomes = (0..=canary).flat_map(|kc| (0..=stable).map(move |ks| (kc, ks)));
            let mean = mean_factor(test.ln_e(), outcomes.map(|(kc, ks)| {
                let mut after = test.clone();
                let weight = share(canary as f64 / (canary + stable) as f64);
                after.update(ArmsBatch { canary: counts(canary, kc), stable: counts(stable, ks), weight });
                (binomial(canary, kc, canary_rate) * binomial(stable, ks, stable_rate), after.ln_e())
            }));
            prop_assert!(mean < 1.0 + SLACK, "{mean}");
        }
    }

    #[test]
    fn fingerprints_are_fair_whatever_the_classes(history in prop::collection::vec((0_u64..4, any::<bool>()), 0..10), next in prop::collection::vec(0_u64..5, 1..7), weight in 0.02_f64..0.9) {
        let mut test = FingerprintE::new(&RatioConfig::fail(1.0, 1.5), &[0, 1]).unwrap();
        let of = |class: u64, is_canary: bool| ClassEvents { class, canary_events: u64::from(is_canary), stable_events: u64::from(!is_canary) };
        for (class, is_canary) in history {
            test.update(share(weight), &[of(class, is_canary)]);
        }
        let mean = mean_factor(test.ln_e(), (0..1_u32 << next.len()).map(|labels| {
            let mut after = test.clone();
            for (position, class) in next.iter().enumerate() {
                after.update(share(weight), &[of(*class, labels >> position & 1 == 1)]);
            }
            let canary = labels.count_ones() as i32;
            (weight.powi(canary) * (1.0 - weight).powi(next.len() as i32 - canary), after.ln_e())
        }));
        prop_assert!((mean - 1.0).abs() < SLACK, "{mean}");
    }
}

/// At the projection itself, and with random assignment, the difference test is exactly fair.
#[test]
fn difference_is_fair_at_the_closest_point_of_the_boundary() {
    for (requests, events_before, d, weight) in [(9_999, 99, 0.005, 0.05), (999, 299, 0.1, 0.5), (99, 49, 0.2, 0.9)] {
        let mut rate = StableRate::default();
        rate.add(counts(requests, events_before));
        let q = rate.estimate();
        let divergence = |x: f64| {
            let kl = |q: f64, p: f64| q * (q / p).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln();
            weight * kl(q, x + d) + (1.0 - weight) * kl(q, x)
        };
        // Golden section: an implementation of its own.
        let (mut low, mut high) = (1e-12, 1.0 - d - 1e-12);
        let golden = (5_f64.sqrt() - 1.0) / 2.0;
        while high - low > 1e-13 {
            let (left, right) = (high - golden * (high - low), low + golden * (high - low));
            if divergence(left) < divergence(right) { high = right } else { low = left }
        }
        let x = f64::midpoint(low, high);
        let test = DiffE::pass_below(d, rate).unwrap();
        let mean = mean_factor(
            test.ln_e(),
            [(true, true), (true, false), (false, true), (false, false)].into_iter().map(|(is_canary, is_event)| {
                let mut after = test.clone();
                let one = counts(1, u64::from(is_event));
                let (canary, stable) = if is_canary { (one, counts(0, 0)) } else { (counts(0, 0), one) };
                after.update(ArmsBatch { canary, stable, weight: share(weight) });
                let (arm, p) = if is_canary { (weight, x + d) } else { (1.0 - weight, x) };
                (arm * if is_event { p } else { 1.0 - p }, after.ln_e())
            }),
        );
        assert!((mean - 1.0).abs() < 1e-6, "{mean}");
    }
}
