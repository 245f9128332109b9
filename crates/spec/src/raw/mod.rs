//! The document as it is written: the first of its three types, and the source of its JSON Schema.
//!
//! Documentation here is what editors show, so it speaks to authors of documents. Unions are externally tagged (`workload: {processes: …}`):
//! they survive as structural schemas of Kubernetes and give exact places for errors. What is not built yet is not here; the names that
//! are reserved for it are in [`check`](crate::check).

mod analysis;
mod cluster;
mod criterion;
mod routers;
mod scalar;
mod server;
mod sources;
mod strategy;
mod traffic;
mod workload;

pub(crate) use analysis::{Analysis, DeclaredMetric, Expectation, Judge, Kayenta, OnInconclusive, OnNoData, RetreatEnd};
pub(crate) use cluster::{Kubernetes, StableWorkload};
pub(crate) use criterion::{Combine, Criterion, Guard, Mode, OnBreach, Severity, VersusStable};
pub(crate) use routers::{
    CustomRouter, GatewayApi, GatewayRouteKind, IngressNginx, Istio, IstioDestination, ReplicaRatio, ServiceSelector, Traefik,
};
pub(crate) use scalar::{Duration, Listen, Name, NumberOrText, ObjectName, Percentage, Size, TokenName, UrlPath, Weight};
pub(crate) use server::{Role, ServerDocument, Service, Tcp};
pub(crate) use sources::{Alert, Arms, Auth, Prometheus, PrometheusMetric, Requests, RequestsOf, SecretReference, Source};
pub(crate) use strategy::{BlueGreen, Canary, Check, Gate, Linear, Preset, Preview, Stage, Strategy};
pub(crate) use traffic::{CookieSticky, Embedded, MatchRule, Sticky, Traffic};
pub(crate) use workload::{EnvReference, EnvValue, External, ExternalArm, ProcessArm, Processes, Ready, Restart, Workload};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A progressive release: what runs, who splits the traffic, in which steps, and what must hold on the way.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Release")]
pub(crate) struct Document {
    /// Version of this document's format: `serin.dev/v1alpha1`.
    #[serde(rename = "apiVersion")]
    #[expect(dead_code, reason = "checked by the schema, which is its only use")]
    pub(crate) api_version: ApiVersion,
    /// What this document is: `Release`.
    #[expect(dead_code, reason = "checked by the schema, which is its only use")]
    pub(crate) kind: Kind,
    /// What the release is called.
    pub(crate) metadata: Metadata,
    /// What the release does.
    pub(crate) spec: Spec,
}

/// Version of the document's format.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) enum ApiVersion {
    #[serde(rename = "serin.dev/v1alpha1")]
    V1Alpha1,
}

/// What the document is.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) enum Kind {
    Release,
}

/// What the release is called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Metadata {
    /// The release's name. With the hash of the document it identifies the release.
    pub(crate) name: Name,
    /// In a cluster: the namespace of the release. It has no meaning elsewhere.
    #[expect(dead_code, reason = "allowed so that one document serves both; the cluster says it itself")]
    pub(crate) namespace: Option<Name>,
    /// Labels for your own tools. They have no meaning here.
    #[expect(dead_code, reason = "allowed so that documents fit other tools; it has no meaning here")]
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// Annotations for your own tools. They have no meaning here.
    #[expect(dead_code, reason = "allowed so that documents fit other tools; it has no meaning here")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

/// What the release does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Spec {
    /// What runs.
    pub(crate) workload: Workload,
    /// Who splits the traffic.
    pub(crate) traffic: Traffic,
    /// The steps in which traffic moves.
    pub(crate) strategy: Strategy,
    /// How traffic is judged. Without it, error rate and latency are compared with stable.
    pub(crate) analysis: Option<Analysis>,
}
