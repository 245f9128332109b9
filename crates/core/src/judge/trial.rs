//! Everything that is remembered about observed traffic, outside of the journal.

use serde::{Deserialize, Serialize};

use super::{
    Assessment, Tally,
    kayenta::KayentaJudge,
    sequential::{Memory, SequentialJudge},
    slices::Slices,
    threshold::ThresholdJudge,
};
use crate::{
    Timestamp, WeightBps,
    plan::{JudgeKind, Plan},
    traffic::{Arm, Observation},
};

/// The judge of a release with the tally of its current stage.
#[derive(Debug, Clone)]
pub struct Trial {
    judge: Judge,
    scope: Option<Scope>,
    tally: Tally,
    open: Vec<Waiting>,
    /// When whoever counts requests here was last heard of: a data plane of our own. `None`: there is none.
    counted_at: Option<Timestamp>,
}

/// Compared requests without an answer that were assigned at one weight.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    weight: WeightBps,
    arm: Arm,
    requests: u64,
}

/// What is being judged: a stage of the plan, or the canary at 100 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Scope {
    step: usize,
    weight: WeightBps,
}

/// The judges. Adding one means adding a variant and its four calls below.
#[derive(Debug, Clone)]
enum Judge {
    Threshold(Box<ThresholdJudge>),
    Sequential(Box<SequentialJudge>),
    Kayenta(Box<KayentaJudge>),
}

/// What survives a restart of the shell: all evidence of the sequential judge. Windows and counted breaches of the
/// threshold judge do not, nor do the series of the kayenta judge: they fill again within a window or an interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    scope: Option<Scope>,
    tally: Tally,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counted_at: Option<Timestamp>,
    #[serde(default)]
    evidence: Option<Box<Memory>>,
}

impl Trial {
    /// A trial that has seen nothing.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let judge = match plan.analysis.judge {
            JudgeKind::Sequential(rules) => Judge::Sequential(Box::new(SequentialJudge::new(plan, rules))),
            JudgeKind::Threshold => Judge::Threshold(Box::new(ThresholdJudge::new(plan))),
            JudgeKind::Kayenta(rules) => Judge::Kayenta(Box::new(KayentaJudge::new(plan, rules))),
        };
        Self { judge, scope: None, tally: Tally::default(), open: Vec::new(), counted_at: None }
    }

    /// Starts judging a stage at its proven weight. `step` beyond the last stage: the canary at 100 %, judged by the
    /// criteria of the whole release.
    pub fn begin_stage(&mut self, plan: &Plan, step: usize, weight: WeightBps) {
        self.scope = Some(Scope { step, weight });
        self.tally = Tally::default();
        match &mut self.judge {
            Judge::Threshold(judge) => judge.begin_stage(plan.criteria_of(step).cloned(), weight),
            Judge::Kayenta(judge) => judge.begin_stage(plan.criteria_of(step).cloned(), weight),
            Judge::Sequential(judge) => judge.begin_stage(plan, step, weight),
        }
    }

    /// The canary lost its traffic because both arms broke a limit: from here on stable is watched alone.
    pub fn begin_retreat(&mut self) {
        self.scope = None;
        self.tally = Tally::default();
        match &mut self.judge {
            Judge::Threshold(judge) => judge.begin_retreat(),
            Judge::Kayenta(judge) => judge.begin_retreat(),
            Judge::Sequential(judge) => judge.begin_retreat(),
        }
    }

    /// During a retreat: whether stable alone keeps the absolute limits, above all that of the criterion or guard called
    /// `broken`; `None` while there is too little data.
    #[must_use]
    pub fn stable_keeps_limits(&self, broken: Option<&str>, now: Timestamp) -> Option<bool> {
        match &self.judge {
            Judge::Threshold(judge) => judge.stable_keeps_limits(broken, now),
            Judge::Kayenta(judge) => judge.stable_keeps_limits(broken, now),
            Judge::Sequential(judge) => judge.stable_keeps_limits(broken, now),
        }
    }

    /// A person goes on although criteria that pause have failed: they start anew, so that they do not keep the stage from
    /// passing for what is known already. Returns their names.
    pub fn acknowledge(&mut self) -> Vec<String> {
        match &mut self.judge {
            Judge::Sequential(judge) => judge.acknowledge(),
            Judge::Threshold(_) | Judge::Kayenta(_) => Vec::new(),
        }
    }

    /// What stable itself breaks at the moment, in words: a canary next to it could not be judged by it.
    #[must_use]
    pub fn stable_trouble(&self) -> Option<String> {
        match &self.judge {
            Judge::Sequential(judge) => judge.stable_trouble(),
            Judge::Threshold(_) | Judge::Kayenta(_) => None,
        }
    }

    /// Once the canary has everything: the criteria that would hold it against what stable was before, and cannot, because stable was seen too little.
    #[must_use]
    pub fn blind(&self) -> Vec<String> {
        match &self.judge {
            Judge::Sequential(judge) => judge.blind(),
            Judge::Threshold(_) | Judge::Kayenta(_) => Vec::new(),
        }
    }

    /// Takes in what was observed.
    pub fn observe(&mut self, observation: &Observation) {
        let slices = Slices::of(observation);
        let compared = observation.open.iter().filter(|cell| cell.assignment.is_compared());
        if observation.measured.is_empty() {
            self.counted_at = self.counted_at.max(Some(observation.at));
        }
        self.open = compared.map(|cell| Waiting { weight: cell.weight, arm: cell.arm, requests: cell.ages.total() }).collect();
        if let Some(scope) = self.scope {
            self.tally.add(observation, &slices, scope.weight);
        }
        match &mut self.judge {
            Judge::Threshold(judge) => judge.observe(observation, &slices),
            Judge::Kayenta(judge) => judge.observe(observation, &slices),
            Judge::Sequential(judge) => judge.observe(observation, &slices),
        }
    }

    /// Compared requests of the canary and of stable without an answer, if the canary has far more of them than its share: four
    /// times, and four more. Requests that hang count for nothing until they time out, so until then nothing may pass on the
    /// strength of the others.
    ///
    /// The share is that of the weight that assigned them, so that long streams from before a change of the weight weigh as much
    /// as they did. Weights that leave nothing to compare say nothing, and neither does a source that knows no open requests.
    #[must_use]
    pub fn piled_up(&self) -> Option<(u64, u64)> {
        let is_split = |weight: WeightBps| !weight.is_zero() && weight != WeightBps::FULL;
        if !is_split(self.scope?.weight) {
            return None;
        }
        let (mut stable, mut canary, mut expected) = (0_u64, 0_u64, 0.0);
        for waiting in self.open.iter().filter(|waiting| is_split(waiting.weight)) {
            match waiting.arm {
                Arm::Canary => canary = canary.saturating_add(waiting.requests),
                Arm::Stable => {
                    stable = stable.saturating_add(waiting.requests);
                    let share = waiting.weight.share();
                    expected += waiting.requests as f64 * share / (1.0 - share);
                }
            }
        }
        (canary as f64 > 4.0 + 4.0 * expected).then_some((canary, stable))
    }

    /// What the data says now.
    #[must_use]
    pub fn assessment(&self) -> &Assessment {
        match &self.judge {
            Judge::Threshold(judge) => judge.assessment(),
            Judge::Kayenta(judge) => judge.assessment(),
            Judge::Sequential(judge) => judge.assessment(),
        }
    }

    /// What the current stage has seen.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// When whoever counts requests here was last heard of, restarts included; `None` where only other sources count. What those say must not
    /// hide that a data plane of our own fell silent.
    #[must_use]
    pub fn counted_at(&self) -> Option<Timestamp> {
        self.counted_at
    }

    /// Canary requests that count towards a stage's `min_requests`: compared ones; where there is nothing to compare with,
    /// all by weight; and in a stage without weight the matched ones, or those of the preview. Where nobody here counts, what another
    /// source counted.
    #[must_use]
    pub fn canary_requests(&self, weight: WeightBps) -> u64 {
        match (self.counted_at, self.tally.elsewhere) {
            (None, Some((_, elsewhere))) => elsewhere,
            _ => self.tally.canary_requests(weight),
        }
    }

    /// What a restarted shell needs to go on in the same stage.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let evidence = match &self.judge {
            Judge::Sequential(judge) => Some(Box::new(judge.remembered())),
            Judge::Threshold(_) | Judge::Kayenta(_) => None,
        };
        Checkpoint { scope: self.scope, tally: self.tally, counted_at: self.counted_at, evidence }
    }

    /// Takes over the evidence of a checkpoint, whatever stage it was made in: evidence against the canary belongs to the
    /// release, and who counts requests is the same in every stage. `false` if there should be some and it is of no use: none was kept, or it is about other criteria.
    #[must_use]
    pub fn recall(&mut self, checkpoint: &Checkpoint) -> bool {
        self.counted_at = self.counted_at.max(checkpoint.counted_at);
        match (&mut self.judge, &checkpoint.evidence) {
            (Judge::Sequential(judge), Some(memory)) => judge.recall(memory),
            (Judge::Sequential(_), None) => false,
            (Judge::Threshold(_) | Judge::Kayenta(_), _) => true,
        }
    }

    /// Leaves time without an owner out, in which nobody could be heard: it is no silence.
    pub fn skip(&mut self, unobserved_ms: u64) {
        self.counted_at = self.counted_at.map(|at| at.plus_ms(unobserved_ms));
    }

    /// Goes on in a stage after a restart, with the evidence that was [recalled](Self::recall) before. What the checkpoint says
    /// about a stage counts if it belongs to the same stage and weight; otherwise the stage counts from zero, which can only
    /// make it longer.
    pub fn resume_stage(&mut self, plan: &Plan, checkpoint: &Checkpoint, step: usize, weight: WeightBps) {
        if checkpoint.scope != Some(Scope { step, weight }) {
            return self.begin_stage(plan, step, weight);
        }
        match &mut self.judge {
            Judge::Sequential(judge) => judge.resume_stage(plan, step, weight),
            _ => self.begin_stage(plan, step, weight),
        }
        self.scope = checkpoint.scope;
        self.tally = checkpoint.tally;
    }

    /// Goes on in a retreat after a restart, with the evidence that was [recalled](Self::recall) before. `step`: the stage that
    /// traffic left.
    pub fn resume_retreat(&mut self, plan: &Plan, step: usize) {
        match &mut self.judge {
            Judge::Sequential(judge) => {
                self.scope = None;
                self.tally = Tally::default();
                judge.resume_retreat(plan, step);
            }
            Judge::Threshold(_) | Judge::Kayenta(_) => {
                self.begin_stage(plan, step, WeightBps::ZERO);
                self.begin_retreat();
            }
        }
    }
}
