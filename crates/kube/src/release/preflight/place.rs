//! What the namespace of the versions has room for, and what the canary's pods refer to. Whatever may not be looked at is said to be unseen.

use k8s_openapi::api::{
    core::v1::{Namespace, ResourceQuota, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;
use serin_core::release::{Check, CheckStatus};

use super::{
    super::effects::World,
    template::{self, Facts},
};
use crate::{
    api::{ApiError, within},
    workload::{Arm, workloads},
};

pub(super) async fn checks(world: &World) -> Vec<Check> {
    let names = world.pair.names();
    let mut found = Vec::new();
    for arm in [Arm::Stable, Arm::Canary] {
        let (namespace, name) = names.place(arm);
        let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), namespace, &workloads(names.kind(arm)));
        found.push(within(&format!("get {}", names.title(arm)), api.get_opt(name)).await.ok().flatten().map(|found| found.data));
    }
    let [Some(stable), canary] = [found.swap_remove(0), found.pop().flatten()] else { return Vec::new() };
    // A canary that Serin makes gets the template, with labels of its own, of the Deployment that is released in place.
    let canary = canary.filter(|_| !world.pair.is_managed());
    let template = canary.as_ref().unwrap_or(&stable).pointer("/spec/template").cloned().unwrap_or_default();
    let services = if canary.is_some() { services(world).await } else { None };
    let mut checks = template::checks(&Facts { stable: &stable, canary: &template, services });
    // A DaemonSet says in its status how many there are; one on trial runs already.
    let asked = ["/spec/replicas", "/status/desiredNumberScheduled"].iter().find_map(|at| stable.pointer(at)?.as_i64()).unwrap_or(1);
    let asked = world.place.workload.canary_replicas.map_or(asked, i64::from);
    let replicas = if world.pair.is_canary_scaled() { asked } else { 0 };
    checks.push(namespace(world).await);
    checks.push(quota(world, replicas).await);
    checks.push(budget(world, &template).await);
    checks.push(service_account(world, &template).await);
    checks
}

/// Selectors of the Services, where each version has one beside its pods. In two namespaces neither could select the other's.
async fn services(world: &World) -> Option<[(String, std::collections::BTreeMap<String, String>); 2]> {
    let mut found = Vec::new();
    if world.stable_namespace != world.namespace {
        return None;
    }
    for (namespace, name) in world.place.traffic.services()? {
        let namespace = namespace.unwrap_or_else(|| world.route_namespace.clone());
        let api: Api<Service> = Api::namespaced(world.client.clone(), &namespace);
        let service = within(&format!("get Service {name}"), api.get_opt(&name)).await.ok().flatten()?;
        found.push((name, service.spec.and_then(|spec| spec.selector).filter(|_| namespace == world.namespace)?));
    }
    found.try_into().ok()
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

/// Whether quotas leave room for the canary's pods. Only their number is looked at.
async fn quota(world: &World, replicas: i64) -> Check {
    const NAME: &str = "quota";
    let api: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let quotas = match within("list ResourceQuotas", api.list(&ListParams::default().limit(100))).await {
        Ok(quotas) => quotas,
        Err(error) => return unseen(NAME, &error),
    };
    let left = |quota: &ResourceQuota| {
        let status = quota.status.as_ref()?;
        let number = |of: &Option<std::collections::BTreeMap<String, _>>| {
            let of: &std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity> = of.as_ref()?;
            ["pods", "count/pods"].iter().find_map(|name| of.get(*name))?.0.parse::<i64>().ok()
        };
        Some((quota.metadata.name.clone().unwrap_or_default(), number(&status.hard)?.saturating_sub(number(&status.used).unwrap_or(0))))
    };
    match quotas.items.iter().filter_map(left).find(|(_, left)| *left < replicas) {
        Some((name, left)) => {
            let detail = format!("the ResourceQuota {name} leaves room for {left} pods, the canary needs {replicas}");
            check(NAME, CheckStatus::Fail, detail, Some("raise the quota, or give the canary fewer `replicas`"))
        }
        None => check(NAME, CheckStatus::Pass, format!("there is room for {replicas} pods of the canary"), None),
    }
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

fn check(name: &str, status: CheckStatus, detail: String, hint: Option<&str>) -> Check {
    Check { name: name.to_owned(), status, detail, hint: hint.map(str::to_owned) }
}
