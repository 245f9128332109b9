//! The threshold judge: windowed values against limits, the way people know it from other tools.
//!
//! Criteria are evaluated every `interval_ms` over the last `window_ms`; where that holds some requests but fewer than a
//! criterion's sample, over the whole stage so far, so that small weights are judged at all. A breach counts when it was seen in `consecutive`
//! evaluations in a row and has lasted `for_ms`. Too small a sample neither passes nor fails and leaves a running breach
//! as it is, and so does missing data. Limits against stable apply only while both arms get traffic; absolute limits always, and separately to
//! requests that a declared rule sent to the canary. Guards are looked at with every observation.
//!
//! It is simple and repeated looking wears it out: on noisy services prefer more requests per window.

use super::{
    Assessment, CriterionAssessment, Verdict,
    reading::{Read, Reading, Scene},
    slices::Slices,
    window::Window,
};
use crate::{
    Timestamp, WeightBps,
    plan::{Criterion, Guard, OnBreach, Plan, Severity},
    traffic::{Arm, ArmGauges, Observation},
};

#[derive(Debug, Clone)]
pub(super) struct ThresholdJudge {
    interval_ms: u64,
    window: Window,
    /// Everything since the stage began.
    stage: Slices,
    rules: Vec<Rule>,
    guards: Vec<GuardRule>,
    gauges: [ArmGauges; 2],
    weight: WeightBps,
    evaluated_at: Option<Timestamp>,
    assessment: Assessment,
}

#[derive(Debug, Clone)]
struct Rule {
    criterion: Criterion,
    by_weight: Streak,
    matched: Streak,
}

#[derive(Debug, Clone)]
struct GuardRule {
    criterion: Criterion,
    window: Window,
}

/// How long and how often in a row a breach has been seen.
#[derive(Debug, Clone, Copy, Default)]
struct Streak {
    evaluations: u32,
    since: Option<Timestamp>,
}

impl ThresholdJudge {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            interval_ms: plan.analysis.interval_ms,
            window: Window::new(plan.analysis.window_ms),
            stage: Slices::default(),
            rules: Vec::new(),
            guards: plan.analysis.guards.iter().map(GuardRule::new).collect(),
            gauges: Default::default(),
            weight: WeightBps::ZERO,
            evaluated_at: None,
            assessment: Assessment::default(),
        }
    }

    /// Criteria start afresh, so that a stage is judged by its own traffic; guards run on.
    pub(super) fn begin_stage(&mut self, criteria: impl Iterator<Item = Criterion>, weight: WeightBps) {
        self.weight = weight;
        self.window.clear();
        self.stage = Slices::default();
        self.evaluated_at = None;
        self.rules = criteria.map(|criterion| Rule { criterion, by_weight: Streak::default(), matched: Streak::default() }).collect();
        self.assessment = Assessment::default();
    }

    /// The canary lost its traffic: from here on only stable is watched, by traffic that no longer meets the canary.
    pub(super) fn begin_retreat(&mut self) {
        self.weight = WeightBps::ZERO;
        self.window.clear();
        self.stage = Slices::default();
        self.evaluated_at = None;
        self.assessment = Assessment::default();
        self.guards.iter_mut().for_each(|guard| guard.window.clear());
        self.rules.iter_mut().for_each(|rule| (rule.by_weight, rule.matched) = Default::default());
    }

    /// Whether stable alone keeps the absolute limits: those of the rule called `broken`, or any if there is none of that
    /// name, must be seen to be kept, and no other may be seen broken. `None` while there is too little data.
    pub(super) fn stable_keeps_limits(&self, broken: Option<&str>, now: Timestamp) -> Option<bool> {
        let slices = self.window.total(now);
        let scene = Scene { slices: &slices, gauges: &self.gauges, covered_s: self.window.covered_s(), weight: WeightBps::ZERO };
        let criteria = || self.rules.iter().map(|rule| &rule.criterion).chain(self.guards.iter().map(|guard| &guard.criterion));
        if criteria().any(|criterion| scene.stable_breaks(criterion) == Some(true)) {
            return Some(false);
        }
        let is_known = broken.is_some_and(|name| criteria().any(|criterion| criterion.name == name));
        let decisive = |criterion: &Criterion| !is_known || Some(criterion.name.as_str()) == broken;
        criteria().any(|criterion| decisive(criterion) && scene.stable_breaks(criterion).is_some()).then_some(true)
    }

    pub(super) fn observe(&mut self, observation: &Observation, slices: &Slices) {
        self.gauges = observation.gauges;
        self.window.add(observation, slices);
        self.stage.merge(slices);
        for guard in &mut self.guards {
            guard.window.add(observation, slices);
        }
        self.assessment.broken_guards =
            self.guards.iter().filter_map(|guard| guard.broken(&self.gauges, self.weight, observation.at)).collect();
        if self.evaluated_at.is_none_or(|last| observation.at.ms_since(last) >= self.interval_ms) {
            self.evaluate(observation.at);
        }
    }

    pub(super) fn assessment(&self) -> &Assessment {
        &self.assessment
    }

    fn evaluate(&mut self, now: Timestamp) {
        let slices = self.window.total(now);
        let scene = Scene { slices: &slices, gauges: &self.gauges, covered_s: self.window.covered_s(), weight: self.weight };
        let whole = Scene { slices: &self.stage, ..scene };
        self.assessment.criteria = self.rules.iter_mut().filter_map(|rule| rule.assess(&scene, &whole, now)).collect();
        self.assessment.evaluated_at = Some(now);
        self.evaluated_at = Some(now);
    }
}

impl Rule {
    /// The worse of what the requests by weight and the matched ones show. A stage without weight has matched ones only.
    fn assess(&mut self, scene: &Scene<'_>, whole: &Scene<'_>, now: Timestamp) -> Option<CriterionAssessment> {
        let by_weight = match scene.read(&self.criterion) {
            Some(Read { reading: Reading::TooFew { .. }, .. }) => whole.read(&self.criterion),
            read => read,
        };
        let by_weight = by_weight.map(|read| judged(&self.criterion, &mut self.by_weight, read, now));
        let matched = scene.read_matched(&self.criterion).or_else(|| {
            let recent = scene.slices.matched(Arm::Canary).requests() > 0;
            whole.read_matched(&self.criterion).filter(|_| recent)
        });
        let matched = matched.map(|read| judged(&self.criterion, &mut self.matched, read, now));
        match (by_weight, matched) {
            (Some(by_weight), Some(matched)) => {
                let alone = scene.weight.is_zero() && by_weight.verdict == Verdict::Unknown;
                Some(if alone || badness(matched.verdict) > badness(by_weight.verdict) { matched } else { by_weight })
            }
            (by_weight, matched) => by_weight.or(matched.filter(|one| one.verdict != Verdict::Pass)),
        }
    }
}

/// What the worse of two verdicts is judged by. Missing data is worse than a pass, and a breach is worse than both.
fn badness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Inconclusive => 1,
        Verdict::Unknown => 2,
        Verdict::Environment => 3,
        Verdict::Fail => 4,
    }
}

fn judged(criterion: &Criterion, streak: &mut Streak, read: Read, now: Timestamp) -> CriterionAssessment {
    let (verdict, text) = match read.reading {
        Reading::Broken { shared, text } => {
            streak.evaluations = streak.evaluations.saturating_add(1);
            let lasted_ms = now.ms_since(*streak.since.get_or_insert(now));
            if streak.evaluations < criterion.consecutive.max(1) {
                (Verdict::Inconclusive, format!("{text}; broken in {} of {} looks", streak.evaluations, criterion.consecutive))
            } else if lasted_ms < criterion.for_ms {
                let (lasted, needed) = (crate::human_duration(lasted_ms), crate::human_duration(criterion.for_ms));
                (Verdict::Inconclusive, format!("{text}; broken for {lasted} of {needed}"))
            } else if shared {
                (Verdict::Environment, format!("{text}; stable breaks it too"))
            } else {
                (Verdict::Fail, text)
            }
        }
        Reading::Kept { text } => {
            *streak = Streak::default();
            (Verdict::Pass, text)
        }
        Reading::TooFew { text } => (Verdict::Inconclusive, text),
        Reading::NoData { text } => (Verdict::Unknown, text),
    };
    CriterionAssessment {
        name: criterion.name.clone(),
        metric: criterion.metric,
        verdict,
        canary: read.canary,
        stable: read.stable,
        on_breach: criterion.on_breach,
        severity: criterion.severity,
        pressure: read.pressure,
        text,
    }
}

impl GuardRule {
    fn new(guard: &Guard) -> Self {
        let criterion = Criterion {
            name: guard.name.clone(),
            metric: guard.metric,
            max: Some(guard.max),
            min: None,
            versus_stable: None,
            on_breach: OnBreach::Rollback,
            severity: Severity::Critical,
            for_ms: 0,
            consecutive: 1,
            min_sample: guard.min_sample,
        };
        Self { criterion, window: Window::new(guard.window_ms) }
    }

    fn broken(&self, gauges: &[ArmGauges; 2], weight: WeightBps, now: Timestamp) -> Option<CriterionAssessment> {
        let slices = self.window.total(now);
        let scene = Scene { slices: &slices, gauges, covered_s: self.window.covered_s(), weight };
        let reads = [scene.read(&self.criterion), scene.read_matched(&self.criterion)];
        let broken = reads.into_iter().flatten().find(|read| matches!(read.reading, Reading::Broken { .. }))?;
        Some(judged(&self.criterion, &mut Streak::default(), broken, now))
    }
}
