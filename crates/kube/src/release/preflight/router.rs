//! What one kind of router needs beside its own object.
//!
//! Subsets of Istio and selectors of Services choose pods by labels: what they choose must be the pods of the Deployment that it is said to be,
//! or a weight leads elsewhere, or nowhere.

use std::collections::BTreeMap;

use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;
use serin_core::release::Check;
use serin_spec::validated::{ClusterRouter, Destination};

use super::{super::effects::World, outcome};
use crate::{
    api::within,
    route::{IngressNginxLens, kind},
    workload::{Arm, workloads},
};

const SUBSET_HINT: &str = "a DestinationRule of the host names each subset with a label that the selector of its Deployment or StatefulSet has, such as `version`";

pub(super) async fn checks(world: &World) -> Vec<Check> {
    match &world.place.traffic.router {
        ClusterRouter::Istio { stable, canary, .. } if stable.subset.is_some() || canary.subset.is_some() => {
            let mut checks = Vec::new();
            for (name, destination, arm) in [("stable's subset", stable, Arm::Stable), ("canary's subset", canary, Arm::Canary)] {
                checks.push(outcome(name, "it selects pods of its version only", subset(world, destination, arm).await, SUBSET_HINT));
            }
            checks
        }
        ClusterRouter::Service { canary, .. } => {
            let found = "the selector will select the canary's pods";
            let hint = "pods of both Deployments have all labels that the Service selects by, each with its own values";
            vec![outcome("selector", found, selector(world, Arm::Canary, canary).await, hint)]
        }
        ClusterRouter::Replicas { stable, canary, .. } => {
            let mut checks = Vec::new();
            for (name, arm, labels) in [("stable's selector", Arm::Stable, stable), ("canary's selector", Arm::Canary, canary)] {
                let hint = "pods of each version have the labels that both have in common and those of their own";
                checks.push(outcome(name, "the Service can select its pods", selector(world, arm, labels).await, hint));
            }
            checks
        }
        ClusterRouter::IngressNginx { ingress, canary_ingress, services } => {
            let lens = IngressNginxLens { canary_ingress: ingress.clone(), services: services.clone(), declared: Vec::new() };
            let found = "stable's Ingress has every host and path of the canary's";
            vec![outcome(
                "stable's ingress",
                found,
                same_paths(world, canary_ingress, &lens).await,
                "both Ingresses have the same hosts and paths",
            )]
        }
        _ => Vec::new(),
    }
}

/// Whether the labels of a subset are of the Deployment's selector, so that they choose its pods and nobody else's.
async fn subset(world: &World, destination: &Destination, arm: Arm) -> Result<(), String> {
    let wanted = destination.subset.as_deref().unwrap_or_default();
    let (namespace, service) = world.place.traffic.service_of(&destination.host);
    let namespace = namespace.unwrap_or_else(|| world.route_namespace.clone());
    let mut found = None;
    let beside_route = Some(&world.route_namespace).filter(|home| **home != namespace);
    for home in [Some(&namespace), beside_route].into_iter().flatten() {
        let api: Api<DynamicObject> =
            Api::namespaced_with(world.client.clone(), home, &kind("networking.istio.io", "v1", "DestinationRule", "destinationrules"));
        let rules =
            within("list DestinationRules", api.list(&ListParams::default().limit(500))).await.map_err(|error| error.to_string())?;
        let of_host = rules.items.iter().filter(|rule| {
            let host = rule.data.pointer("/spec/host").and_then(Value::as_str).unwrap_or_default();
            let mut parts = host.splitn(3, '.');
            parts.next() == Some(service.as_str()) && parts.next().is_none_or(|elsewhere| elsewhere == namespace)
        });
        let mut subsets =
            of_host.flat_map(|rule| rule.data.pointer("/spec/subsets").and_then(Value::as_array).cloned().unwrap_or_default());
        found = subsets.find(|subset| subset.get("name").and_then(Value::as_str) == Some(wanted));
        if found.is_some() {
            break;
        }
    }
    let found = found.ok_or_else(|| format!("no DestinationRule of {} has the subset {wanted}", destination.host))?;
    let labels = found.get("labels").and_then(Value::as_object).filter(|labels| !labels.is_empty());
    let labels = labels.ok_or_else(|| format!("the subset {wanted} has no labels: it is all pods of the host"))?;
    let selector = at_workload(world, arm, "/spec/selector/matchLabels").await?;
    match labels.iter().find(|(name, value)| selector.get(name.as_str()) != value.as_str().map(str::to_owned).as_ref()) {
        Some((name, value)) => {
            let title = world.pair.names().title(arm);
            Err(format!("the subset {wanted} selects {name}={value}, which the selector of the {title} has not"))
        }
        None => Ok(()),
    }
}

/// Whether the Service will have endpoints when its selector was switched.
async fn selector(world: &World, arm: Arm, own: &BTreeMap<String, String>) -> Result<(), String> {
    if world.namespace != world.route_namespace {
        return Err(format!(
            "the Service is in {} and the versions are in {}: a Service selects pods beside it only",
            world.route_namespace, world.namespace
        ));
    }
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.route_namespace, &world.router.lens().resource());
    let name = world.router.lens().name();
    let service = within(&format!("get Service {name}"), api.get(name)).await.map_err(|error| error.to_string())?;
    let now = service.data.pointer("/spec/selector").and_then(Value::as_object).cloned().unwrap_or_default();
    let labels = at_workload(world, arm, "/spec/template/metadata/labels").await?;
    let kept = now.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
    let switched: BTreeMap<String, String> = kept.chain(own.clone()).collect();
    match switched.iter().find(|(name, value)| labels.get(*name) != Some(value)) {
        Some((name, value)) => Err(format!("pods of the {} have no label {name}={value}", world.pair.names().title(arm))),
        None => Ok(()),
    }
}

/// Whether the canary's Ingress has a main one beside it: without, ingress-nginx ignores it.
async fn same_paths(world: &World, canary: &str, of: &IngressNginxLens) -> Result<(), String> {
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.route_namespace, &world.router.lens().resource());
    let mut all = Vec::new();
    for name in [of.canary_ingress.as_str(), canary] {
        let found = within(&format!("get Ingress {name}"), api.get_opt(name)).await.map_err(|error| error.to_string())?;
        all.push(found.ok_or_else(|| format!("there is no Ingress {}/{name}", world.route_namespace))?);
    }
    let (main, canary) = (paths(&all[0].data), paths(&all[1].data));
    for (place, _) in &canary {
        match main.iter().find(|(other, _)| other == place) {
            None => return Err(format!("the Ingress {} has no rule for {place}", of.canary_ingress)),
            Some((_, service)) if *service != of.services.stable => {
                return Err(format!("the Ingress {} leads {place} to {service:?}, not to stable's service", of.canary_ingress));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Host and path of every rule of an Ingress, each with its service.
fn paths(ingress: &Value) -> Vec<(String, String)> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let rules = ingress.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten();
    let of_rule = |rule: &Value| {
        let host = text(rule.get("host"));
        let paths = rule.pointer("/http/paths").and_then(Value::as_array).cloned().unwrap_or_default();
        paths.into_iter().map(move |path| (format!("{host}{}", text(path.get("path"))), text(path.pointer("/backend/service/name"))))
    };
    rules.flat_map(of_rule).collect()
}

/// Texts of a map in a version's workload.
pub(super) async fn at_workload(world: &World, arm: Arm, at: &str) -> Result<BTreeMap<String, String>, String> {
    let names = world.pair.names();
    let (namespace, name) = names.place(arm);
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), namespace, &workloads(names.kind(arm)));
    let found = within(&format!("get {}", names.title(arm)), api.get(name)).await.map_err(|error| error.to_string())?;
    let map = found.data.pointer(at).and_then(Value::as_object).cloned().unwrap_or_default();
    Ok(map.into_iter().map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serin_core::release::CheckStatus;

    use super::*;
    use crate::{
        release::fixture::{memory, world},
        testing::FakeApi,
    };

    fn rules(namespace: &str) -> String {
        format!("/apis/networking.istio.io/v1/namespaces/{namespace}/destinationrules")
    }

    /// Whether each subset is right, and how many lists that took. `host`: of both; `at`: the namespace of its DestinationRule.
    async fn subsets(host: &str, at: &str) -> (Vec<bool>, usize) {
        let api = FakeApi::start().await;
        for name in ["shop", "trial"] {
            let deployment = json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": name}}}});
            api.put(&format!("/apis/apps/v1/namespaces/shop/deployments/{name}"), deployment);
        }
        for namespace in ["shop", "mesh"] {
            api.put(&rules(namespace), json!({"items": []}));
        }
        let named = [("v1", "shop"), ("v2", "trial")].map(|(name, app)| json!({"name": name, "labels": {"app": app}}));
        let rule = json!({"metadata": {"name": "shop", "namespace": at}, "spec": {"host": "shop", "subsets": named}});
        api.put(&rules(at), json!({"items": [rule]}));
        let traffic = json!({"istio": {
            "virtualService": "shop",
            "stable": {"host": host, "subset": "v1"},
            "canary": {"host": host, "subset": "v2"},
        }});
        let world = world(&api, &traffic.to_string(), &memory(vec![], &[]));
        let found = checks(&world).await.iter().map(|check| check.status == CheckStatus::Pass).collect();
        (found, api.calls().iter().filter(|call| call.contains("destinationrules")).count())
    }

    #[tokio::test]
    async fn rules_are_looked_for_beside_the_service_and_then_beside_the_route() {
        assert_eq!(subsets("shop", "shop").await, (vec![true, true], 2), "once per version");
        assert_eq!(subsets("shop.mesh", "mesh").await, (vec![true, true], 2));
        assert_eq!(subsets("shop.mesh", "shop").await, (vec![true, true], 4));
        assert_eq!(subsets("shop", "mesh").await, (vec![false, false], 2));
    }
}
