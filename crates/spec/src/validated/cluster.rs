//! A release of a cluster. It is a type of its own: what runs on one machine cannot be handed to the controller by mistake, nor the other way
//! round.

use std::collections::BTreeMap;

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
    pub traffic: ClusterTraffic,
    /// Whom to ask for what is measured: in a cluster nothing is measured by Serin itself.
    pub measures: Measures,
    /// Where a preview's checks go, as host and port; `None`: to the canary's Service.
    pub preview: Option<String>,
}

/// Two workloads by name, or one Deployment of which Serin makes another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Where stable is.
    pub namespace: Option<String>,
    /// Where the canary is; `None`: beside stable.
    #[serde(default)]
    pub canary_namespace: Option<String>,
    /// What kinds stable and the canary are.
    #[serde(default)]
    pub kinds: [WorkloadKind; 2],
    /// The workload that serves now.
    pub stable: String,
    /// The workload on trial; another one than stable's.
    pub canary: String,
    /// Stable is edited by its owners, and Serin makes the canary of it. Otherwise both are given, and the canary is edited.
    #[serde(default)]
    pub is_managed: bool,
    /// Replicas with which the canary's trial begins, at least 1; `None`: as many as stable has.
    pub canary_replicas: Option<u32>,
    /// How long the canary may take until all its replicas are ready, in milliseconds.
    pub ready_within_ms: u64,
}

/// Kinds of workloads that keep pods of one template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// `Deployment`.
    #[default]
    Deployment,
    /// `StatefulSet`.
    StatefulSet,
    /// `DaemonSet`, which has a pod on each node and cannot be scaled.
    DaemonSet,
}

impl WorkloadKind {
    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

/// Who splits the traffic: an object, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterTraffic {
    /// Where the object is, and what it names without a namespace.
    pub namespace: Option<String>,
    /// Requests that go to the canary whatever the weight, while the release is in a stage; only such as the router can tell apart.
    pub matches: Vec<MatchRule>,
    /// Which kind of object.
    pub router: ClusterRouter,
}

/// Kinds of routers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterRouter {
    /// A route of the Gateway API.
    GatewayApi {
        /// HTTP or gRPC.
        kind: GatewayKind,
        /// The route.
        route: String,
        /// The Services.
        services: Arms,
    },
    /// A `VirtualService` of Istio.
    Istio {
        /// The `VirtualService`.
        virtual_service: String,
        /// Stable's destination.
        stable: Destination,
        /// The canary's; another one than stable's.
        canary: Destination,
        /// Names of the HTTP routes that are the release's; `None`: all that lead to stable.
        routes: Option<Vec<String>>,
    },
    /// Ingresses of ingress-nginx.
    IngressNginx {
        /// The Ingress of stable, which is only read.
        ingress: String,
        /// The Ingress of the canary.
        canary_ingress: String,
        /// The Services.
        services: Arms,
    },
    /// The selector of a Service.
    Service {
        /// The Service.
        service: String,
        /// Labels by which it selects stable's pods.
        stable: BTreeMap<String, String>,
        /// Labels by which it selects the canary's pods: the same names, another value for at least one.
        canary: BTreeMap<String, String>,
    },
    /// How many pods of each version are behind a Service.
    Replicas {
        /// The Service.
        service: String,
        /// Labels that stable's pods have and the canary's have not.
        stable: BTreeMap<String, String>,
        /// Labels of the canary's pods: the same names, another value for at least one.
        canary: BTreeMap<String, String>,
        /// The most replicas that the canary may need; `None`: as many as stable has.
        max: Option<u32>,
    },
    /// A weighted `TraefikService`.
    Traefik {
        /// The `TraefikService`.
        traefik_service: String,
        /// The Services.
        services: Arms,
    },
    /// Any object with a weight in a field.
    Custom(CustomRouter),
}

/// The Services of both versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arms {
    /// Stable's.
    pub stable: String,
    /// The canary's; another one than stable's.
    pub canary: String,
    /// Where stable's is; `None`: beside the router's object.
    #[serde(default)]
    pub stable_namespace: Option<String>,
    /// Where the canary's is; `None`: beside the router's object.
    #[serde(default)]
    pub canary_namespace: Option<String>,
}

/// Kinds of routes of the Gateway API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayKind {
    /// `HTTPRoute`.
    Http,
    /// `GRPCRoute`.
    Grpc,
}

/// Where Istio sends requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// A Service: `checkout`, `checkout.shop`, or with its domain.
    pub host: String,
    /// A subset of it.
    pub subset: Option<String>,
}

/// Any object with a weight in a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomRouter {
    /// API group; empty for the core one.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// The name of the kind in URLs.
    pub plural: String,
    /// The object.
    pub name: String,
    /// JSON pointer to the canary's weight.
    pub canary_weight: String,
    /// JSON pointer to stable's weight.
    pub stable_weight: Option<String>,
    /// What stands for all requests; at least 1.
    pub total: u32,
}

impl ClusterTraffic {
    /// The name of the router in plans.
    #[must_use]
    pub fn target(&self) -> &'static str {
        match self.router {
            ClusterRouter::GatewayApi { .. } => "gateway-api",
            ClusterRouter::Istio { .. } => "istio",
            ClusterRouter::IngressNginx { .. } => "ingress-nginx",
            ClusterRouter::Service { .. } => "service",
            ClusterRouter::Replicas { .. } => "replicas",
            ClusterRouter::Traefik { .. } => "traefik",
            ClusterRouter::Custom(_) => "custom",
        }
    }

    /// The Services that select pods of one version only, each with its namespace if the document says one.
    #[must_use]
    pub fn services(&self) -> Option<[(Option<String>, String); 2]> {
        let at = |namespace: &Option<String>, name: &String| (namespace.clone().or_else(|| self.namespace.clone()), name.clone());
        match &self.router {
            ClusterRouter::GatewayApi { services, .. }
            | ClusterRouter::IngressNginx { services, .. }
            | ClusterRouter::Traefik { services, .. } => {
                Some([at(&services.stable_namespace, &services.stable), at(&services.canary_namespace, &services.canary)])
            }
            ClusterRouter::Istio { stable, canary, .. } if stable.subset.is_none() && canary.subset.is_none() => {
                Some([self.service_of(&stable.host), self.service_of(&canary.host)])
            }
            ClusterRouter::Istio { .. } | ClusterRouter::Service { .. } | ClusterRouter::Replicas { .. } | ClusterRouter::Custom(_) => None,
        }
    }

    /// Namespace and name of the Service that a host is, as Istio reads it.
    #[must_use]
    pub fn service_of(&self, host: &str) -> (Option<String>, String) {
        let mut parts = host.splitn(3, '.');
        let name = parts.next().unwrap_or(host).to_owned();
        (parts.next().map(str::to_owned).or_else(|| self.namespace.clone()), name)
    }
}
