//! What runs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Kubernetes, Size, UrlPath};

/// What runs: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct Workload {
    /// Processes of this machine that Serin starts, watches, restarts and stops.
    pub(crate) processes: Option<Processes>,
    /// Servers that run already. Serin only sends them traffic.
    pub(crate) external: Option<External>,
    /// In a cluster: Deployments.
    pub(crate) kubernetes: Option<Kubernetes>,
}

/// Both versions as processes of this machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Processes {
    /// The version that serves now.
    pub(crate) stable: ProcessArm,
    /// The version on trial.
    pub(crate) canary: ProcessArm,
    /// A command that makes traffic while the release runs, for examples and quiet services. It starts after preflight.
    pub(crate) load: Option<Load>,
}

/// One version as processes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProcessArm {
    /// Program and arguments. `{{port}}` is the replica's port, which is in the variable PORT too; `{{serin}}` is the running Serin binary;
    /// `{{arm}}` is `stable` or `canary`.
    #[schemars(length(min = 1, max = 1000), extend("examples" = [["./checkout", "--port={{port}}"]]))]
    pub(crate) command: Vec<String>,
    /// Environment variables beside PORT and those that Serin itself has.
    pub(crate) env: Option<BTreeMap<String, EnvValue>>,
    /// Working directory, relative to this file. Default: the folder of this file.
    #[schemars(length(min = 1))]
    pub(crate) working_dir: Option<String>,
    /// Number of processes.
    #[schemars(range(min = 1, max = 64), extend("default" = 1))]
    pub(crate) replicas: Option<u32>,
    /// When a replica may get traffic. Without it, as soon as its port accepts connections.
    pub(crate) ready: Option<Ready>,
    /// What happens after a crash.
    pub(crate) restart: Option<Restart>,
    /// Time between SIGTERM and SIGKILL.
    #[schemars(extend("default" = "10s"))]
    pub(crate) stop_grace: Option<Duration>,
    /// How much output is kept in `logs/` of the state folder.
    pub(crate) logs: Option<Logs>,
}

/// Value of an environment variable: text, or where to find it. References keep secrets out of this file; they are resolved when the process
/// starts and are never stored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(transform = crate::schema::merge_text_and_object)]
pub(crate) enum EnvValue {
    Text(String),
    Reference(EnvReference),
}

/// Where an environment variable's value is found: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline, extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct EnvReference {
    /// A variable of Serin's own environment.
    #[schemars(length(min = 1))]
    pub(crate) env: Option<String>,
    /// A file, relative to this one. A line end at its end is dropped.
    #[schemars(length(min = 1))]
    pub(crate) file: Option<String>,
}

/// When a replica may get traffic.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Ready {
    /// Path to GET; an answer from 200 to 399 is ready. Without it a TCP connection is enough.
    pub(crate) path: Option<UrlPath>,
    /// Time between two probes.
    #[schemars(extend("default" = "500ms"))]
    pub(crate) interval: Option<Duration>,
    /// Time one probe may take.
    #[schemars(extend("default" = "1s"))]
    pub(crate) timeout: Option<Duration>,
    /// Failed probes in a row that make a ready replica unready.
    #[schemars(range(min = 1, max = 1000), extend("default" = 3))]
    pub(crate) failures: Option<u32>,
    /// Time a started replica may take until it is ready for the first time.
    #[schemars(extend("default" = "30s"))]
    pub(crate) within: Option<Duration>,
}

/// What happens after a crash.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Restart {
    /// Wait before the first restart; doubled for each further one.
    #[schemars(extend("default" = "500ms"))]
    pub(crate) backoff: Option<Duration>,
    /// The longest wait.
    #[schemars(extend("default" = "30s"))]
    pub(crate) max_backoff: Option<Duration>,
    /// Restarts within `window` that make it a crash loop: the canary is rolled back, stable keeps being restarted.
    #[schemars(range(min = 1, max = 1000), extend("default" = 3))]
    pub(crate) limit: Option<u32>,
    /// The time in which `limit` restarts make a crash loop.
    #[schemars(extend("default" = "5m"))]
    pub(crate) window: Option<Duration>,
}

/// How much output is kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Logs {
    /// Size at which a replica's log file is rotated.
    #[schemars(extend("default" = "10MiB"))]
    pub(crate) max_size: Option<Size>,
    /// Rotated files to keep beside the current one.
    #[schemars(range(max = 100), extend("default" = 3))]
    pub(crate) keep: Option<u32>,
}

/// A command that makes traffic.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Load {
    /// Program and arguments. `{{url}}` is the proxy's address; `{{serin}}` is the running Serin binary.
    #[schemars(length(min = 1, max = 1000))]
    pub(crate) command: Vec<String>,
    /// Environment variables.
    pub(crate) env: Option<BTreeMap<String, EnvValue>>,
}

/// Both versions as servers that run already.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct External {
    /// The version that serves now.
    pub(crate) stable: ExternalArm,
    /// The version on trial.
    pub(crate) canary: ExternalArm,
}

/// One version as running servers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExternalArm {
    /// Addresses of the servers: `http://host:port`.
    #[schemars(length(min = 1, max = 64), extend("examples" = [["http://10.0.0.7:8080"]]))]
    pub(crate) urls: Vec<String>,
    /// How to see whether a server is healthy. Without it, a TCP connection is enough.
    pub(crate) health: Option<Health>,
}

/// How to see whether a server is healthy.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Health {
    /// Path to GET; an answer from 200 to 399 is healthy. Without it a TCP connection is enough.
    pub(crate) path: Option<UrlPath>,
    /// Time between two checks.
    #[schemars(extend("default" = "1s"))]
    pub(crate) interval: Option<Duration>,
    /// Time one check may take.
    #[schemars(extend("default" = "1s"))]
    pub(crate) timeout: Option<Duration>,
    /// Failed checks in a row that make a healthy server unhealthy.
    #[schemars(range(min = 1, max = 1000), extend("default" = 2))]
    pub(crate) failures: Option<u32>,
}
