//! What the status holds of the engine: enough for the next leader to go on exactly, in at most [`MAX_ENGINE_BYTES`].
//!
//! The state is small whatever the plan: it holds positions, not history. What the judge remembers grows with the number of criteria; if both
//! together are too large, the judge's part is left out, and a new leader judges anew from there, which it says.

use serde::{Deserialize, Serialize};
use serin_core::{
    Timestamp,
    judge::Checkpoint,
    release::{Phase, State},
};
use serin_spec::validated::{ClusterRelease, HttpRoute, Pair};

use crate::api::Engine;

/// State and memory of the judge together.
pub const MAX_ENGINE_BYTES: usize = 32 * 1024;

/// The objects that a run was begun with, and is ended at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What runs.
    pub workload: Pair,
    /// Who splits the traffic.
    pub traffic: HttpRoute,
}

impl Place {
    /// Those of a document.
    #[must_use]
    pub fn of(release: &ClusterRelease) -> Self {
        Self { workload: release.workload.clone(), traffic: release.traffic.clone() }
    }
}

/// What a run is and where it has come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot<'a> {
    /// Which ownership writes.
    pub epoch: u64,
    /// The document of the run, by hash.
    pub document_hash: &'a str,
    /// The canary's version that is on trial.
    pub template_hash: &'a str,
    /// The objects of the run.
    pub place: &'a Place,
    /// The canary's replicas before the run.
    pub canary_replicas: i32,
    /// The fold of the journal.
    pub state: &'a State,
    /// What the judge remembers.
    pub checkpoint: Option<&'a Checkpoint>,
    /// The latest time that the engine knows of.
    pub seen: Timestamp,
}

/// A snapshot as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Resumed {
    /// The objects of the run.
    pub place: Place,
    /// The fold of the journal.
    pub state: State,
    /// What the judge remembers.
    pub checkpoint: Option<Checkpoint>,
}

impl Snapshot<'_> {
    /// As it is stored.
    #[must_use]
    pub fn store(&self) -> Engine {
        let state = serde_json::to_string(self.state).unwrap_or_default();
        let checkpoint = self.checkpoint.filter(|_| !self.state.is_final()).and_then(|checkpoint| serde_json::to_string(checkpoint).ok());
        let fits = |checkpoint: &String| state.len() + checkpoint.len() <= MAX_ENGINE_BYTES;
        Engine {
            epoch: self.epoch,
            document_hash: self.document_hash.to_owned(),
            template_hash: self.template_hash.to_owned(),
            place: serde_json::to_string(self.place).unwrap_or_default(),
            canary_replicas: self.canary_replicas,
            checkpoint: checkpoint.filter(fits),
            state,
            seen_ms: self.seen.0,
        }
    }
}

impl Engine {
    /// What was stored; `None` if it cannot be read, which is said where it matters.
    #[must_use]
    pub fn resumed(&self) -> Option<Resumed> {
        Some(Resumed {
            place: serde_json::from_str(&self.place).ok()?,
            state: serde_json::from_str(&self.state).ok()?,
            checkpoint: self.checkpoint.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        })
    }

    /// Whether the run is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        serde_json::from_str::<State>(&self.state).is_ok_and(|state| state.is_final())
    }

    /// How the run ended, if it is over.
    #[must_use]
    pub fn end(&self) -> Option<Phase> {
        serde_json::from_str::<State>(&self.state).ok().filter(State::is_final).map(|state| state.phase)
    }
}
