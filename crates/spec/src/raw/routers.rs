//! Who splits the traffic in a cluster. Serin changes weights and rules for `match`, and leaves all else as it is.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{MatchRule, Name, ObjectName};

/// A route of the Gateway API. Serin changes the weights of the two services in its rules, adds the canary's beside stable's where it is not there,
/// and adds rules for `match` while the release is in a stage. All else in the route stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GatewayApi {
    /// The route.
    pub(crate) route: ObjectName,
    /// What kind of route it is.
    #[schemars(extend("default" = "HTTPRoute"))]
    pub(crate) kind: Option<GatewayRouteKind>,
    /// Where the route and the services are. Default: the namespace of the release.
    pub(crate) namespace: Option<Name>,
    /// The Service in front of stable's pods, which at least one rule of the route must name.
    pub(crate) stable_service: Name,
    /// The Service in front of the canary's pods.
    pub(crate) canary_service: Name,
    /// Where stable's Service is, if not beside the route. A ReferenceGrant there must allow the route to name it.
    pub(crate) stable_namespace: Option<Name>,
    /// Where the canary's Service is, if not beside the route. A ReferenceGrant there must allow the route to name it.
    pub(crate) canary_namespace: Option<Name>,
    /// Requests that go to the canary whatever the weight, while the release is in a stage. Any rule that matches is enough. Headers only: routes of
    /// the Gateway API know no cookies.
    #[serde(rename = "match")]
    #[schemars(length(max = 8))]
    pub(crate) matches: Option<Vec<MatchRule>>,
}

/// Kinds of routes that have weights.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum GatewayRouteKind {
    /// HTTP.
    #[serde(rename = "HTTPRoute")]
    Http,
    /// gRPC.
    #[serde(rename = "GRPCRoute")]
    Grpc,
}

/// A `VirtualService` of Istio. Serin changes the weights of the two destinations in its HTTP routes, adds the canary's beside stable's where it is not
/// there, and adds routes for `match` in front while the release is in a stage.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Istio {
    /// The `VirtualService`.
    pub(crate) virtual_service: ObjectName,
    /// Where the `VirtualService` is. Default: the namespace of the release.
    pub(crate) namespace: Option<Name>,
    /// Stable's pods: a Service, or a subset of one.
    pub(crate) stable: IstioDestination,
    /// The canary's pods: another Service, or another subset of the same.
    pub(crate) canary: IstioDestination,
    /// Names of the HTTP routes that are the release's. Default: all that lead to stable.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) routes: Option<Vec<String>>,
    /// Requests that go to the canary whatever the weight, while the release is in a stage. Any rule that matches is enough.
    #[serde(rename = "match")]
    #[schemars(length(max = 8))]
    pub(crate) matches: Option<Vec<MatchRule>>,
}

/// Where Istio sends requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IstioDestination {
    /// The Service: `checkout`, `checkout.shop`, or with its domain, as the `VirtualService` has it.
    pub(crate) host: ObjectName,
    /// A subset that a `DestinationRule` of the host has.
    pub(crate) subset: Option<ObjectName>,
}

/// Two Ingresses of ingress-nginx: the usual one, which stays as it is, and the canary's with the same host and path and the annotation
/// `nginx.ingress.kubernetes.io/canary: "true"`, in which Serin sets `canary-weight`, `canary-weight-total`, and what `match` needs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IngressNginx {
    /// The Ingress that leads to stable's service.
    pub(crate) ingress: ObjectName,
    /// The Ingress that leads to the canary's service.
    pub(crate) canary_ingress: ObjectName,
    /// Where the Ingresses and the services are. Default: the namespace of the release.
    pub(crate) namespace: Option<Name>,
    /// The Service in front of stable's pods.
    pub(crate) stable_service: Name,
    /// The Service in front of the canary's pods.
    pub(crate) canary_service: Name,
    /// Requests that go to the canary whatever the weight, while the release is in a stage. ingress-nginx knows one rule, with one header, or with one
    /// cookie whose value is `always`.
    #[serde(rename = "match")]
    #[schemars(length(max = 1))]
    pub(crate) matches: Option<Vec<MatchRule>>,
}

/// A plain Service, whose selector Serin changes from stable's pods to the canary's and back: all requests at once. For stages of 100 %.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceSelector {
    /// The Service that clients use.
    pub(crate) service: Name,
    /// Where it is; the Deployments must be there as well. Default: the namespace of the release.
    pub(crate) namespace: Option<Name>,
    /// Labels of stable's pods that the Service selects by.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) stable: std::collections::BTreeMap<String, String>,
    /// Labels of the canary's pods that the Service selects by: the same names with another value for at least one.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) canary: std::collections::BTreeMap<String, String>,
}

/// A plain Service in front of both versions: the canary's share is its part of the ready pods. Serin scales the canary so that its part is not more
/// than the stage's weight, and changes the Service's selector: to stable's pods alone for nothing, to the canary's alone for everything. A
/// weight that the replicas cannot make is refused before the release begins. Stable is not scaled.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReplicaRatio {
    /// The Service that clients use. Before a release it selects stable's pods alone.
    pub(crate) service: Name,
    /// Where it is; both versions must be there as well. Default: the namespace of the release.
    pub(crate) namespace: Option<Name>,
    /// Labels of stable's pods that the canary's have not. What else the Service selects by, pods of both have.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) stable: std::collections::BTreeMap<String, String>,
    /// Labels of the canary's pods: the same names with another value for at least one.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) canary: std::collections::BTreeMap<String, String>,
    /// The most replicas that the canary may need. Default: as many as stable has, which is enough for 50 %, and for 100 %.
    #[schemars(range(min = 1, max = 10000))]
    pub(crate) max: Option<u32>,
}

/// A weighted `TraefikService`. Serin changes the weights of the two services, and adds the canary's beside stable's if it is not there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Traefik {
    /// The `TraefikService`, with `weighted`.
    pub(crate) traefik_service: ObjectName,
    /// Where it and the services are. Default: the namespace of the release.
    pub(crate) namespace: Option<Name>,
    /// The Service in front of stable's pods.
    pub(crate) stable_service: Name,
    /// The Service in front of the canary's pods.
    pub(crate) canary_service: Name,
}

/// Any object that holds a weight in a field. The controller needs the permission to `get`, `list`, `watch` and `patch` it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CustomRouter {
    /// Group and version of the object.
    #[schemars(regex(pattern = r"^([a-z0-9.-]+/)?v[a-z0-9]+$"), extend("examples" = ["projectcontour.io/v1"]))]
    pub(crate) api_version: String,
    /// Kind of the object.
    #[schemars(regex(pattern = r"^[A-Z][A-Za-z0-9]{0,62}$"), extend("examples" = ["HTTPProxy"]))]
    pub(crate) kind: String,
    /// The name of the kind in URLs. Default: the kind in lower case with an `s`.
    #[schemars(regex(pattern = r"^[a-z][a-z0-9]{0,62}$"), extend("examples" = ["httpproxies"]))]
    pub(crate) plural: Option<String>,
    /// The object.
    pub(crate) name: ObjectName,
    /// Where the object is. Default: the namespace of the release.
    pub(crate) namespace: Option<Name>,
    /// The field with the canary's weight, a JSON pointer: `/spec/routes/0/services/1/weight`. It must be there already.
    #[schemars(regex(pattern = r"^/(spec|metadata/annotations)/[!-~]{1,240}$"))]
    pub(crate) canary_weight: String,
    /// The field with stable's weight, if there is one.
    #[schemars(regex(pattern = r"^/(spec|metadata/annotations)/[!-~]{1,240}$"))]
    pub(crate) stable_weight: Option<String>,
    /// What stands for all requests: the canary's weight is a share of it, stable's is the rest.
    #[schemars(range(min = 1, max = 1000000), extend("default" = 100))]
    pub(crate) total: Option<u32>,
}
