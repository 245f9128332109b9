//! One stage of a release.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Criterion, Preview};
use crate::WeightBps;

/// A stage: a weight per target, and what must be seen there before the next one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The canary's share on each target.
    pub weights: BTreeMap<String, WeightBps>,
    /// How long the stage is measured, in milliseconds, counted from the proof of its weight.
    pub hold_ms: u64,
    /// The least time before an early pass, in milliseconds; at most `hold_ms`.
    pub min_hold_ms: u64,
    /// The most time before the policies for missing or undecided data act, in milliseconds; at least `hold_ms`.
    pub max_hold_ms: u64,
    /// Whether proven criteria may end the hold at `min_hold_ms`.
    pub early: bool,
    /// The least number of compared canary requests in this stage before it may pass.
    pub min_requests: u64,
    /// Whether a person must approve before the next stage.
    pub gate: Gate,
    /// Criteria of this stage alone.
    pub criteria: Vec<Criterion>,
    /// The canary is reached through an address of its own and by no weight: every weight is 0. `None`: a stage by weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
}

impl Step {
    /// Whether nobody is sent to the canary but those who ask for it.
    #[must_use]
    pub fn is_preview(&self) -> bool {
        self.preview.is_some()
    }

    /// What people call the stage: `preview`, or its weight.
    #[must_use]
    pub fn title(&self) -> String {
        if self.is_preview() { "preview".to_owned() } else { self.weight().to_string() }
    }

    /// The largest share on any target: what the stage is called by.
    #[must_use]
    pub fn weight(&self) -> WeightBps {
        self.weights.values().copied().max().unwrap_or(WeightBps::ZERO)
    }
}

/// What lets a passed stage go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Nothing more.
    Auto,
    /// A person's approval.
    Manual,
}
