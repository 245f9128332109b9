//! Observed requests cut into the populations that rules look at.

use std::collections::BTreeMap;

use serin_stats::ArmCounts;

use crate::{
    plan::MetricName,
    traffic::{Arm, Assignment, Counts, Observation, Reading, by_arm},
};

/// Counts by population and arm.
///
/// - *compared*: assigned by weight while both arms got traffic; the only one that may be compared between the arms.
/// - *open*: compared, and what came by weight when only one arm could serve it; what absolute limits look at.
/// - *matched*: sent by a declared rule or through the preview address, never both at a time; another population, judged by absolute limits of
///   its own.
/// - *measured*: what other sources counted, who do not know how a request came to its arm.
#[derive(Debug, Clone, Default)]
pub(super) struct Slices {
    compared: [Counts; 2],
    forced: [Counts; 2],
    matched: [Counts; 2],
    measured: BTreeMap<MetricName, [ArmCounts; 2]>,
    is_preview: bool,
}

impl Slices {
    pub(super) fn of(observation: &Observation) -> Self {
        Self {
            compared: by_arm(|arm| observation.counts(arm, Assignment::is_compared)),
            forced: by_arm(|arm| observation.counts(arm, |assignment| assignment == Assignment::Forced)),
            matched: by_arm(|arm| observation.counts(arm, Assignment::is_by_choice)),
            is_preview: observation.cells.iter().any(|cell| cell.assignment == Assignment::Preview),
            measured: measured(observation),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for arm in Arm::BOTH {
            let index = arm.index();
            self.compared[index].merge(&other.compared[index]);
            self.forced[index].merge(&other.forced[index]);
            self.matched[index].merge(&other.matched[index]);
        }
        for (metric, counts) in &other.measured {
            add(self.measured.entry(*metric).or_default(), counts);
        }
        self.is_preview |= other.is_preview;
    }

    pub(super) fn compared(&self, arm: Arm) -> &Counts {
        &self.compared[arm.index()]
    }

    pub(super) fn open(&self, arm: Arm) -> Counts {
        let mut counts = self.compared[arm.index()].clone();
        counts.merge(&self.forced[arm.index()]);
        counts
    }

    pub(super) fn matched(&self, arm: Arm) -> &Counts {
        &self.matched[arm.index()]
    }

    pub(super) fn measured(&self, metric: MetricName, arm: Arm) -> ArmCounts {
        self.measured.get(&metric).map(|counts| counts[arm.index()]).unwrap_or_default()
    }

    /// What the matched ones are called.
    pub(super) fn choice(&self) -> &'static str {
        choice(self.is_preview)
    }
}

/// What requests are called that somebody sent to the canary: those of the preview, or those that a rule matched.
pub(super) fn choice(is_preview: bool) -> &'static str {
    if is_preview { "preview requests" } else { "matched requests" }
}

fn measured(observation: &Observation) -> BTreeMap<MetricName, [ArmCounts; 2]> {
    let mut sums: BTreeMap<MetricName, [ArmCounts; 2]> = BTreeMap::new();
    for one in &observation.measured {
        if let Reading::Counts(counts) = &one.reading {
            add(sums.entry(one.metric).or_default(), counts);
        }
    }
    sums
}

fn add(sum: &mut [ArmCounts; 2], counts: &[ArmCounts; 2]) {
    for (sum, counts) in sum.iter_mut().zip(counts) {
        sum.add(*counts);
    }
}
