//! What the shell tells the state machine.

use serde::{Deserialize, Serialize};

use super::EffectId;
use crate::{WeightBps, traffic::Observation};

/// Something that happened outside. People's commands come through [`Release::command`](super::Release::command).
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Time passed.
    Tick,
    /// An effect is done.
    Done(EffectId),
    /// An effect failed.
    Failed(EffectId, Fault),
    /// What a router gives the canary, read because of an effect ([`Effect::ReadBack`](super::Effect::ReadBack)).
    ReadBack(EffectId, WeightBps),
    /// The result of preflight.
    PreflightChecked(EffectId, Vec<Check>),
    /// What was counted since the last observation.
    Observed(Observation),
    /// What a router does, seen without being asked: how drift is found.
    RouterSeen {
        /// The router.
        target: String,
        /// The share it gives the canary.
        weight: WeightBps,
    },
    /// What came of a check of the preview that runs.
    PreviewSeen {
        /// The check's name.
        check: String,
        /// What was wrong, in words.
        result: Result<(), String>,
    },
    /// How the versions' replicas are.
    WorkloadSeen(WorkloadSeen),
    /// An alert fires that the plan names and that did not when the release began.
    AlertFired {
        /// Its name.
        name: String,
        /// What it says, for people.
        text: String,
    },
}

/// Why an effect failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What went wrong and what to do, for people.
    pub text: String,
    /// Whether trying again can help.
    pub retryable: bool,
}

/// How the versions' replicas are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadSeen {
    /// Ready replicas of stable; `None`: not known.
    pub stable_ready: Option<u32>,
    /// Ready replicas of the canary; `None`: not known.
    pub canary_ready: Option<u32>,
    /// A failure of stable that people should know of.
    pub stable_failure: Option<String>,
    /// A failure of the canary that no statistics need to judge: it never became ready, crash-loops, or does not respond.
    pub canary_failure: Option<String>,
}

/// One check of preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// How it came out.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What to do about it, where something is to be done.
    pub hint: Option<String>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Fine.
    Pass,
    /// The release may start, but people should know.
    Warn,
    /// The release may not start.
    Fail,
}
