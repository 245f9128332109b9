//! What happens by itself: from phase to phase, as soon as nothing stands against it.

use super::{Cause, CauseKind, Effect, Event, Phase, Release, StageStep, WITHOUT_VERDICT};
use crate::{
    WeightBps, format_count,
    judge::{SplitCheck, Verdict},
    plan::{Gate, OnInconclusive, OnNoData, Step},
    traffic::Arm,
};

/// No input leads through more transitions than this; a longer chain would be a loop.
const MOST_TRANSITIONS: usize = 64;

/// How far a stage is from passing.
pub(super) enum Progress {
    /// Everything was seen.
    Passed(String),
    /// Something is missing; what, in words. `no_data`: nothing usable was seen at all.
    Missing { what: String, no_data: bool },
}

impl Release {
    pub(super) fn advance(&mut self) {
        for _ in 0..MOST_TRANSITIONS {
            let before = self.state.seq;
            self.align_routers();
            self.advance_once();
            if self.state.seq == before {
                return;
            }
        }
    }

    /// Leaves a passed or approved stage for the next one, or for promotion.
    pub(super) fn leave_stage(&mut self, step: usize) {
        if step + 1 < self.plan.steps.len() {
            self.record(Event::StageEntered { step: step + 1 });
        } else {
            self.record(Event::PromotionStarted);
        }
    }

    /// After a switch there is nothing but the past to compare with.
    fn warn_if_blind(&mut self) {
        let blind = self.trial.blind();
        if self.plan.is_switch() && !blind.is_empty() {
            let names = blind.join(", ");
            let text = format!(
                "stable was seen too little before the switch to hold the canary against it: {names}; give what shall protect the bake a `max`"
            );
            self.record(Event::Warned { text });
        }
    }

    /// Whether traffic shows for the first time that everything goes to the canary.
    fn confirms_switch(&self) -> bool {
        let tally = self.trial.tally();
        let agrees = !matches!(tally.split(WeightBps::FULL), SplitCheck::Differs { .. });
        self.plan.is_switch() && !self.state.switch_seen && self.state.all_proven() && tally.at_full[Arm::Canary.index()] > 0 && agrees
    }

    /// How far the stage is from passing, whatever the time.
    pub(super) fn progress(&self, step: &Step) -> Progress {
        let weight = step.weight();
        let (tally, assessment) = (self.trial.tally(), self.trial.assessment());
        let seen = self.trial.canary_requests(weight);
        if seen < step.min_requests {
            let what = format!("{} of {} requests", format_count(seen), format_count(step.min_requests));
            return Progress::Missing { what, no_data: seen == 0 };
        }
        // At 100 % nothing is split, and what came before is not measured at that weight. A switch has nothing but its own traffic to show.
        let is_split_seen = if weight == WeightBps::FULL { self.plan.is_switch() } else { !self.plan.sticky };
        if let SplitCheck::Differs { share } = tally.split(weight)
            && is_split_seen
        {
            let what = format!("the canary gets {:.1} % of the requests instead of {weight}", share * 100.0);
            return Progress::Missing { what, no_data: false };
        }
        if let Some((canary, stable)) = self.trial.piled_up() {
            let what = format!("{canary} of the canary's requests are without an answer so far, {stable} of stable's");
            return Progress::Missing { what, no_data: false };
        }
        if let Some((canary, stable)) = tally.driven_away() {
            let what =
                format!("clients give up on {:.1} % of the canary's requests, on {:.1} % of stable's", canary * 100.0, stable * 100.0);
            return Progress::Missing { what, no_data: false };
        }
        if let Some(evaluated_at) = assessment.evaluated_at {
            let heard_at = self.trial.counted_at().map_or(evaluated_at, |counted_at| counted_at.min(evaluated_at));
            let age_ms = self.now().ms_since(heard_at);
            if age_ms > self.plan.analysis.stale_after_ms() {
                let what = format!("nothing was measured for {}", crate::human_duration(age_ms));
                return Progress::Missing { what, no_data: true };
            }
        }
        if let Some((what, no_data)) = self.preview_lacks(step) {
            return Progress::Missing { what, no_data };
        }
        if step.is_preview() && assessment.evaluated_at.is_some() {
            let mut evidence = vec![format!("{} preview requests", format_count(seen))];
            evidence.extend(self.preview_evidence(step));
            return Progress::Passed(evidence.join(", "));
        }
        if !assessment.all_pass() {
            return match assessment.first_open() {
                Some(open) => Progress::Missing {
                    what: format!("{} is {}: {}", open.name, open.verdict.as_str(), open.text),
                    no_data: open.verdict == Verdict::Unknown,
                },
                None => Progress::Missing { what: "the first evaluation".to_owned(), no_data: false },
            };
        }
        let mut evidence = vec![format!("{} requests", format_count(seen))];
        evidence.extend(assessment.criteria.iter().map(|one| format!("{} {}", one.name, one.text)));
        Progress::Passed(evidence.join(", "))
    }

    fn advance_once(&mut self) {
        match self.state.phase.clone() {
            Phase::Preflight => self.request_once(Effect::Preflight),
            Phase::Deploying { since } => self.deploying(since),
            Phase::Stage { step, at: StageStep::Observing { extended_ms, .. } } => self.observing(step, extended_ms),
            Phase::Retreated { .. } => self.judge_retreat(),
            Phase::Promoting if self.state.all_proven() && self.state.asked_weight() == WeightBps::FULL => {
                self.trial.begin_stage(&self.plan, self.plan.steps.len(), WeightBps::FULL);
                self.record(Event::BakeStarted);
                self.warn_if_blind();
            }
            Phase::Baking { .. } if self.confirms_switch() => {
                let requests = self.trial.tally().at_full[Arm::Canary.index()];
                self.record(Event::SwitchSeen { requests });
            }
            Phase::Baking { extended_ms, .. } => self.baking(extended_ms),
            Phase::Finishing => self.request_once(Effect::Finalize),
            // A router that gives stable traffic after all, by hand or by an abort that a crash forgot, would lose it.
            Phase::Retained { since }
                if self.state.paused.is_none() && self.state.all_proven() && self.now().ms_since(since) >= self.plan.retain_ms =>
            {
                self.record(Event::RetainEnded { by: None });
            }
            Phase::Retiring if self.state.all_proven() => self.request_once(Effect::Retire),
            Phase::RollingBack { traffic_back: false } if self.state.all_proven() => {
                self.record(Event::TrafficReturned);
            }
            Phase::RollingBack { traffic_back: true } => {
                if self.state.deployed {
                    self.request_once(Effect::StopCanary);
                } else {
                    self.record(Event::RolledBack);
                }
            }
            _ => {}
        }
    }

    /// Whether a stage or bake may end now, for all that is not about time or traffic.
    pub(super) fn may_pass(&self) -> bool {
        self.state.paused.is_none() && self.state.override_weight.is_none() && self.state.all_proven()
    }

    fn deploying(&mut self, since: crate::Timestamp) {
        let timed_out = self.now().ms_since(since) > self.plan.deploy_timeout_ms;
        let after = crate::human_duration(self.plan.deploy_timeout_ms);
        match (self.state.ready, self.trial.stable_trouble()) {
            (true, None) if self.state.paused.is_none() => self.record(Event::StageEntered { step: 0 }),
            // Next to a stable that breaks a limit by itself the canary could only look innocent.
            (true, Some(trouble)) if self.state.paused.is_none() && timed_out => {
                let text = format!("the canary got no traffic, because stable still broke a limit by itself after {after}: {trouble}");
                self.roll_back(Cause { kind: CauseKind::Policy, text });
            }
            (true, _) => {}
            (false, _) if timed_out => {
                let text = format!("the canary was not ready within {after}");
                self.roll_back(Cause { kind: CauseKind::Workload, text });
            }
            (false, _) => self.request_once(Effect::Deploy),
        }
    }

    fn observing(&mut self, index: usize, extended_ms: u64) {
        let Some(step) = self.plan.steps.get(index).cloned() else { return };
        if !self.may_pass() {
            return;
        }
        let held_ms = self.state.held_ms(self.now());
        let enough_time = held_ms >= step.hold_ms || (step.early && held_ms >= step.min_hold_ms);
        if !enough_time {
            return;
        }
        match self.progress(&step) {
            Progress::Passed(evidence) => {
                self.record(Event::StagePassed { step: index, evidence });
                match step.gate {
                    Gate::Manual => self.record(Event::ApprovalAwaited { step: index }),
                    Gate::Auto => self.leave_stage(index),
                }
            }
            Progress::Missing { what, no_data } if held_ms >= step.max_hold_ms.saturating_add(extended_ms) => {
                self.out_of_patience(index, &step, &what, no_data);
            }
            Progress::Missing { .. } => {}
        }
    }

    /// A bake of no length promises nothing and needs nothing; any other one must have seen what it promises.
    fn baking(&mut self, extended_ms: u64) {
        let bake = self.plan.bake();
        let held_ms = self.state.held_ms(self.now());
        if !self.may_pass() || held_ms < bake.hold_ms {
            return;
        }
        match self.progress(&bake) {
            _ if bake.hold_ms == 0 => self.record(Event::BakePassed),
            Progress::Passed(_) => self.record(Event::BakePassed),
            Progress::Missing { what, no_data } if held_ms >= bake.max_hold_ms.saturating_add(extended_ms) => {
                let (policy, reason) = self.policy(&bake, &what, no_data);
                match policy {
                    OnInconclusive::Hold => self.record(Event::Paused { by: None, reason: format!("{reason}; resume or abort") }),
                    OnInconclusive::Rollback => self.roll_back(Cause { kind: CauseKind::Policy, text: reason }),
                    OnInconclusive::Advance => {
                        self.record(Event::Warned { text: format!("{reason}; {WITHOUT_VERDICT}") });
                        self.record(Event::BakePassed);
                    }
                }
            }
            Progress::Missing { .. } => {}
        }
    }

    fn out_of_patience(&mut self, index: usize, step: &Step, what: &str, no_data: bool) {
        let (policy, reason) = self.policy(step, what, no_data);
        match policy {
            OnInconclusive::Hold => self.record(Event::Paused { by: None, reason: format!("{reason}; resume, promote or abort") }),
            OnInconclusive::Rollback => self.roll_back(Cause { kind: CauseKind::Policy, text: reason }),
            OnInconclusive::Advance => {
                self.record(Event::StageWaived { step: index, reason });
                match step.gate {
                    Gate::Manual => self.record(Event::ApprovalAwaited { step: index }),
                    Gate::Auto => self.leave_stage(index),
                }
            }
        }
    }

    /// What the document says about a stage or bake that ran out of time, and why it did.
    fn policy(&self, step: &Step, what: &str, no_data: bool) -> (OnInconclusive, String) {
        let after = crate::human_duration(step.max_hold_ms);
        let reason = format!("no verdict at {} within {after}: {what}", place(step));
        let analysis = &self.plan.analysis;
        let policy = if no_data {
            match analysis.on_no_data {
                OnNoData::Hold => OnInconclusive::Hold,
                OnNoData::Rollback => OnInconclusive::Rollback,
                OnNoData::Continue => OnInconclusive::Advance,
            }
        } else {
            analysis.on_inconclusive
        };
        (policy, reason)
    }
}

/// Where a stage is judged.
pub(super) fn place(step: &Step) -> String {
    if step.is_preview() { "the preview".to_owned() } else { step.weight().to_string() }
}
