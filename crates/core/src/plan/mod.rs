//! What a release is going to do: the artefact that `plan` prints and that execution follows.
//!
//! A plan is a list of [`Step`]s over a set of targets. A target is one router of one region or environment; most releases
//! have exactly one. Every strategy compiles to such a list, so that the state machine knows no strategy names.

mod criterion;
mod external;
mod judge;
mod metric;
mod preview;
mod step;

pub use criterion::{Combine, Criterion, Guard, OUTAGE_GUARD, OnBreach, RatioMode, Severity, VersusStable};
pub use external::{ExternalKind, ExternalMetric, MetricName, MetricNameError};
pub use judge::{Expectation, JudgeKind, KayentaRules, SequentialRules};
pub use metric::{Metric, MetricSource, Quantile};
pub use preview::{Preview, PreviewCheck};
pub use step::{Gate, Step};

use serde::{Deserialize, Serialize};

use crate::WeightBps;

/// Everything the state machine needs to know about a release. Nothing in it changes while the release runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The release's name from its document.
    pub release: String,
    /// Names of the routers to drive, at least one.
    pub targets: Vec<String>,
    /// The stages in order, weights ascending, at least one. Previews come first and weigh nothing.
    pub steps: Vec<Step>,
    /// How long the canary is measured at 100 % while stable stays warm, in milliseconds.
    pub bake_ms: u64,
    /// How long the old version is kept for a rollback after success, in milliseconds.
    pub retain_ms: u64,
    /// How traffic is judged.
    pub analysis: Analysis,
    /// How long the canary may take until all its replicas are ready, in milliseconds.
    pub deploy_timeout_ms: u64,
    /// Clients keep their arm: the realised split follows clients, not requests, and is not checked against the weight.
    pub sticky: bool,
}

impl Plan {
    /// The criteria that hold in a stage: those of the release and the stage's own.
    pub fn criteria_of(&self, step: usize) -> impl Iterator<Item = &Criterion> {
        let own = self.steps.get(step).map_or(&[][..], |step| &step.criteria);
        self.analysis.criteria.iter().chain(own)
    }

    /// The bake as a stage: everything to the canary, for its time, with at least one request. It has as much patience as a
    /// stage has by default: three times its time, and at least ten minutes more than that.
    #[must_use]
    pub fn bake(&self) -> Step {
        Step {
            weights: self.targets.iter().map(|target| (target.clone(), WeightBps::FULL)).collect(),
            hold_ms: self.bake_ms,
            min_hold_ms: self.bake_ms,
            max_hold_ms: self.bake_ms.saturating_mul(3).max(self.bake_ms.saturating_add(10 * 60_000)),
            early: false,
            min_requests: 1,
            gate: Gate::Auto,
            criteria: Vec::new(),
            preview: None,
        }
    }

    /// Whether the canary gets everything in one step: nobody is sent to it by weight before. Stable then serves nobody from that moment on, and
    /// is there for nothing but the way back.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.steps.iter().all(Step::is_preview)
    }

    /// How long the release takes if nothing waits longer than it must, in milliseconds. Retention is not counted.
    #[must_use]
    pub fn expected_duration_ms(&self) -> u64 {
        self.steps.iter().fold(self.bake_ms, |sum, step| sum.saturating_add(step.hold_ms))
    }
}

/// How traffic is judged and what follows when it cannot be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// Which judge decides.
    pub judge: JudgeKind,
    /// What the traffic is expected to be, for forecasts.
    pub expect: Expectation,
    /// Threshold judge: time between two evaluations of the criteria, in milliseconds. Guards are evaluated on every observation.
    pub interval_ms: u64,
    /// Threshold judge: how far an evaluation looks back, in milliseconds.
    pub window_ms: u64,
    /// Time between two looks at sources outside of Serin, in milliseconds; `None` if nothing is measured by any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_ms: Option<u64>,
    /// What follows at the end of a stage's `max_hold_ms` when there is no usable data.
    pub on_no_data: OnNoData,
    /// What follows at the end of a stage's `max_hold_ms` when the data does not decide.
    pub on_inconclusive: OnInconclusive,
    /// What follows when both arms break a limit at once.
    pub retreat: RetreatPolicy,
    /// Criteria of every stage.
    pub criteria: Vec<Criterion>,
    /// Limits of the canary alone that roll back at once, see [`Guard`].
    pub guards: Vec<Guard>,
}

impl Analysis {
    /// The age from which on an evaluation says nothing about now, in milliseconds: three were missed, and at least 5 s.
    #[must_use]
    pub fn stale_after_ms(&self) -> u64 {
        self.interval_ms.saturating_mul(3).max(5_000)
    }

    /// How long a look at another source says something about now, in milliseconds: three looks, and a minute in which the source may be
    /// slow. Sources say themselves, and sooner, that there is nothing new; this is for the case that they say nothing at all.
    #[must_use]
    pub fn unheard_after_ms(&self) -> u64 {
        self.poll_ms.unwrap_or(0).saturating_mul(3).saturating_add(60_000)
    }
}

/// Policy for a stage that ran out of time without usable data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNoData {
    /// Pause and tell people.
    Hold,
    /// Roll back.
    Rollback,
    /// Go on to the next stage; the journal says that it went on without evidence.
    Continue,
}

/// Policy for a stage that ran out of time undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnInconclusive {
    /// Pause and tell people.
    Hold,
    /// Go on to the next stage; the journal says that it was undecided.
    Advance,
    /// Roll back.
    Rollback,
}

/// What to do after traffic left the canary because both arms broke a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetreatPolicy {
    /// If stable recovers within this time after the canary lost its traffic, the canary is taken to be the cause and
    /// is rolled back, in milliseconds.
    pub recover_within_ms: u64,
    /// What follows if it does not recover: the canary was not the cause.
    pub otherwise: RetreatEnd,
}

/// How a retreat ends when stable did not recover without the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetreatEnd {
    /// Stay at weight 0, paused, until a person resumes or aborts.
    Pause,
    /// Go back to the stage once stable keeps its limits again.
    Resume,
    /// Roll back.
    Rollback,
}
