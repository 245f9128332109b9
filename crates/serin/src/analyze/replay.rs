//! Recorded moments before the judge.
//!
//! Moments from before the canary had traffic are stable's past. The first one with canary traffic begins a stage, and so does
//! every change of a *declared* weight; the trial goes on. A realised share differs from moment to moment and begins none.
//! A stage has the criteria of the plan's stage of that weight; where the plan has no such stage, those of the release alone.

use std::collections::BTreeMap;

use serin_core::{
    Timestamp, WeightBps,
    judge::{CriterionAssessment, Trial, Verdict},
    plan::{OnBreach, Plan},
    traffic::Arm,
};

use super::moments::Moment;

/// What a verdict became.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    pub(crate) is_guard: bool,
    /// `None`: there was none.
    pub(crate) from: Option<Verdict>,
    pub(crate) now: CriterionAssessment,
}

/// What a moment brought.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// The weight that is judged at changed.
    Weight { at: Timestamp, weight: WeightBps },
    /// A verdict changed.
    Verdict(Box<Change>),
}

/// The last word about one criterion or guard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    pub(crate) is_guard: bool,
    pub(crate) now: CriterionAssessment,
}

/// The verdict about the canary.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Every criterion that can stop a release passes.
    Pass,
    /// A release would have rolled back at that change.
    RolledBack(Box<Change>),
    /// A release would have paused at that change.
    Paused(Box<Change>),
    /// Both arms broke a limit that rolls back: a release would have taken traffic from the canary at that change and watched
    /// stable alone, which no recorded data can show.
    Shared(Box<Change>),
    /// Some criterion is not decided, or without data.
    Undecided,
    /// No canary request, or nothing that can be judged.
    NoData,
}

/// A trial that is fed from a file.
pub(crate) struct Replay {
    plan: Plan,
    trial: Trial,
    stage: Option<Stage>,
    criteria: BTreeMap<String, CriterionAssessment>,
    guards: BTreeMap<String, CriterionAssessment>,
    rolled_back: Option<Change>,
    paused: Option<Change>,
    shared: Option<Change>,
    first: Option<Timestamp>,
    last: Timestamp,
    requests: [u64; 2],
    compared: u64,
}

/// Why the present stage began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Declared(WeightBps),
    Realised,
    /// Without a stable beside it.
    Alone,
}

impl Replay {
    /// A judge that has seen nothing.
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            trial: Trial::new(&plan),
            plan,
            stage: None,
            criteria: BTreeMap::new(),
            guards: BTreeMap::new(),
            rolled_back: None,
            paused: None,
            shared: None,
            first: None,
            last: Timestamp::default(),
            requests: [0; 2],
            compared: 0,
        }
    }

    /// Judges a moment.
    pub(crate) fn observe(&mut self, moment: &Moment) -> Vec<Step> {
        let at = moment.observation.at;
        let _ = self.first.get_or_insert(at);
        self.last = at;
        for arm in Arm::BOTH {
            let of_arm = moment.observation.counts(arm, |_| true).requests();
            self.requests[arm.index()] = self.requests[arm.index()].saturating_add(of_arm);
        }
        let compared = moment.observation.counts(Arm::Canary, |assignment| assignment.is_compared()).requests();
        self.compared = self.compared.saturating_add(compared);
        let mut steps = Vec::new();
        if let Some(stage) = self.stage_of(moment).filter(|stage| Some(*stage) != self.stage) {
            self.stage = Some(stage);
            let same_weight = |step: &serin_core::plan::Step| step.weight() == moment.weight;
            let step = self.plan.steps.iter().position(same_weight).unwrap_or(self.plan.steps.len());
            self.trial.begin_stage(&self.plan, step, moment.weight);
            steps.push(Step::Weight { at, weight: moment.weight });
        }
        self.trial.observe(&moment.observation);
        if self.stage.is_some() {
            steps.extend(self.changes(at).into_iter().map(|change| Step::Verdict(Box::new(change))));
        }
        steps
    }

    /// What stands now: criteria first, then guards that are broken.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let assessment = self.trial.assessment();
        let criteria = assessment.criteria.iter().map(|now| Standing { is_guard: false, now: now.clone() });
        criteria.chain(assessment.broken_guards.iter().map(|now| Standing { is_guard: true, now: now.clone() })).collect()
    }

    /// The verdict about everything so far. What would have ended a release counts, whatever came after it.
    pub(crate) fn outcome(&self) -> Outcome {
        let assessment = self.trial.assessment();
        if let Some(change) = &self.rolled_back {
            Outcome::RolledBack(Box::new(change.clone()))
        } else if let Some(change) = &self.paused {
            Outcome::Paused(Box::new(change.clone()))
        } else if let Some(change) = &self.shared {
            Outcome::Shared(Box::new(change.clone()))
        } else if self.requests[Arm::Canary.index()] == 0 || (assessment.criteria.is_empty() && !self.plan.analysis.criteria.is_empty()) {
            Outcome::NoData
        } else if assessment.all_pass() {
            Outcome::Pass
        } else {
            Outcome::Undecided
        }
    }

    /// Time of the first moment.
    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.first
    }

    /// Time of the last moment.
    pub(crate) fn last(&self) -> Timestamp {
        self.last
    }

    /// Requests by arm.
    pub(crate) fn requests(&self) -> [u64; 2] {
        self.requests
    }

    /// Whether both arms had requests, but never at the same time and without a weight, so that nothing was compared.
    pub(crate) fn never_met(&self) -> bool {
        self.compared == 0 && self.requests.iter().all(|requests| *requests > 0) && !matches!(self.stage, Some(Stage::Declared(_)))
    }

    fn stage_of(&self, moment: &Moment) -> Option<Stage> {
        let canary = moment.observation.counts(Arm::Canary, |_| true).requests() > 0;
        match (moment.declared, self.stage) {
            (Some(weight), None) => (canary || !weight.is_zero()).then_some(Stage::Declared(weight)),
            (Some(weight), Some(_)) => Some(Stage::Declared(weight)),
            (None, stage) if !canary => stage,
            (None, None | Some(Stage::Alone)) if moment.weight == WeightBps::FULL => Some(Stage::Alone),
            (None, Some(stage)) if moment.weight == WeightBps::FULL => Some(stage),
            (None, _) => Some(Stage::Realised),
        }
    }

    fn changes(&mut self, at: Timestamp) -> Vec<Change> {
        let assessment = self.trial.assessment();
        let mut changes = Vec::new();
        for now in &assessment.criteria {
            let before = self.criteria.insert(now.name.clone(), now.clone());
            let from = before.map(|before| before.verdict);
            if from != Some(now.verdict) {
                changes.push(Change { at, is_guard: false, from, now: now.clone() });
            }
        }
        for now in &assessment.broken_guards {
            if self.guards.insert(now.name.clone(), now.clone()).is_none_or(|before| before.verdict != now.verdict) {
                changes.push(Change { at, is_guard: true, from: Some(Verdict::Pass), now: now.clone() });
            }
        }
        // A guard is heard of only while it is broken.
        let is_broken = |name: &str| assessment.broken_guards.iter().any(|guard| guard.name == name);
        for guard in self.guards.values_mut().filter(|guard| guard.verdict != Verdict::Pass && !is_broken(&guard.name)) {
            let from = Some(guard.verdict);
            guard.verdict = Verdict::Pass;
            guard.text = "kept again".to_owned();
            changes.push(Change { at, is_guard: true, from, now: guard.clone() });
        }
        let first = |verdict: Verdict, on_breach: OnBreach| {
            changes.iter().find(|change| change.now.verdict == verdict && change.now.on_breach == on_breach).cloned()
        };
        self.rolled_back = self.rolled_back.take().or_else(|| first(Verdict::Fail, OnBreach::Rollback));
        self.paused = self.paused.take().or_else(|| first(Verdict::Fail, OnBreach::Pause));
        self.shared = self.shared.take().or_else(|| first(Verdict::Environment, OnBreach::Rollback));
        changes
    }
}
