//! The sequential judge: evidence that stays valid however often one looks (ANALYSIS 2).
//!
//! Every criterion amounts to one or more tests ([`rule`]). A test's FAIL side is a process that starts with the release and
//! is never reset in it, not by a stage, a pause or a restart; its PASS side starts afresh in every stage. All tests that roll
//! back share one budget of false alarms, as do those that pause and those that warn. Tests see every observation, also while
//! a weight is on its way, because requests belong to the weight that assigned them; only PASS waits for the stage.
//!
//! What is not a matter of evidence (request rates, restarts, guards on CPU and memory) is looked at as it stands, by the
//! threshold judge's rules.
//!
//! Verdicts are taken with every observation; their words are renewed when one changes and twice a second.

mod after;
mod feed;
mod gauge;
mod latency;
mod limit;
mod placebo;
mod rate;
mod recent;
mod rule;
#[cfg(test)]
mod tests;
mod words;

pub use self::gauge::least_gauge_ms;
pub(crate) use self::{
    latency::{QUANTILES, pass_margin, quantiles},
    limit::SHARE_BY_WEIGHT,
};

use serde::{Deserialize, Serialize};
use serin_stats::{DEFAULT_HALF_LIFE_MS, DecayedHistogram, Family, ReleaseAlarm};

use self::{
    feed::Feed,
    rule::{Rule, Stage},
};
use super::{Assessment, EvidenceLevel, Verdict, guards::keeps_limits, sights::Sights, slices::Slices, threshold::ThresholdJudge};
use crate::{
    Timestamp, WeightBps,
    plan::{OnBreach, Plan, SequentialRules},
    traffic::{Arm, Assignment, Observation, OpenCell},
};

/// Words are renewed at least this often.
const RENEW_MS: u64 = 500;

/// The judge: what is remembered across restarts, and what is not.
#[derive(Debug, Clone)]
pub(super) struct SequentialJudge {
    memory: Memory,
    /// What other sources said last. Not remembered: it would be old after a restart.
    sights: Sights,
    plain: ThresholdJudge,
    assessment: Assessment,
    /// Those that the assessment was made of.
    verdicts: Vec<Option<Verdict>>,
    renewed_at: Option<Timestamp>,
}

/// Everything that evidence consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::judge) struct Memory {
    rules: SequentialRules,
    criteria: Vec<Rule>,
    /// Stable's latencies.
    past: DecayedHistogram,
    /// The open requests of the observation before.
    open: Vec<OpenCell>,
    seen_at: Option<Timestamp>,
    stage: Option<StageMemory>,
    /// Whether the canary has no traffic because both arms broke a limit.
    is_retreating: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct StageMemory {
    stage: Stage,
    since: Option<Timestamp>,
    canary_requests: u64,
}

/// What the words of a verdict are made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    alpha: f64,
    ln_pass: f64,
    ln_threshold: f64,
    ln_share: f64,
    /// Canary requests per second in this stage.
    canary_rps: Option<f64>,
}

impl SequentialJudge {
    pub(super) fn new(plan: &Plan, rules: SequentialRules) -> Self {
        Self {
            memory: Memory::new(plan, rules),
            sights: Sights::new(&plan.analysis),
            plain: plain_judge(plan),
            assessment: Assessment::default(),
            verdicts: Vec::new(),
            renewed_at: None,
        }
    }

    pub(super) fn begin_stage(&mut self, plan: &Plan, step: usize, weight: WeightBps) {
        self.begin_plain_stage(plan, step, weight);
        self.memory.begin_stage(step, weight);
    }

    /// The canary lost its traffic: from here on only stable is watched, by traffic that no longer meets the canary.
    pub(super) fn begin_retreat(&mut self) {
        self.plain.begin_retreat();
        self.memory.begin_retreat();
        self.assessment = Assessment::default();
    }

    /// See [`super::Trial::stable_keeps_limits`].
    pub(super) fn stable_keeps_limits(&self, broken: Option<&str>, now: Timestamp) -> Option<bool> {
        let ours = self.memory.criteria.iter().map(|rule| (rule.criterion.name.as_str(), rule.stable_keeps().map(|keeps| !keeps)));
        keeps_limits(ours.chain(self.plain.limits_of_stable(now)), broken)
    }

    /// See [`super::Trial::acknowledge`].
    pub(super) fn acknowledge(&mut self) -> Vec<String> {
        self.renewed_at = None;
        self.memory.acknowledge(&self.sights)
    }

    /// See [`super::Trial::stable_trouble`].
    pub(super) fn stable_trouble(&self) -> Option<String> {
        let rules = self.memory.criteria.iter().filter(|rule| rule.criterion.on_breach == OnBreach::Rollback && rule.step.is_none());
        rules
            .filter_map(|rule| rule.stable_trouble(self.memory.rules.alpha).map(|text| format!("{}: stable {text}", rule.criterion.name)))
            .next()
    }

    /// See [`super::Trial::blind`].
    pub(super) fn blind(&self) -> Vec<String> {
        self.memory.criteria.iter().filter(|rule| rule.is_blind()).map(|rule| rule.criterion.name.clone()).collect()
    }

    pub(super) fn observe(&mut self, observation: &Observation, slices: &Slices) {
        self.plain.observe(observation, slices);
        self.sights.observe(observation);
        self.memory.observe(observation);
        let verdicts = self.memory.verdicts(&self.sights);
        let due = self.renewed_at.is_none_or(|last| observation.at.ms_since(last) >= RENEW_MS);
        if due || verdicts != self.verdicts {
            self.verdicts = verdicts;
            self.renewed_at = Some(observation.at);
            self.renew(observation.at);
        }
        // Guards without evidence are looked at with every observation.
        let ours = |name: &str| self.memory.criteria.iter().any(|rule| rule.is_guard && rule.criterion.name == name);
        self.assessment.broken_guards.retain(|guard| ours(&guard.name));
        self.assessment.broken_guards.extend(self.plain.assessment().broken_guards.iter().cloned());
    }

    pub(super) fn assessment(&self) -> &Assessment {
        &self.assessment
    }

    /// What survives a restart.
    pub(super) fn remembered(&self) -> Memory {
        self.memory.clone()
    }

    /// Goes on with what was remembered; `false` if it is about other criteria or rules, and nothing is.
    pub(super) fn recall(&mut self, memory: &Memory) -> bool {
        let same = |a: &Rule, b: &Rule| a.criterion == b.criterion && a.step == b.step && a.is_guard == b.is_guard;
        let criteria = &self.memory.criteria;
        let is_same = memory.rules == self.memory.rules
            && memory.criteria.len() == criteria.len()
            && memory.criteria.iter().zip(criteria).all(|(a, b)| same(a, b));
        if is_same {
            self.memory.clone_from(memory);
            share_budgets(&mut self.memory.criteria, self.memory.rules.alpha);
        }
        is_same
    }

    /// Goes on in the remembered stage if it is this one. Nothing is said before the next observation: the evidence is only
    /// half of what a stage passes by.
    pub(super) fn resume_stage(&mut self, plan: &Plan, step: usize, weight: WeightBps) {
        self.begin_plain_stage(plan, step, weight);
        if self.memory.stage.is_none_or(|memory| memory.stage != Stage { step, weight }) {
            self.memory.begin_stage(step, weight);
        }
    }

    /// Goes on in a retreat. One that is remembered is not begun again: that would cost every limit a new start.
    pub(super) fn resume_retreat(&mut self, plan: &Plan, step: usize) {
        self.begin_plain_stage(plan, step, WeightBps::ZERO);
        self.plain.begin_retreat();
        if !self.memory.is_retreating {
            self.memory.begin_retreat();
        }
    }

    fn begin_plain_stage(&mut self, plan: &Plan, step: usize, weight: WeightBps) {
        let plain = plan.criteria_of(step).filter(|criterion| !Rule::is_for(criterion));
        self.plain.begin_stage(plain.cloned(), weight);
        self.assessment = Assessment::default();
        self.renewed_at = None;
    }

    fn renew(&mut self, at: Timestamp) {
        let Some(current) = self.memory.stage else { return };
        let evidence = self.memory.evidence(&current, at);
        let (mut criteria, mut guards) = (Vec::new(), Vec::new());
        for rule in self.memory.criteria.iter().filter(|rule| rule.applies(current.stage)) {
            let Some(assessment) = rule.assess(current.stage, &evidence, &self.sights) else { continue };
            if !rule.is_guard {
                criteria.push(assessment);
            } else if matches!(assessment.verdict, Verdict::Fail | Verdict::Environment) {
                guards.push(assessment);
            }
        }
        let plain = self.plain.assessment();
        // Plain criteria have their first look with the first observation, as ours do.
        criteria.extend(plain.criteria.iter().cloned());
        self.assessment = Assessment { evaluated_at: Some(at), criteria, broken_guards: guards };
    }
}

impl Memory {
    fn new(plan: &Plan, rules: SequentialRules) -> Self {
        let whole = plan.analysis.criteria.iter().map(|criterion| (criterion.clone(), None));
        let own = plan.steps.iter().enumerate().flat_map(|(index, step)| step.criteria.iter().map(move |one| (one.clone(), Some(index))));
        let criteria = whole.chain(own).filter(|(criterion, _)| Rule::is_for(criterion)).map(|(one, step)| Rule::new(one, step, false));
        let guards = plan.analysis.guards.iter().filter(|guard| Rule::is_for_guard(guard));
        let guards = guards.map(|guard| Rule::new(guard.as_criterion(), None, true));
        let mut criteria: Vec<Rule> = criteria.chain(guards).collect();
        share_budgets(&mut criteria, rules.alpha);
        // The half-life is a constant above zero.
        #[allow(clippy::expect_used)]
        let past = DecayedHistogram::new(DEFAULT_HALF_LIFE_MS).expect("a valid half-life");
        Self { rules, criteria, past, open: Vec::new(), seen_at: None, stage: None, is_retreating: false }
    }

    fn begin_stage(&mut self, step: usize, weight: WeightBps) {
        self.stage = Some(StageMemory { stage: Stage { step, weight }, since: self.seen_at, canary_requests: 0 });
        let past = &self.past;
        self.criteria.iter_mut().for_each(|rule| rule.begin_stage(weight, past));
        self.is_retreating = false;
    }

    fn begin_retreat(&mut self) {
        self.stage = None;
        self.criteria.iter_mut().for_each(Rule::begin_retreat);
        self.is_retreating = true;
    }

    fn acknowledge(&mut self, sights: &Sights) -> Vec<String> {
        let Some(current) = self.stage.map(|memory| memory.stage) else { return Vec::new() };
        let mut names = Vec::new();
        for rule in self.criteria.iter_mut().filter(|rule| rule.criterion.on_breach == OnBreach::Pause) {
            if matches!(rule.verdict(current, sights), Some(Verdict::Fail | Verdict::Environment)) {
                rule.acknowledge();
                names.push(rule.criterion.name.clone());
            }
        }
        share_budgets(&mut self.criteria, self.rules.alpha);
        names
    }

    fn observe(&mut self, observation: &Observation) {
        let at = observation.at;
        let ln_pass = -self.rules.beta.ln();
        let stage = self.stage.map(|memory| memory.stage);
        let is_beside = stage.is_some_and(|stage| !stage.weight.is_zero() && stage.weight != WeightBps::FULL);
        let feed = Feed::new(observation, &self.open, is_beside);
        for rule in &mut self.criteria {
            let stage = stage.filter(|stage| rule.applies(*stage));
            rule.observe(&feed, &self.past, stage.map(|stage| stage.weight), ln_pass);
        }
        // Only now does stable's past know of this observation.
        if let Some(last) = self.seen_at {
            self.past.decay_ms(at.ms_since(last));
        }
        let by_weight = |assignment: Assignment| assignment.is_compared() || assignment == Assignment::Forced;
        for cell in observation.cells.iter().filter(|cell| cell.arm == Arm::Stable && by_weight(cell.assignment)) {
            self.past.add(&cell.counts.latency);
        }
        if let Some(memory) = &mut self.stage {
            memory.since.get_or_insert(at);
            let canary = observation.cells.iter().filter(|cell| cell.arm == Arm::Canary && by_weight(cell.assignment));
            memory.canary_requests = canary.fold(memory.canary_requests, |sum, cell| sum.saturating_add(cell.counts.requests()));
        }
        self.open.clone_from(&observation.open);
        self.seen_at = Some(at);
    }

    /// That of every rule in the running stage; empty without one.
    fn verdicts(&self, sights: &Sights) -> Vec<Option<Verdict>> {
        let Some(stage) = self.stage.map(|memory| memory.stage) else { return Vec::new() };
        self.criteria.iter().map(|rule| rule.verdict(stage, sights)).collect()
    }

    fn evidence(&self, current: &StageMemory, at: Timestamp) -> Evidence {
        let seconds = current.since.map_or(0.0, |since| at.ms_since(since) as f64 / 1_000.0);
        let canary_rps = (seconds >= 1.0 && current.canary_requests > 0).then(|| current.canary_requests as f64 / seconds);
        Evidence { alpha: self.rules.alpha, ln_pass: -self.rules.beta.ln(), ln_threshold: f64::INFINITY, ln_share: 0.0, canary_rps }
    }
}

impl Evidence {
    fn level(&self, ln_e: f64) -> EvidenceLevel {
        let harm = (ln_e + self.ln_share).exp().min(1e300);
        EvidenceLevel { harm, needed: 1.0 / self.alpha, ratio: None, ratio_between: None, requests_to_pass: None }
    }

    /// `evidence 143 of 100 needed`.
    fn needed(&self, ln_e: f64) -> String {
        format!("evidence {} of {} needed", self.amount(ln_e), words::number(1.0 / self.alpha))
    }

    /// `evidence of harm 1.8 of 100`.
    fn of_harm(&self, ln_e: f64) -> String {
        format!("evidence of harm {} of {}", self.amount(ln_e), words::number(1.0 / self.alpha))
    }

    /// `needs about 1,300 more requests to pass, about 2m`.
    fn needs_more(&self, requests: f64) -> String {
        let time = self.canary_rps.map(|rps| format!(", about {}", words::roughly(requests / rps))).unwrap_or_default();
        format!("needs about {} more requests to pass{time}", words::about(requests))
    }

    fn amount(&self, ln_e: f64) -> String {
        let amount = (ln_e + self.ln_share).exp();
        if amount > 1e6 { "more than 1,000,000".to_owned() } else { words::number(amount) }
    }
}

fn share_budgets(rules: &mut [Rule], alpha: f64) {
    for on_breach in [OnBreach::Rollback, OnBreach::Pause, OnBreach::Warn] {
        share_budget(rules, on_breach, alpha);
    }
}

/// Gives every test of the rules with that consequence its share of one budget.
fn share_budget(rules: &mut [Rule], on_breach: OnBreach, alpha: f64) {
    let members: Vec<Family> = rules.iter().filter(|rule| rule.criterion.on_breach == on_breach).flat_map(Rule::families).collect();
    let Ok(alarm) = ReleaseAlarm::new(alpha, &members) else { return };
    let rules = rules.iter_mut().filter(|rule| rule.criterion.on_breach == on_breach);
    let tests = rules.flat_map(|rule| {
        let spent = f64::from(rule.acknowledged) * std::f64::consts::LN_2;
        rule.tests.iter_mut().map(move |test| (test, spent))
    });
    for (index, (test, spent)) in tests.enumerate() {
        if let (Some(ln_threshold), Some(share)) = (alarm.ln_threshold(index), alarm.share(index)) {
            (test.ln_threshold, test.ln_share) = (ln_threshold + spent, share.ln() - spent);
        }
    }
}

fn plain_judge(plan: &Plan) -> ThresholdJudge {
    let mut plain = plan.clone();
    plain.analysis.guards.retain(|guard| !Rule::is_for_guard(guard));
    ThresholdJudge::new(&plain)
}
