//! What the judge's assessment leads to.
//!
//! Judging goes on while the release is paused, waits for approval or bakes: a pause stops progress, never protection.

use super::{Cause, CauseKind, Event, Phase, Release};
use crate::{
    judge::{CriterionAssessment, Verdict},
    plan::OnBreach,
};

/// Remembers among what people were told that both arms break a limit. No criterion has an empty name.
const SHARED_TROUBLE: &str = "";

impl Release {
    pub(super) fn judge(&mut self) {
        match self.state.phase {
            Phase::Stage { .. } | Phase::Promoting | Phase::Baking { .. } => self.judge_canary(),
            _ => {}
        }
    }

    /// Failures of the canary's processes need no statistics.
    pub(super) fn judge_workload(&mut self) {
        if let Some(text) = self.workload.canary_failure.clone()
            && (self.has_canary_on_trial() || self.serves_alone_beside_warm_stable())
        {
            self.roll_back(Cause { kind: CauseKind::Workload, text });
        }
        if self.workload.canary_ready == Some(0) && self.serves_alone_beside_warm_stable() {
            let text = "no replica of the canary is ready, and it has all traffic".to_owned();
            self.roll_back(Cause { kind: CauseKind::Workload, text });
        }
        // Stable is back: the rollback that would have lost every request no longer does.
        if let Phase::NeedsOperator { cause, .. } = &self.state.phase
            && self.workload.stable_ready.is_some_and(|ready| ready > 0)
        {
            let cause = cause.clone();
            self.roll_back(cause);
        }
    }

    /// Somebody wrote down beforehand what this alert means: it needs no evidence. One that fires before there is a canary is none of its
    /// doing.
    pub(super) fn alert_fired(&mut self, name: String, text: String) {
        if self.has_canary_on_trial() {
            self.roll_back(Cause { kind: CauseKind::Alert { name }, text });
        }
    }

    /// Whether there is a canary of which it is not settled yet that it stays.
    fn has_canary_on_trial(&self) -> bool {
        matches!(
            self.state.phase,
            Phase::Deploying { .. } | Phase::Stage { .. } | Phase::Promoting | Phase::Baking { .. } | Phase::Retreated { .. }
        )
    }

    /// After a switch stable is there for nothing but the way back, as long as it is kept: a canary without a single replica is left at once, and
    /// not only once it is seen to come up and crash again and again.
    fn serves_alone_beside_warm_stable(&self) -> bool {
        let is_kept = matches!(self.state.phase, Phase::Promoting | Phase::Baking { .. } | Phase::Finishing | Phase::Retained { .. });
        is_kept && self.plan.is_switch() && self.workload.stable_ready.is_some_and(|ready| ready > 0)
    }

    fn judge_canary(&mut self) {
        if !self.state.canary_has_traffic() {
            return;
        }
        let assessment = self.trial.assessment();
        if let Some(broken) = assessment.first_with(Verdict::Fail, OnBreach::Rollback) {
            return self.roll_back(self.cause(&broken.clone()));
        }
        if let Some(shared) = assessment.first_with(Verdict::Environment, OnBreach::Rollback).cloned() {
            return self.shared_trouble(&shared);
        }
        self.told.remove(SHARED_TROUBLE);
        self.tell();
    }

    /// Both arms break a limit that rolls back: traffic leaves the canary, where stable can take it and the plan has a stage
    /// to come back to. Otherwise the release stands still and people are told, once.
    fn shared_trouble(&mut self, shared: &CriterionAssessment) {
        let what = match self.state.phase {
            Phase::Stage { .. } if !self.stable_is_gone() => return self.record(Event::Retreated { cause: self.cause(shared) }),
            Phase::Stage { .. } => "stable has no ready replica to take the traffic",
            _ => "the canary serves everything, so going back may not help",
        };
        if !self.told.insert(SHARED_TROUBLE.to_owned()) {
            return;
        }
        let text = format!("{}; {what}: resume or abort when it is dealt with", explain(shared));
        if self.state.paused.is_none() {
            self.record(Event::Paused { by: None, reason: text });
        } else {
            self.record(Event::Warned { text });
        }
    }

    fn cause(&self, broken: &CriterionAssessment) -> Cause {
        let name = broken.name.clone();
        let is_guard = self.trial.assessment().broken_guards.iter().any(|guard| guard.name == name);
        let kind = if is_guard { CauseKind::Guard { name } } else { CauseKind::Criterion { name } };
        Cause { kind, text: explain(broken) }
    }

    /// Criteria that pause or warn do so once, and again only after they recovered in between.
    fn tell(&mut self) {
        let criteria = self.trial.assessment().criteria.clone();
        for one in &criteria {
            let broken = matches!(one.verdict, Verdict::Fail | Verdict::Environment) && one.on_breach != OnBreach::Rollback;
            if !broken {
                if one.verdict == Verdict::Pass {
                    self.told.remove(&one.name);
                }
                continue;
            }
            if !self.told.insert(one.name.clone()) {
                continue;
            }
            let text = explain(one);
            match one.on_breach {
                OnBreach::Pause if self.state.paused.is_none() => self.record(Event::Paused { by: None, reason: text }),
                _ => self.record(Event::Warned { text }),
            }
        }
    }
}

fn explain(one: &CriterionAssessment) -> String {
    format!("{}: canary {}", one.name, one.text)
}
