//! Why nothing happens right now, and when something will.

use serde::{Deserialize, Serialize};

use super::{
    Effect, Phase, Release, StageStep, State,
    advance::{Progress, place},
};
use crate::{
    Timestamp, human_duration,
    plan::{Plan, Step},
};

/// What a release waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// When the release must be given a [`Tick`](super::Input::Tick) at the latest; `None`: only an input can change anything.
    pub until: Option<Timestamp>,
    /// The reason, as people read it.
    pub why: String,
    /// Whether a person has to do something.
    pub operator: bool,
}

impl Wait {
    /// What a release of the past waited for in this state, at the time of its last entry. What the judge had counted and how often
    /// effects were tried is not in the journal, so a stage says only how long it had been held.
    #[must_use]
    pub fn replayed(plan: &Plan, state: &State) -> Self {
        let release = Release::with_state(plan.clone(), state.clone(), state.epoch, state.at);
        let observed = match state.phase {
            Phase::Stage { step, at: StageStep::Observing { extended_ms, .. } } => {
                plan.steps.get(step).map(|step| (step.clone(), extended_ms))
            }
            Phase::Baking { extended_ms, .. } => Some((plan.bake(), extended_ms)),
            _ => None,
        };
        match observed {
            Some((step, extended_ms)) if state.paused.is_none() && state.all_proven() => {
                let held_ms = state.held_ms(state.at);
                let most_ms = step.max_hold_ms.saturating_add(extended_ms);
                let why = format!(
                    "the judge at {}: {} of {} held, at most {}",
                    place(&step),
                    human_duration(held_ms),
                    human_duration(step.hold_ms),
                    human_duration(most_ms)
                );
                Self { until: Some(state.at.plus_ms(most_ms.saturating_sub(held_ms))), why, operator: false }
            }
            _ => release.next_deadline(),
        }
    }
}

impl Release {
    /// When the next transition by time alone is due, and why the release waits.
    #[must_use]
    pub fn next_deadline(&self) -> Wait {
        let mut wait = self.phase_wait();
        let over = self.state.is_final() || matches!(self.state.phase, Phase::NeedsOperator { .. });
        if let Some(pause) = self.state.paused.as_ref().filter(|_| !over) {
            // The start of the canary goes on, and so does its deadline.
            let deploying = matches!(self.state.phase, Phase::Deploying { .. }) && !self.state.ready;
            let why = match self.state.phase {
                Phase::Retreated { .. } => format!("paused without traffic to the canary: {}", pause.reason),
                _ => format!("paused: {}", pause.reason),
            };
            wait = Wait { until: wait.until.filter(|_| deploying), why, operator: true };
        }
        if let Some(trouble) = self.trouble() {
            wait.why = format!("{}; {trouble}", wait.why);
        }
        wait.until = [wait.until, self.next_retry()].into_iter().flatten().min();
        wait
    }

    fn phase_wait(&self) -> Wait {
        let now = self.now();
        let wait = |until: Option<Timestamp>, why: String| Wait { until, why, operator: false };
        match &self.state.phase {
            Phase::Pending | Phase::Preflight => wait(None, "preflight checks".to_owned()),
            Phase::Deploying { since } => {
                let until = since.plus_ms(self.plan.deploy_timeout_ms.saturating_add(1));
                let left = human_duration(until.ms_since(now));
                match self.trial.stable_trouble().filter(|_| self.state.ready) {
                    Some(trouble) => {
                        wait(Some(until), format!("stable to keep its limits before the canary gets traffic, {left} left: {trouble}"))
                    }
                    None => wait(Some(until), format!("the canary to become ready, {left} left")),
                }
            }
            Phase::Stage { step, at } => self.stage_wait(*step, at),
            Phase::Promoting => wait(None, "the router to give the canary all traffic".to_owned()),
            Phase::Baking { .. } if !self.state.all_proven() => wait(None, self.router_wait("the router to give the canary all traffic")),
            Phase::Baking { extended_ms, .. } => self.hold_wait("baking", &self.plan.bake(), *extended_ms),
            Phase::Finishing => wait(None, "the canary to become the version that is kept".to_owned()),
            Phase::Retained { .. } | Phase::Retiring if !self.state.all_proven() => {
                wait(None, self.router_wait("the router to give the canary all traffic"))
            }
            Phase::Retained { since } => {
                let until = since.plus_ms(self.plan.retain_ms);
                wait(Some(until), format!("the old version is kept for a rollback, {} left", human_duration(until.ms_since(now))))
            }
            Phase::Retiring => wait(None, "the old version to stop".to_owned()),
            Phase::Retreated { .. } if !self.state.all_proven() => wait(None, self.router_wait("all traffic to be back on stable")),
            Phase::Retreated { since, step } => {
                let ends = since.plus_ms(self.plan.analysis.retreat.recover_within_ms);
                let why = match ends.ms_since(now) {
                    0 => "both versions broke a limit; waiting for stable to keep its limits again".to_owned(),
                    left_ms => {
                        format!("both versions broke a limit; watching stable without the canary, {} left", human_duration(left_ms))
                    }
                };
                wait(self.retreat_deadline(*step, *since), why)
            }
            Phase::RollingBack { traffic_back: false } => wait(None, self.router_wait("all traffic to be back on stable")),
            Phase::RollingBack { traffic_back: true } => wait(None, "the canary to drain and stop".to_owned()),
            Phase::NeedsOperator { cause, .. } => Wait {
                until: None,
                why: format!(
                    "{}; but stable has no ready replica, so a rollback would lose every request: repair stable, or `abort` all the same",
                    cause.text
                ),
                operator: true,
            },
            Phase::Refused | Phase::Succeeded | Phase::RolledBack => wait(None, "nothing, the release is over".to_owned()),
        }
    }

    fn stage_wait(&self, index: usize, at: &StageStep) -> Wait {
        let Some(step) = self.plan.steps.get(index) else {
            return Wait { until: None, why: "a stage that the plan does not have".to_owned(), operator: true };
        };
        let weight = step.weight();
        let asked = if step.is_preview() { "the router to open the preview".to_owned() } else { format!("the router to take {weight}") };
        match at {
            StageStep::Shifting => Wait { until: None, why: self.router_wait(&asked), operator: false },
            StageStep::AwaitingApproval { .. } => {
                let next = match self.plan.steps.get(index + 1) {
                    _ if !step.is_preview() => format!("leave {weight}"),
                    None => "switch all traffic to the canary".to_owned(),
                    Some(next) => format!("leave the preview for {}", next.title()),
                };
                Wait { until: None, why: format!("approval to {next}: `approve` or `reject`"), operator: true }
            }
            StageStep::Observing { .. } if !self.state.all_proven() => {
                Wait { until: None, why: self.router_wait(&format!("{asked} again")), operator: false }
            }
            StageStep::Observing { extended_ms, .. } if step.is_preview() => self.hold_wait("previewing", step, *extended_ms),
            StageStep::Observing { extended_ms, .. } => self.hold_wait("holding", step, *extended_ms),
        }
    }

    /// A stage or bake that is being measured.
    fn hold_wait(&self, doing: &str, step: &Step, extended_ms: u64) -> Wait {
        let now = self.now();
        let place = if step.is_preview() { String::new() } else { format!(" at {}", step.weight()) };
        let held_ms = self.state.held_ms(now);
        let planned_ms = if step.early && matches!(self.progress(step), Progress::Passed(_)) { step.min_hold_ms } else { step.hold_ms };
        let patience_ms = step.max_hold_ms.saturating_add(extended_ms);
        let (end_ms, left) = if held_ms < planned_ms {
            (planned_ms, format!("{} left", human_duration(planned_ms - held_ms)))
        } else {
            (patience_ms, format!("at most {} more", human_duration(patience_ms.saturating_sub(held_ms))))
        };
        let missing = match self.progress(step) {
            Progress::Passed(_) if step.is_preview() => "all checks pass".to_owned(),
            Progress::Passed(_) => "all criteria pass".to_owned(),
            Progress::Missing { what, .. } => what,
        };
        Wait {
            until: Some(now.plus_ms(end_ms.saturating_sub(held_ms))),
            why: format!("{doing}{place}: {missing}, {left}"),
            operator: false,
        }
    }

    fn router_wait(&self, what: &str) -> String {
        let reading = self.is_outstanding(|effect| matches!(effect, Effect::ReadBack { .. }));
        if reading { format!("{what} (reading back)") } else { what.to_owned() }
    }
}

impl Phase {
    /// Whether the canary may have traffic that needs a judge: without one it gets none. After the bake judging is over, and before a stage
    /// there is none.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        matches!(self, Self::Stage { .. } | Self::Promoting | Self::Baking { .. })
    }

    /// One or two words for the phase.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Preflight => "preflight",
            Self::Refused => "refused",
            Self::Deploying { .. } => "deploying",
            Self::Stage { at: StageStep::AwaitingApproval { .. }, .. } => "awaiting approval",
            Self::Stage { .. } => "in a stage",
            Self::Promoting => "promoting",
            Self::Baking { .. } => "baking",
            Self::Finishing => "finishing",
            Self::Retained { .. } => "retained",
            Self::Retiring => "retiring",
            Self::Succeeded => "succeeded",
            Self::Retreated { .. } => "retreated",
            Self::RollingBack { .. } => "rolling back",
            Self::RolledBack => "rolled back",
            Self::NeedsOperator { .. } => "needs an operator",
        }
    }
}
