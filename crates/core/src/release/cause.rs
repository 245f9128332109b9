//! Why traffic goes back to stable.

use serde::{Deserialize, Serialize};

/// The reason for a rollback or a retreat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What kind of reason.
    pub kind: CauseKind,
    /// The reason in words, with its numbers.
    pub text: String,
}

/// The kinds of reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseKind {
    /// A criterion of the analysis was broken.
    Criterion {
        /// Its name.
        name: String,
    },
    /// A guard was broken.
    Guard {
        /// Its name.
        name: String,
    },
    /// An alert began to fire.
    Alert {
        /// Its name.
        name: String,
    },
    /// A check of the preview failed.
    Check {
        /// Its name.
        name: String,
    },
    /// The canary's processes or servers failed.
    Workload,
    /// A policy of the document for missing or undecided data.
    Policy,
    /// Stable recovered as soon as the canary had lost its traffic.
    Interference,
    /// A person asked for it.
    Person {
        /// Who.
        by: String,
    },
    /// Something that must work did not: the router, the start of the canary.
    Effect,
    /// The decision had been made before a crash that lost its reason.
    Latched,
}

impl CauseKind {
    /// Whether a person, not the release itself, decided.
    #[must_use]
    pub fn is_person(&self) -> bool {
        matches!(self, Self::Person { .. })
    }
}
