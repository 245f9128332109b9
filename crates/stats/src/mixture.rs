//! A bank of bets on fixed alternatives, with a reserve for faults that begin late: the part that all event tests share.
//!
//! Capital `A_k` bets on alternative `k`; a reserve `R` bets on nothing yet. `E = sum A_k + R`. Alternatives are only
//! multiplied by likelihood ratios whose mean under the null is at most 1, and moving money from `R` to `A_k` leaves `E` as it
//! is, so that `E` is an e-process whatever the prior and the pace of moving (ANALYSIS 2.1, 2.2).
//! Without the reserve `A_k` decays exponentially while all is well and a late fault has to earn all of it back.
//!
//! The reserve is a function of the number of events `n` alone, so that a batch moves what its events would move one by one; what
//! is moved is what `R` loses. How fast it falls ([`Pace`]) decides who pays: `R' = dR/dn` is what a fault that begins after `n`
//! events starts with. Events that come slowly and are scored against another arm (some hundreds in a release) take the
//! harmonic law, which spends early. A test that goes on for days at full weight takes the logarithmic one, which keeps enough for
//! an onset after hundreds of thousands of events and has less for one after the first few hundred.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require, require_positive};
use crate::exact;
use crate::log_domain::{ln_power, log_add_exp};

/// Most pieces that a batch is cut into, so that the work of an update is bounded.
const MOST_PIECES: u64 = 32;

/// How the reserve falls with the number of events `n`, in units of the onset scale `n0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pace {
    /// `R = (1 - pi0) n0/(n + n0)`: the hazard of an onset after `n` events is `1/(n + n0)`, and `R'` falls like `1/n^2`.
    Harmonic,
    /// `R = (1 - pi0)/(1 + ln(1 + n/n0))`: `R'` falls like `1/(n ln^2 n)`, about the slowest that still adds up to a finite sum.
    Logarithmic,
}

impl Pace {
    /// `R_n / R_0` for `n = scales * n0`, as a logarithm.
    fn ln_kept(self, scales: f64) -> f64 {
        match self {
            Self::Harmonic => -scales.ln_1p(),
            Self::Logarithmic => -scales.ln_1p().ln_1p(),
        }
    }

    /// `1 - R_(n+m)/R_n` for `before = n`, `added = m` and `n0` events, as a logarithm. Written without a difference of reserves,
    /// of which nothing would be left once `m` is small beside `n`.
    fn ln_released(self, before: f64, added: f64, onset: f64) -> f64 {
        match self {
            Self::Harmonic => (added / (before + added + onset)).ln(),
            // With L = ln(1 + n/n0): (L_after - L_before) / (1 + L_after).
            Self::Logarithmic => (added / (before + onset)).ln_1p().ln() - ((before + added) / onset).ln_1p().ln_1p(),
        }
    }
}

/// How the initial capital is spread and how fast the reserve is brought in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stakes<const K: usize> {
    /// Relative weights of the alternatives; any positive scale.
    pub(crate) prior: [f64; K],
    /// Share of the capital that bets from the first event on, in (0, 1]; the rest is the reserve.
    pub(crate) at_once: f64,
    /// Onset scale `n0` in events, above 0.
    pub(crate) onset_events: f64,
    /// How the reserve falls with the events.
    pub(crate) pace: Pace,
}

/// Capital by alternative and the count of events that rules the reserve. `K + 2` numbers and the prior.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mixture<const K: usize> {
    #[serde(with = "exact")]
    ln_prior: [f64; K],
    #[serde(with = "exact")]
    ln_capital: [f64; K],
    /// `ln(1 - pi0)`, the reserve before any event.
    #[serde(with = "exact")]
    ln_first_reserve: f64,
    #[serde(with = "exact")]
    onset_events: f64,
    pace: Pace,
    events: u64,
}

impl<const K: usize> Mixture<K> {
    pub(crate) fn new(stakes: &Stakes<K>) -> Result<Self, ConfigError> {
        require(K > 0, "number of alternatives", K as f64, "at least 1")?;
        for weight in stakes.prior {
            require_positive("prior weight", weight)?;
        }
        let at_once = require(stakes.at_once > 0.0 && stakes.at_once <= 1.0, "share of capital at once", stakes.at_once, "in (0, 1]")?;
        let onset_events = require_positive("onset scale in events", stakes.onset_events)?;
        let total: f64 = stakes.prior.iter().sum();
        let ln_prior = stakes.prior.map(|weight| (weight / total).ln());
        Ok(Self {
            ln_prior,
            ln_capital: ln_prior.map(|ln_weight| ln_weight + at_once.ln()),
            ln_first_reserve: (-at_once).ln_1p(),
            onset_events,
            pace: stakes.pace,
            events: 0,
        })
    }

    /// Starts anew with the same stakes: all capital as it was, no event seen.
    pub(crate) fn restart(&mut self) {
        let ln_at_once = (-self.ln_first_reserve.exp()).ln_1p();
        self.ln_capital = self.ln_prior.map(|ln_weight| ln_weight + ln_at_once);
        self.events = 0;
    }

    /// Events so far.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Counts `events` and moves the part of the reserve that is due to the alternatives:
    /// `h = 1 - R_(n+m)/R_n`; `A_k += h R pi_k`, `R *= 1 - h`.
    pub(crate) fn release_reserve(&mut self, events: u64) {
        if events == 0 {
            return;
        }
        if self.ln_first_reserve > f64::NEG_INFINITY {
            let (before, added) = (self.events as f64, events as f64);
            let ln_moved = self.ln_reserve() + self.pace.ln_released(before, added, self.onset_events);
            for (capital, ln_weight) in self.ln_capital.iter_mut().zip(&self.ln_prior) {
                *capital = log_add_exp(*capital, ln_moved + ln_weight);
            }
        }
        self.events = self.events.saturating_add(events);
    }

    /// Multiplies each alternative's capital by its likelihood ratio, given as a logarithm.
    pub(crate) fn bet(&mut self, ln_factors: &[f64; K]) {
        for (capital, ln_factor) in self.ln_capital.iter_mut().zip(ln_factors) {
            *capital += ln_factor;
        }
    }

    /// Bets on `events` events, each with `ln_event`, within a quiet stretch worth `ln_quiet` in all, and releases the reserve
    /// after each event, as if the quiet stretch was spread evenly around the events.
    ///
    /// The order within a batch is unknown. Under the null it is exchangeable, and the capital is a convex function of how
    /// much of the quiet stretch follows an event; by Jensen the even spread gives at most the mean over all orders, which is
    /// an e-process. A single request is scored exactly. More than 32 events are released in 32 pieces.
    pub(crate) fn bet_spread(&mut self, events: u64, ln_event: &[f64; K], ln_quiet: &[f64; K]) {
        let gaps = events as f64 + 1.0;
        let pieces = events.min(MOST_PIECES);
        for piece in 0..pieces {
            let size = events / pieces + u64::from(piece < events % pieces);
            for ((capital, on_event), on_quiet) in self.ln_capital.iter_mut().zip(ln_event).zip(ln_quiet) {
                *capital += ln_power(size as f64, *on_event) + on_quiet * (size as f64 / gaps);
            }
            self.release_reserve(size);
        }
        for (capital, on_quiet) in self.ln_capital.iter_mut().zip(ln_quiet) {
            *capital += on_quiet / gaps;
        }
    }

    /// `ln E`.
    pub(crate) fn ln_e(&self) -> f64 {
        let reserve = self.ln_reserve();
        let high = self.ln_capital.iter().copied().fold(reserve, f64::max);
        if high.is_infinite() {
            return high;
        }
        let sum = self.ln_capital.iter().fold((reserve - high).exp(), |sum, capital| sum + (capital - high).exp());
        high + sum.ln()
    }

    /// `ln R`.
    fn ln_reserve(&self) -> f64 {
        self.ln_first_reserve + self.pace.ln_kept(self.events as f64 / self.onset_events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACES: [Pace; 2] = [Pace::Harmonic, Pace::Logarithmic];

    fn fresh(pace: Pace) -> Mixture<3> {
        Mixture::new(&Stakes { prior: [2.0, 1.0, 1.0], at_once: 0.5, onset_events: 60.0, pace }).unwrap()
    }

    #[test]
    fn a_new_start_is_like_a_fresh_one() {
        for at_once in [0.5, 0.7, 1.0] {
            let stakes = Stakes { prior: [2.0, 1.0, 1.0], at_once, onset_events: 60.0, pace: Pace::Harmonic };
            let fresh = Mixture::new(&stakes).unwrap();
            let mut mixture = fresh.clone();
            mixture.bet_spread(9, &[1.0, 2.0, 3.0], &[-0.1; 3]);
            mixture.restart();
            assert!(mixture.events == 0 && mixture.ln_e().abs() < 1e-12);
            for (a, b) in mixture.ln_capital.iter().zip(fresh.ln_capital) {
                assert!((a - b).abs() < 1e-12, "{at_once}");
            }
        }
    }

    #[test]
    fn it_starts_at_one_and_moving_the_reserve_changes_nothing() {
        for pace in PACES {
            let mut mixture = fresh(pace);
            assert!(mixture.ln_e().abs() < 1e-15);
            for events in [1, 7, 1_000, 1_000_000_000, 1, 1, u64::MAX] {
                mixture.release_reserve(events);
                assert!(mixture.ln_e().abs() < 1e-12, "{pace:?}, {events}");
            }
        }
    }

    #[test]
    fn a_batch_releases_what_its_events_would_one_by_one() {
        for pace in PACES {
            let (mut one_by_one, mut at_once) = (fresh(pace), fresh(pace));
            for _ in 0..40 {
                one_by_one.release_reserve(1);
            }
            at_once.release_reserve(40);
            for (a, b) in one_by_one.ln_capital.iter().zip(at_once.ln_capital) {
                assert!((a - b).abs() < 1e-12, "{pace:?}");
            }
        }
    }

    #[test]
    fn the_reserve_follows_its_law_and_what_it_loses_is_exact_after_a_billion_events() {
        for (pace, kept) in [(Pace::Harmonic, 0.5 / 8.0), (Pace::Logarithmic, 0.5 / (1.0 + 8_f64.ln()))] {
            let mut mixture = fresh(pace);
            mixture.release_reserve(420);
            assert!((mixture.ln_reserve() - f64::ln(kept)).abs() < 1e-14, "{pace:?}");
        }
        // One event after n moves R'(n) = R_0 n0/(n + n0)^2, or R_0/((n + n0) (1 + L)^2).
        let n: f64 = 1e9 + 60.0;
        let spread = (n / 60.0).ln() + 1.0;
        for (pace, expected) in [(Pace::Harmonic, 0.5 * 60.0 / (n * n)), (Pace::Logarithmic, 0.5 / (n * spread * spread))] {
            let mut mixture = fresh(pace);
            mixture.release_reserve(1_000_000_000);
            let moved = mixture.ln_reserve() + pace.ln_released(1e9, 1.0, 60.0);
            assert!((moved - expected.ln()).abs() < 1e-8, "{pace:?}: {moved}");
        }
    }

    #[test]
    fn stakes_out_of_range_are_refused() {
        let stakes = Stakes { prior: [1.0], at_once: 1.0, onset_events: 60.0, pace: Pace::Harmonic };
        assert!(Mixture::new(&stakes).is_ok());
        assert!(Mixture::new(&Stakes { prior: [0.0], ..stakes }).is_err());
        assert!(Mixture::new(&Stakes { at_once: 0.0, ..stakes }).is_err());
        assert!(Mixture::new(&Stakes { onset_events: f64::NAN, ..stakes }).is_err());
    }
}
