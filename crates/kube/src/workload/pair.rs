//! Two workloads by name: what they are, and the few changes that Serin makes to them.
//!
//! Fields that are touched of a pair that is given: `spec.replicas` of the canary, unless it is a DaemonSet, and once, when a run has succeeded,
//! `spec.template` of stable. What is done to a Deployment that is released in place is in [`managed`](super::managed). Workloads are read and
//! written as JSON, so that fields of later Kubernetes versions are promoted like all others.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use serin_spec::validated::WorkloadKind;
use tokio::time::{sleep, timeout};

use super::{
    Arm, Changes, Kept, Memory, Names,
    arm::{self, ArmSeen, replica_sets, workloads},
    once::Once,
    template::{promoted, version_of},
};
use crate::{
    api::{ApiError, FIELD_MANAGER, merge_patch, within},
    route::Fence,
};

/// Conflicts in a row that are tried again at once.
const CONFLICTS: u32 = 8;

/// How long a canary must be ready before it counts as ready.
const STEADY: Duration = Duration::from_secs(1);
/// Changes wake whoever waits; this is only for what can be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The workloads of a release.
#[derive(Clone)]
pub struct Pair {
    pub(super) client: Client,
    apis: [Api<DynamicObject>; 2],
    replica_sets: Api<DynamicObject>,
    pub(super) memory: Memory,
    pub(super) names: Names,
    /// Names of the labels that tell the arms' pods apart.
    pub(super) arm_labels: BTreeSet<String>,
    pub(super) fence: Arc<dyn Fence>,
    /// How those in memory are.
    looks: Once<(), ArmSeen>,
    /// The versions that would be tried; by what their templates read.
    pub(super) candidates: Once<Option<String>, String>,
}

/// Why the workloads of a release cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A workload is not there.
    #[error("there is no {0}")]
    Missing(String),
    /// Both want the same pods.
    #[error("the {0} and the {1} select the same labels, so that each would count the other's pods; give the canary a label of its own")]
    SameSelector(String, String),
    /// A selector that cannot be compared.
    #[error("the selector of the {0} {1}; select by `matchLabels` alone, which a new one can have")]
    Selector(String, &'static str),
    /// The judged template is gone.
    #[error("the template that was judged is neither in the {0} nor in one of its older versions any more")]
    JudgedIsGone(String),
    /// Something is there that is somebody else's, or is not as it must be.
    #[error("{0}")]
    Unfit(String),
    /// Not yet; it will be in time.
    #[error("{0}")]
    NotYet(String),
}

impl Pair {
    /// The workloads of a release, from memory: nothing is asked. `arm_labels`: names of the labels by which the router tells the versions apart;
    /// those of their own selectors are added. `fence` is asked before every write.
    #[must_use]
    pub fn new(client: &Client, memory: &Memory, names: Names, mut arm_labels: BTreeSet<String>, fence: Arc<dyn Fence>) -> Self {
        for arm in [Arm::Stable, Arm::Canary] {
            let (namespace, name) = names.place(arm);
            if let Some(found) = memory.workloads(names.kind(arm)).get(namespace, name) {
                arm_labels.extend(arm::match_labels(&found.whole()).keys().cloned());
            }
        }
        let api = |arm| Api::namespaced_with(client.clone(), names.place(arm).0, &workloads(names.kind(arm)));
        Self {
            client: client.clone(),
            apis: [api(Arm::Stable), api(Arm::Canary)],
            replica_sets: Api::namespaced_with(client.clone(), names.place(names.edited()).0, &replica_sets()),
            memory: memory.clone(),
            names,
            arm_labels,
            fence,
            looks: Once::default(),
            candidates: Once::default(),
        }
    }

    /// Whether stable's Deployment is edited in place, and the canary made by Serin.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.names.is_managed
    }

    /// Whether Serin scales the canary: not if it has a pod on each node.
    #[must_use]
    pub fn is_canary_scaled(&self) -> bool {
        self.names.kind(Arm::Canary) != WorkloadKind::DaemonSet
    }

    /// What its workloads are called and where they are.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// A version's workload as it is known.
    ///
    /// # Errors
    /// If there is none, or nobody knows.
    pub(super) fn known(&self, arm: Arm) -> Result<Arc<Kept>, PairError> {
        let (namespace, name) = self.names.place(arm);
        let all = self.memory.workloads(self.names.kind(arm));
        match all.get(namespace, name) {
            Some(found) => Ok(found),
            None if all.silent_for().is_none() => {
                let kind = self.names.kind(arm).name();
                Err(PairError::NotYet(format!("{kind}s cannot be read yet; is the ClusterRole of the controller that of its version?")))
            }
            None => Err(PairError::Missing(self.names.title(arm))),
        }
    }

    /// Why a release cannot begin, if so.
    ///
    /// # Errors
    /// A workload is missing, or cannot be told from the other one.
    pub fn check(&self) -> Result<(), PairError> {
        let labels = |arm: Arm| {
            let (found, title) = (self.known(arm)?.whole(), self.names.title(arm));
            if arm::has_expressions(&found) {
                let why = "has `matchExpressions`, of which nobody can say whether two select the same pods";
                return Err(PairError::Selector(title, why));
            }
            let labels = arm::match_labels(&found);
            if labels.is_empty() { Err(PairError::Selector(title, "selects every pod of the namespace")) } else { Ok(labels) }
        };
        let stable = labels(Arm::Stable)?;
        if self.names.is_managed {
            return self.check_managed();
        }
        if stable == labels(Arm::Canary)? && self.names.namespace == self.names.canary_namespace {
            return Err(PairError::SameSelector(self.names.title(Arm::Stable), self.names.title(Arm::Canary)));
        }
        Ok(())
    }

    /// Names of the labels that tell the arms' pods apart.
    #[must_use]
    pub fn arm_labels(&self) -> &BTreeSet<String> {
        &self.arm_labels
    }

    /// How stable is; `None` if it is gone.
    #[must_use]
    pub fn stable(&self) -> Option<ArmSeen> {
        self.remembered(Arm::Stable)
    }

    /// How the canary is; `None` if it is gone, or not made yet.
    #[must_use]
    pub fn canary(&self) -> Option<ArmSeen> {
        self.remembered(Arm::Canary)
    }

    /// The labels of the canary's pods, as a selector, also before there are any.
    #[must_use]
    pub fn canary_selector(&self) -> Option<String> {
        let selector = self.canary().map(|canary| canary.selector);
        selector.or_else(|| self.canary_match_labels(None).filter(|_| self.names.is_managed).map(|labels| arm::selector_text(&labels)))
    }

    /// How stable is, not from memory but from the API server.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn fresh_stable(&self) -> Result<ArmSeen, PairError> {
        Ok(self.seen(Arm::Stable, &self.fresh(Arm::Stable).await?))
    }

    /// How the canary is, not from memory but from the API server.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn fresh_canary(&self) -> Result<ArmSeen, PairError> {
        Ok(self.seen(Arm::Canary, &self.fresh(Arm::Canary).await?))
    }

    /// Changes whenever any workload of the kinds of both versions does.
    #[must_use]
    pub fn changes(&self) -> Changes {
        let [stable, canary] = [Arm::Stable, Arm::Canary].map(|arm| self.names.kind(arm));
        let second = (stable != canary).then(|| self.memory.workloads(canary).changes());
        Changes::new(self.memory.workloads(stable).changes(), second)
    }

    fn remembered(&self, arm: Arm) -> Option<ArmSeen> {
        let found = self.known(arm).ok()?;
        Some(self.looks.of(&self.names.title(arm), &found, (), |()| self.seen(arm, &found.whole())))
    }

    pub(super) fn seen(&self, arm: Arm, found: &DynamicObject) -> ArmSeen {
        arm::seen(self.names.kind(arm), found, &self.arm_labels, self.names.is_managed)
    }

    /// Sets the number of the canary's replicas. A DaemonSet is left as it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn scale_canary(&self, replicas: i32) -> Result<(), PairError> {
        if !self.is_canary_scaled() {
            return Ok(());
        }
        self.change(Arm::Canary, |found| {
            let is_so = found.data.pointer("/spec/replicas").and_then(Value::as_i64) == Some(i64::from(replicas));
            (!is_so).then(|| json!({"spec": {"replicas": replicas}}))
        })
        .await
    }

    /// Gives stable the template of this version, which the canary has or had.
    ///
    /// # Errors
    /// If it cannot be found or written.
    pub async fn promote(&self, version: &str) -> Result<(), PairError> {
        let stable = self.fresh(Arm::Stable).await?;
        // What was promoted already needs no canary to be copied from.
        if version_of(&arm::template_of(&stable), &self.arm_labels) == version {
            return Ok(());
        }
        let judged = self.judged(version).await?;
        self.change(Arm::Stable, |found| {
            let before = arm::template_of(found);
            if version_of(&before, &self.arm_labels) == version {
                return None;
            }
            let after = promoted(&judged, &before, &self.arm_labels);
            Some(json!({"spec": {"template": merge_patch(&before, &after)}}))
        })
        .await
    }

    /// Returns once stable runs this version on all its replicas, at least one, and nothing else. Ends by being dropped.
    pub async fn stable_settled(&self, version: &str) {
        let mut changes = self.changes();
        loop {
            if self.stable().is_some_and(|stable| stable.settled && stable.ready > 0 && stable.version == version) {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether requests reach no replica of the canary, because none is ready or its Service is gone, while they would reach one of stable.
    #[must_use]
    pub fn is_canary_lost(&self) -> bool {
        let is_reached = |arm: Option<ArmSeen>, service: usize| arm.is_some_and(|arm| arm.ready > 0) && !self.is_service_gone(service);
        !is_reached(self.canary(), 1) && is_reached(self.stable(), 0)
    }

    /// What is wrong with stable's Service, if that is gone: whatever is sent to stable is lost.
    #[must_use]
    pub fn stables_service_gone(&self) -> Option<String> {
        let [(namespace, name), _] = self.names.services.as_ref()?;
        self.is_service_gone(0).then(|| format!("the Service {namespace}/{name} is gone"))
    }

    /// `arm`: 0 for stable, 1 for the canary. What was not listed yet is not gone, and a router that names no Service needs none.
    fn is_service_gone(&self, arm: usize) -> bool {
        let services = &self.memory.services;
        let named = self.names.services.as_ref().and_then(|all| all.get(arm));
        services.silent_for().is_some() && named.is_some_and(|(namespace, name)| services.get(namespace, name).is_none())
    }

    /// Returns once that has been so for a while. Ends by being dropped.
    pub async fn canary_lost(&self) {
        let (mut changes, mut services) = (self.changes(), self.memory.services.changes());
        let mut since = None;
        loop {
            since = self.is_canary_lost().then(|| since.unwrap_or_else(Instant::now));
            let wait = match since {
                Some(since) if since.elapsed() >= STEADY => return,
                Some(since) => STEADY.saturating_sub(since.elapsed()),
                None => LOOK_AGAIN,
            };
            tokio::select! {
                _ = changes.changed() => {}
                _ = services.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Returns once the canary has had at least this many replicas, all of this version and ready, for a second: what is ready for a moment between
    /// two crashes is to get no traffic. Ends by being dropped.
    pub async fn canary_settled(&self, version: &str, replicas: i32) {
        let mut changes = self.changes();
        let mut since = None;
        loop {
            let canary = self.canary().filter(|canary| canary.complete && canary.wanted >= replicas.max(1) && canary.version == version);
            since = canary.as_ref().map(|_| since.unwrap_or_else(Instant::now));
            let wait = match since {
                Some(since) if since.elapsed() >= STEADY && canary.is_some_and(|canary| canary.settled) => return,
                // Steady, but its last change is not in its status yet: that is a change to wait for.
                Some(since) if since.elapsed() >= STEADY => LOOK_AGAIN,
                Some(since) => STEADY.saturating_sub(since.elapsed()),
                None => LOOK_AGAIN,
            };
            let _ = timeout(wait, changes.changed()).await;
        }
    }

    /// The template of a version: the canary's own, or that of an older version that the cluster keeps, if it was changed since.
    pub(super) async fn judged(&self, version: &str) -> Result<Value, PairError> {
        let canary = self.fresh(Arm::Canary).await?;
        let template = arm::template_of(&canary);
        if version_of(&template, &self.arm_labels) == version {
            return Ok(template);
        }
        let older: Vec<Value> = match self.names.kind(Arm::Canary) {
            WorkloadKind::Deployment => self.sets_of(&canary).await?.iter().map(template_of_set).collect(),
            WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => self.revisions_of(&canary).await?,
        };
        let mut older = older.into_iter();
        older
            .find(|template| version_of(template, &self.arm_labels) == version)
            .ok_or_else(|| PairError::JudgedIsGone(self.names.title(Arm::Canary)))
    }

    /// The ReplicaSets of a Deployment.
    pub(super) async fn sets_of(&self, deployment: &DynamicObject) -> Result<Vec<DynamicObject>, PairError> {
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let what = format!("list ReplicaSets of {}", deployment.metadata.name.as_deref().unwrap_or_default());
        let params = ListParams::default().labels(&arm::selector_of(deployment));
        let mut sets = within(&what, self.replica_sets.list(&params)).await?.items;
        sets.retain(|set| set.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid));
        Ok(sets)
    }

    /// Reads, changes and writes, again at once after a conflict, if we still lead. `change` returns a patch, or nothing if all is well already.
    pub(super) async fn change(&self, arm: Arm, change: impl Fn(&DynamicObject) -> Option<Value>) -> Result<(), PairError> {
        let mut conflicts = 0;
        loop {
            let found = self.fresh(arm).await?;
            let Some(patch) = change(&found) else { return Ok(()) };
            if self.patch(arm, &found, patch, &mut conflicts).await? {
                return Ok(());
            }
        }
    }

    /// Asked after reading and before every write: whoever was replaced since then meets a conflict, also a process that stood still meanwhile.
    pub(super) async fn still_leads(&self) -> Result<(), PairError> {
        if self.fence.holds().await { Ok(()) } else { Err(ApiError::not_leading().into()) }
    }

    /// Writes over what was found. `false`: somebody else did meanwhile, and it may be tried again at once.
    pub(super) async fn patch(&self, arm: Arm, found: &DynamicObject, mut patch: Value, conflicts: &mut u32) -> Result<bool, PairError> {
        self.still_leads().await?;
        let name = found.metadata.name.as_deref().unwrap_or_default();
        if let Some(fields) = patch.as_object_mut()
            && let Some(metadata) = fields.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
        {
            metadata.insert("resourceVersion".to_owned(), json!(found.metadata.resource_version));
        }
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let what = format!("patch {}", self.names.title(arm));
        match within(&what, self.api(arm).patch(name, &params, &Patch::Merge(patch))).await {
            Ok(_) => Ok(true),
            Err(ApiError::Conflict(_)) if *conflicts < CONFLICTS => {
                *conflicts += 1;
                sleep(Duration::from_millis(2 + rand::random_range(0..20 * u64::from(*conflicts)))).await;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn fresh(&self, arm: Arm) -> Result<DynamicObject, PairError> {
        let title = self.names.title(arm);
        let found = within(&format!("get {title}"), self.api(arm).get_opt(self.names.place(arm).1)).await?;
        found.ok_or(PairError::Missing(title))
    }

    pub(super) fn api(&self, arm: Arm) -> &Api<DynamicObject> {
        &self.apis[usize::from(arm == Arm::Canary)]
    }
}

/// The template that a ReplicaSet was made of.
pub(super) fn template_of_set(set: &DynamicObject) -> Value {
    let mut template = arm::template_of(set);
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        // Added to every ReplicaSet's copy by its own controller.
        labels.remove("pod-template-hash");
    }
    template
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
