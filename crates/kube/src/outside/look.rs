//! Whether the controller has looked at what there is now.
//!
//! A pipeline changes the canary's template and asks at once how the release is: what the status says is then still about the one before. So
//! what the controller would do next is worked out by the same function as there, from the same objects.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, api::DynamicObject};
use serde_json::Value;
use serin_engine::{Pending, workload::ArmStatus};
use serin_spec::validated::WorkloadKind;

use super::Session;
use crate::{
    api::{ApiError, Release, within},
    controller::{Known, Unknown, Verdict, decide},
    release::Place,
    route::Fence,
    watch::Watched,
    workload::{Arm, ArmSeen, ConfigDigest, Memory, Names, Pair, PairError, Standing, references, workloads},
};

/// What a look at a release and its objects has found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    /// Both versions; as far as they may be read.
    pub arms: [ArmStatus; 2],
    /// Whether what the status says is about what there is now, as far as can be told.
    pub is_current: bool,
    /// What could not be read, and what that means.
    pub blind: Option<String>,
}

impl Look {
    /// What the status alone says, where more would be too many questions.
    #[must_use]
    pub fn of_status(release: &Release) -> Self {
        Self { is_current: observed(release), ..Self::default() }
    }
}

/// Nobody who looks from outside may write for the controller.
struct Bystander;

impl Fence for Bystander {
    fn holds(&self) -> Pending<'_, bool> {
        Box::pin(std::future::ready(false))
    }
}

/// Looks at a release and at what it names.
pub async fn look(session: &Session, release: &Release) -> Look {
    let Ok(loaded) = release.load().map(|loaded| loaded.release) else {
        return Look::of_status(release);
    };
    let place = Place::of(&loaded);
    let (found, unread) = match pair(&session.client, release, &place).await {
        Ok(found) => found,
        Err(error) => {
            let blind = format!("{error}; whether a newer version waits for the controller cannot be told");
            return Look { is_current: observed(release), blind: Some(blind), ..Look::default() };
        }
    };
    let (stable, canary) = (found.stable(), found.canary());
    let versions = versions(&found).await;
    let known_versions = match &versions {
        Ok((stable, canary)) => Ok((stable.as_str(), canary.as_str())),
        Err(PairError::NotYet(why)) => Err(Unknown::NotYet(why.clone())),
        Err(error) => Err(Unknown::Wrong(error.to_string())),
    };
    let unread = match &versions {
        Err(PairError::Api(error)) => Some(error),
        _ => unread.as_ref(),
    };
    let blind = unread.map(|error| format!("{error}; whether a newer version waits for the controller cannot be told"));
    let edited = found.edited();
    let is_current = match decide(&known(release, &loaded.document_hash, known_versions, &edited)) {
        _ if blind.is_some() => observed(release),
        Verdict::Rest | Verdict::Resume => true,
        // Something would be said that may be said already, in words that only the controller knows.
        Verdict::Refuse(_) => says(release, "Invalid"),
        Verdict::Wait(_) => says(release, "Waiting"),
        Verdict::Begin | Verdict::Idle(_) | Verdict::LetGo => false,
    };
    let arms = if found.is_managed() && canary.is_none() {
        [arm("Deployment", stable), ArmStatus::default()]
    } else {
        [arm(place.workload.kinds[0].name(), stable), arm(place.workload.kinds[1].name(), canary)]
    };
    Look { arms, is_current, blind }
}

/// The workloads of a release as they are now, and what may not be read of what their pods read.
pub(super) async fn pair(client: &Client, release: &Release, place: &Place) -> Result<(Pair, Option<ApiError>), ApiError> {
    let own = release.namespace();
    let (workload, traffic) = (&place.workload, &place.traffic);
    let names = Names::of(release, workload, traffic);
    let mut memory = Memory::empty();
    let mut edited = None;
    for kind in [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet] {
        let mut found = Vec::new();
        for arm in [Arm::Stable, Arm::Canary].into_iter().filter(|arm| names.kind(*arm) == kind) {
            let (namespace, name) = names.place(arm);
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &workloads(kind));
            let one = within(&format!("get {}", names.title(arm)), api.get_opt(name)).await?;
            if arm == names.edited() {
                edited = one.as_ref().and_then(|one| one.data.pointer("/spec/template")).cloned();
            }
            found.extend(one);
        }
        memory.remember(kind, found);
    }
    let mut services = Vec::new();
    for (elsewhere, name) in traffic.services().into_iter().flatten() {
        let namespace = elsewhere.as_deref().unwrap_or(own);
        let api: Api<Service> = Api::namespaced(client.clone(), namespace);
        services.extend(within(&format!("get Service {namespace}/{name}"), api.get_opt(&name)).await?);
    }
    memory.services = Arc::new(Watched::of(services));
    let (config_maps, unread) = config_maps(client, names.place(names.edited()).0, &edited.unwrap_or_default()).await?;
    memory.config_maps = Arc::new(config_maps);
    let labels = memory.labels_of(traffic, own);
    Ok((Pair::new(client, &memory, names, labels, Arc::new(Bystander)), unread))
}

/// The `ConfigMaps` that a template reads. Whoever may not read them is not told which versions there are.
async fn config_maps(client: &Client, namespace: &str, template: &Value) -> Result<(Watched<ConfigDigest>, Option<ApiError>), ApiError> {
    let [names, _] = references(template);
    let api: Api<ConfigDigest> = Api::namespaced(client.clone(), namespace);
    let mut found = Vec::new();
    for name in names {
        match within(&format!("get ConfigMap {namespace}/{name}"), api.get_opt(&name)).await {
            Ok(one) => found.extend(one),
            Err(error @ ApiError::Forbidden(..)) => return Ok((Watched::unlisted(), Some(error))),
            Err(error) => return Err(error),
        }
    }
    Ok((Watched::of(found), None))
}

/// The versions that serves and that would be tried.
pub(super) async fn versions(pair: &Pair) -> Result<(String, String), PairError> {
    if !pair.is_managed() {
        return pair.versions().map(|(stable, canary, _)| (stable, canary));
    }
    pair.check()?;
    // Whether another release that has it still exists is for the controller to find out.
    match pair.standing(|_| true).await? {
        Standing::Adopted { proven, candidate } => Ok((proven, candidate)),
        Standing::Adoptable(about) => Err(PairError::NotYet(about.to_owned())),
    }
}

fn known<'a>(release: &'a Release, document: &'a str, versions: Result<(&'a str, &'a str), Unknown>, edited: &'a str) -> Known<'a> {
    Known {
        generation: release.generation(),
        is_deleted: release.metadata.deletion_timestamp.is_some(),
        has_finalizer: release.metadata.finalizers.iter().flatten().any(|one| one == crate::api::FINALIZER),
        status: release.status.as_ref(),
        document: Ok(document),
        versions,
        edited,
        retry: None,
    }
}

fn observed(release: &Release) -> bool {
    release.status.as_ref().is_some_and(|status| status.observed_generation == release.generation())
}

/// Whether the status says this of the document as it is.
fn says(release: &Release, phase: &str) -> bool {
    observed(release) && release.status.as_ref().is_some_and(|status| status.phase == phase)
}

fn arm(kind: &str, seen: Option<ArmSeen>) -> ArmStatus {
    let Some(seen) = seen else { return ArmStatus { failure: Some(format!("its {kind} is gone")), ..ArmStatus::default() } };
    let number = |number: i32| u32::try_from(number).unwrap_or(0);
    ArmStatus { ready: Some(number(seen.ready)), replicas: number(seen.wanted), failure: seen.trouble, ..ArmStatus::default() }
}
