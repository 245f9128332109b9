//! What runs in a cluster.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Name, ObjectName};

/// What is released in a cluster: one Deployment that you go on editing (`deployment`), or a pair of them (`stable` and `canary`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["deployment"]}, {"required": ["stable"]}]))]
pub(crate) struct Kubernetes {
    /// The Deployment that you go on editing. Serin pauses it: an edit of its template rolls nothing out by itself, but begins a release beside
    /// it. When that has succeeded, the Deployment rolls out what was judged. It must be in the namespace of the release.
    pub(crate) deployment: Option<ObjectName>,
    /// Of a pair: what serves now. After a release that succeeded it runs exactly what was judged.
    pub(crate) stable: Option<StableDeployment>,
    /// What is on trial. Serin scales it; between releases it has no replicas. Of a pair it exists already, and is what you change to release
    /// something; otherwise Serin creates it.
    pub(crate) canary: Option<CanaryDeployment>,
    /// Where the Deployments of a pair are. Default: the namespace of the release.
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
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CanaryDeployment {
    /// Its Deployment. Required for a pair; else its name, `NAME-canary` by default.
    pub(crate) deployment: Option<ObjectName>,
    /// Replicas with which its trial begins. Default: as many as stable has. It is scaled up before it gets a greater share than they can carry
    /// as well as stable's.
    #[schemars(range(min = 1, max = 10000))]
    pub(crate) replicas: Option<u32>,
}
