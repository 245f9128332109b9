//! Who splits the traffic.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{CustomRouter, Duration, GatewayApi, IngressNginx, Istio, Listen, ReplicaRatio, ServiceSelector, Size, Traefik};

/// Who splits the traffic: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct Traffic {
    /// The built-in proxy.
    pub(crate) embedded: Option<Embedded>,
    /// In a cluster: a route of the Gateway API.
    pub(crate) gateway_api: Option<GatewayApi>,
    /// In a cluster: a `VirtualService` of Istio.
    pub(crate) istio: Option<Istio>,
    /// In a cluster: Ingresses of ingress-nginx.
    pub(crate) ingress_nginx: Option<IngressNginx>,
    /// In a cluster: the selector of a Service.
    pub(crate) service: Option<ServiceSelector>,
    /// In a cluster: how many pods of each version are behind a Service.
    pub(crate) replicas: Option<ReplicaRatio>,
    /// In a cluster: a weighted `TraefikService`.
    pub(crate) traefik: Option<Traefik>,
    /// In a cluster: any object that holds a weight in a field.
    pub(crate) custom: Option<CustomRouter>,
}

/// The built-in proxy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Embedded {
    /// IP address and port where clients connect.
    pub(crate) listen: Listen,
    /// IP address and port that lead to the canary while the release is in a preview, and to nobody else at any other time. Who can reach it can use
    /// the canary, so choose a loopback address (`127.0.0.1:8081`) unless others shall see it. Its requests are counted apart.
    pub(crate) preview: Option<Listen>,
    /// Requests that go to the canary whatever the weight, while the release is in a stage. Any rule that matches is enough.
    #[serde(rename = "match")]
    #[schemars(length(max = 100))]
    pub(crate) matches: Option<Vec<MatchRule>>,
    /// How clients keep their version. Without it, each request is assigned on its own.
    pub(crate) sticky: Option<Sticky>,
    /// Time limits of requests.
    pub(crate) timeouts: Option<Timeouts>,
    /// How long requests in flight may go on at a version that lost its traffic, before it is stopped.
    #[schemars(extend("default" = "30s"))]
    pub(crate) drain: Option<Duration>,
    /// Where requests are logged. Without it they are not.
    pub(crate) access_log: Option<AccessLog>,
}

/// A rule matches when all its headers and cookies have the given values. It names at least one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MatchRule {
    /// Headers with their exact values. Names may be written in any case, values may not.
    #[schemars(extend("examples" = [{"x-canary": "true"}]))]
    pub(crate) header: Option<BTreeMap<String, String>>,
    /// Cookies with their exact values.
    #[schemars(extend("examples" = [{"beta": "1"}]))]
    pub(crate) cookie: Option<BTreeMap<String, String>>,
}

/// How clients keep their version: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct Sticky {
    /// By a cookie that the proxy issues.
    pub(crate) cookie: Option<CookieSticky>,
    /// By the value of this header; requests without it are assigned at random.
    #[schemars(extend("examples" = ["x-user-id"]))]
    pub(crate) header: Option<String>,
}

/// The cookie that the proxy issues.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CookieSticky {
    /// Its name.
    #[schemars(extend("examples" = ["serin"]))]
    pub(crate) name: String,
    /// Its lifetime, in whole seconds.
    #[schemars(extend("default" = "30d"))]
    pub(crate) max_age: Option<Duration>,
}

/// Time limits of requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// Until a connection to a version stands.
    #[schemars(extend("default" = "1s"))]
    pub(crate) connect: Option<Duration>,
    /// From the request's end until the head of the answer.
    #[schemars(extend("default" = "30s"))]
    pub(crate) response: Option<Duration>,
    /// Without a byte in either direction, while bodies stream and between requests of a kept connection.
    #[schemars(extend("default" = "60s"))]
    pub(crate) idle: Option<Duration>,
}

/// Where requests are logged, a JSON line each. Query strings, cookies and authorization are never written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AccessLog {
    /// The file, relative to this one.
    #[schemars(length(min = 1))]
    pub(crate) path: String,
    /// Size at which it is rotated. One rotated file is kept.
    #[schemars(extend("default" = "50MiB"))]
    pub(crate) max_size: Option<Size>,
}
