//! The least that any rule with a false-alarm bound can need: Wald's bound `ln(1/alpha) / KL` canary requests, without overshoot.
//!
//! `p_s` unknown: `KL = min_x KL(p_c || x) + (1-w)/w KL(p_s || x)` per canary request, where the minimum lies at the pooled rate.
//! `p_s` known: `KL(p_c || p_s)`.

use crate::traffic::Rates;

/// Failed canary requests at the bound: `p_s` unknown, `p_s` known. Infinite for equal arms.
pub(crate) fn failed_requests(rates: &Rates, alpha: f64) -> (f64, f64) {
    let (canary, stable, weight) = (rates.canary_error, rates.stable_error, rates.weight);
    let pooled = weight * canary + (1.0 - weight) * stable;
    let unknown = divergence(canary, pooled) + (1.0 - weight) / weight * divergence(stable, pooled);
    let known = divergence(canary, stable);
    let needed = |nats: f64| -alpha.ln() * canary / nats;
    (needed(unknown), needed(known))
}

/// `KL(p || q)` of Bernoulli distributions in nats.
fn divergence(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_of_the_analysis() {
        let bound =
            |stable_error: f64, canary_error: f64| failed_requests(&Rates { rps: 100.0, weight: 0.05, stable_error, canary_error }, 0.01);
        for (stable, canary, unknown, known) in [
            (0.005, 0.025, 6.2, 5.6),
            (0.0005, 0.0025, 6.3, 5.7),
            (0.005, 0.01, 25.3, 23.7),
            (0.005, 0.0075, 67.3, 63.5),
            (0.02, 0.03, 66.1, 62.4),
            (0.005, 0.055, 3.5, 3.0),
            (0.005, 1.0, 1.3, 0.9),
        ] {
            let (measured_unknown, measured_known) = bound(stable, canary);
            assert!((measured_unknown - unknown).abs() <= 0.0501, "{stable} {canary}: {measured_unknown}");
            assert!((measured_known - known).abs() <= 0.0501, "{stable} {canary}: {measured_known}");
        }
    }
}
