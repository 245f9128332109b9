//! From observations to samples, a second each.

use serin_core::{
    Timestamp, WeightBps,
    judge::Assessment,
    traffic::{Assignment, Counts, TrafficCell},
};

use super::{ArmSample, CriterionSample, Sample};

/// How long a sample is, in milliseconds; longer where the driver looks less often.
pub(crate) const SAMPLE_MS: u64 = 1_000;

/// Collects what is observed until a sample is due.
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    since: Option<Timestamp>,
    counts: [Counts; 2],
    by_weight: [u64; 2],
    /// The weight and the criteria as they were told last: a change is worth a sample.
    told: Option<(WeightBps, Vec<CriterionSample>)>,
}

impl Gatherer {
    /// Counts what was observed.
    pub(crate) fn add(&mut self, now: Timestamp, cells: &[TrafficCell]) {
        self.since.get_or_insert(now);
        for cell in cells {
            match cell.assignment {
                // It is a request of the canary, which was counted there.
                Assignment::Rescue => continue,
                Assignment::Random | Assignment::Sticky => {
                    let slot = &mut self.by_weight[cell.arm.index()];
                    *slot = slot.saturating_add(cell.counts.requests());
                }
                _ => {}
            }
            self.counts[cell.arm.index()].merge(&cell.counts);
        }
    }

    /// What was seen since the last sample, if that is at least `least_ms` and says anything.
    pub(crate) fn due(&mut self, now: Timestamp, least_ms: u64, weight: WeightBps, assessment: &Assessment) -> Option<Sample> {
        let since = *self.since.get_or_insert(now);
        let span_ms = now.ms_since(since);
        if span_ms < least_ms {
            return None;
        }
        self.since = Some(now);
        let criteria: Vec<_> = assessment
            .broken_guards
            .iter()
            .chain(&assessment.criteria)
            .map(|one| CriterionSample { name: one.name.clone(), verdict: one.verdict, pressure: one.pressure.map(rounded) })
            .collect();
        let is_quiet = self.counts.iter().all(|counts| counts.all() == 0);
        if is_quiet && self.told.as_ref().is_some_and(|(told, as_told)| *told == weight && *as_told == criteria) {
            return None;
        }
        self.told = Some((weight, criteria.clone()));
        let arms = std::mem::take(&mut self.counts).map(|counts| ArmSample::of(&counts));
        Some(Sample {
            at: now,
            span_ms,
            weight,
            by_weight: std::mem::take(&mut self.by_weight),
            arms,
            health: assessment.health(),
            criteria,
        })
    }
}

/// More digits would be noise in the file.
fn rounded(pressure: f64) -> f64 {
    (pressure * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use serin_core::traffic::{Arm, Outcome};

    use super::*;

    fn cell(arm: Arm, assignment: Assignment, requests: u64) -> TrafficCell {
        let mut counts = Counts::default();
        (0..requests).for_each(|_| counts.record(Outcome::Success, 1_000));
        TrafficCell { weight: WeightBps::ZERO, arm, assignment, counts, sessions: None }
    }

    #[test]
    fn a_second_is_one_sample_and_a_quiet_one_is_none() {
        let (mut gatherer, nothing) = (Gatherer::default(), Assessment::default());
        let due = |gatherer: &mut Gatherer, at| gatherer.due(Timestamp(at), SAMPLE_MS, WeightBps::ZERO, &nothing);
        gatherer.add(Timestamp(1_000), &[cell(Arm::Stable, Assignment::Random, 3), cell(Arm::Canary, Assignment::Matched, 2)]);
        assert_eq!(due(&mut gatherer, 1_900), None, "not yet");
        gatherer.add(Timestamp(1_950), &[cell(Arm::Stable, Assignment::Rescue, 1), cell(Arm::Canary, Assignment::Sticky, 1)]);
        let sample = due(&mut gatherer, 2_100).unwrap();
        assert_eq!((sample.at, sample.span_ms, sample.by_weight), (Timestamp(2_100), 1_100, [3, 1]));
        assert_eq!(sample.arms.each_ref().map(|arm| arm.requests), [3, 3], "a rescued request is the canary's");
        assert_eq!(due(&mut gatherer, 3_200), None, "nothing happened");
        assert_eq!(due(&mut gatherer, 9_000), None);
        gatherer.add(Timestamp(9_500), &[cell(Arm::Stable, Assignment::Random, 1)]);
        assert_eq!(due(&mut gatherer, 10_000).unwrap().span_ms, 1_000, "since the last look");
    }

    #[test]
    fn a_changed_weight_is_told_without_traffic() {
        let (mut gatherer, nothing) = (Gatherer::default(), Assessment::default());
        let at = |seconds: u64| Timestamp(seconds * 1_000);
        assert_eq!(gatherer.due(at(1), SAMPLE_MS, WeightBps::ZERO, &nothing), None);
        assert!(gatherer.due(at(2), SAMPLE_MS, WeightBps::ZERO, &nothing).is_some(), "the first");
        assert_eq!(gatherer.due(at(3), SAMPLE_MS, WeightBps::ZERO, &nothing), None);
        assert_eq!(gatherer.due(at(4), SAMPLE_MS, WeightBps::FULL, &nothing).unwrap().weight, WeightBps::FULL);
    }
}
