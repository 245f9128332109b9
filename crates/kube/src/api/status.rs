//! The status of a release: what people and tools read, and what the next leader goes on from.

use serde::{Deserialize, Serialize};

/// `status` of a release.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseStatus {
    /// The generation of the spec that all else here is about.
    pub observed_generation: i64,
    /// Where the release is, in a word.
    pub phase: String,
    /// The stage and how many there are: `2/4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The canary's share as asked, such as `25 %`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// What the judge says: `pass`, `fail`, `inconclusive`, `unknown` or `environment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// What the release waits for, or why it ended as it did.
    pub reason: String,
    /// Which run of this object, from 1; 0 before the first.
    pub run: u64,
    /// In the shape that kstatus reads: `Ready`, `Reconciling`, `Stalled`.
    pub conditions: Vec<Condition>,
    /// Every criterion that applies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<CriterionStatus>,
    /// What happened last, oldest first; bounded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<TimelineLine>,
    /// The last command that was looked at, and what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_command: Option<CommandStatus>,
    /// Runs that are over, oldest first; bounded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastRun>,
    /// What the engine goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
}

/// A condition of the usual shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `Reconciling` or `Stalled`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// A word for machines.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// The generation that it is about.
    pub observed_generation: i64,
    /// When `status` last changed, as RFC 3339.
    pub last_transition_time: String,
}

/// A criterion as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CriterionStatus {
    /// Its name.
    pub name: String,
    /// What the data says.
    pub verdict: String,
    /// The same in words with its numbers.
    pub text: String,
}

/// A line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineLine {
    /// When, as RFC 3339.
    pub at: String,
    /// Two or three words.
    pub head: String,
    /// The rest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A run that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastRun {
    /// Which run.
    pub run: u64,
    /// The canary's template that was on trial, by hash.
    pub version: String,
    /// `Succeeded`, `RolledBack` or `Refused`.
    pub outcome: String,
    /// Why it ended so.
    pub reason: String,
    /// When it began, as RFC 3339.
    pub began: String,
    /// When it ended, as RFC 3339.
    pub ended: String,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandStatus {
    /// Its id.
    pub id: String,
    /// Whether it was carried out.
    pub accepted: bool,
    /// Why not, or `done`.
    pub answer: String,
}

/// An object beside the release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Elsewhere {
    /// The name of a `ReleaseMemory` in the namespace of the release.
    pub name: String,
    /// SHA-256 of its content. One with another content is not what is meant.
    pub hash: String,
}

/// What a new leader needs to go on exactly. The parts are texts of their own: a patch cannot mix two of them, and their shape is the engine's
/// own affair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Engine {
    /// Which ownership wrote this; whoever finds a greater one than his own writes no more.
    pub epoch: u64,
    /// The document that the run was begun with, by hash.
    pub document_hash: String,
    /// The canary's template that the run was begun with, by hash: nothing else is promoted.
    pub template_hash: String,
    /// What runs and who splits the traffic, as JSON: a run is ended at the objects that it was begun with.
    pub place: String,
    /// The canary's replicas before the run.
    pub canary_replicas: i32,
    /// The fold of the journal, as JSON.
    pub state: String,
    /// What the judge remembers, packed; absent if it has seen nothing, or if it stands elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Where what the judge remembers stands instead, being too large for here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Elsewhere>,
    /// The latest time that the engine knows of, in milliseconds since 1970.
    pub seen_ms: u64,
}
