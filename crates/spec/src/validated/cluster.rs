//! A release of a cluster. It is a type of its own: what runs on one machine cannot be handed to the controller by mistake, nor the other way
//! round.

use serde::{Deserialize, Serialize};
use serin_core::plan::Plan;

use super::{MatchRule, Measures};

/// A release document for a cluster that was found to be valid. Namespaces that are `None` are that of the release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterRelease {
    /// `metadata.name`: lower-case letters, digits and dashes, at most 63 characters.
    pub name: String,
    /// The first 12 hexadecimal digits of the SHA-256 of the document's meaning.
    pub document_hash: String,
    /// The steps and the rules of judgement.
    pub plan: Plan,
    /// What runs.
    pub workload: Pair,
    /// Who splits the traffic.
    pub traffic: HttpRoute,
    /// Whom to ask for what is measured: in a cluster nothing is measured by Serin itself.
    pub measures: Measures,
}

/// Two Deployments by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Where both are.
    pub namespace: Option<String>,
    /// The Deployment that serves now.
    pub stable: String,
    /// The Deployment on trial; another one than stable's.
    pub canary: String,
    /// Stable is edited by its owners, and Serin makes the canary of it. Otherwise both are given, and the canary is edited.
    #[serde(default)]
    pub is_managed: bool,
    /// Replicas with which the canary's trial begins, at least 1; `None`: as many as stable has.
    pub canary_replicas: Option<u32>,
    /// How long the canary may take until all its replicas are ready, in milliseconds.
    pub ready_within_ms: u64,
}

/// An HTTPRoute and the services of both versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRoute {
    /// Where the route and the services are.
    pub namespace: Option<String>,
    /// The route.
    pub route: String,
    /// The Service of stable.
    pub stable_service: String,
    /// The Service of the canary; another one than stable's.
    pub canary_service: String,
    /// Requests that go to the canary whatever the weight, while the release is in a stage; by headers only.
    pub matches: Vec<MatchRule>,
}
