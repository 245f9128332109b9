//! Whether an entry has a right to be where it is: the way (no stage, promotion or bake that was not earned), the share, the
//! proof, the time, and what only people may do.

use serin_core::{
    Timestamp, WeightBps,
    plan::{Gate, OnInconclusive, OnNoData, Plan},
    release::{Action, CauseKind, Effect, Entry, Event},
};

use super::{
    Broken, Told,
    evidence::Evidence,
    hold,
    journal::{Bake, Memory, Part},
};

impl Memory {
    /// Checks an entry against everything before it.
    pub(super) fn check(&self, entry: &Entry, plan: &Plan, told: &Told, evidence: &Evidence) -> Result<(), Broken> {
        let by_person = |wanted: fn(&Action) -> bool| matches!(told, Told::Command(action) if wanted(action));
        match &entry.event {
            Event::Requested { effect } => self.check_request(effect, plan),
            Event::TakenOver { unobserved_ms } => {
                let gap_ms = self.gap_ms.unwrap_or(0);
                hold!(*unobserved_ms >= gap_ms, "stage time", "{gap_ms} ms without an owner, {unobserved_ms} taken out");
                Ok(())
            }
            Event::WeightProven { target, weight } => self.check_proof(target, *weight, told),
            Event::StageEntered { step } => {
                let earned = match self.part {
                    Part::Before => *step == 0 && self.ready,
                    Part::Stage(last) => *step == last + 1 && self.may_leave(plan, last),
                    Part::Away(left) => *step == left && self.may_return,
                    Part::Everything => false,
                };
                let stands = self.paused.is_some() || self.rolled_back || self.needs_operator;
                hold!(earned && !stands, "way", "stage {step} was entered without a right to it: {self:?}");
                Ok(())
            }
            Event::StagePassed { step, .. } => {
                self.check_leaving(*step, entry.at, plan)?;
                evidence.suffices(plan, *step, self.counts_from(), self.was_taken_over, entry.at)
            }
            Event::StageWaived { step, .. } => {
                self.check_leaving(*step, entry.at, plan)?;
                let analysis = &plan.analysis;
                let no_data = analysis.on_no_data == OnNoData::Continue;
                let undecided = analysis.on_inconclusive == OnInconclusive::Advance;
                hold!(no_data || undecided, "evidence", "stage {step} was waived, and no policy says so");
                hold!(
                    no_data || plan.steps[*step].min_requests == 0 || evidence.seen_in(plan, *step, self.counts_from()) > 0,
                    "evidence",
                    "stage {step} was waived without any data, and the policy for that does not say so"
                );
                Ok(())
            }
            Event::ApprovalAwaited { step } => {
                hold!(self.part == Part::Stage(*step) && self.cleared, "way", "approval of {step}, which has not passed");
                Ok(())
            }
            Event::Approved { .. } => {
                hold!(by_person(|action| *action == Action::Approve), "people", "approved while {told:?}");
                hold!(self.waiting && self.paused.is_none(), "way", "approved what did not wait for it: {self:?}");
                Ok(())
            }
            Event::Paused { by: Some(_), .. } => {
                hold!(by_person(|action| matches!(action, Action::Pause | Action::Weight(_))), "people", "paused while {told:?}");
                Ok(())
            }
            Event::Resumed { .. } => {
                hold!(by_person(|action| *action == Action::Resume), "people", "resumed while {told:?}");
                Ok(())
            }
            Event::Overridden { weight, .. } => {
                hold!(*told == Told::Command(Action::Weight(*weight)), "people", "set to {weight} while {told:?}");
                hold!(!self.rolled_back && matches!(self.part, Part::Stage(_)), "share", "a weight by hand outside of a stage: {self:?}");
                Ok(())
            }
            Event::PromotedByPerson { .. } => {
                hold!(by_person(|action| *action == Action::Promote), "people", "promoted while {told:?}");
                Ok(())
            }
            Event::PromotionStarted => {
                let last = plan.steps.len() - 1;
                let earned = self.skipped || (self.part == Part::Stage(last) && self.may_leave(plan, last));
                let stands = self.paused.is_some() || self.rolled_back || self.needs_operator;
                hold!(earned && !stands, "way", "promoted without a right to it: {self:?}");
                Ok(())
            }
            Event::BakeStarted => {
                hold!(self.part == Part::Everything && !self.rolled_back && self.bake.is_none(), "way", "a bake out of turn: {self:?}");
                for target in &plan.targets {
                    let full = self.asked.get(target) == Some(&(WeightBps::FULL, false, false)) && self.proven.contains(target);
                    hold!(full, "proof", "{target} was not read back at 100 % before the bake");
                }
                Ok(())
            }
            Event::SwitchSeen { requests } => {
                let running = matches!(self.bake, Some(Bake::Running | Bake::Waived)) && plan.is_switch();
                hold!(running && *requests > 0, "evidence", "a switch seen by {requests} requests: {self:?}");
                let seen = evidence.seen_in(plan, plan.steps.len(), self.counts_from());
                hold!(seen > 0 || self.was_taken_over, "evidence", "a switch seen, and nothing was delivered");
                Ok(())
            }
            Event::BakePassed => self.check_bake(plan, entry.at, evidence),
            Event::RetainEnded { by } => {
                let Some(Bake::Retained(since)) = self.bake else {
                    return Err(Broken { rule: "way", detail: "the old version was given up out of turn".to_owned() });
                };
                let kept_ms = entry.at.ms_since(since);
                hold!(!self.rolled_back && self.paused.is_none(), "way", "given up while the release stands: {self:?}");
                let asked = by_person(|action| *action == Action::Retire);
                hold!(by.is_some() == asked, "people", "the old version was given up by {by:?} while {told:?}");
                hold!(asked || kept_ms >= plan.retain_ms, "stage time", "the old version was kept {kept_ms} of {} ms", plan.retain_ms);
                Ok(())
            }
            Event::Retreated { .. } => {
                hold!(matches!(self.part, Part::Stage(_)) && !self.rolled_back, "way", "a retreat out of turn: {self:?}");
                Ok(())
            }
            Event::RollbackDecided { cause } => {
                hold!(!self.rolled_back && !self.retiring, "way", "rolled back twice, or too late: {self:?}");
                let loses_all = self.stable_is_gone && !self.canary_is_out();
                hold!(!loses_all || cause.kind.is_person(), "operator", "taken back to a stable that is gone: {cause:?}");
                if cause.kind.is_person() {
                    hold!(by_person(|action| matches!(action, Action::Abort | Action::Reject)), "people", "taken back while {told:?}");
                }
                if cause.kind == CauseKind::Latched {
                    hold!(self.gap_ms.is_some(), "latch", "the latch decides at a restart only");
                }
                Ok(())
            }
            Event::TrafficReturned => {
                hold!(self.rolled_back && self.canary_is_out(), "proof", "traffic is not back: {self:?}");
                for target in self.asked.keys() {
                    hold!(self.proven.contains(target), "proof", "{target} was not read back without traffic");
                }
                Ok(())
            }
            Event::Succeeded => {
                hold!(self.retiring && !self.rolled_back, "way", "succeeded out of turn: {self:?}");
                Ok(())
            }
            Event::RolledBack => {
                hold!(self.rolled_back, "way", "rolled back without a decision: {self:?}");
                hold!(self.stops == u32::from(self.deployed), "workload", "the canary was stopped {} times", self.stops);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn check_request(&self, effect: &Effect, plan: &Plan) -> Result<(), Broken> {
        let twice = self.outstanding.iter().any(|id| self.requested.get(id) == Some(effect));
        hold!(!twice, "effects", "{effect:?} was asked for under a second id");
        match effect {
            Effect::Shift { target, weight, matches, preview } => {
                let most = self.most(target, plan);
                // A share that was asked for already may be asked for again while nobody may decide.
                let again = self.needs_operator && self.asked.get(target) == Some(&(*weight, *matches, *preview)) && !self.rolled_back;
                hold!(*weight <= most || again, "share", "{target} was asked for {weight}, at most {most} is allowed: {self:?}");
                hold!(!preview || self.may_preview(plan) || again, "share", "a preview outside of one: {self:?}");
                hold!(!(*preview && (*matches || !weight.is_zero())), "share", "a preview beside {weight} (matches {matches})");
                hold!(!matches || self.may_match() || again, "share", "matches outside of a stage: {self:?}");
            }
            Effect::StopCanary => hold!(self.rolled_back && self.canary_is_out(), "workload", "the canary stops with traffic: {self:?}"),
            Effect::Retire => {
                hold!(self.retiring && !self.rolled_back, "workload", "the old version stops out of turn: {self:?}");
                let needless = self.asked.iter().all(|(target, asked)| asked.0 == WeightBps::FULL && self.proven.contains(target));
                hold!(needless, "workload", "the old version stops, and not every router was read back without it: {self:?}");
            }
            Effect::Finalize => hold!(self.bake == Some(Bake::Passed), "way", "finalized without a bake: {self:?}"),
            Effect::Deploy => hold!(self.part == Part::Before && !self.rolled_back, "workload", "deployed out of turn: {self:?}"),
            Effect::Preflight | Effect::ReadBack { .. } => {}
        }
        Ok(())
    }

    /// A proof is the answer to a question that was asked after the last change, and says just what was asked for.
    fn check_proof(&self, target: &str, weight: WeightBps, told: &Told) -> Result<(), Broken> {
        let asked = self.asked.get(target).map(|asked| asked.0);
        hold!(asked == Some(weight), "proof", "{target} is proven at {weight}, asked for {asked:?}");
        let Told::ReadBack(id, read) = told else {
            return Err(Broken {
                rule: "proof",
                detail: format!("{target} is proven at {weight} without having been read back ({told:?})"),
            });
        };
        hold!(*read == weight, "proof", "{target} is proven at {weight} and was read back at {read}");
        let question = self.requested.get(id) == Some(&Effect::ReadBack { target: target.to_owned() });
        hold!(question, "proof", "{target} is proven by an answer to {:?}", self.requested.get(id));
        let changed = self.shifted.get(target).copied().unwrap_or(0);
        hold!(id.0 > changed, "proof", "{target} is proven by {id:?}, asked before the change {changed}");
        Ok(())
    }

    fn check_leaving(&self, step: usize, at: Timestamp, plan: &Plan) -> Result<(), Broken> {
        hold!(self.part == Part::Stage(step) && !self.rolled_back, "way", "stage {step} ended out of turn: {self:?}");
        let stands = self.paused.is_some() || self.overridden.is_some() || self.needs_operator || self.cleared;
        hold!(!stands, "way", "stage {step} ended while it stands: {self:?}");
        let planned = &plan.steps[step];
        for (target, asked) in &self.asked {
            hold!(self.proven.contains(target), "proof", "stage {step} ended with {target} unproven");
            hold!(planned.weights.get(target) == Some(&asked.0), "share", "stage {step} ended with {target} at {asked:?}");
        }
        let least_ms = if planned.early { planned.min_hold_ms } else { planned.hold_ms };
        let counted_ms = self.time.counted_ms(at);
        hold!(self.time.since.is_some(), "stage time", "stage {step} ended before its weight was proven");
        hold!(counted_ms >= least_ms, "stage time", "stage {step} ended after {counted_ms} of {least_ms} ms");
        Ok(())
    }

    fn check_bake(&self, plan: &Plan, at: Timestamp, evidence: &Evidence) -> Result<(), Broken> {
        let running = matches!(self.bake, Some(Bake::Running | Bake::Waived));
        hold!(running && self.paused.is_none() && !self.rolled_back, "way", "a bake passed out of turn: {self:?}");
        let counted_ms = self.time.counted_ms(at);
        hold!(counted_ms >= plan.bake_ms, "stage time", "a bake passed after {counted_ms} of {} ms", plan.bake_ms);
        for (target, asked) in &self.asked {
            hold!(asked.0 == WeightBps::FULL && self.proven.contains(target), "proof", "a bake passed with {target} at {asked:?}");
        }
        let analysis = &plan.analysis;
        let waivable = analysis.on_no_data == OnNoData::Continue || analysis.on_inconclusive == OnInconclusive::Advance;
        if plan.bake_ms > 0 && !(self.bake == Some(Bake::Waived) && waivable) {
            evidence.suffices(plan, plan.steps.len(), self.counts_from(), self.was_taken_over, at)?;
        }
        Ok(())
    }

    /// What is delivered from then on may count. A checkpoint belongs to a stage and a weight, not to a proof: after a crash
    /// what was counted there before may count again.
    fn counts_from(&self) -> Option<Timestamp> {
        if self.was_taken_over { self.entered_at } else { self.time.since }
    }

    fn may_leave(&self, plan: &Plan, step: usize) -> bool {
        self.cleared && (self.approved || plan.steps[step].gate == Gate::Auto)
    }
}
