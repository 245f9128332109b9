//! What a stage has seen so far: how many requests, and in which proportion.

use serde::{Deserialize, Serialize};

use super::slices::Slices;
use crate::{
    WeightBps,
    plan::MetricName,
    traffic::{Arm, Assignment, Observation, Outcome, Reading},
};

/// Requests of a stage since its weight was proven.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Compared requests by [`Arm::index`].
    pub compared: [u64; 2],
    /// Requests by weight, compared or forced, by [`Arm::index`].
    pub open: [u64; 2],
    /// Errors among the open requests by [`Arm::index`].
    pub errors: [u64; 2],
    /// Requests that a declared rule or the preview address sent to the canary.
    pub matched: u64,
    /// Requests that were assigned while everything went to the canary, by [`Arm::index`]: what a switch is checked with.
    #[serde(default)]
    pub at_full: [u64; 2],
    /// Compared requests that were assigned at the stage's own weight, by [`Arm::index`]: what the split is checked with.
    pub at_weight: [u64; 2],
    /// Compared requests whose client went away before the answer was complete, by [`Arm::index`].
    pub abandoned: [u64; 2],
    /// What another source counted of the canary; it matters where nobody here counts requests. Of several metrics only the first that counted
    /// something: they may count the same requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<(MetricName, u64)>,
}

/// Whether the data plane really splits as it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum SplitCheck {
    /// Fewer than 100 requests: nothing can be said.
    TooFew,
    /// The measured share agrees with the weight.
    Agrees {
        /// The canary's measured share, 0 to 1.
        share: f64,
    },
    /// The measured share is more than five standard deviations and half a percentage point away.
    Differs {
        /// The canary's measured share, 0 to 1.
        share: f64,
    },
}

impl Tally {
    pub(super) fn add(&mut self, observation: &Observation, slices: &Slices, weight: WeightBps) {
        for arm in Arm::BOTH {
            let open = slices.open(arm);
            add(&mut self.compared[arm.index()], slices.compared(arm).requests());
            add(&mut self.open[arm.index()], open.requests());
            add(&mut self.errors[arm.index()], open.errors());
            add(&mut self.abandoned[arm.index()], slices.compared(arm).of(Outcome::ClientAborted));
        }
        add(&mut self.matched, slices.matched(Arm::Canary).requests());
        for measured in &observation.measured {
            let Reading::Counts(counts) = &measured.reading else { continue };
            let more = counts[Arm::Canary.index()].requests;
            match &mut self.elsewhere {
                Some((metric, sum)) if *metric == measured.metric => add(sum, more),
                None if more > 0 => self.elsewhere = Some((measured.metric, more)),
                _ => {}
            }
        }
        for cell in observation.cells.iter().filter(|cell| cell.weight == weight && cell.assignment.is_compared()) {
            // Client aborts were assigned like any other request, so they count for the split.
            add(&mut self.at_weight[cell.arm.index()], cell.counts.all());
        }
        let by_weight = |assignment: Assignment| assignment.is_compared() || assignment == Assignment::Forced;
        for cell in observation.cells.iter().filter(|cell| cell.weight == WeightBps::FULL && by_weight(cell.assignment)) {
            add(&mut self.at_full[cell.arm.index()], cell.counts.all());
        }
    }

    /// The canary's requests that were counted here and matter at that weight.
    pub(super) fn canary_requests(&self, weight: WeightBps) -> u64 {
        match weight {
            WeightBps::ZERO => self.matched,
            WeightBps::FULL => self.open[Arm::Canary.index()],
            _ => self.compared[Arm::Canary.index()],
        }
    }

    /// The canary's share of the compared traffic of this stage, 0 to 1; `None` without traffic.
    #[must_use]
    pub fn measured_share(&self) -> Option<f64> {
        let total = self.at_weight[0].saturating_add(self.at_weight[1]);
        (total > 0).then(|| self.at_weight[Arm::Canary.index()] as f64 / total as f64)
    }

    /// The shares of compared requests that clients gave up on, canary's first, if they do so on the canary clearly more
    /// often (two proportions, five standard deviations and a percentage point). A canary that hangs drives its clients
    /// away before anything else shows, and their requests are neither good nor bad.
    #[must_use]
    pub fn driven_away(&self) -> Option<(f64, f64)> {
        let all = |arm: Arm| self.compared[arm.index()].saturating_add(self.abandoned[arm.index()]) as f64;
        let share = |arm: Arm| self.abandoned[arm.index()] as f64 / all(arm).max(1.0);
        let (canary, stable) = (share(Arm::Canary), share(Arm::Stable));
        let pooled = (self.abandoned[0] as f64 + self.abandoned[1] as f64) / (all(Arm::Stable) + all(Arm::Canary)).max(1.0);
        let deviation = (pooled * (1.0 - pooled) * (1.0 / all(Arm::Stable).max(1.0) + 1.0 / all(Arm::Canary).max(1.0))).sqrt();
        (canary - stable > 5.0 * deviation + 0.01).then_some((canary, stable))
    }

    /// Compares the measured share with the weight (binomial, five standard deviations: once in three million looks).
    #[must_use]
    pub fn split(&self, weight: WeightBps) -> SplitCheck {
        // Where everything goes to one version nothing is compared.
        let counted = if weight == WeightBps::FULL { self.at_full } else { self.at_weight };
        let total = counted[0].saturating_add(counted[1]);
        if total < 100 {
            return SplitCheck::TooFew;
        }
        let share = counted[Arm::Canary.index()] as f64 / total as f64;
        let asked = weight.share();
        let deviation = (asked * (1.0 - asked) / total as f64).sqrt();
        if (share - asked).abs() > 5.0 * deviation + 0.005 { SplitCheck::Differs { share } } else { SplitCheck::Agrees { share } }
    }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}
