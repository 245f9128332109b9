//! What people ask for. Every accepted command is journaled with who asked and why.

use serde::{Deserialize, Serialize};

use super::{Cause, CauseKind, Event, Phase, Release, StageStep};
use crate::{Timestamp, WeightBps};

/// A command with its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What is asked for.
    pub action: Action,
    /// Who asks.
    pub by: String,
    /// Why, if said.
    pub reason: Option<String>,
}

/// What people can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Stand still at the current weight; judging goes on.
    Pause,
    /// Go on after a pause, at the plan's weight.
    Resume,
    /// Let a stage that waits for approval go on.
    Approve,
    /// Refuse approval: roll back.
    Reject,
    /// Set the canary's share by hand and pause there.
    Weight(WeightBps),
    /// Skip the remaining stages and give the canary everything; the bake still follows.
    Promote,
    /// Take all traffic back and end the release.
    Abort,
    /// Stop the old version of a release that succeeded before its time is over.
    Retire,
}

/// Why a command was not carried out. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Release {
    /// Carries out a command, or says why not.
    ///
    /// # Errors
    /// A [`Refusal`] that names the state which forbids it and what can be done instead.
    pub fn command(&mut self, command: Command, now: Timestamp) -> Result<(), Refusal> {
        self.see_time(now);
        let done = self.obey(command);
        // Whatever the answer, the time has moved on.
        self.advance();
        done
    }

    fn obey(&mut self, command: Command) -> Result<(), Refusal> {
        let Command { action, by, reason } = command;
        if self.state.is_final() {
            return Err(Refusal(format!("the release is over ({})", self.state.phase.name())));
        }
        let rolling_back = matches!(self.state.phase, Phase::RollingBack { .. });
        match action {
            Action::Abort if rolling_back => {}
            Action::Abort if matches!(self.state.phase, Phase::Retiring) => {
                return Err(Refusal(
                    "the old version is being stopped, there is nothing to go back to; release the version you want instead".to_owned(),
                ));
            }
            Action::Abort => self.abort(by, reason, "aborted"),
            _ if rolling_back => return Err(Refusal("the release is rolling back; this cannot be stopped".to_owned())),
            _ if matches!(self.state.phase, Phase::NeedsOperator { .. }) => {
                return Err(Refusal(
                    "the release needs an operator's decision: `abort` takes the traffic back whatever stable's state".to_owned(),
                ));
            }
            Action::Pause => self.pause(by, reason)?,
            Action::Resume => self.resume_by(by, reason)?,
            Action::Approve => self.approve(by, reason)?,
            Action::Reject => self.reject(by, reason)?,
            Action::Weight(weight) => self.set_weight(weight, by, reason)?,
            Action::Promote => self.promote(by, reason)?,
            Action::Retire => self.retire(by)?,
        }
        Ok(())
    }

    fn abort(&mut self, by: String, reason: Option<String>, verb: &str) {
        let why = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let text = format!("{verb} by {by}{why}");
        self.roll_back(Cause { kind: CauseKind::Person { by }, text });
    }

    fn pause(&mut self, by: String, reason: Option<String>) -> Result<(), Refusal> {
        if let Some(pause) = &self.state.paused {
            return Err(Refusal(format!("already paused: {}", pause.reason)));
        }
        let reason = reason.unwrap_or_else(|| format!("paused by {by}"));
        self.record(Event::Paused { by: Some(by), reason });
        Ok(())
    }

    fn resume_by(&mut self, by: String, reason: Option<String>) -> Result<(), Refusal> {
        if self.state.paused.is_none() {
            let hint = match self.state.phase {
                Phase::Stage { at: StageStep::AwaitingApproval { .. }, .. } => "; it waits for `approve`",
                _ => "",
            };
            return Err(Refusal(format!("the release is not paused{hint}")));
        }
        let was_decided = self.state.paused.as_ref().is_some_and(|pause| pause.by.is_none());
        self.record(Event::Resumed { by, reason });
        if was_decided {
            // What made the release pause is known now; should it come again, people are told again.
            for name in self.trial.acknowledge() {
                self.told.remove(&name);
            }
        }
        // A retreat that was only paused by a person is not over yet: stable is watched on.
        if let Phase::Retreated { step, .. } = self.state.phase
            && was_decided
        {
            self.record(Event::RetreatEnded { reason: "resumed".to_owned() });
            self.record(Event::StageEntered { step });
        }
        Ok(())
    }

    fn approve(&mut self, by: String, reason: Option<String>) -> Result<(), Refusal> {
        let Phase::Stage { step, at: StageStep::AwaitingApproval { .. } } = self.state.phase else {
            return Err(Refusal("nothing waits for approval".to_owned()));
        };
        if self.state.paused.is_some() {
            return Err(Refusal("the release is paused: `resume` first, then `approve`".to_owned()));
        }
        self.record(Event::Approved { by, reason });
        self.leave_stage(step);
        Ok(())
    }

    fn reject(&mut self, by: String, reason: Option<String>) -> Result<(), Refusal> {
        let Phase::Stage { at: StageStep::AwaitingApproval { .. }, .. } = self.state.phase else {
            return Err(Refusal("nothing waits for approval; `abort` ends the release at any time".to_owned()));
        };
        self.abort(by, reason, "rejected");
        Ok(())
    }

    fn set_weight(&mut self, weight: WeightBps, by: String, reason: Option<String>) -> Result<(), Refusal> {
        if !matches!(self.state.phase, Phase::Stage { .. }) {
            return Err(Refusal(format!("the weight can be set during a stage only; the release is {}", self.state.phase.name())));
        }
        let text = reason.clone().unwrap_or_else(|| format!("weight set to {weight} by {by}; `resume` goes back to the plan"));
        self.record(Event::Overridden { weight, by: by.clone(), reason });
        if self.state.paused.is_none() {
            self.record(Event::Paused { by: Some(by), reason: text });
        }
        Ok(())
    }

    fn retire(&mut self, by: String) -> Result<(), Refusal> {
        if !matches!(self.state.phase, Phase::Retained { .. }) {
            return Err(Refusal(format!("no old version is kept; the release is {}", self.state.phase.name())));
        }
        if self.state.paused.is_some() {
            return Err(Refusal("the release is paused: `resume` first".to_owned()));
        }
        if !self.state.all_proven() {
            return Err(Refusal("a router gives the old version traffic, or could not be read back yet; try again".to_owned()));
        }
        self.record(Event::RetainEnded { by: Some(by) });
        Ok(())
    }

    fn promote(&mut self, by: String, reason: Option<String>) -> Result<(), Refusal> {
        if !matches!(self.state.phase, Phase::Stage { .. }) {
            return Err(Refusal(format!("only a release in a stage can be promoted; this one is {}", self.state.phase.name())));
        }
        self.record(Event::PromotedByPerson { by, reason });
        self.record(Event::PromotionStarted);
        Ok(())
    }
}
