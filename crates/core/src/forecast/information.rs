//! Nats per canary request: how fast evidence grows on average.

use serin_stats::Share;

/// Halvings of the search for a projection; its bracket is at most 1 wide.
const STEPS: u32 = 100;
/// Rates are kept this far from 0 and 1.
const RATE_MARGIN: f64 = 1e-9;

/// What a bet on the ratio `bet` against the ratio 1 gains per canary request, if the canary has `truth` times stable's `rate`
/// of events. With `bet = truth` it is the most that can be gained; below 0 the bet loses in the long run.
pub(super) fn ratio_gain(rate: f64, weight: Share, truth: f64, bet: f64) -> f64 {
    if !weight.is_split() {
        return 0.0;
    }
    let w = weight.get();
    let ln_z = (w * bet + 1.0 - w).ln();
    rate * (truth * (bet.ln() - ln_z) - (1.0 - w) / w * ln_z)
}

/// What a bet on the rates `bet` (canary, stable) against "the canary's is `difference` above stable's" gains per canary
/// request, if the rates are `truth`.
pub(super) fn difference_gain(weight: Share, difference: f64, bet: [f64; 2], truth: [f64; 2]) -> f64 {
    if !weight.is_split() {
        return 0.0;
    }
    let stable_per_canary = (1.0 - weight.get()) / weight.get();
    let [bet_canary, bet_stable] = bet.map(inside);
    let cost = |x: f64| divergence(bet_canary, inside(x + difference)) + stable_per_canary * divergence(bet_stable, inside(x));
    // The projection of the bet onto the null: the cost is convex in it.
    let (mut low, mut high) = (0.0, 1.0 - difference);
    for _ in 0..STEPS {
        let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if cost(left) < cost(right) { high = right } else { low = left }
    }
    let x = f64::midpoint(low, high);
    let gain = |rate: f64, bet: f64, null: f64| rate * (bet / null).ln() + (1.0 - rate) * ((1.0 - bet) / (1.0 - null)).ln();
    gain(truth[0], bet_canary, inside(x + difference)) + stable_per_canary * gain(truth[1], bet_stable, inside(x))
}

/// Kullback-Leibler divergence of two probabilities of an event, in nats per request.
pub(super) fn divergence(of: f64, from: f64) -> f64 {
    let part = |p: f64, q: f64| if p <= 0.0 { 0.0 } else { p * (p / q).ln() };
    part(of, from) + part(1.0 - of, 1.0 - from)
}

/// The probability that a standard normal exceeds `z` (Abramowitz and Stegun 7.1.26, off by at most 1e-7).
pub(super) fn normal_tail(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let upper = 0.5 * series * (-x * x).exp();
    if z < 0.0 { 1.0 - upper } else { upper }
}

fn inside(rate: f64) -> f64 {
    rate.clamp(RATE_MARGIN, 1.0 - RATE_MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(weight: f64) -> Share {
        Share::new(weight).unwrap()
    }

    #[test]
    fn the_best_bet_is_the_truth_and_gains_the_information() {
        let gain = ratio_gain(0.005, share(0.05), 2.0, 2.0);
        assert!((gain / serin_stats::information(0.005, share(0.05), 2.0, 1.0) - 1.0).abs() < 1e-9);
        assert!(ratio_gain(0.005, share(0.05), 2.0, 3.0) < gain);
        assert!(ratio_gain(0.005, share(0.05), 1.0, 1.5) < 0.0);
        assert_eq!(ratio_gain(0.005, Share::ALL, 2.0, 2.0), 0.0);
    }

    #[test]
    fn a_clean_canary_passes_half_a_point_in_740_requests() {
        let needed = 40_f64.ln() / difference_gain(share(0.05), 0.005, [0.0; 2], [0.0; 2]);
        assert!((735.0..745.0).contains(&needed), "{needed}");
        // Table 5.6: 325 s at 5 canary requests a second for a stable of 0.5 %; the mean is above that median.
        let needed = 20_f64.ln() / difference_gain(share(0.05), 0.005, [0.005; 2], [0.005; 2]);
        assert!((1_600.0..2_300.0).contains(&needed), "{needed}");
    }

    #[test]
    fn tails_of_the_normal() {
        for (z, tail) in [(0.0, 0.5), (1.281_552, 0.1), (2.326_348, 0.01), (-1.281_552, 0.9)] {
            assert!((normal_tail(z) - tail).abs() < 1e-6, "{z}");
        }
    }
}
