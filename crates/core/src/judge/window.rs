//! A sliding window over observations, in bounded memory.

use std::collections::VecDeque;

use super::slices::Slices;
use crate::{Timestamp, traffic::Observation};

/// The window is cut into this many slots; it covers its length to within one slot.
const SLOTS: u64 = 20;

/// What was observed during the last `length_ms` milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Window {
    length_ms: u64,
    slots: VecDeque<Slot>,
    last: Option<Timestamp>,
}

#[derive(Debug, Clone)]
struct Slot {
    /// The observation before the slot's first one: its counts began there.
    from: Timestamp,
    opened: Timestamp,
    slices: Slices,
}

impl Window {
    pub(super) fn new(length_ms: u64) -> Self {
        Self { length_ms: length_ms.max(1), slots: VecDeque::new(), last: None }
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    pub(super) fn add(&mut self, observation: &Observation, slices: &Slices) {
        let at = observation.at;
        match self.slots.back_mut() {
            Some(slot) if at.ms_since(slot.opened) < self.length_ms.div_ceil(SLOTS) => slot.slices.merge(slices),
            _ => self.slots.push_back(Slot { from: self.last.unwrap_or(at).min(at), opened: at, slices: slices.clone() }),
        }
        self.last = Some(at);
        while self.slots.front().is_some_and(|slot| at.ms_since(slot.opened) > self.length_ms) {
            self.slots.pop_front();
        }
    }

    /// Everything within the window that ends at `now`.
    pub(super) fn total(&self, now: Timestamp) -> Slices {
        let mut total = Slices::default();
        for slot in self.slots.iter().filter(|slot| now.ms_since(slot.opened) <= self.length_ms) {
            total.merge(&slot.slices);
        }
        total
    }

    /// The time that the counts in the window took to come together, in seconds; `None` while that is too short to make a
    /// rate of: less than a second and less than the window.
    pub(super) fn covered_s(&self) -> Option<f64> {
        let covered_ms = self.last?.ms_since(self.slots.front()?.from);
        (covered_ms >= self.length_ms.min(1_000)).then_some(covered_ms as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        WeightBps,
        traffic::{Arm, Assignment, Counts, Outcome, TrafficCell},
    };

    fn add(window: &mut Window, at_ms: u64, requests: u64) {
        let mut counts = Counts::default();
        counts.by_outcome[Outcome::Success.index()] = requests;
        let cell = TrafficCell { weight: WeightBps::ZERO, arm: Arm::Canary, assignment: Assignment::Random, counts, sessions: None };
        let observation = Observation { at: Timestamp(at_ms), cells: vec![cell], ..Observation::default() };
        window.add(&observation, &Slices::of(&observation));
    }

    fn requests(window: &Window, now_ms: u64) -> u64 {
        window.total(Timestamp(now_ms)).compared(Arm::Canary).requests()
    }

    #[test]
    fn what_is_older_than_the_window_is_gone_also_when_nothing_new_comes() {
        let mut window = Window::new(1_000);
        for at_ms in [0, 500, 1_000] {
            add(&mut window, at_ms, 1);
        }
        for (now_ms, expected) in [(1_000, 3), (1_400, 2), (1_900, 1), (2_100, 0)] {
            assert_eq!(requests(&window, now_ms), expected, "at {now_ms}");
        }
        add(&mut window, 1_600, 1);
        assert_eq!(requests(&window, 1_600), 2);
    }

    #[test]
    fn memory_is_bounded_by_slots_whatever_the_rate_of_observations() {
        let mut window = Window::new(10_000);
        for at_ms in 0..50_000 {
            add(&mut window, at_ms, 1);
        }
        assert!(window.slots.len() <= 22, "{}", window.slots.len());
        assert!((9_500..=11_000).contains(&requests(&window, 49_999)));
        // Less than a millisecond per slot.
        let mut window = Window::new(7);
        (0..1_000).for_each(|at_ms| add(&mut window, at_ms, 1));
        assert!(window.slots.len() <= 9);
    }

    #[test]
    fn rates_cover_the_time_that_the_counts_cover() {
        let mut window = Window::new(10_000);
        add(&mut window, 60_000, 1);
        assert_eq!(window.covered_s(), None, "the first observation covers an unknown time");
        add(&mut window, 60_500, 1);
        assert_eq!(window.covered_s(), None);
        add(&mut window, 62_000, 1);
        assert_eq!(window.covered_s(), Some(2.0));
        // After a gap the counts cover the gap too, although it is longer than the window.
        add(&mut window, 102_000, 1);
        assert_eq!(window.covered_s(), Some(40.0));
        // A cleared window knows when the next counts began.
        window.clear();
        add(&mut window, 104_000, 1);
        assert_eq!(window.covered_s(), Some(2.0));
    }

    #[test]
    fn a_clock_that_runs_backwards_does_no_harm() {
        let mut window = Window::new(1_000);
        add(&mut window, 5_000, 1);
        add(&mut window, 1_000, 1);
        assert_eq!((requests(&window, 1_000), window.covered_s()), (2, None));
    }
}
