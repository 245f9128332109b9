//! Both arms broke a limit and traffic left the canary: who caused it?
//!
//! If stable keeps the broken limit again soon after the canary lost its traffic, the canary harmed what both share, and it
//! is rolled back. If not, the cause lies elsewhere and the document's policy says what follows. Only what is seen counts:
//! too little data about stable is not a recovery. Coming back to the stage by itself is bounded; after
//! [`MOST_RETURNS`] times a person decides.

use super::{Cause, CauseKind, Event, Phase, Release};
use crate::{Timestamp, plan::RetreatEnd};

/// How long stable must be seen to keep its limits alone before the canary is blamed for what both showed.
const RECOVERY_PROOF_MS: u64 = 2_000;
/// A release goes back to its stage by itself this often.
const MOST_RETURNS: u32 = 3;

impl Release {
    pub(super) fn judge_retreat(&mut self) {
        let Phase::Retreated { since, step } = self.state.phase else { return };
        // A person's pause stops progress, not protection; a pause of the release's own is the end of this.
        let paused_by_person = self.state.paused.as_ref().map(|pause| pause.by.is_some());
        if !self.state.all_proven() || paused_by_person == Some(false) {
            return;
        }
        let policy = self.plan.analysis.retreat;
        let waited_ms = self.now().ms_since(since);
        let stable_keeps_limits = self.stable_keeps_limits();
        if waited_ms <= policy.recover_within_ms {
            if stable_keeps_limits == Some(true) && waited_ms >= RECOVERY_PROOF_MS.min(policy.recover_within_ms) {
                let text = format!(
                    "interference: stable kept its limits again {} after the canary had lost its traffic",
                    crate::human_duration(waited_ms)
                );
                self.roll_back(Cause { kind: CauseKind::Interference, text });
            }
            return;
        }
        let not_the_cause = match stable_keeps_limits {
            None => "too little traffic to see whether stable recovers without the canary",
            Some(_) => "stable did not recover in time without the canary, so the cause lies outside of the release",
        };
        match policy.otherwise {
            RetreatEnd::Rollback => {
                self.roll_back(Cause { kind: CauseKind::Policy, text: format!("{not_the_cause}; the document says to roll back") });
            }
            _ if paused_by_person.is_some() => {}
            RetreatEnd::Resume if stable_keeps_limits == Some(true) && self.state.retreats <= MOST_RETURNS => {
                self.record(Event::RetreatEnded { reason: "stable keeps its limits again".to_owned() });
                self.record(Event::StageEntered { step });
            }
            RetreatEnd::Resume if stable_keeps_limits != Some(true) && waited_ms <= self.return_within_ms(step) => {}
            RetreatEnd::Pause | RetreatEnd::Resume => {
                self.record(Event::Paused { by: None, reason: format!("{not_the_cause}; resume or abort when it is dealt with") });
            }
        }
    }

    /// When the next step of a retreat is due by time alone.
    pub(super) fn retreat_deadline(&self, step: usize, since: Timestamp) -> Option<Timestamp> {
        let recover_within_ms = self.plan.analysis.retreat.recover_within_ms;
        let moments = [RECOVERY_PROOF_MS, recover_within_ms.saturating_add(1), self.return_within_ms(step).saturating_add(1)];
        moments.into_iter().map(|ms| since.plus_ms(ms)).filter(|moment| *moment > self.now()).min()
    }

    /// How long stable may take to keep its limits again for a return to the stage.
    fn return_within_ms(&self, step: usize) -> u64 {
        let patience_ms = self.plan.steps.get(step).map_or(0, |step| step.max_hold_ms);
        patience_ms.max(self.plan.analysis.retreat.recover_within_ms)
    }

    fn stable_keeps_limits(&self) -> Option<bool> {
        let broken = self.state.retreat.as_ref().and_then(|cause| match &cause.kind {
            CauseKind::Criterion { name } | CauseKind::Guard { name } => Some(name.as_str()),
            _ => None,
        });
        self.trial.stable_keeps_limits(broken, self.now())
    }
}
