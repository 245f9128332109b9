//! What is looked at before a release begins. Nothing is changed. `router` has what is about one kind of router, `template` what the templates say,
//! `place` what is around them,
//! `kinds` what is special about a kind of workload, `reach` whether the router may name Services elsewhere, `ratio` whether there are
//! replicas for the shares.

mod kinds;
mod place;
mod ratio;
mod reach;
mod router;
mod template;

use std::time::Duration;

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::Service,
};
use kube::{Api, Client, api::PostParams};
use serin_core::release::{Check, CheckStatus};
use serin_engine::preflight::outcome;
use serin_spec::validated::WorkloadKind;
use tokio::time::timeout;

pub(crate) use ratio::shares;

use super::effects::World;
use crate::{
    api::within,
    workload::{Arm, PairError, workloads},
};

/// How long stable may take to come to rest: a rollout of stable's own may be under way.
const STABLE_PATIENCE: Duration = Duration::from_secs(60);

/// What helps where something may not be read or written.
const BIND: &str = "bind the ClusterRole of the controller in this namespace";

pub(super) async fn checks(world: &World) -> Vec<Check> {
    let mut checks = Vec::new();
    let lens = world.router.lens();
    let route = lens.resource();
    let names = world.pair.names();
    let [of_stable, of_canary] = [Arm::Stable, Arm::Canary].map(|arm| (workloads(names.kind(arm)), names.place(arm)));
    let mut needed = vec![("patch", route.group.as_str(), route.plural.as_str(), world.route_namespace.as_str(), lens.name())];
    needed.extend([&of_stable, &of_canary].map(|(kind, (namespace, name))| ("patch", "apps", kind.plural.as_str(), *namespace, *name)));
    if world.pair.is_managed() {
        needed.push(("create", "apps", "deployments", &world.namespace, ""));
        needed.push(("create", "", "services", &world.route_namespace, ""));
    }
    for (verb, group, resource, namespace, name) in needed {
        let allowed = may(&world.client, verb, group, resource, namespace, name).await;
        let found = format!("the controller may {verb} {resource} {namespace}/{name}");
        checks.push(outcome("permission", found, allowed, BIND));
    }
    let examined = world.router.examine().await.map_err(|error| error.to_string());
    checks.push(outcome("route", "it gives the canary nothing and belongs to nobody else", examined, &lens.hint()));
    checks.extend(services(world).await);
    checks.extend(router::checks(world).await);
    checks.extend(reach::checks(world).await);
    checks.extend(kinds::checks(world).await);
    checks.extend(ratio::checks(world).await);
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
        if world.pair.is_managed() {
            "change the template of the Deployment to the version that you want to release"
        } else {
            "change the template of the canary to the version that you want to release"
        },
    ));
    checks.push(autoscalers(world).await);
    let [maps, secrets] = world.pair.references().map(|names| names.into_iter().collect::<Vec<_>>().join(", "));
    let tracked = if maps.is_empty() { "no ConfigMap is read".to_owned() } else { format!("a new content of {maps} begins a release") };
    let untracked =
        if secrets.is_empty() { String::new() } else { format!("; one of the Secrets {secrets} does not: they are not read by Serin") };
    checks.push(outcome("configuration", format!("{tracked}{untracked}"), Ok(()), ""));
    checks.extend(place::checks(world).await);
    checks.extend(world.sources.preflight().await);
    checks
}

/// The Services of the versions, where each has one.
async fn services(world: &World) -> Vec<Check> {
    let mut checks = Vec::new();
    let services = world.place.traffic.services().into_iter().flatten();
    // What Serin makes itself need not be there before.
    let given = if world.pair.is_managed() { 1 } else { 2 };
    for ((namespace, service), name) in services.zip(["stable's service", "canary's service"]).take(given) {
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

/// Who else scales, and whether that leaves the canary enough replicas.
async fn autoscalers(world: &World) -> Check {
    let name = "autoscalers";
    let failed = |why: String| outcome(name, "", Err(why), BIND);
    let found = async {
        Ok::<_, PairError>((
            world.pair.stables_autoscaler().await?,
            world.pair.canarys_autoscaler().await?,
            world.pair.fresh_stable().await?,
        ))
    };
    let (of_stable, of_canary, stable) = match found.await {
        Ok(found) => found,
        Err(error) => return failed(error.to_string()),
    };
    if let Some(scaler) = &of_stable {
        let (group, resource) = scaler.resource();
        if let Err(why) = may(&world.client, "patch", group, resource, &world.stable_namespace, &scaler.name()).await {
            return failed(why);
        }
    }
    if let Some(scaler) = of_canary.filter(|scaler| scaler.min < stable.wanted) {
        let (title, min, max) = (&scaler.title, scaler.min, scaler.max);
        let detail = format!("{title} keeps the canary at {min} to {max} replicas, and stable has {}", stable.wanted);
        let hint = "raise its minimum to what all traffic needs, or remove it: without it Serin scales the canary ahead of its weight";
        return check(name, CheckStatus::Warn, detail, Some(hint));
    }
    let detail = of_stable.map_or_else(
        || "none that would leave the canary too few replicas".to_owned(),
        |scaler| {
            format!("{} keeps stable at {} replicas or more while the release is under way", scaler.title, stable.wanted.min(scaler.max))
        },
    );
    outcome(name, detail, Ok(()), "")
}

async fn stable(world: &World) -> Result<(), String> {
    let stable = world.pair.fresh_stable().await.map_err(|error| error.to_string())?;
    if stable.wanted == 0 {
        let why = if world.pair.names().kind(Arm::Stable) == WorkloadKind::DaemonSet {
            "stable's DaemonSet fits on no node"
        } else {
            "stable is asked to have no replicas"
        };
        return Err(why.to_owned());
    }
    if stable.paused && !world.pair.is_managed() {
        return Err("stable's Deployment is paused, so that nothing could be promoted; resume it".to_owned());
    }
    if timeout(STABLE_PATIENCE, world.pair.stable_settled(&stable.version)).await.is_ok() {
        return Ok(());
    }
    let now = world.pair.stable().unwrap_or_default();
    let why = now.trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
    Err(format!("{} of {} replicas are ready{why}", now.ready, now.wanted))
}

async fn canary(world: &World) -> Result<(), String> {
    let (proven, candidate) = world.pair.fresh_versions().await.map_err(|error| error.to_string())?;
    if candidate != world.judged {
        return Err("its template was changed since the release was begun".to_owned());
    }
    if candidate == proven { Err("it is the version that stable runs already".to_owned()) } else { Ok(()) }
}

async fn may(client: &Client, verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Result<(), String> {
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()).filter(|name| !name.is_empty()),
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

/// A check as it is.
pub(crate) fn check(name: &str, status: CheckStatus, detail: String, hint: Option<&str>) -> Check {
    Check { name: name.to_owned(), status, detail, hint: hint.map(str::to_owned) }
}
