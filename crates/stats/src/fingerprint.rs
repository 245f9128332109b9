//! Errors by class: the total and every kind of error each get a part of the capital (ANALYSIS 2.9, fingerprints).
//!
//! A new kind of error of 0.5 % hides in a noise of 0.5 %, but alone it is infinitely more than stable's zero. Classes are
//! (status, gRPC code or transport error) x route, named by a number that the caller keeps stable for the release.
//!
//! `E = 3/4 E_total + 1/8 sum v_j E_known_j + 1/8 sum v_j E_new_j + unspent cash`, `v_j = 1/(j(j+1))`. Known classes are ordered
//! by their frequency before the stage, new ones by appearance. The events that open a class are not bet on: that a class
//! exists is known only through them. Exact, since every part is scored given the times and classes of the events.
//!
//! At most 64 classes; what appears later counts in the total and in a common class for the rest.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, Share, require};
use crate::exact;
use crate::log_domain::log_add_exp;
use crate::ratio::{Batch, RatioConfig, RatioE};

/// Most classes that are kept apart, known and new together; the last is the one for all the rest.
pub const MOST_CLASSES: usize = 64;

/// `ln` of the part of the capital that is for the total.
///
/// More than the half of ANALYSIS 2.9: most faults raise errors of every kind, and there each nat less for the total is a failed request
/// more. A new class pays two thirds of a nat for it and still needs a third of the failures that the total would need.
pub const LN_TOTAL: f64 = -0.287_682_072_451_780_9;
/// `ln 1/8`.
const LN_GROUP: f64 = -3.0 * std::f64::consts::LN_2;

/// Events of one class in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassEvents {
    /// The class, by a number that means the same throughout the release.
    pub class: u64,
    /// Events among the canary's requests.
    pub canary_events: u64,
    /// Events among stable's requests.
    pub stable_events: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Class {
    id: u64,
    test: RatioE,
    /// That of the test: most classes have no event in a batch.
    #[serde(with = "exact")]
    ln_e: f64,
}

/// The tests of the total and of each class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FingerprintE {
    total: RatioE,
    known: Vec<Class>,
    new: Vec<Class>,
    /// Opened by the first event that finds no free place.
    rest: Option<RatioE>,
    /// What every class starts from.
    blank: RatioE,
}

impl FingerprintE {
    /// Fresh tests, all with the same configuration. `known` are the classes seen before the stage, most frequent first.
    ///
    /// # Errors
    /// If the configuration is out of range, or there are more than 63 known classes or one twice.
    pub fn new(config: &RatioConfig, known: &[u64]) -> Result<Self, ConfigError> {
        require(known.len() < MOST_CLASSES, "known classes", known.len() as f64, "at most 63")?;
        let twice = known.iter().enumerate().any(|(position, id)| known[..position].contains(id));
        require(!twice, "known classes", known.len() as f64, "each class once")?;
        let blank = RatioE::new(config)?;
        let known = known.iter().map(|id| Class { id: *id, test: blank.clone(), ln_e: 0.0 }).collect();
        // Room for every class is reserved now, so that updates do not allocate.
        Ok(Self { total: blank.clone(), known, new: Vec::with_capacity(MOST_CLASSES), rest: None, blank })
    }

    /// Scores the events of requests that were assigned at one weight; each class at most once per call, in any order
    /// except that new classes are numbered in the order given.
    pub fn update(&mut self, weight: Share, classes: &[ClassEvents]) {
        let mut total = Batch { canary_events: 0, stable_events: 0, weight };
        let mut rest = total;
        for events in classes {
            let batch = Batch { canary_events: events.canary_events, stable_events: events.stable_events, weight };
            add(&mut total, batch);
            if batch.events() > 0 && !self.update_class(events.class, batch) {
                add(&mut rest, batch);
            }
        }
        if rest.events() > 0 {
            match &mut self.rest {
                Some(test) => test.update(rest),
                None => self.rest = Some(self.blank.clone()),
            }
        }
        self.total.update(total);
    }

    /// Replaces the alternatives and tempering of every test from the next batch on; see [`RatioE::set_rho1`] and
    /// [`RatioE::set_tempering`].
    ///
    /// # Errors
    /// If `rho1` is not above 1 or `eta` not in (0, 1].
    pub fn tune(&mut self, rho1: f64, eta: f64) -> Result<(), ConfigError> {
        let classes = self.known.iter_mut().chain(&mut self.new).map(|class| &mut class.test);
        for test in classes.chain([&mut self.total, &mut self.blank]).chain(&mut self.rest) {
            test.set_rho1(rho1)?;
            test.set_tempering(eta)?;
        }
        Ok(())
    }

    /// `ln E` of the whole.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let groups = log_add_exp(group_ln_e(self.known.iter().map(|class| class.ln_e)), group_ln_e(self.new_ln_e()));
        log_add_exp(LN_TOTAL + self.total.ln_e(), LN_GROUP + groups)
    }

    /// `ln E` of the total alone.
    #[must_use]
    pub fn ln_e_total(&self) -> f64 {
        self.total.ln_e()
    }

    /// The class with the strongest evidence of its own, weighted as in the sum, and its `ln E`; `None` if there is no class.
    #[must_use]
    pub fn strongest(&self) -> Option<(u64, f64)> {
        let weighted = |classes: &'_ [Class]| {
            let each = classes.iter().enumerate().map(|(index, class)| (class.id, class.ln_e, ln_share(index)));
            each.max_by(|a, b| (a.1 + a.2).total_cmp(&(b.1 + b.2)))
        };
        let best = [weighted(&self.known), weighted(&self.new)].into_iter().flatten();
        best.max_by(|a, b| (a.1 + a.2).total_cmp(&(b.1 + b.2))).map(|(id, ln_e, _)| (id, ln_e))
    }

    /// Classes kept apart so far.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.known.len() + self.new.len()
    }

    fn new_ln_e(&self) -> impl Iterator<Item = f64> + '_ {
        self.new.iter().map(|class| class.ln_e).chain(self.rest.iter().map(RatioE::ln_e))
    }

    /// Scores or opens a class; `false` if there is no place for it.
    fn update_class(&mut self, id: u64, batch: Batch) -> bool {
        if let Some(class) = self.known.iter_mut().chain(&mut self.new).find(|class| class.id == id) {
            class.test.update(batch);
            class.ln_e = class.test.ln_e();
            return true;
        }
        // One place is kept for the rest.
        let free = self.classes() + 1 < MOST_CLASSES;
        if free {
            self.new.push(Class { id, test: self.blank.clone(), ln_e: 0.0 });
        }
        free
    }
}

fn add(sum: &mut Batch, batch: Batch) {
    sum.canary_events = sum.canary_events.saturating_add(batch.canary_events);
    sum.stable_events = sum.stable_events.saturating_add(batch.stable_events);
}

/// `ln v_j` for the class at this index from 0.
fn ln_share(index: usize) -> f64 {
    let j = index as f64 + 1.0;
    -(j * (j + 1.0)).ln()
}

/// `sum v_j E_j` and the cash `1/(J+1)` that no class has claimed yet.
fn group_ln_e(each: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (f64::NEG_INFINITY, 0);
    for ln_e in each {
        sum = log_add_exp(sum, ln_share(count) + ln_e);
        count += 1;
    }
    log_add_exp(sum, -(count as f64 + 1.0).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share() -> Share {
        Share::new(0.05).unwrap()
    }

    fn events(class: u64, canary_events: u64, stable_events: u64) -> ClassEvents {
        ClassEvents { class, canary_events, stable_events }
    }

    fn fresh(known: &[u64]) -> FingerprintE {
        FingerprintE::new(&RatioConfig::fail(1.0, 1.5), known).unwrap()
    }

    #[test]
    fn it_starts_at_one_and_opening_a_class_is_no_evidence() {
        let mut test = fresh(&[1, 2, 3]);
        assert!(test.ln_e().abs() < 1e-12);
        let total_before = test.ln_e_total();
        test.update(share(), &[events(9, 5, 0)]);
        assert_eq!(test.classes(), 4);
        // Only the total has bet.
        let expected = (0.75 * test.ln_e_total().exp() + 0.25).ln();
        assert!((test.ln_e() - expected).abs() < 1e-12 && test.ln_e_total() > total_before);
    }

    #[test]
    fn a_new_class_stands_out_of_the_noise() {
        let (mut test, mut total) = (fresh(&[1]), RatioE::new(&RatioConfig::fail(1.0, 1.5)).unwrap());
        let mut failures = 0;
        while test.ln_e() < 100_f64.ln() {
            test.update(share(), &[events(1, 1, 19), events(2, 1, 0)]);
            total.update(Batch { canary_events: 2, stable_events: 19, weight: share() });
            failures += 1;
            assert!(failures < 50);
        }
        assert!(failures <= 8, "{failures}");
        assert!(total.ln_e() < 100_f64.ln());
        assert_eq!(test.strongest().map(|(id, _)| id), Some(2));
    }

    #[test]
    fn the_number_of_classes_is_bounded() {
        let mut test = fresh(&[]);
        for class in 0..1_000 {
            test.update(share(), &[events(class, 0, 1)]);
        }
        assert_eq!(test.classes(), MOST_CLASSES - 1);
        assert!(test.ln_e().is_finite());
        assert!(FingerprintE::new(&RatioConfig::fail(1.0, 1.5), &(0..64).collect::<Vec<_>>()).is_err());
        assert!(FingerprintE::new(&RatioConfig::fail(1.0, 1.5), &[7, 7]).is_err());
    }
}
