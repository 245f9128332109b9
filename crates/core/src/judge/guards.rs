//! Guards: absolute limits that every observation is held against, whatever the judge.
//!
//! Each guard looks back over a window of its own, at requests by weight and at matched ones separately. It has no patience:
//! the first look that breaks its limit with enough requests in the window is a breach. Too few requests or no data break
//! nothing. If stable breaks the same limit, the verdict is [`Verdict::Environment`]. Guards run on from stage to stage, and
//! begin afresh when the canary loses its traffic.

use super::{
    CriterionAssessment, Verdict,
    reading::{Read, Reading, Scene},
    sights::Sights,
    slices::Slices,
    window::Window,
};
use crate::{
    Timestamp, WeightBps,
    plan::{Criterion, Guard},
    traffic::{ArmGauges, Observation},
};

/// A set of guards with what they have seen.
#[derive(Debug, Clone)]
pub(super) struct Guards {
    rules: Vec<Rule>,
    gauges: [ArmGauges; 2],
    sights: Sights,
}

#[derive(Debug, Clone)]
struct Rule {
    /// The guard in a criterion's words.
    criterion: Criterion,
    window: Window,
}

impl Guards {
    pub(super) fn new<'a>(guards: impl IntoIterator<Item = &'a Guard>, sights: Sights) -> Self {
        Self { rules: guards.into_iter().map(Rule::new).collect(), gauges: Default::default(), sights }
    }

    /// Forgets what was seen of requests.
    pub(super) fn clear(&mut self) {
        self.rules.iter_mut().for_each(|rule| rule.window.clear());
    }

    /// Takes in what was observed at the canary's `weight`, and gives the guards that are broken now, in the plan's order.
    pub(super) fn observe(&mut self, observation: &Observation, slices: &Slices, weight: WeightBps) -> Vec<CriterionAssessment> {
        self.gauges = observation.gauges;
        self.sights.observe(observation);
        self.rules.iter_mut().for_each(|rule| rule.window.add(observation, slices));
        self.rules.iter().filter_map(|rule| rule.broken(&self.gauges, &self.sights, weight, observation.at)).collect()
    }

    /// The guards as criteria with nothing but a `max`.
    pub(super) fn criteria(&self) -> impl Iterator<Item = &Criterion> {
        self.rules.iter().map(|rule| &rule.criterion)
    }

    /// Whether stable alone keeps the guards' limits, each within its own window, see [`keeps_limits`].
    pub(super) fn stable_keeps_limits(&self, broken: Option<&str>, now: Timestamp) -> Option<bool> {
        let seen =
            |rule: &Rule| rule.with_scene(&self.gauges, &self.sights, WeightBps::ZERO, now, |scene| scene.stable_breaks(&rule.criterion));
        keeps_limits(self.rules.iter().map(|rule| (rule.criterion.name.as_str(), seen(rule))), broken)
    }
}

/// Whether limits are kept, given for each rule its name and whether its limit is seen broken (`None`: too little data, or
/// no limit). That of the rule called `broken`, or any if there is none of that name, must be seen to be kept, and no
/// other may be seen broken. `None` while there is too little data.
pub(super) fn keeps_limits<'a>(seen: impl Iterator<Item = (&'a str, Option<bool>)>, broken: Option<&str>) -> Option<bool> {
    let seen: Vec<_> = seen.collect();
    if seen.iter().any(|(_, breaks)| *breaks == Some(true)) {
        return Some(false);
    }
    let is_known = seen.iter().any(|(name, _)| Some(*name) == broken);
    seen.iter().any(|(name, breaks)| breaks.is_some() && (!is_known || Some(*name) == broken)).then_some(true)
}

impl Rule {
    fn new(guard: &Guard) -> Self {
        Self { criterion: guard.as_criterion(), window: Window::new(guard.window_ms) }
    }

    fn broken(&self, gauges: &[ArmGauges; 2], sights: &Sights, weight: WeightBps, now: Timestamp) -> Option<CriterionAssessment> {
        let reads =
            self.with_scene(gauges, sights, weight, now, |scene| [scene.read(&self.criterion), scene.read_matched(&self.criterion)]);
        reads.into_iter().flatten().find_map(|read| self.breach(read))
    }

    fn breach(&self, read: Read) -> Option<CriterionAssessment> {
        let (verdict, text) = match &read.reading {
            Reading::Broken { shared: true, text } => (Verdict::Environment, format!("{text}; stable breaks it too")),
            Reading::Broken { shared: false, text } => (Verdict::Fail, text.clone()),
            _ => return None,
        };
        Some(read.assessed(&self.criterion, verdict, text))
    }

    fn with_scene<T>(
        &self,
        gauges: &[ArmGauges; 2],
        sights: &Sights,
        weight: WeightBps,
        now: Timestamp,
        look: impl FnOnce(&Scene<'_>) -> T,
    ) -> T {
        let slices = self.window.total(now);
        look(&Scene { slices: &slices, gauges, sights, covered_s: self.window.covered_s(), weight })
    }
}
