//! How a service is, as data: what `serin get` prints and the API answers.

use serde::{Deserialize, Serialize};
use serin_core::Timestamp;

use crate::run::{RunEnd, StatusReport};

/// How a service is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name: `metadata.name` of its release documents.
    pub service: String,
    /// What it is doing.
    pub state: ServiceState,
    /// What is wrong with it, and what to do, if something is.
    pub fault: Option<String>,
    /// Where clients connect.
    pub listen: String,
    /// The version that serves (or is stable during a release): the document and run that brought it.
    pub serving: String,
    /// Replicas of that version that are ready; `None`: not known.
    pub ready: Option<u32>,
    /// Replicas of that version that there should be.
    pub replicas: u32,
    /// The release under way, with everything that is known of it.
    pub release: Option<StatusReport>,
    /// The release that begins when the current one has been taken back.
    pub queued: Option<String>,
    /// The release before.
    pub last: Option<LastRun>,
    /// What was asked of it and is not answered yet.
    #[serde(default)]
    pub questions_waiting: u64,
}

/// What a service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Its version is being started or found again.
    Starting,
    /// One version serves.
    Serving,
    /// A release is under way.
    Releasing,
    /// It cannot go on by itself; `fault` says why.
    Failed,
    /// It is being stopped for good.
    Deleting,
}

/// A release that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    /// Hash of the document's meaning.
    pub document_hash: String,
    /// Which run of this document.
    pub run: u32,
    /// The run's number among all of the service.
    pub number: i64,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub end: RunEnd,
}
