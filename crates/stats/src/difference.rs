//! DiffE: is the canary's rate of an event separated from stable's by more than an absolute difference? (ANALYSIS 2.3, P2)
//!
//! Nulls of the form `p_c >= p_s + d` (to PASS) or `p_c <= p_s + d` (to FAIL strictly, or to PASS a metric that must not fall).
//! The alternative is predictable: stable's past rate `q_s`, and `q_c = q_s + offset`. It is scored against its reverse
//! information projection `(x + d, x)` onto the boundary,
//! `x = argmin w KL(q_c || x + d) + (1-w) KL(q_s || x)`, which makes the factor's mean at most 1 on the whole null.
//!
//! Exact for random assignment at weight `w`, and for fixed counts with `w = nc/(nc + ns)` (arithmetic-geometric mean).
//! An alternative that does not lie strictly outside the null is not bet on: against such a one the ratio would not be fair.

use serde::{Deserialize, Serialize};

use crate::config::{ArmCounts, ConfigError, Share, require};
use crate::exact;
use crate::log_domain::ln_power;
use crate::mixture::{Mixture, Pace, Stakes};
use crate::ratio::ONSET_EVENTS;
use crate::stable_rate::StableRate;

/// Rates are kept this far from 0 and 1.
const RATE_MARGIN: f64 = 1e-9;
/// The projection is computed anew when stable's past has grown by one part in this many: older values are just as valid.
const REFRESH_PART: u64 = 64;
/// Halvings that bring a bracket within 0 to 1 down to neighbouring floats.
const BISECTIONS: u32 = 200;

/// Which side of the boundary is the null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceNull {
    /// `p_c >= p_s + d`: rejecting it shows that the canary is better than that.
    AtLeast,
    /// `p_c <= p_s + d`: rejecting it shows that the canary's rate is higher than that.
    AtMost,
}

/// Requests of both arms that were assigned at one weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ArmsBatch {
    /// The canary's.
    pub canary: ArmCounts,
    /// Stable's.
    pub stable: ArmCounts,
    /// The canary's share when these requests were assigned.
    pub weight: Share,
}

/// One alternative and its projection, as logarithms of likelihood ratios.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Bet {
    #[serde(with = "exact")]
    canary: [f64; 2],
    #[serde(with = "exact")]
    stable: [f64; 2],
}

const NO_BET: Bet = Bet { canary: [0.0; 2], stable: [0.0; 2] };

/// The sequential test. At most four alternatives; about 0.1 µs per batch, 2 µs when the projection is renewed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffE {
    null: DifferenceNull,
    #[serde(with = "exact")]
    difference: f64,
    /// Multiples of |d| or zeros that are added to stable's rate for the canary's.
    #[serde(with = "exact")]
    offsets: [f64; 4],
    stable: StableRate,
    mixture: Mixture<4>,
    bets: [Bet; 4],
    /// Stable requests at which the bets were computed; `None` before the first time.
    computed_at: Option<u64>,
    /// The weight that they were computed for.
    #[serde(with = "exact")]
    computed_for: f64,
}

impl DiffE {
    /// PASS for a rate that must stay below stable's plus `difference` (0.005 for 0.5 percentage points).
    /// The alternative is a canary equal to stable.
    ///
    /// # Errors
    /// If `difference` is not above 0 and below 1.
    pub fn pass_below(difference: f64, stable: StableRate) -> Result<Self, ConfigError> {
        require(difference > 0.0 && difference < 1.0, "difference", difference, "above 0 and below 1")?;
        Self::with(DifferenceNull::AtLeast, difference, [0.0; 4], 1.0, stable)
    }

    /// PASS for a rate that must not fall by `decrease` below stable's: the null is `p_c <= p_s - decrease`.
    /// Fix `decrease` at the start of the stage (2 % of `ps_hat`, ANALYSIS 2.9).
    ///
    /// # Errors
    /// If `decrease` is not above 0 and below 1.
    pub fn pass_not_lower(decrease: f64, stable: StableRate) -> Result<Self, ConfigError> {
        require(decrease > 0.0 && decrease < 1.0, "decrease", decrease, "above 0 and below 1")?;
        Self::with(DifferenceNull::AtMost, -decrease, [0.0; 4], 1.0, stable)
    }

    /// FAIL only if the rate is surely above stable's plus `difference` (strict mode). Alternatives are stable's rate plus
    /// 1.5, 2, 4 and 12 times the difference; half of the capital waits for late faults.
    ///
    /// # Errors
    /// If `difference` is not above 0 and below 1.
    pub fn fail_above(difference: f64, stable: StableRate) -> Result<Self, ConfigError> {
        require(difference > 0.0 && difference < 1.0, "difference", difference, "above 0 and below 1")?;
        let offsets = [1.5, 2.0, 4.0, 12.0].map(|multiple| multiple * difference);
        Self::with(DifferenceNull::AtMost, difference, offsets, 0.5, stable)
    }

    fn with(null: DifferenceNull, difference: f64, offsets: [f64; 4], at_once: f64, stable: StableRate) -> Result<Self, ConfigError> {
        let mixture = Mixture::new(&Stakes { prior: [1.0; 4], at_once, onset_events: ONSET_EVENTS, pace: Pace::Harmonic })?;
        Ok(Self { null, difference, offsets, stable, mixture, bets: [NO_BET; 4], computed_at: None, computed_for: 0.0 })
    }

    /// Forgets all evidence; what is known of stable's rate stays.
    pub fn restart(&mut self) {
        self.mixture.restart();
    }

    /// Scores a batch with bets that were fixed before it, then adds its stable part to the past.
    /// At weight 0 or 1 it only does the latter.
    pub fn update(&mut self, batch: ArmsBatch) {
        if batch.canary.requests == 0 && batch.stable.requests == 0 {
            return;
        }
        if batch.weight.is_split() {
            self.refresh(batch.weight);
            let ln_factors = self.bets.map(|bet| ln_likelihood(bet.canary, batch.canary) + ln_likelihood(bet.stable, batch.stable));
            self.mixture.bet(&ln_factors);
            self.mixture.release_reserve(batch.canary.events.min(batch.canary.requests));
        }
        self.stable.add(batch.stable);
    }

    /// `ln E`.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        self.mixture.ln_e()
    }

    /// The difference at the boundary of the null.
    #[must_use]
    pub fn difference(&self) -> f64 {
        self.difference
    }

    fn refresh(&mut self, weight: Share) {
        let seen = self.stable.requests();
        let recent = self.computed_at.is_some_and(|then| seen.saturating_sub(then) <= then / REFRESH_PART);
        if recent && self.computed_for == weight.get() {
            return;
        }
        let stable = self.stable.estimate().clamp(RATE_MARGIN, 1.0 - RATE_MARGIN);
        // Equal offsets share their work: the pass side has one alternative in four places.
        let mut last = None;
        for (bet, offset) in self.bets.iter_mut().zip(self.offsets) {
            *bet = match last {
                Some((same, done)) if same == offset => done,
                _ => bet_on(self.null, self.difference, stable, offset, weight.get()),
            };
            last = Some((offset, *bet));
        }
        self.computed_at = Some(seen);
        self.computed_for = weight.get();
    }
}

fn ln_likelihood([ln_event, ln_quiet]: [f64; 2], counts: ArmCounts) -> f64 {
    ln_power(counts.events.min(counts.requests) as f64, ln_event) + ln_power(counts.quiet() as f64, ln_quiet)
}

fn bet_on(null: DifferenceNull, difference: f64, stable: f64, offset: f64, weight: f64) -> Bet {
    let canary = (stable + offset).clamp(RATE_MARGIN, 1.0 - RATE_MARGIN);
    let outside = match null {
        DifferenceNull::AtLeast => canary < stable + difference,
        DifferenceNull::AtMost => canary > stable + difference,
    };
    if !outside {
        return NO_BET;
    }
    let x = project(difference, canary, stable, weight);
    Bet { canary: ln_ratios(canary, x + difference), stable: ln_ratios(stable, x) }
}

fn ln_ratios(rate: f64, against: f64) -> [f64; 2] {
    [(rate / against).ln(), (-rate).ln_1p() - (-against).ln_1p()]
}

/// The `x` for which `(x + d, x)` is closest to `(q_c, q_s)`: root of the increasing function
/// `w[-q_c/(x+d) + (1-q_c)/(1-x-d)] + (1-w)[-q_s/x + (1-q_s)/(1-x)]`.
fn project(difference: f64, canary: f64, stable: f64, weight: f64) -> f64 {
    let slope = |x: f64| {
        let y = x + difference;
        weight * ((1.0 - canary) / (1.0 - y) - canary / y) + (1.0 - weight) * ((1.0 - stable) / (1.0 - x) - stable / x)
    };
    let (mut low, mut high) = (0_f64.max(-difference), 1_f64.min(1.0 - difference));
    for _ in 0..BISECTIONS {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    // Both ends are neighbours by now; the middle of the domain is never returned, so that no rate is 0 or 1.
    let floor = 0_f64.max(-difference) + f64::EPSILON * RATE_MARGIN;
    let ceiling = 1_f64.min(1.0 - difference) - f64::EPSILON;
    low.clamp(floor, ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(canary: (u64, u64), stable: (u64, u64), weight: f64) -> ArmsBatch {
        let counts = |(requests, events)| ArmCounts { requests, events };
        ArmsBatch { canary: counts(canary), stable: counts(stable), weight: Share::new(weight).unwrap() }
    }

    #[test]
    fn the_projection_of_a_boundary_point_is_itself() {
        for (x, d, w) in [(0.01, 0.005, 0.05), (0.3, -0.1, 0.5), (0.5, 0.4, 0.99)] {
            assert!((project(d, x + d, x, w) - x).abs() < 1e-12);
        }
    }

    #[test]
    fn some_740_clean_requests_pass_half_a_point_at_five_percent() {
        let mut past = StableRate::default();
        past.add(ArmCounts { requests: 1_000_000, events: 0 });
        let mut test = DiffE::pass_below(0.005, past).unwrap();
        let mut canary = 0;
        while test.ln_e() < 20_f64.ln() && canary < 10_000 {
            test.update(batch((1, 0), (19, 0), 0.05));
            canary += 1;
        }
        assert!((560..800).contains(&canary), "{canary}");
    }

    #[test]
    fn each_side_moves_the_right_way() {
        let mut past = StableRate::default();
        past.add(ArmCounts { requests: 100_000, events: 1_000 });
        let mut pass = DiffE::pass_below(0.01, past).unwrap();
        let mut fail = DiffE::fail_above(0.01, past).unwrap();
        let mut not_lower = DiffE::pass_not_lower(0.005, past).unwrap();
        for _ in 0..400 {
            let worse = batch((50, 3), (950, 10), 0.05);
            pass.update(worse);
            fail.update(worse);
            not_lower.update(worse);
        }
        assert!(pass.ln_e() < 0.0 && fail.ln_e() > 5.0 && not_lower.ln_e() > 5.0, "{} {} {}", pass.ln_e(), fail.ln_e(), not_lower.ln_e());
    }

    #[test]
    fn the_past_is_stables_and_never_the_batch_itself() {
        let mut test = DiffE::pass_below(0.005, StableRate::default()).unwrap();
        test.update(batch((900, 800), (100, 0), 0.05));
        assert_eq!((test.stable.requests(), test.computed_at), (100, Some(0)));
        assert!(test.stable.estimate() < 0.01);
    }

    #[test]
    fn differences_out_of_range_are_refused() {
        for bad in [0.0, -0.1, 1.0, f64::NAN] {
            assert!(DiffE::pass_below(bad, StableRate::default()).is_err());
            assert!(DiffE::pass_not_lower(bad, StableRate::default()).is_err());
            assert!(DiffE::fail_above(bad, StableRate::default()).is_err());
        }
    }
}
