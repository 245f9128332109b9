//! Sources outside of Serin, and what they are asked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, EnvValue, Name, ObjectName};

/// Who measures: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct Source {
    /// Prometheus, or what answers like it: Thanos, Mimir, VictoriaMetrics.
    pub(crate) prometheus: Option<Prometheus>,
}

/// A Prometheus and how to ask it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Prometheus {
    /// Its address, `http://` or `https://`, with the path before `/api/v1` if it has one. Redirects are not followed.
    #[schemars(length(min = 1, max = 2000), extend("examples" = ["http://127.0.0.1:9090"]))]
    pub(crate) url: String,
    /// How Serin says who it is.
    pub(crate) auth: Option<Auth>,
    /// Certificates in PEM that the server's is checked against, instead of those of the system.
    pub(crate) ca: Option<SecretReference>,
    /// Headers of every question, such as `X-Scope-OrgID`.
    pub(crate) headers: Option<BTreeMap<String, EnvValue>>,
    /// The time that one question may take; `100ms` to `1m`.
    #[schemars(extend("default" = "10s"))]
    pub(crate) timeout: Option<Duration>,
}

/// How Serin says who it is: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct Auth {
    /// By a token.
    pub(crate) bearer: Option<SecretReference>,
    /// By name and password.
    pub(crate) basic: Option<BasicAuth>,
    /// By a certificate of its own. Needs `https://`.
    pub(crate) mtls: Option<MutualTls>,
}

/// A name and a password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BasicAuth {
    /// The name.
    #[schemars(length(min = 1, max = 200))]
    pub(crate) username: String,
    /// The password.
    pub(crate) password: SecretReference,
}

/// A certificate of Serin's own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MutualTls {
    /// The certificate and those that vouch for it, in PEM.
    pub(crate) certificate: SecretReference,
    /// Its private key, in PEM.
    pub(crate) key: SecretReference,
}

/// Where a secret is found: exactly one of these. It is read whenever it is needed, so that a new one counts at once, and is never stored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct SecretReference {
    /// A variable of Serin's own environment.
    #[schemars(length(min = 1))]
    pub(crate) env: Option<String>,
    /// A file, relative to this one. A line end at its end is dropped.
    #[schemars(length(min = 1))]
    pub(crate) file: Option<String>,
    /// In a cluster: a key of a Secret beside the release. The controller needs a Role that lets it `get` that Secret.
    pub(crate) secret_key_ref: Option<SecretKey>,
}

/// A key of a Secret.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SecretKey {
    /// The Secret.
    pub(crate) name: ObjectName,
    /// The key in its `data`. A line end at the end of the value is dropped.
    #[schemars(length(min = 1, max = 253))]
    pub(crate) key: String,
}

/// What the versions are called where they are measured: what `{{arm}}` becomes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Arms {
    /// The version that serves now.
    #[schemars(length(min = 1, max = 200), extend("default" = "stable"))]
    pub(crate) stable: Option<String>,
    /// The version on trial.
    #[schemars(length(min = 1, max = 200), extend("default" = "canary"))]
    pub(crate) canary: Option<String>,
}

/// What a Prometheus is asked: two counters, a query, or the requests of a proxy that is known here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PrometheusMetric {
    /// Its name in `analysis.sources`.
    pub(crate) source: Name,
    /// A ratio: the counters of what is bad, as a plain selector: `orders_total{result="lost", version="{{arm}}"}`. Serin sums up all series and makes
    /// rates of them itself; one that is missing has counted nothing yet.
    #[schemars(length(min = 1, max = 4000))]
    pub(crate) numerator: Option<String>,
    /// A ratio: the counters of what is good, instead of `numerator`. What is not good is bad.
    #[schemars(length(min = 1, max = 4000))]
    pub(crate) good: Option<String>,
    /// A ratio: the counters of everything, as a plain selector.
    #[schemars(length(min = 1, max = 4000))]
    pub(crate) denominator: Option<String>,
    /// A value: any query that gives a single number for each version.
    #[schemars(length(min = 1, max = 4000))]
    pub(crate) query: Option<String>,
    /// A ratio of requests, as a proxy or an instrumented service counts them.
    pub(crate) requests: Option<Requests>,
    /// Other names of the versions than those of `analysis.arms`.
    pub(crate) arms: Option<Arms>,
}

/// Requests as a proxy or an instrumented service counts them: the share of errors 5xx, or of slow ones.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Requests {
    /// Who counts.
    pub(crate) of: RequestsOf,
    /// Labels that tell the versions apart, with their values: `destination_workload: "checkout-{{arm}}"`.
    pub(crate) labels: BTreeMap<String, String>,
    /// The share of requests that take longer, instead of the share of errors. It must be the edge of a bucket.
    pub(crate) slower_than: Option<Duration>,
}

/// Who counts requests.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RequestsOf {
    /// Istio's proxies: `istio_requests_total`. What the server reports counts.
    Istio,
    /// Envoy Gateway: `envoy_cluster_upstream_rq_xx`.
    EnvoyGateway,
    /// The ingress-nginx controller: `nginx_ingress_controller_requests`.
    IngressNginx,
    /// Linkerd's proxies: `response_total`, what comes in.
    Linkerd,
    /// A service of your own: `http_requests_total` with the label `code`, `http_request_duration_seconds`.
    Http,
}

/// An alert that takes the traffic from the canary.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Alert {
    /// The name of the Prometheus in `analysis.sources` that has its rule.
    pub(crate) source: Name,
    /// Its labels: `alertname: CheckoutDown`. All of them must be the same.
    #[serde(rename = "match")]
    pub(crate) labels: BTreeMap<String, String>,
}
