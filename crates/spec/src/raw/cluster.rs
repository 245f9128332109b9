//! What runs in a cluster.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Name, ObjectName};

/// What is released in a cluster: one Deployment that you go on editing (`deployment`), or a pair of workloads (`stable` and `canary`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["deployment"]}, {"required": ["stable"]}]))]
pub(crate) struct Kubernetes {
    /// The Deployment that you go on editing. Serin pauses it: an edit of its template rolls nothing out by itself, but begins a release beside
    /// it. When that has succeeded, the Deployment rolls out what was judged. It must be in the namespace of the release.
    pub(crate) deployment: Option<ObjectName>,
    /// Of a pair: what serves now. After a release that succeeded it runs exactly what was judged.
    pub(crate) stable: Option<StableWorkload>,
    /// What is on trial. Serin scales it, unless it is a DaemonSet; between releases it has no replicas. Of a pair it exists already, and is what
    /// you change to release something; otherwise Serin creates it.
    pub(crate) canary: Option<CanaryWorkload>,
    /// Where both of a pair are. Default: the namespace of the release.
    pub(crate) namespace: Option<Name>,
    /// How long the canary may take until all its replicas are ready. A crash loop, an image that cannot be pulled and pods that fit on no node
    /// end the wait at once.
    #[schemars(extend("default" = "10m"))]
    pub(crate) ready_within: Option<Duration>,
}

/// The version that serves now: exactly one of `deployment`, `statefulSet` and `daemonSet`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["deployment"]}, {"required": ["statefulSet"]}, {"required": ["daemonSet"]}]))]
pub(crate) struct StableWorkload {
    /// Its Deployment.
    pub(crate) deployment: Option<ObjectName>,
    /// Its StatefulSet, with `updateStrategy: RollingUpdate` and no `partition`.
    pub(crate) stateful_set: Option<ObjectName>,
    /// Its DaemonSet, with `updateStrategy: RollingUpdate`.
    pub(crate) daemon_set: Option<ObjectName>,
    /// Where it is, if not where `kubernetes.namespace` says. The router must be able to name a Service there.
    pub(crate) namespace: Option<Name>,
}

/// The version on trial: of a pair exactly one of `deployment`, `statefulSet` and `daemonSet`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CanaryWorkload {
    /// Its Deployment. Without a pair: the name of the one that Serin makes, `NAME-canary` by default.
    pub(crate) deployment: Option<ObjectName>,
    /// Its StatefulSet, for a pair: with claims of volumes of its own, which stay when it is scaled to zero.
    pub(crate) stateful_set: Option<ObjectName>,
    /// Its DaemonSet, for a pair. Serin scales it never: it runs before, and goes on without traffic after the release.
    pub(crate) daemon_set: Option<ObjectName>,
    /// Where it is, if not where `kubernetes.namespace` says. The router must be able to name a Service there.
    pub(crate) namespace: Option<Name>,
    /// Replicas with which its trial begins. Default: as many as stable has. It is scaled up before it gets a greater share than they can carry
    /// as well as stable's.
    #[schemars(range(min = 1, max = 10000))]
    pub(crate) replicas: Option<u32>,
}
