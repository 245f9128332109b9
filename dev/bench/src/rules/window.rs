//! Counts over the last so many seconds, as a query over a range of a perfect time series would give them.

use std::collections::VecDeque;

use serin_stats::ArmCounts;

use crate::traffic::Second;

/// Both arms over a sliding window that moves in steps of the interval.
#[derive(Debug, Clone)]
pub(super) struct Window {
    step_s: u32,
    steps: usize,
    /// Canary and stable by step, the newest last.
    kept: VecDeque<[ArmCounts; 2]>,
    open: [ArmCounts; 2],
}

impl Window {
    /// A window of `length_s` that is read every `step_s`, which must divide it.
    pub(super) fn new(length_s: u32, step_s: u32) -> Self {
        let steps = usize::try_from(length_s / step_s.max(1)).unwrap_or(1).max(1);
        Self { step_s, steps, kept: VecDeque::with_capacity(steps + 1), open: [ArmCounts::default(); 2] }
    }

    /// Adds a second; the sums of canary and stable over the window whenever a step is complete.
    pub(super) fn add(&mut self, second: &Second<'_>) -> Option<[ArmCounts; 2]> {
        self.open[0].add(second.canary);
        self.open[1].add(second.stable);
        if !second.end_s.is_multiple_of(self.step_s) {
            return None;
        }
        self.kept.push_back(std::mem::take(&mut self.open));
        if self.kept.len() > self.steps {
            self.kept.pop_front();
        }
        let mut sums = [ArmCounts::default(); 2];
        for step in &self.kept {
            for (sum, part) in sums.iter_mut().zip(step) {
                sum.add(*part);
            }
        }
        Some(sums)
    }
}

/// Errors per request; `None` without requests.
pub(super) fn error_rate(counts: ArmCounts) -> Option<f64> {
    (counts.requests > 0).then(|| counts.events as f64 / counts.requests as f64)
}

#[cfg(test)]
pub(super) mod tests {
    use serin_stats::Share;

    use super::*;
    use crate::rules::Rule;

    /// When a rule decides on hand-made seconds: `(canary requests, canary errors, stable requests, stable errors)` by second.
    pub(in crate::rules) fn decision(rule: &mut dyn Rule, second: impl Fn(u32) -> (u64, u64, u64, u64)) -> Option<f64> {
        (0..3_600).find_map(|start_s| {
            let (requests, errors, stable_requests, stable_errors) = second(start_s);
            rule.observe(&Second {
                end_s: start_s + 1,
                share: Share::new(0.05).unwrap(),
                canary: ArmCounts { requests, events: errors },
                stable: ArmCounts { requests: stable_requests, events: stable_errors },
                events: &[],
            })
        })
    }

    #[test]
    fn the_window_slides_by_steps() {
        let mut window = Window::new(30, 10);
        let mut sums = Vec::new();
        for start_s in 0..60 {
            let canary = ArmCounts { requests: 1, events: u64::from(start_s < 10) };
            let second = Second { end_s: start_s + 1, share: Share::NONE, canary, stable: ArmCounts::default(), events: &[] };
            sums.extend(window.add(&second).map(|[canary, _]| (canary.requests, canary.events)));
        }
        assert_eq!(sums, [(10, 10), (20, 10), (30, 10), (30, 0), (30, 0), (30, 0)]);
    }
}
