//! The second of the three types of a document: raw → **validated** → built.
//!
//! A value of these types is complete and consistent: every default is filled in, every number is in range, every name
//! that refers to something refers to something that exists. What only a machine can tell (is the port free, is the
//! program there) is checked when the release is built, by preflight.

mod cluster;
mod measures;
mod server;
mod traffic;
mod workload;

pub use cluster::{Arms, ClusterRelease, ClusterRouter, ClusterTraffic, CustomRouter, Destination, GatewayKind, Pair, WorkloadKind};
pub use measures::{AlertRule, Ask, Auth, Measures, PerArm, Prometheus, Query, Secret, SourceUrl};
pub use server::{ApiRole, ApiTcp, ApiToken, Server};
pub use traffic::{AccessLog, CookieSticky, Embedded, KeyValue, MatchRule, Sticky, Timeouts};
pub use workload::{
    EnvValue, External, ExternalArm, HealthCheck, LoadCommand, LogPolicy, ProcessArm, Processes, ReadyProbe, RestartPolicy, Workload,
};

use serde::{Deserialize, Serialize};
use serin_core::plan::Plan;

/// A release document that was found to be valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// `metadata.name`: lower-case letters, digits and dashes, at most 63 characters.
    pub name: String,
    /// The first 12 hexadecimal digits of the SHA-256 of the document's meaning (its parsed content, so that comments and
    /// layout do not change it). Name and hash together identify a release.
    pub document_hash: String,
    /// The steps and the rules of judgement.
    pub plan: Plan,
    /// What runs.
    pub workload: Workload,
    /// Who splits the traffic.
    pub traffic: Embedded,
    /// What others measure.
    pub measures: Measures,
}
