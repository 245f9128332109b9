//! How a run ended.

use serde::{Deserialize, Serialize};
use serin_core::{
    Timestamp,
    release::{Cause, Phase, State},
};

use super::ArmTotals;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The release's name.
    pub release: String,
    /// Hash of its document's meaning.
    pub document_hash: String,
    /// Which run of this document.
    pub run: u32,
    /// How it ended.
    pub end: RunEnd,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What both versions served, by `Arm::index`.
    pub totals: [ArmTotals; 2],
    /// Requests that failed on the canary and that stable answered.
    pub rescued: u64,
    /// Error answers that Serin's proxy made itself and clients saw.
    pub own_errors: u64,
    /// What happened, at most 500 lines.
    pub timeline: Vec<TimelineEntry>,
    /// Where journal and logs are.
    pub state_folder: String,
}

/// A line of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// When.
    pub at: Timestamp,
    /// What, in two or three words.
    pub head: String,
    /// The details.
    pub detail: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum RunEnd {
    /// The new version serves.
    Succeeded,
    /// Preflight refused it; nothing was changed.
    Refused,
    /// Stable serves alone.
    RolledBack {
        /// Why.
        cause: Cause,
    },
    /// Nobody decided in time; everything was left running.
    OperatorNeeded {
        /// What is to be decided.
        why: String,
    },
    /// Ended safely after the first Ctrl-C.
    Interrupted,
    /// Stopped at once after the second.
    Forced,
    /// The journal says something that no release should come to.
    Unexpected {
        /// The phase.
        phase: String,
    },
}

impl RunEnd {
    /// How a release that is over ended.
    #[must_use]
    pub fn of(state: &State) -> Self {
        match (&state.phase, &state.rollback) {
            (Phase::Succeeded, _) => Self::Succeeded,
            (Phase::Refused, _) => Self::Refused,
            (Phase::RolledBack, Some(cause)) => Self::RolledBack { cause: cause.clone() },
            (phase, _) => Self::Unexpected { phase: phase.name().to_owned() },
        }
    }

    /// The end in a word, as the store keeps it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::RolledBack { .. } => "rolled back",
            Self::OperatorNeeded { .. } => "needs an operator",
            Self::Interrupted => "interrupted",
            Self::Forced => "forced",
            Self::Unexpected { .. } => "unexpected",
        }
    }
}
