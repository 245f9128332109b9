//! The threshold judge: windowed values against limits, the way people know it from other tools.
//!
//! Criteria are evaluated every `interval_ms` over the last `window_ms`; where that holds some requests but fewer than a
//! criterion's sample, over the whole stage so far, so that small weights are judged at all. A breach counts when it was seen
//! in `consecutive` evaluations in a row and has lasted `for_ms`. With `cumulative` a breach that counts is borne until it
//! was seen in that many evaluations of the stage: good looks in between pass but take nothing back, and from then on the
//! criterion fails for the rest of the stage. Looks at which stable breaks the limit too are counted, but such a look is never the one
//! that fails the criterion.
//!
//! Too small a sample neither passes nor fails and leaves a running breach as it is, and so does missing data. Limits against
//! stable apply only while both arms get traffic; absolute limits always, and separately to requests that a declared rule
//! sent to the canary: an evaluation sees a breach if either shows it. [Guards](super::guards) are looked at with every
//! observation.
//!
//! It is simple and repeated looking wears it out: on noisy services prefer more requests per window.

use super::{
    Assessment, CriterionAssessment, Verdict,
    guards::{self, Guards},
    reading::{Read, Reading, Scene},
    sights::Sights,
    slices::Slices,
    window::Window,
};
use crate::{
    Timestamp, WeightBps,
    plan::{Criterion, Plan},
    traffic::{Arm, ArmGauges, Observation},
};

#[derive(Debug, Clone)]
pub(super) struct ThresholdJudge {
    interval_ms: u64,
    window: Window,
    /// Everything since the stage began.
    stage: Slices,
    rules: Vec<Rule>,
    guards: Guards,
    gauges: [ArmGauges; 2],
    sights: Sights,
    weight: WeightBps,
    evaluated_at: Option<Timestamp>,
    assessment: Assessment,
}

#[derive(Debug, Clone)]
struct Rule {
    criterion: Criterion,
    by_weight: Streak,
    matched: Streak,
    breaches: Breaches,
}

/// How long and how often in a row a breach has been seen.
#[derive(Debug, Clone, Copy, Default)]
struct Streak {
    evaluations: u32,
    since: Option<Timestamp>,
}

/// Evaluations of the stage that saw a breach, for `cumulative`.
#[derive(Debug, Clone, Copy, Default)]
struct Breaches {
    seen: u32,
    /// There were too many of them.
    is_final: bool,
}

impl ThresholdJudge {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            interval_ms: plan.analysis.interval_ms,
            window: Window::new(plan.analysis.window_ms),
            stage: Slices::default(),
            rules: Vec::new(),
            guards: Guards::new(&plan.analysis.guards, Sights::new(&plan.analysis)),
            gauges: Default::default(),
            sights: Sights::new(&plan.analysis),
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
        self.rules = criteria.map(Rule::new).collect();
        self.assessment = Assessment::default();
    }

    /// The canary lost its traffic: from here on only stable is watched, by traffic that no longer meets the canary.
    pub(super) fn begin_retreat(&mut self) {
        self.weight = WeightBps::ZERO;
        self.window.clear();
        self.stage = Slices::default();
        self.evaluated_at = None;
        self.assessment = Assessment::default();
        self.guards.clear();
        self.rules = std::mem::take(&mut self.rules).into_iter().map(|rule| Rule::new(rule.criterion)).collect();
    }

    /// Whether stable alone keeps the absolute limits of criteria and guards, see [`guards::keeps_limits`].
    pub(super) fn stable_keeps_limits(&self, broken: Option<&str>, now: Timestamp) -> Option<bool> {
        guards::keeps_limits(self.limits_of_stable(now), broken)
    }

    /// Names of criteria and guards, and whether stable alone breaks their absolute limits: `None` for too little data, or no limit.
    pub(super) fn limits_of_stable(&self, now: Timestamp) -> impl Iterator<Item = (&str, Option<bool>)> {
        let slices = self.window.total(now);
        let criteria = self.rules.iter().map(|rule| &rule.criterion).chain(self.guards.criteria());
        criteria.map(move |criterion| {
            let scene = Scene {
                slices: &slices,
                gauges: &self.gauges,
                sights: &self.sights,
                covered_s: self.window.covered_s(),
                weight: WeightBps::ZERO,
            };
            (criterion.name.as_str(), scene.stable_breaks(criterion))
        })
    }

    pub(super) fn observe(&mut self, observation: &Observation, slices: &Slices) {
        self.gauges = observation.gauges;
        self.sights.observe(observation);
        self.window.add(observation, slices);
        self.stage.merge(slices);
        self.assessment.broken_guards = self.guards.observe(observation, slices, self.weight);
        if self.evaluated_at.is_none_or(|last| observation.at.ms_since(last) >= self.interval_ms) {
            self.evaluate(observation.at);
        }
    }

    pub(super) fn assessment(&self) -> &Assessment {
        &self.assessment
    }

    fn evaluate(&mut self, now: Timestamp) {
        let slices = self.window.total(now);
        let scene =
            Scene { slices: &slices, gauges: &self.gauges, sights: &self.sights, covered_s: self.window.covered_s(), weight: self.weight };
        let whole = Scene { slices: &self.stage, ..scene };
        self.assessment.criteria = self.rules.iter_mut().filter_map(|rule| rule.assess(&scene, &whole, now)).collect();
        self.assessment.evaluated_at = Some(now);
        self.evaluated_at = Some(now);
    }
}

impl Rule {
    fn new(criterion: Criterion) -> Self {
        Self { criterion, by_weight: Streak::default(), matched: Streak::default(), breaches: Breaches::default() }
    }

    fn assess(&mut self, scene: &Scene<'_>, whole: &Scene<'_>, now: Timestamp) -> Option<CriterionAssessment> {
        let one = self.look(scene, whole, now)?;
        Some(match self.criterion.cumulative {
            Some(most) => self.breaches.weigh(one, most.max(1)),
            None => one,
        })
    }

    /// The worse of what the requests by weight and the matched ones show. A stage without weight has matched ones only.
    fn look(&mut self, scene: &Scene<'_>, whole: &Scene<'_>, now: Timestamp) -> Option<CriterionAssessment> {
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
                Some(if alone || matched.verdict.badness() > by_weight.verdict.badness() { matched } else { by_weight })
            }
            (by_weight, matched) => by_weight.or(matched.filter(|one| one.verdict != Verdict::Pass)),
        }
    }
}

impl Breaches {
    /// What a look means after the ones before it, if the `most`-th breach fails the criterion.
    fn weigh(&mut self, mut one: CriterionAssessment, most: u32) -> CriterionAssessment {
        let is_breach = matches!(one.verdict, Verdict::Fail | Verdict::Environment);
        self.seen = self.seen.saturating_add(u32::from(is_breach));
        let is_enough = self.seen >= most;
        self.is_final |= is_enough && one.verdict == Verdict::Fail;
        if is_breach && !is_enough {
            one.verdict = Verdict::Inconclusive;
        } else if self.is_final && one.verdict != Verdict::Environment {
            one.verdict = Verdict::Fail;
        }
        if self.seen > 0 {
            let looks = if self.seen == 1 { "look" } else { "looks" };
            one.text = format!("{}; broken in {} {looks} of this stage, fails at {most}", one.text, self.seen);
        }
        one
    }
}

fn judged(criterion: &Criterion, streak: &mut Streak, read: Read, now: Timestamp) -> CriterionAssessment {
    let (verdict, text) = match read.reading.clone() {
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
    read.assessed(criterion, verdict, text)
}
