//! What is looked at before a release begins. Nothing is changed. `router` has what is about one kind of router, `template` what the templates say,
//! `place` what is around them.

mod place;
mod router;
mod template;

use std::time::Duration;

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::Service,
};
use kube::{Api, Client, api::PostParams};
use serin_core::release::{Check, CheckStatus};
use tokio::time::timeout;

use super::effects::World;
use crate::api::within;

/// How long stable may take to come to rest: a rollout of stable's own may be under way.
const STABLE_PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn checks(world: &World) -> Vec<Check> {
    let mut checks = Vec::new();
    let lens = world.router.lens();
    let route = lens.resource();
    for (verb, group, resource, namespace, name) in [
        ("patch", route.group.as_str(), route.plural.as_str(), &world.route_namespace, lens.name()),
        ("patch", "apps", "deployments", &world.namespace, world.place.workload.stable.as_str()),
        ("patch", "apps", "deployments", &world.namespace, world.place.workload.canary.as_str()),
    ] {
        let allowed = may(&world.client, verb, group, resource, namespace, name).await;
        let found = format!("the controller may {verb} {resource} {namespace}/{name}");
        checks.push(outcome("permission", &found, allowed, "bind the ClusterRole of the controller in this namespace"));
    }
    let examined = world.router.examine().await.map_err(|error| error.to_string());
    checks.push(outcome("route", "it gives the canary nothing and belongs to nobody else", examined, &lens.hint()));
    checks.extend(services(world).await);
    checks.extend(router::checks(world).await);
    checks.push(outcome(
        "stable is healthy",
        "all replicas are ready",
        stable(world).await,
        "repair stable before you release: there would be nothing to go back to",
    ));
    checks.push(outcome(
        "canary",
        "it is another version than stable",
        canary(world).await,
        "change the template of the canary's Deployment to the version that you want to release",
    ));
    checks.extend(place::checks(world).await);
    checks.extend(world.sources.preflight().await);
    checks
}

/// The Services of the versions, where each has one.
async fn services(world: &World) -> Vec<Check> {
    let mut checks = Vec::new();
    let services = world.place.traffic.services().into_iter().flatten();
    for ((namespace, service), name) in services.zip(["stable's service", "canary's service"]) {
        let namespace = namespace.as_deref().unwrap_or(&world.route_namespace);
        let api: Api<Service> = Api::namespaced(world.client.clone(), namespace);
        let found = within(&format!("get Service {service}"), api.get_opt(&service)).await.map_err(|error| error.to_string());
        let found = found.and_then(|found| found.ok_or_else(|| format!("there is no Service {namespace}/{service}")));
        let selects = found.and_then(|found| {
            let selector = found.spec.and_then(|spec| spec.selector).unwrap_or_default();
            if selector.is_empty() { Err(format!("the Service {service} selects no pods")) } else { Ok(()) }
        });
        checks.push(outcome(name, "it is there and selects pods", selects, "each version needs a Service of its own"));
    }
    checks
}

async fn stable(world: &World) -> Result<(), String> {
    let arms = world.pair.fresh_arms().await.map_err(|error| error.to_string())?;
    let [stable, _] = arms;
    if stable.wanted == 0 {
        return Err("stable is asked to have no replicas".to_owned());
    }
    if timeout(STABLE_PATIENCE, world.pair.stable_settled(&stable.version)).await.is_ok() {
        return Ok(());
    }
    let now = world.pair.stable().unwrap_or_default();
    let why = now.trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
    Err(format!("{} of {} replicas are ready{why}", now.ready, now.wanted))
}

async fn canary(world: &World) -> Result<(), String> {
    let [stable, canary] = world.pair.fresh_arms().await.map_err(|error| error.to_string())?;
    if canary.version != world.judged {
        return Err("its template was changed since the release was begun".to_owned());
    }
    if canary.version == stable.version { Err("both Deployments have the same template".to_owned()) } else { Ok(()) }
}

async fn may(client: &Client, verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Result<(), String> {
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer =
        within("create SelfSubjectAccessReview", api.create(&PostParams::default(), &review)).await.map_err(|error| error.to_string())?;
    let status = answer.status.unwrap_or_default();
    if status.allowed {
        return Ok(());
    }
    let why = status.reason.filter(|reason| !reason.is_empty()).map_or_else(String::new, |reason| format!(": {reason}"));
    Err(format!("the controller may not {verb} {resource} {namespace}/{name}{why}"))
}

pub(super) fn outcome(name: &str, found: &str, result: Result<(), String>, hint: &str) -> Check {
    match result {
        Ok(()) => Check { name: name.to_owned(), status: CheckStatus::Pass, detail: found.to_owned(), hint: None },
        Err(why) => Check { name: name.to_owned(), status: CheckStatus::Fail, detail: why, hint: Some(hint.to_owned()) },
    }
}
