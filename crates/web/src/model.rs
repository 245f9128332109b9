//! What goes over the wire, beside the engine's own reports: for the server, for clients written in Rust, and for the OpenAPI document.
//!
//! Names are in `snake_case` throughout. Requests with fields that are not known are refused, because a misspelt field would otherwise be
//! an order that is silently not carried out; answers may get more fields within an API version, so clients ignore those they do not know.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin_core::{
    judge::Verdict,
    release::{Check, Event},
};
use serin_engine::serve::{ServiceState, ServiceStatus};

use crate::openapi::engine;

/// The version of the API that this program speaks, and the header that says so in both directions.
pub const API_VERSION: u32 = 1;
/// The name of that header.
pub const VERSION_HEADER: &str = "serin-api-version";

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorAnswer {
    /// What is wrong.
    pub error: ErrorBody,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// A stable word for programs, such as `no-such-service`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What is wrong with a document, and where (`invalid-document`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "engine::diagnostics")]
    pub diagnostics: Option<Value>,
    /// Every check before a release (`preflight`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "engine::checks")]
    pub checks: Option<Value>,
}

/// Who speaks: to be compared by clients before they rely on something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// The API version that is spoken.
    pub api: u32,
    /// The oldest API version that is understood.
    pub oldest_api: u32,
    /// The program's version.
    pub program: String,
}

/// Every service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Services {
    /// By name.
    #[schemars(schema_with = "engine::services")]
    pub services: Vec<ServiceStatus>,
}

/// Why something is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why, for the journal. Control characters become spaces; 200 characters are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A weight to be set by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetWeight {
    /// The canary's share in percent, with at most two decimals.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub percent: f64,
    /// Why, for the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A release document to be applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The document's text.
    pub document: String,
    /// The file's name, for messages. Nothing is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The folder that relative paths in the document start from, on the daemon's machine: absolute; `/` if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Why, for the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only say whether it could begin, and what was checked for that; begin nothing.
    #[serde(default, alias = "dryRun")]
    pub dry_run: bool,
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// The service.
    pub service: String,
    /// What was done.
    pub result: AppliedResult,
    /// The release that is taken back first, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<String>,
    /// Why there is nothing to do, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What its author should know.
    #[schemars(schema_with = "engine::diagnostics")]
    pub warnings: Value,
    /// The checks that were made; with `dry_run` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "engine::checks")]
    pub checks: Option<Vec<Check>>,
}

/// What was done with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AppliedResult {
    /// The service is new: its stable version is started, then the release begins.
    Created,
    /// A release begins.
    Begun,
    /// It is being released already, or was released last, however that ended.
    Unchanged,
    /// Another release is taken back first.
    Supersedes,
    /// Nothing, as was asked; it could begin.
    Checked,
}

/// An order that is carried out or on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The service.
    pub service: String,
    /// What was asked for.
    pub action: String,
    /// Who asked, as the journal has it.
    pub by: String,
}

/// A service that is being stopped for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// The service.
    pub service: String,
    /// Where its journals stay, on the daemon's machine.
    pub journals: String,
}

/// The newest runs of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Runs {
    /// Newest first.
    pub runs: Vec<RunRow>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunRow {
    /// Its number among all of the service.
    pub number: i64,
    /// The service.
    pub service: String,
    /// Hash of the document's meaning.
    pub document_hash: String,
    /// Where the document came from.
    pub document_name: String,
    /// Which run of this document, from 1.
    pub run: u32,
    /// When it began, in milliseconds since 1970.
    pub began_at: u64,
    /// When it ended.
    pub ended_at: Option<u64>,
    /// How it ended, in a word.
    pub outcome: Option<String>,
}

/// A part of a run's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Journal {
    /// The run.
    pub run: RunRow,
    /// The entries, in order.
    pub entries: Vec<JournalEntry>,
    /// Whether there are more: ask again with `after` set to the last `seq`.
    pub more: bool,
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JournalEntry {
    /// Position in the journal, from 1 without gaps.
    pub seq: u64,
    /// Which ownership of the release wrote it.
    pub epoch: u64,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What happened.
    #[schemars(schema_with = "engine::event")]
    pub event: Event,
    /// Two or three words; absent for mere bookkeeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Why a service is as it is, and what can be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The service.
    pub service: String,
    /// What it is doing.
    #[schemars(schema_with = "engine::service_state")]
    pub state: ServiceState,
    /// Why nothing happens right now, or what is happening.
    pub why: String,
    /// Whether a person has to do something.
    pub operator: bool,
    /// Everything that is not right.
    pub faults: Vec<String>,
    /// Every criterion that applies now.
    pub criteria: Vec<CriterionWords>,
    /// What can be done now, what is most likely wanted first.
    pub next: Vec<NextCommand>,
}

/// A criterion in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CriterionWords {
    /// Its name.
    pub name: String,
    /// What the data says.
    #[schemars(schema_with = "engine::verdict")]
    pub verdict: Verdict,
    /// The same with its numbers.
    pub text: String,
}

/// A command and what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NextCommand {
    /// The command line.
    pub command: String,
    /// What it does.
    pub does: String,
}

/// Whether the daemon can take requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Whether it can.
    pub ok: bool,
    /// Services that are still being started or found again.
    pub starting: usize,
    /// Services that cannot go on by themselves.
    pub failed: usize,
}

/// Alerts as Alertmanager's webhook sends them (version 4). Fields that Serin does not need may come and go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alerts {
    /// The version of the message, `4`.
    pub version: String,
    /// The alerts.
    pub alerts: Vec<Alert>,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// `firing` or `resolved`.
    pub status: String,
    /// What it is about.
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
    /// What people are told.
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// What became of alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertsTaken {
    /// Releases that are taken back.
    pub aborted: Vec<AlertTaken>,
    /// Alerts that changed nothing.
    pub ignored: Vec<AlertTaken>,
}

/// What became of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertTaken {
    /// The alert's name.
    pub alert: String,
    /// The service that it names, if it does.
    pub service: Option<String>,
    /// What was done, or why nothing.
    pub why: String,
}
