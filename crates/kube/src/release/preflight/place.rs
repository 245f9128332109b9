//! What the namespace of the versions has room for, and what the canary's pods refer to. What is around them and may not be looked at is said to be
//! unseen; without the Deployments and their Services themselves, nothing can be said of a release, and it does not begin.
//!
//! A quota with scopes counts some pods only. Those of a Deployment have no deadline, so that one of `NotTerminating` counts all of them and one of
//! `Terminating` none; what other scopes make of them depends on defaults and classes that are not looked at, and such a quota refuses nothing here.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Namespace, ResourceQuota, Service, ServiceAccount},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;
use serin_core::release::{Check, CheckStatus};

use super::{
    super::effects::World,
    BIND, check, outcome,
    template::{self, Facts},
};
use crate::{
    api::{ApiError, within},
    workload::{Arm, workloads},
};

const QUOTA: &str = "quota";

/// Name and selector of a Service.
type Selects = (String, BTreeMap<String, String>);

pub(super) async fn checks(world: &World) -> Vec<Check> {
    let (stable, canary) = match (workload(world, Arm::Stable).await, workload(world, Arm::Canary).await) {
        (Ok(Some(stable)), Ok(canary)) => (stable, canary),
        // That it is gone was said where it is to be healthy.
        (Ok(None), Ok(_)) => return Vec::new(),
        (Err(why), _) | (_, Err(why)) => return vec![outcome("workloads", "", Err(why), BIND)],
    };
    let running = canary.as_ref().and_then(|canary| canary.pointer("/status/replicas")).and_then(Value::as_i64).unwrap_or(0);
    // A canary that Serin makes gets the template, with labels of its own, of the Deployment that is released in place.
    let canary = canary.filter(|_| !world.pair.is_managed());
    let template = canary.as_ref().unwrap_or(&stable).pointer("/spec/template").cloned().unwrap_or_default();
    let mut checks = Vec::new();
    let services = if canary.is_some() { services(world).await } else { Ok(None) };
    let services = services.unwrap_or_else(|why| {
        checks.push(outcome("services apart", "", Err(why), BIND));
        None
    });
    checks.extend(template::checks(&Facts { stable: &stable, canary: &template, services }));
    // A DaemonSet says in its status how many there are; one on trial runs already.
    let asked = ["/spec/replicas", "/status/desiredNumberScheduled"].iter().find_map(|at| stable.pointer(at)?.as_i64()).unwrap_or(1);
    let asked = world.place.workload.canary_replicas.map_or(asked, i64::from);
    let replicas = if world.pair.is_canary_scaled() { asked } else { 0 };
    checks.push(namespace(world).await);
    checks.push(quota(world, replicas.saturating_sub(running).max(0)).await);
    checks.push(budget(world, &template).await);
    checks.push(service_account(world, &template).await);
    checks
}

async fn workload(world: &World, arm: Arm) -> Result<Option<Value>, String> {
    let names = world.pair.names();
    let (namespace, name) = names.place(arm);
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), namespace, &workloads(names.kind(arm)));
    let found = within(&format!("get {}", names.title(arm)), api.get_opt(name)).await;
    found.map(|found| found.map(|found| found.data)).map_err(|error| error.to_string())
}

/// The Services, where each version has one beside its pods. One that is missing or selects nothing was said already. In two namespaces neither
/// could select the other's pods.
async fn services(world: &World) -> Result<Option<[Selects; 2]>, String> {
    if world.stable_namespace != world.namespace {
        return Ok(None);
    }
    let mut found = Vec::new();
    for (namespace, name) in world.place.traffic.services().into_iter().flatten() {
        let namespace = namespace.unwrap_or_else(|| world.route_namespace.clone());
        let api: Api<Service> = Api::namespaced(world.client.clone(), &namespace);
        let service = within(&format!("get Service {namespace}/{name}"), api.get_opt(&name)).await.map_err(|error| error.to_string())?;
        let selector = service.and_then(|service| service.spec).and_then(|spec| spec.selector);
        found.extend(selector.filter(|_| namespace == world.namespace).map(|selector| (name, selector)));
    }
    Ok(found.try_into().ok())
}

async fn namespace(world: &World) -> Check {
    const NAME: &str = "namespace";
    let api: Api<Namespace> = Api::all(world.client.clone());
    let found = within("get the namespace", api.get_opt(&world.namespace)).await;
    let is_ending = |found: &Option<Namespace>| found.as_ref().is_none_or(|found| found.metadata.deletion_timestamp.is_some());
    match found {
        Err(error) => unseen(NAME, &error),
        Ok(found) if is_ending(&found) => {
            check(NAME, CheckStatus::Fail, format!("the namespace {} is being deleted", world.namespace), Some("release elsewhere"))
        }
        Ok(_) => check(NAME, CheckStatus::Pass, format!("the namespace {} is there to stay", world.namespace), None),
    }
}

/// Whether quotas leave room for the pods that the canary has not yet. Only their number is looked at.
async fn quota(world: &World, missing: i64) -> Check {
    let api: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    match within("list ResourceQuotas", api.list(&ListParams::default().limit(100))).await {
        Ok(quotas) => room(&quotas.items, missing),
        Err(error) => unseen(QUOTA, &error),
    }
}

fn room(quotas: &[ResourceQuota], missing: i64) -> Check {
    let short = quotas.iter().filter_map(|quota| Some((quota.metadata.name.as_deref().unwrap_or_default(), left(quota)?)));
    match short.into_iter().find(|(_, left)| *left < missing) {
        Some((name, left)) => {
            let detail = format!("the ResourceQuota {name} leaves room for {left} more pods, the canary needs {missing} more");
            check(QUOTA, CheckStatus::Fail, detail, Some("raise the quota, or give the canary fewer `replicas`"))
        }
        None => check(QUOTA, CheckStatus::Pass, format!("there is room for {missing} more pods of the canary"), None),
    }
}

/// How many more pods a quota allows, at least 0; `None` if it counts no pods, or not surely the canary's.
fn left(quota: &ResourceQuota) -> Option<i64> {
    let spec = quota.spec.as_ref();
    let plain = spec.and_then(|spec| spec.scopes.as_ref()).into_iter().flatten();
    let selected = spec.and_then(|spec| spec.scope_selector.as_ref()).and_then(|selector| selector.match_expressions.as_ref());
    if !plain.chain(selected.into_iter().flatten().map(|one| &one.scope_name)).all(|scope| scope == "NotTerminating") {
        return None;
    }
    let status = quota.status.as_ref()?;
    let number = |of: &Option<BTreeMap<String, Quantity>>, name: &str| of.as_ref()?.get(name)?.0.parse::<i64>().ok();
    let of_name = |name: &&str| Some(number(&status.hard, name)?.saturating_sub(number(&status.used, name).unwrap_or(0)).max(0));
    ["pods", "count/pods"].iter().filter_map(of_name).min()
}

/// Whether a drained node could take all pods of the canary at once, although stable's are kept.
async fn budget(world: &World, template: &Value) -> Check {
    const NAME: &str = "disruption budget";
    let api: Api<PodDisruptionBudget> = Api::namespaced(world.client.clone(), &world.namespace);
    let budgets = match within("list PodDisruptionBudgets", api.list(&ListParams::default().limit(100))).await {
        Ok(budgets) => budgets.items,
        Err(error) => return unseen(NAME, &error),
    };
    let labels = template.pointer("/metadata/labels");
    let covers = |budget: &PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()).and_then(|selector| selector.match_labels.as_ref());
        selector.is_some_and(|selector| {
            !selector.is_empty()
                && selector.iter().all(|(name, value)| labels.and_then(|labels| labels.get(name)).and_then(Value::as_str) == Some(value))
        })
    };
    if budgets.is_empty() || budgets.iter().any(covers) {
        return check(NAME, CheckStatus::Pass, "the canary is kept as well as stable is".to_owned(), None);
    }
    let detail = "there are PodDisruptionBudgets here, and none is about the canary's pods".to_owned();
    check(NAME, CheckStatus::Warn, detail, Some("a drained node may take all pods of the canary at once: give it a budget too"))
}

async fn service_account(world: &World, template: &Value) -> Check {
    const NAME: &str = "service account";
    let name = template.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or("default");
    if name == "default" {
        return check(NAME, CheckStatus::Pass, "the canary's pods use that of the namespace".to_owned(), None);
    }
    let api: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    match within("get the ServiceAccount", api.get_opt(name)).await {
        Err(error) => unseen(NAME, &error),
        Ok(Some(_)) => check(NAME, CheckStatus::Pass, format!("the ServiceAccount {name} is there"), None),
        Ok(None) => {
            let detail = format!("there is no ServiceAccount {}/{name}, which the canary's pods need", world.namespace);
            check(NAME, CheckStatus::Fail, detail, Some("create it, or correct its name in the template"))
        }
    }
}

fn unseen(name: &str, error: &ApiError) -> Check {
    let hint = "bind the ClusterRole of the controller, if this is to be looked at";
    check(name, CheckStatus::Warn, format!("could not be looked at: {error}"), Some(hint))
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
