//! Observed requests cut into the populations that rules look at.

use crate::traffic::{Arm, Assignment, Counts, Observation, by_arm};

/// Counts by population and arm.
///
/// - *compared*: assigned by weight while both arms got traffic; the only one that may be compared between the arms.
/// - *open*: compared, and what came by weight when only one arm could serve it; what absolute limits look at.
/// - *matched*: sent by a declared rule or through the preview address, never both at a time; another population, judged by absolute limits of
///   its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Slices {
    compared: [Counts; 2],
    forced: [Counts; 2],
    matched: [Counts; 2],
    is_preview: bool,
}

impl Slices {
    pub(super) fn of(observation: &Observation) -> Self {
        Self {
            compared: by_arm(|arm| observation.counts(arm, Assignment::is_compared)),
            forced: by_arm(|arm| observation.counts(arm, |assignment| assignment == Assignment::Forced)),
            matched: by_arm(|arm| observation.counts(arm, Assignment::is_by_choice)),
            is_preview: observation.cells.iter().any(|cell| cell.assignment == Assignment::Preview),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for arm in Arm::BOTH {
            let index = arm.index();
            self.compared[index].merge(&other.compared[index]);
            self.forced[index].merge(&other.forced[index]);
            self.matched[index].merge(&other.matched[index]);
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

    /// What the matched ones are called.
    pub(super) fn choice(&self) -> &'static str {
        choice(self.is_preview)
    }
}

/// What requests are called that somebody sent to the canary: those of the preview, or those that a rule matched.
pub(super) fn choice(is_preview: bool) -> &'static str {
    if is_preview { "preview requests" } else { "matched requests" }
}
