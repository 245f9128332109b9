//! The objects that the data plane is made from, and what they say about services.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde_json::Value;

use super::super::{mirror::ByName, net::PodNetwork};

/// Everything that is read, by kind.
#[derive(Debug, Default, Clone)]
pub(super) struct World {
    pub(super) services: ByName,
    pub(super) slices: ByName,
    pub(super) pods: ByName,
    pub(super) http_routes: ByName,
    pub(super) grpc_routes: ByName,
    pub(super) virtual_services: ByName,
    pub(super) destination_rules: ByName,
    pub(super) ingresses: ByName,
    pub(super) traefik_services: ByName,
    pub(super) ingress_routes: ByName,
    pub(super) reference_grants: ByName,
}

/// A port of a service, or those of its pods that have certain labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UpstreamKey {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u16,
    /// Name and labels.
    pub(super) subset: Option<(String, BTreeMap<String, String>)>,
}

impl UpstreamKey {
    /// What Envoy calls it: `NAMESPACE/SERVICE/PORT` or `NAMESPACE/SERVICE/PORT/SUBSET`.
    pub(super) fn name(&self) -> String {
        let subset = self.subset.as_ref().map(|(name, _)| format!("/{name}")).unwrap_or_default();
        format!("{}/{}/{}{subset}", self.namespace, self.service, self.port)
    }
}

/// Where an upstream's requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) endpoints: BTreeSet<SocketAddr>,
    pub(super) is_http2: bool,
}

impl World {
    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&Value> {
        self.services.get(&(namespace.to_owned(), name.to_owned())).map(AsRef::as_ref)
    }

    /// Whether a route of this kind and namespace may name a service: beside it always, elsewhere by a grant.
    pub(super) fn may_refer(&self, (kind, from): (&str, &str), namespace: &str, service: &str) -> bool {
        let is_from = |one: &Value| one["group"] == "gateway.networking.k8s.io" && one["kind"] == kind && one["namespace"] == from;
        let is_to = |one: &Value| one["group"] == "" && one["kind"] == "Service" && (one["name"].is_null() || one["name"] == service);
        let allows = |grant: &Value| list(&grant["spec"]["from"]).iter().any(is_from) && list(&grant["spec"]["to"]).iter().any(is_to);
        from == namespace || self.reference_grants.iter().any(|((home, _), grant)| home == namespace && allows(grant))
    }

    /// A service's port by number or name; its only one if none is asked for.
    pub(super) fn port(&self, namespace: &str, service: &str, wanted: &Value) -> Option<u16> {
        let ports = list(&self.service(namespace, service)?["spec"]["ports"]);
        let found = match wanted {
            Value::Null => ports.first(),
            wanted => ports.iter().find(|port| port["port"] == *wanted || port["name"] == *wanted),
        };
        found?["port"].as_u64()?.try_into().ok()
    }

    /// Endpoints that take new requests. None for a service that is not there.
    pub(super) fn upstream(&self, key: &UpstreamKey, network: &PodNetwork) -> Upstream {
        let service = self.service(&key.namespace, &key.service);
        let port = service.and_then(|service| list(&service["spec"]["ports"]).iter().find(|port| port["port"] == key.port));
        let port_name = port.map_or("", |port| port["name"].as_str().unwrap_or_default());
        let protocol = port.and_then(|port| port["appProtocol"].as_str()).unwrap_or_default();
        let of_service = |slice: &&Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == key.service.as_str();
        let slices = self.slices.iter().filter(|((namespace, _), _)| *namespace == key.namespace).map(|(_, slice)| slice.as_ref());
        let mut endpoints = BTreeSet::new();
        for slice in slices.filter(of_service) {
            let number = list(&slice["ports"]).iter().find(|port| port["name"].as_str().unwrap_or_default() == port_name);
            let Some(number) = number.and_then(|port| port["port"].as_u64()?.try_into().ok()) else { continue };
            let ready = list(&slice["endpoints"]).iter().filter(|endpoint| endpoint["conditions"]["ready"] != false);
            let chosen = ready.filter(|endpoint| self.is_in_subset(key, &endpoint["targetRef"]["name"]));
            endpoints.extend(chosen.filter_map(|endpoint| network.dial_text(endpoint["addresses"][0].as_str()?, number)));
        }
        Upstream { endpoints, is_http2: matches!(protocol, "grpc" | "kubernetes.io/h2c" | "http2") || port_name.starts_with("grpc") }
    }

    fn is_in_subset(&self, key: &UpstreamKey, pod: &Value) -> bool {
        let Some((_, labels)) = &key.subset else { return true };
        let pod = pod.as_str().and_then(|name| self.pods.get(&(key.namespace.clone(), name.to_owned())));
        pod.is_some_and(|pod| labels.iter().all(|(name, value)| pod["metadata"]["labels"][name] == value.as_str()))
    }
}

/// The items of a list; none of anything else.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Text; nothing of anything else.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
