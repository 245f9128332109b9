//! What runs: processes that Serin starts, or servers that run already.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Processes that Serin starts, watches, restarts and stops.
    Processes(Box<Processes>),
    /// Servers that someone else runs; Serin only sends traffic.
    External(External),
}

/// Both versions as processes of this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Processes {
    /// The version that serves now.
    pub stable: ProcessArm,
    /// The version on trial.
    pub canary: ProcessArm,
    /// Traffic to make while the release runs, for examples and quiet services.
    pub load: Option<LoadCommand>,
}

/// One version as processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessArm {
    /// Program and arguments. `{{port}}` is the replica's port, `{{serin}}` the running binary, `{{arm}}` the arm's name.
    pub command: Vec<String>,
    /// Environment variables beside `PORT` and those that Serin itself has.
    pub env: BTreeMap<String, EnvValue>,
    /// Working directory; relative paths are relative to the document.
    pub working_dir: Option<PathBuf>,
    /// Number of processes, 1 to 64.
    pub replicas: u32,
    /// When a replica may get traffic.
    pub ready: ReadyProbe,
    /// What happens after a crash.
    pub restart: RestartPolicy,
    /// Time between SIGTERM and SIGKILL, in milliseconds.
    pub stop_grace_ms: u64,
    /// Where output goes and how much of it is kept.
    pub logs: LogPolicy,
}

/// An environment variable's value. References are resolved when the process starts and are never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnvValue {
    /// As written.
    Literal(String),
    /// The value of a variable of Serin's own environment.
    Env(String),
    /// The content of a file without its final line end.
    File(PathBuf),
}

/// When a replica may get traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyProbe {
    /// Path to GET; 200–399 is ready. `None`: a TCP connection is enough.
    pub path: Option<String>,
    /// Time between two probes, in milliseconds.
    pub interval_ms: u64,
    /// Time one probe may take, in milliseconds.
    pub timeout_ms: u64,
    /// Failed probes in a row that make a ready replica unready.
    pub failures: u32,
    /// Time a started replica may take until it is ready for the first time, in milliseconds.
    pub within_ms: u64,
}

/// What happens after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Wait before the first restart, in milliseconds; doubled for each further one.
    pub backoff_ms: u64,
    /// The longest wait, in milliseconds.
    pub max_backoff_ms: u64,
    /// Restarts within `window_ms` that make it a crash loop: the canary is rolled back, stable keeps being restarted.
    pub limit: u32,
    /// See `limit`, in milliseconds.
    pub window_ms: u64,
}

/// Where output goes and how much of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPolicy {
    /// Size at which a replica's log file is rotated, in bytes.
    pub max_bytes: u64,
    /// Rotated files to keep beside the current one.
    pub keep: u32,
}

/// A command that makes traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadCommand {
    /// Program and arguments. `{{url}}` is the proxy's address, `{{serin}}` the running binary.
    pub command: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, EnvValue>,
}

/// Both versions as servers that run already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct External {
    /// The version that serves now.
    pub stable: ExternalArm,
    /// The version on trial.
    pub canary: ExternalArm,
}

/// One version as running servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExternalArm {
    /// `host:port` of each server, at least one.
    pub endpoints: Vec<String>,
    /// How to see whether a server is healthy.
    pub health: HealthCheck,
}

/// How to see whether a server is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Path to GET; 200–399 is healthy. `None`: a TCP connection is enough.
    pub path: Option<String>,
    /// Time between two checks, in milliseconds.
    pub interval_ms: u64,
    /// Time one check may take, in milliseconds.
    pub timeout_ms: u64,
    /// Failed checks in a row that make a healthy server unhealthy.
    pub failures: u32,
}
