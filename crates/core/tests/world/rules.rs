//! The rules that no release may break, checked from outside: from the journal and the effects alone, with a memory of its
//! own, so that a mistake in the state machine cannot hide itself.

use std::collections::BTreeMap;

use serin_core::{
    Timestamp, WeightBps,
    plan::{Gate, Plan},
    release::{Effect, Entry, Event, Output, Release, State},
};

/// How far the plan has come.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Part {
    #[default]
    Before,
    Stage(usize),
    /// Traffic left the canary of this stage for a while.
    Away(usize),
    Everything,
}

#[derive(Debug, Clone, Default)]
struct Memory {
    part: Part,
    overridden: Option<WeightBps>,
    rolled_back: bool,
    deployed: bool,
    paused: bool,
    may_return: bool,
    /// The current stage was passed or waived, approved, or skipped by a person.
    cleared: bool,
    approved: bool,
    skipped: bool,
    /// What every router was last asked for.
    asked: BTreeMap<String, (WeightBps, bool)>,
    /// When it was read back with just that.
    proven_at: BTreeMap<String, Timestamp>,
    /// When all of them first were, since the stage began or a person's weight ended.
    measured_from: Option<Timestamp>,
    seq: u64,
    at: Timestamp,
}

pub struct Rules {
    plan: Plan,
    memory: Memory,
}

impl Rules {
    pub fn new(plan: &Plan) -> Self {
        Self { plan: plan.clone(), memory: Memory::default() }
    }

    /// Starts again from a shorter journal.
    pub fn rewind(&mut self, journal: &[Entry]) {
        self.memory = Memory::default();
        journal.iter().for_each(|entry| self.entry(entry));
    }

    /// Checks one output of the release and appends its entries to the journal.
    pub fn check(&mut self, output: &Output, release: &Release, journal: &mut Vec<Entry>) {
        output.entries.iter().for_each(|entry| self.entry(entry));
        journal.extend(output.entries.iter().cloned());
        let state = release.state();
        assert_eq!(&State::fold(journal.iter()), state, "the state is not the fold of its journal");

        assert!(output.urgent.iter().all(|(_, effect)| effect.is_retreat()), "urgent is for moves to stable: {output:?}");
        assert!(!output.effects.iter().any(|(_, effect)| effect.is_retreat()), "a move to stable must be urgent: {output:?}");
        for (id, effect) in output.urgent.iter().chain(&output.effects) {
            assert_eq!(state.outstanding.get(id), Some(effect), "only what is still wanted is done");
        }
        if self.memory.rolled_back || matches!(self.memory.part, Part::Away(_)) {
            for (target, asked) in &self.memory.asked {
                assert_eq!(*asked, (WeightBps::ZERO, false), "{target} was not taken back together with the decision");
            }
        }
        let wait = release.next_deadline();
        assert!(!wait.why.is_empty());
        if let Some(until) = wait.until {
            assert!(until > release.now(), "a deadline that passed is a busy loop: {wait:?} in {state:?}");
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let memory = &mut self.memory;
        assert_eq!(entry.seq, memory.seq + 1, "the journal has a gap");
        assert!(entry.at >= memory.at, "the journal runs backwards");
        (memory.seq, memory.at) = (entry.seq, entry.at);
        match &entry.event {
            Event::Deployed => memory.deployed = true,
            Event::Requested { effect: Effect::Shift { target, weight, matches, preview } } => {
                memory.proven_at.remove(target);
                let past = memory.asked.insert(target.clone(), (*weight, *matches || *preview));
                let most = self.most(target);
                let memory = &self.memory;
                // A share that was asked for already may be asked for again while nobody may decide.
                let again = past == Some((*weight, *matches || *preview)) && !memory.rolled_back && !matches!(memory.part, Part::Away(_));
                assert!(*weight <= most || again, "{target} was asked for {weight}, at most {most} is allowed: {memory:?}");
                assert!(!matches || matches!(memory.part, Part::Stage(_)), "matches outside of a stage: {memory:?}");
                let in_preview = matches!(memory.part, Part::Stage(step) if self.plan.steps[step].is_preview());
                assert!(!preview || in_preview || again, "a preview outside of one: {memory:?}");
            }
            Event::DriftFound { target, .. } => {
                memory.proven_at.remove(target);
            }
            Event::WeightProven { target, weight } => {
                assert_eq!(memory.asked.get(target).map(|asked| asked.0), Some(*weight), "proven what was not asked");
                memory.proven_at.insert(target.clone(), entry.at);
                if memory.overridden.is_none() && memory.asked.keys().all(|target| memory.proven_at.contains_key(target)) {
                    memory.measured_from.get_or_insert(entry.at);
                }
            }
            Event::StageEntered { step } => {
                let earned = match memory.part {
                    Part::Before => *step == 0 && memory.deployed,
                    Part::Stage(last) => *step == last + 1 && memory.may_leave(&self.plan, last),
                    Part::Away(left) => *step == left && memory.may_return,
                    Part::Everything => false,
                };
                assert!(earned && !memory.rolled_back && !memory.paused, "stage {step} was entered without a right to it: {memory:?}");
                memory.enter(Part::Stage(*step));
            }
            Event::StagePassed { step, .. } | Event::StageWaived { step, .. } => {
                assert_eq!(memory.part, Part::Stage(*step));
                assert!(!memory.paused && memory.overridden.is_none(), "a stage cannot pass while it stands still: {memory:?}");
                let (asked, step) = (&memory.asked, &self.plan.steps[*step]);
                for target in asked.keys() {
                    assert!(memory.proven_at.contains_key(target), "{target} is not proven: {memory:?}");
                    assert_eq!(asked[target].0, step.weights[target]);
                }
                let least_ms = match entry.event {
                    Event::StageWaived { .. } => step.max_hold_ms,
                    _ if step.early => step.min_hold_ms,
                    _ => step.hold_ms,
                };
                let measured_ms = memory.measured_from.map_or(0, |from| entry.at.ms_since(from));
                assert!(measured_ms >= least_ms, "passed after {measured_ms} of {least_ms} ms: {memory:?}");
                memory.cleared = true;
            }
            Event::Approved { .. } => memory.approved = true,
            Event::PromotedByPerson { .. } => (memory.skipped, memory.paused) = (true, false),
            Event::PromotionStarted => {
                let last = self.plan.steps.len() - 1;
                let earned = memory.skipped || (memory.part == Part::Stage(last) && memory.may_leave(&self.plan, last));
                assert!(earned && !memory.rolled_back && !memory.paused, "promoted without a right to it: {memory:?}");
                memory.enter(Part::Everything);
            }
            Event::BakeStarted => {
                assert_eq!(memory.part, Part::Everything);
                for target in &self.plan.targets {
                    assert_eq!(memory.asked.get(target), Some(&(WeightBps::FULL, false)));
                    assert!(memory.proven_at.contains_key(target), "{target} was not read back before the bake");
                }
            }
            Event::Paused { .. } => memory.paused = true,
            Event::Resumed { .. } => {
                memory.paused = false;
                // Whoever resumes during a retreat goes back to the stage.
                memory.may_return = true;
                if memory.overridden.take().is_some() {
                    memory.proven_at.clear();
                    memory.measured_from = None;
                }
            }
            Event::Overridden { weight, .. } => memory.overridden = Some(*weight),
            Event::Retreated { .. } => {
                let Part::Stage(step) = memory.part else { panic!("a retreat belongs to a stage: {memory:?}") };
                let paused = memory.paused;
                memory.enter(Part::Away(step));
                memory.paused = paused;
            }
            Event::RetreatEnded { .. } => memory.may_return = true,
            Event::RollbackDecided { .. } => memory.rolled_back = true,
            Event::TrafficReturned => {
                for target in memory.asked.keys() {
                    assert!(memory.proven_at.contains_key(target), "{target} was not read back without traffic: {memory:?}");
                }
            }
            _ => {}
        }
    }

    /// The largest share that a target may be asked for.
    fn most(&self, target: &str) -> WeightBps {
        let memory = &self.memory;
        match memory.part {
            _ if memory.rolled_back => WeightBps::ZERO,
            Part::Stage(step) => memory.overridden.unwrap_or(self.plan.steps[step].weights[target]),
            Part::Everything => WeightBps::FULL,
            Part::Before | Part::Away(_) => WeightBps::ZERO,
        }
    }
}

impl Memory {
    fn may_leave(&self, plan: &Plan, step: usize) -> bool {
        self.cleared && (self.approved || plan.steps[step].gate == Gate::Auto)
    }

    fn enter(&mut self, part: Part) {
        self.part = part;
        self.overridden = None;
        self.proven_at.clear();
        self.measured_from = None;
        (self.cleared, self.approved, self.skipped, self.may_return) = (false, false, false, false);
    }
}
