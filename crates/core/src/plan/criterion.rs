//! What must hold for the canary to get more traffic.

use serde::{Deserialize, Serialize};
pub use serin_stats::RatioMode;

use super::Metric;

/// A rule about one metric. It may have an absolute limit, a limit against stable, or both; breaking either is a breach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// Its name in output; unique within a stage.
    pub name: String,
    /// What it looks at.
    pub metric: Metric,
    /// The canary's value may not be above this, in the metric's unit.
    pub max: Option<f64>,
    /// The canary's value may not be below this, in the metric's unit.
    pub min: Option<f64>,
    /// How the canary's value may differ from stable's over the same time.
    pub versus_stable: Option<VersusStable>,
    /// What a breach does.
    pub on_breach: OnBreach,
    /// How much it weighs in the health score.
    pub severity: Severity,
    /// How `versus_stable` is read by the sequential judge; the others take it as it stands.
    pub mode: RatioMode,
    /// Stable's usual value of a rate, 0 to 1: assumed until stable was seen, and by forecasts.
    pub expected: Option<f64>,
    /// Threshold judge: the breach must last this long before it counts, in milliseconds.
    pub for_ms: u64,
    /// Threshold judge: the breach must be seen in this many evaluations in a row, at least 1.
    pub consecutive: u32,
    /// Threshold judge: the breach counts for good once it was seen in this many evaluations of the stage, in a row or not.
    pub cumulative: Option<u32>,
    /// Threshold judge: the least number of the canary's requests in the window; with fewer the criterion is undecided.
    pub min_sample: u64,
}

impl Criterion {
    /// A criterion of the metric's name without any limit, to which limits are added. It rolls back, is critical, and has no
    /// patience.
    #[must_use]
    pub fn of(metric: Metric) -> Self {
        Self {
            name: metric.name().to_owned(),
            metric,
            max: None,
            min: None,
            versus_stable: None,
            on_breach: OnBreach::Rollback,
            severity: Severity::Critical,
            mode: RatioMode::Limit,
            expected: None,
            for_ms: 0,
            consecutive: 1,
            cumulative: None,
            min_sample: 0,
        }
    }
}

/// Limits relative to stable, measured over the same time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VersusStable {
    /// The canary's value may be at most this many times stable's.
    pub ratio: Option<f64>,
    /// The canary's value may be at most stable's plus this, in the metric's unit (shares: 0.005 for `0.5pp`).
    pub increase: Option<f64>,
    /// The canary's value may be at most this share of stable's lower (0.02 for `2%`).
    pub decrease: Option<f64>,
    /// How `ratio` and `increase` work together.
    pub combine: Combine,
}

/// How `ratio` and `increase` of one criterion work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// A breach needs both to be exceeded.
    Both,
    /// Either alone is a breach.
    Either,
}

/// What a breach does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBreach {
    /// Roll back.
    Rollback,
    /// Pause and tell people.
    Pause,
    /// Tell people.
    Warn,
}

/// How much a criterion weighs in the health score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Twice.
    Critical,
    /// Once.
    Warning,
}

/// The name of the guard that every release has unless it is switched off by name.
pub const OUTAGE_GUARD: &str = "outage";

/// A limit that rolls back at once, without patience. The sequential judge weighs rates and latencies as evidence and acts once
/// the limit is surely broken; every other guard is looked at as it stands, with every observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// Its name in output; unique.
    pub name: String,
    /// What it looks at.
    pub metric: Metric,
    /// The canary's value may not be above this, in the metric's unit.
    pub max: f64,
    /// Unless it is weighed as evidence: how far it looks back, in milliseconds. What processes use is taken as last measured.
    pub window_ms: u64,
    /// Unless it is weighed as evidence: the least number of the canary's requests in the window before it acts. Metrics
    /// that are not made of requests need none.
    pub min_sample: u64,
}

impl Guard {
    /// The guard in a criterion's words: nothing but a `max` that rolls back.
    #[must_use]
    pub fn as_criterion(&self) -> Criterion {
        Criterion { name: self.name.clone(), max: Some(self.max), min_sample: self.min_sample, ..Criterion::of(self.metric) }
    }
}
