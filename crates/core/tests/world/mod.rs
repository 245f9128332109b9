//! A small deterministic world: a router per target, two versions and their traffic. It does what the release asks, unless
//! a test tells it not to, and drives the release by its own deadlines.

// Every test binary uses its own part of it.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod plans;
pub mod rules;

use std::collections::{BTreeMap, VecDeque};

use serin_core::{
    Timestamp, WeightBps,
    plan::{MetricName, Plan},
    release::{
        Action, Check, CheckStatus, Command, Effect, EffectId, Entry, Event, Fault, Input, Output, Phase, Refusal, Release, StageStep,
        Wait, WorkloadSeen,
    },
    traffic::{Arm, Assignment, Counts, Measured, Observation, Outcome, Reading, TrafficCell},
};

use rules::Rules;

const START: Timestamp = Timestamp(1_000_000);
const OBSERVE_MS: u64 = 1_000;

/// What a router really does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Router {
    pub weight: WeightBps,
    pub matches: bool,
    pub preview: bool,
    /// Acknowledges changes without making them.
    pub deaf: bool,
}

/// How the world answers effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// Does them and says so.
    Good,
    /// Fails; trying again may help.
    Fails,
    /// Fails for good.
    Broken,
    /// Does them, but the answer is lost.
    Lost,
}

pub struct World {
    pub release: Release,
    pub now: Timestamp,
    pub journal: Vec<Entry>,
    pub outputs: Vec<Output>,
    pub routers: BTreeMap<String, Router>,
    /// By kind of effect as `kind_of` names it; good if not set.
    pub answers: BTreeMap<&'static str, Answers>,
    /// Answers on their way to the release.
    pub inbox: VecDeque<Input>,
    /// Requests per second and target; matched ones come on top while the router's matches are on.
    pub rps: f64,
    pub matched_rps: f64,
    /// Requests per second through the preview address while it is open.
    pub preview_rps: f64,
    /// The canary does not answer the checks of a preview as expected.
    pub checks_fail: bool,
    /// Nobody carries the checks of a preview out.
    pub checks_hang: bool,
    /// Shares of failing requests by arm.
    pub errors: [f64; 2],
    pub matched_errors: f64,
    /// Stable's share of errors while the canary gets traffic, where that is what harms it.
    pub canary_harms_stable: f64,
    /// The share that the data plane gives the canary instead of the weight.
    pub wrong_split: Option<f64>,
    pub observing: bool,
    pub workload: WorkloadSeen,
    pub preflight: CheckStatus,
    /// How often every effect was asked for.
    pub asked: BTreeMap<EffectId, u32>,
    pub rules: Rules,
    observed_at: Timestamp,
    epoch: u64,
}

pub fn kind_of(effect: &Effect) -> &'static str {
    match effect {
        Effect::Preflight => "preflight",
        Effect::Deploy => "deploy",
        Effect::Shift { .. } => "shift",
        Effect::ReadBack { .. } => "read-back",
        Effect::Finalize => "finalize",
        Effect::Retire => "retire",
        Effect::StopCanary => "stop-canary",
    }
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let routers = plan.targets.iter().map(|target| (target.clone(), Router::default())).collect();
        let rules = Rules::new(&plan);
        Self {
            release: Release::new(plan, 1, START),
            now: START,
            journal: Vec::new(),
            outputs: Vec::new(),
            routers,
            answers: BTreeMap::new(),
            inbox: VecDeque::new(),
            rps: 100.0,
            matched_rps: 0.0,
            preview_rps: 0.0,
            checks_fail: false,
            checks_hang: false,
            errors: [0.0, 0.0],
            matched_errors: 0.0,
            canary_harms_stable: 0.0,
            wrong_split: None,
            observing: true,
            workload: WorkloadSeen { stable_ready: Some(2), ..WorkloadSeen::default() },
            preflight: CheckStatus::Pass,
            asked: BTreeMap::new(),
            rules,
            observed_at: START,
            epoch: 1,
        }
    }

    /// Takes what the release wants and does it; answers land in the inbox.
    pub fn collect(&mut self) {
        let output = self.release.take_output();
        self.rules.check(&output, &self.release, &mut self.journal);
        for (id, effect) in output.urgent.iter().chain(&output.effects) {
            *self.asked.entry(*id).or_default() += 1;
            let answer = self.carry_out(*id, effect);
            self.inbox.extend(answer);
        }
        if !output.is_empty() {
            self.outputs.push(output);
        }
    }

    /// Everything that can happen without time passing.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            self.collect();
            let Some(input) = self.inbox.pop_front() else { return };
            self.release.handle(input, self.now);
        }
        panic!("the release never comes to rest; last: {:?}", self.journal.iter().rev().take(10).collect::<Vec<_>>());
    }

    pub fn wait(&self) -> Wait {
        self.release.next_deadline()
    }

    /// Lets time pass until the next deadline or observation, whichever is sooner.
    pub fn step(&mut self) {
        self.settle();
        let next_look = self.observed_at.plus_ms(OBSERVE_MS);
        let until = self.wait().until.map_or(next_look, |until| until.min(next_look));
        self.now = until.max(self.now.plus_ms(1));
        self.look();
        self.settle();
    }

    /// Gives the release what can be seen now: traffic if it is time, the clock otherwise.
    pub fn look(&mut self) {
        let input = if self.now >= self.observed_at.plus_ms(OBSERVE_MS) {
            let observation = self.observe();
            self.check_preview();
            if self.observing { Input::Observed(observation) } else { Input::Tick }
        } else {
            Input::Tick
        };
        self.release.handle(input, self.now);
    }

    /// Every check of the preview gets its answer.
    fn check_preview(&mut self) {
        let is_open = self.routers.values().any(|router| router.preview);
        let checks: Vec<_> = self.release.preview_checks().iter().map(|check| check.name.clone()).collect();
        for check in checks.into_iter().filter(|_| !self.checks_hang) {
            let result = if self.checks_fail || !is_open { Err("answered 500".to_owned()) } else { Ok(()) };
            self.release.handle(Input::PreviewSeen { check, result }, self.now);
        }
    }

    /// Steps until `there`, for at most an hour of the world's time.
    pub fn until(&mut self, what: &str, there: impl Fn(&Self) -> bool) {
        self.settle();
        let end = self.now.plus_ms(3_600_000);
        while !there(self) {
            assert!(self.now < end, "never got to: {what}; {:?}; waits for {:?}", self.release.state(), self.wait());
            self.step();
        }
    }

    pub fn until_phase(&mut self, name: &str) {
        self.until(name, |world| world.release.state().phase.name() == name);
    }

    /// Steps until the stage is being measured.
    pub fn until_observing(&mut self, step: usize) {
        self.until("observing", |world| world.observes() == Some(step));
    }

    pub fn observes(&self) -> Option<usize> {
        match self.release.state().phase {
            Phase::Stage { step, at: StageStep::Observing { .. } } => Some(step),
            _ => None,
        }
    }

    pub fn run_for(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.now < end {
            self.step();
        }
    }

    pub fn command(&mut self, action: Action) -> Result<(), Refusal> {
        self.look();
        let done = self.release.command(Command { action, by: "ann".to_owned(), reason: None }, self.now);
        self.settle();
        done
    }

    pub fn workload_seen(&mut self, change: impl Fn(&mut WorkloadSeen)) {
        change(&mut self.workload);
        self.release.handle(Input::WorkloadSeen(self.workload.clone()), self.now);
        self.settle();
    }

    /// The control process dies and another takes over after `gap_ms`, with all of the journal or its first entries.
    pub fn crash(&mut self, gap_ms: u64, keep: Option<usize>, latched: bool) {
        let checkpoint = self.release.trial().checkpoint();
        let last_seen = self.now;
        if let Some(keep) = keep {
            self.journal.truncate(keep);
            self.rules.rewind(&self.journal);
        }
        self.inbox.clear();
        self.now = self.now.plus_ms(gap_ms);
        self.epoch += 1;
        let plan = self.release.plan().clone();
        self.release = Release::resume(plan, &self.journal, Some(&checkpoint), last_seen, latched, self.epoch, self.now);
    }

    /// Another source than the proxy says something that nothing is judged by.
    pub fn source_answers(&mut self) {
        let (metric, at) = (MetricName::new("orders").unwrap(), self.release.now());
        let measured = vec![Measured { metric, reading: Reading::Values([Some(1.0), Some(1.0)], None) }];
        self.release.handle(Input::Observed(Observation { at, measured, ..Observation::default() }), at);
        self.settle();
    }

    /// Collects, and says which effects were asked for.
    pub fn collect_ids(&mut self) -> Vec<EffectId> {
        let before = self.outputs.len();
        self.collect();
        self.outputs[before..].iter().flat_map(|output| output.urgent.iter().chain(&output.effects)).map(|(id, _)| *id).collect()
    }

    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.journal.iter().map(|entry| &entry.event)
    }

    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events().filter(|event| wanted(event)).count()
    }

    pub fn rollback_cause(&self) -> String {
        self.release.state().rollback.as_ref().map(|cause| cause.text.clone()).unwrap_or_default()
    }

    pub fn phase(&self) -> &'static str {
        self.release.state().phase.name()
    }

    fn carry_out(&mut self, id: EffectId, effect: &Effect) -> Option<Input> {
        let answers = self.answers.get(kind_of(effect)).copied().unwrap_or(Answers::Good);
        if matches!(answers, Answers::Fails | Answers::Broken) {
            let fault = Fault { text: format!("{} does not work", kind_of(effect)), retryable: answers == Answers::Fails };
            return Some(Input::Failed(id, fault));
        }
        let answer = match effect {
            Effect::Preflight => {
                let check = Check { name: "stable".to_owned(), status: self.preflight, detail: "looked".to_owned(), hint: None };
                Input::PreflightChecked(id, vec![check])
            }
            Effect::Shift { target, weight, matches, preview } => {
                let router = self.routers.get_mut(target).expect("only planned targets are driven");
                if !router.deaf {
                    (router.weight, router.matches, router.preview) = (*weight, *matches, *preview);
                }
                Input::Done(id)
            }
            Effect::ReadBack { target } => Input::ReadBack(id, self.routers[target].weight),
            _ => Input::Done(id),
        };
        (answers == Answers::Good).then_some(answer)
    }

    fn observe(&mut self) -> Observation {
        let seconds = self.now.ms_since(self.observed_at) as f64 / 1_000.0;
        self.observed_at = self.now;
        let mut cells = Vec::new();
        let harmed = if self.routers.values().any(|router| !router.weight.is_zero()) { self.canary_harms_stable } else { 0.0 };
        for router in self.routers.values() {
            let share = self.wrong_split.filter(|_| !router.weight.is_zero()).unwrap_or(router.weight.share());
            let assignment = if [0.0, 1.0].contains(&share) { Assignment::Forced } else { Assignment::Random };
            let requests = (self.rps * seconds).round();
            let canary = (requests * share).round();
            let mut cell = |arm: Arm, assignment, requests: f64, errors: f64| {
                let counts = counts(requests, errors);
                if counts.requests() > 0 {
                    cells.push(TrafficCell { weight: router.weight, arm, assignment, counts, sessions: None });
                }
            };
            cell(Arm::Stable, assignment, requests - canary, self.errors[0].max(harmed));
            cell(Arm::Canary, assignment, canary, self.errors[1]);
            if router.matches {
                cell(Arm::Canary, Assignment::Matched, (self.matched_rps * seconds).round(), self.matched_errors);
            }
            if router.preview {
                cell(Arm::Canary, Assignment::Preview, (self.preview_rps * seconds).round(), self.errors[1]);
            }
        }
        Observation { at: self.now, cells, ..Observation::default() }
    }
}

fn counts(requests: f64, error_share: f64) -> Counts {
    let errors = (requests * error_share).round();
    let mut counts = Counts::default();
    counts.by_outcome[Outcome::Success.index()] = (requests - errors) as u64;
    counts.by_outcome[Outcome::ServerError.index()] = errors as u64;
    counts
}
