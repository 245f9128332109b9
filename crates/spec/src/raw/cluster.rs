//! What runs in a cluster.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Name, ObjectName};

/// A pair of Deployments. Both exist already; the canary's is what you change to release something.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Kubernetes {
    /// What serves now. After a release that succeeded it runs exactly what was judged.
    pub(crate) stable: StableDeployment,
    /// What is on trial. Serin scales it; between releases it has no replicas.
    pub(crate) canary: CanaryDeployment,
    /// Where the Deployments are. Default: the namespace of the release.
    pub(crate) namespace: Option<Name>,
    /// How long the canary may take until all its replicas are ready. A crash loop, an image that cannot be pulled and pods that fit on no node
    /// end the wait at once.
    #[schemars(extend("default" = "10m"))]
    pub(crate) ready_within: Option<Duration>,
}

/// The version that serves now.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StableDeployment {
    /// Its Deployment.
    pub(crate) deployment: ObjectName,
}

/// The version on trial.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CanaryDeployment {
    /// Its Deployment.
    pub(crate) deployment: ObjectName,
    /// Replicas while it is on trial. Default: as many as stable has, since at the end it carries everything.
    #[schemars(range(min = 1, max = 10000))]
    pub(crate) replicas: Option<u32>,
}
