//! Which judge decides, and what it is told.

use serde::{Deserialize, Serialize};

/// The judges there are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JudgeKind {
    /// Sequential tests that stay valid however often one looks.
    Sequential(SequentialRules),
    /// Compares windowed values with limits, with `for`, `consecutive` and `cumulative`.
    Threshold,
    /// Scores metrics by rank tests over a time series, as Kayenta does.
    Kayenta(KayentaRules),
}

/// The error probabilities of the sequential judge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SequentialRules {
    /// Probability that a canary which is no worse is ever rolled back: per release, over all its criteria and stages.
    pub alpha: f64,
    /// Probability that a canary at a criterion's tolerance passes that criterion, per stage.
    pub beta: f64,
}

impl Default for SequentialRules {
    fn default() -> Self {
        Self { alpha: serin_stats::DEFAULT_ALPHA, beta: serin_stats::DEFAULT_BETA }
    }
}

/// When Kayenta's score passes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KayentaRules {
    /// The last score of a stage must be at least this, 0 to 100.
    pub pass: f64,
    /// Every score of a stage must be at least this, 0 to 100.
    pub marginal: f64,
    /// Time between two judgements, in milliseconds.
    pub interval_ms: u64,
    /// Length of one value of the time series, in milliseconds.
    pub step_ms: u64,
}

impl Default for KayentaRules {
    fn default() -> Self {
        Self { pass: 95.0, marginal: 75.0, interval_ms: 5 * 60_000, step_ms: 60_000 }
    }
}

/// What is expected of the traffic. Nothing is judged by it; forecasts are made with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Requests per second of both versions together.
    pub rps: Option<f64>,
    /// Stable's share of errors, 0 to 1.
    pub error_rate: Option<f64>,
}
