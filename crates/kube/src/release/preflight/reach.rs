//! Two namespaces: each version's Service is beside its pods, and the route may name a Service that is not beside the route.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;
use serin_core::release::Check;
use serin_spec::validated::ClusterRouter;

use super::{super::effects::World, outcome, router::at_workload};
use crate::{api::within, route::kind, workload::Arm};

const GATEWAY: &str = "gateway.networking.k8s.io";

pub(super) async fn checks(world: &World) -> Vec<Check> {
    let Some(services) = world.place.traffic.services() else { return Vec::new() };
    let names = world.pair.names();
    let mut checks = Vec::new();
    for ((elsewhere, service), (arm, who)) in services.into_iter().zip([(Arm::Stable, "stable's"), (Arm::Canary, "canary's")]) {
        let namespace = elsewhere.unwrap_or_else(|| world.route_namespace.clone());
        // Where both are beside each other, other checks look at the same and more.
        if names.namespace != names.canary_namespace {
            let found = format!("the Service {namespace}/{service} selects the pods of its version");
            let hint = "a Service selects pods beside it only: name one in the namespace of each version";
            checks.push(outcome(&format!("{who} reach"), &found, reaches(world, arm, &namespace, &service).await, hint));
        }
        if matches!(world.place.traffic.router, ClusterRouter::GatewayApi { .. }) && namespace != world.route_namespace {
            let found = format!("a ReferenceGrant in {namespace} lets the route name {service}");
            let route = world.router.lens().resource().kind;
            let hint = format!("create a ReferenceGrant in {namespace}: from {route}s of {} to Services", world.route_namespace);
            checks.push(outcome(&format!("{who} grant"), &found, granted(world, &route, &namespace, &service).await, &hint));
        }
    }
    checks
}

async fn reaches(world: &World, arm: Arm, namespace: &str, service: &str) -> Result<(), String> {
    let home = world.pair.names().place(arm).0;
    if namespace != home {
        return Err(format!("the Service {namespace}/{service} is not in {home}, where the pods are"));
    }
    let api: Api<Service> = Api::namespaced(world.client.clone(), namespace);
    let found = within(&format!("get Service {namespace}/{service}"), api.get_opt(service)).await.map_err(|error| error.to_string())?;
    let Some(found) = found else { return Err(format!("there is no Service {namespace}/{service}")) };
    let selector = found.spec.and_then(|spec| spec.selector).unwrap_or_default();
    let labels: BTreeMap<String, String> = at_workload(world, arm, "/spec/template/metadata/labels").await?;
    match selector.iter().find(|(name, value)| labels.get(*name) != Some(value)) {
        Some((name, value)) => Err(format!("it selects {name}={value}, which pods of the {} have not", world.pair.names().title(arm))),
        None => Ok(()),
    }
}

async fn granted(world: &World, route: &str, namespace: &str, service: &str) -> Result<(), String> {
    let grants = kind(GATEWAY, "v1beta1", "ReferenceGrant", "referencegrants");
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), namespace, &grants);
    let found = within("list ReferenceGrants", api.list(&ListParams::default().limit(500))).await.map_err(|error| error.to_string())?;
    if found.items.iter().any(|grant| allows(&grant.data, (route, &world.route_namespace), service)) {
        return Ok(());
    }
    Err(format!("no ReferenceGrant in {namespace} lets a {route} of {} name the Service {service}", world.route_namespace))
}

/// Whether a grant lets routes of this kind, from there, name a Service beside the grant.
fn allows(grant: &Value, (route, from): (&str, &str), service: &str) -> bool {
    let all = |field: &str| grant.pointer(&format!("/spec/{field}")).and_then(Value::as_array).cloned().unwrap_or_default();
    let is = |one: &Value, field: &str, wanted: &str| one.get(field).and_then(Value::as_str).unwrap_or_default() == wanted;
    let is_from = all("from").iter().any(|one| is(one, "group", GATEWAY) && is(one, "kind", route) && is(one, "namespace", from));
    let is_to = all("to").iter().any(|one| {
        is(one, "group", "") && is(one, "kind", "Service") && (is(one, "name", service) || one.get("name").is_none_or(Value::is_null))
    });
    is_from && is_to
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_grant_is_for_one_kind_of_one_namespace_to_some_services() {
        let grant = |from: Value, to: Value| {
            allows(&json!({"spec": {"from": [from], "to": [{"group": "", "kind": "Secret"}, to]}}), ("HTTPRoute", "shop"), "web")
        };
        let from = json!({"group": GATEWAY, "kind": "HTTPRoute", "namespace": "shop"});
        assert!(grant(from.clone(), json!({"group": "", "kind": "Service"})));
        assert!(grant(from.clone(), json!({"group": "", "kind": "Service", "name": "web"})));
        assert!(!grant(from.clone(), json!({"group": "", "kind": "Service", "name": "other"})));
        assert!(!grant(from.clone(), json!({"group": "a.b", "kind": "Service"})));
        for (field, other) in [("kind", "GRPCRoute"), ("namespace", "web"), ("group", "")] {
            let mut from = from.clone();
            from[field] = json!(other);
            assert!(!grant(from, json!({"group": "", "kind": "Service"})), "{field}");
        }
    }
}
