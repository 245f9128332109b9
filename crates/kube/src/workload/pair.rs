//! Two Deployments by name: what they are, and the few changes that Serin makes to them.
//!
//! Fields that are touched: `spec.replicas` of the canary, and once, when a run has succeeded, `spec.template` of stable. Deployments are read and
//! written as JSON, so that fields of later Kubernetes versions are promoted like all others.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{
    Memory,
    template::{promoted, version_of},
};
use crate::{
    api::{ApiError, FIELD_MANAGER, within},
    route::Fence,
    watch::Watched,
};

/// Conflicts in a row that are tried again at once.
const CONFLICTS: u32 = 8;

/// How long a canary must be ready before it counts as ready.
const STEADY: Duration = Duration::from_secs(1);
/// Changes wake whoever waits; this is only for what can be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The Deployments of a release.
#[derive(Clone)]
pub struct Pair {
    api: Api<DynamicObject>,
    replica_sets: Api<DynamicObject>,
    watched: Arc<Watched<DynamicObject>>,
    namespace: String,
    stable: String,
    canary: String,
    /// Names of the labels that tell the arms' pods apart.
    arm_labels: BTreeSet<String>,
    fence: Arc<dyn Fence>,
}

/// How a Deployment is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArmSeen {
    /// Replicas that are asked for.
    pub wanted: i32,
    /// Replicas of the current template that serve.
    pub ready: i32,
    /// Whether all that is asked for is there, and nothing else.
    pub settled: bool,
    /// The same, by a status that may be older than the last change. Anybody's annotation is a change for a moment.
    pub complete: bool,
    /// The version of its template.
    pub version: String,
    /// Labels that its pods have, as a selector.
    pub selector: String,
    /// What its own controller says is wrong.
    pub trouble: Option<String>,
}

/// Why a pair cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A Deployment is not there.
    #[error("there is no Deployment {0}")]
    Missing(String),
    /// Both Deployments want the same pods.
    #[error(
        "the Deployments {0} and {1} select the same labels, so that each would count the other's pods; give the canary a label of its own"
    )]
    SameSelector(String, String),
    /// The judged template is gone.
    #[error("the template that was judged is neither in Deployment {0} nor in one of its ReplicaSets any more")]
    JudgedIsGone(String),
}

impl Pair {
    /// The pair of a release, from memory: nothing is asked. `arm_labels`: names of the labels by which the router tells the versions apart; those
    /// of the Deployments' selectors are added. `fence` is asked before every write.
    #[must_use]
    pub fn new(
        client: &Client,
        memory: &Memory,
        namespace: &str,
        names: [&str; 2],
        mut arm_labels: BTreeSet<String>,
        fence: Arc<dyn Fence>,
    ) -> Self {
        for name in names {
            if let Some(deployment) = memory.deployments.get(namespace, name) {
                arm_labels.extend(match_labels(&deployment).keys().cloned());
            }
        }
        Self {
            api: Api::namespaced_with(client.clone(), namespace, &deployments()),
            replica_sets: Api::namespaced_with(client.clone(), namespace, &replica_sets()),
            watched: Arc::clone(&memory.deployments),
            namespace: namespace.to_owned(),
            stable: names[0].to_owned(),
            canary: names[1].to_owned(),
            arm_labels,
            fence,
        }
    }

    /// Why a release of this pair cannot begin, if so.
    ///
    /// # Errors
    /// A Deployment is missing, or both are the same thing in truth.
    pub fn check(&self) -> Result<(), PairError> {
        let labels = |name: &str| {
            let found = self.watched.get(&self.namespace, name).ok_or_else(|| PairError::Missing(format!("{}/{name}", self.namespace)))?;
            Ok::<_, PairError>(match_labels(&found))
        };
        if labels(&self.stable)? == labels(&self.canary)? {
            return Err(PairError::SameSelector(self.stable.clone(), self.canary.clone()));
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
        self.watched.get(&self.namespace, &self.stable).map(|deployment| seen(&deployment, &self.arm_labels))
    }

    /// How the canary is; `None` if it is gone.
    #[must_use]
    pub fn canary(&self) -> Option<ArmSeen> {
        self.watched.get(&self.namespace, &self.canary).map(|deployment| seen(&deployment, &self.arm_labels))
    }

    /// The same, not from memory but from the API server.
    ///
    /// # Errors
    /// If one cannot be read.
    pub async fn fresh_arms(&self) -> Result<[ArmSeen; 2], PairError> {
        let (stable, canary) = (self.fresh(&self.stable).await?, self.fresh(&self.canary).await?);
        Ok([seen(&stable, &self.arm_labels), seen(&canary, &self.arm_labels)])
    }

    /// Sets the number of the canary's replicas.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn scale_canary(&self, replicas: i32) -> Result<(), PairError> {
        self.change(&self.canary, |found| {
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
        let stable = self.fresh(&self.stable).await?;
        // What was promoted already needs no canary to be copied from.
        if version_of(stable.data.pointer("/spec/template").unwrap_or(&Value::Null), &self.arm_labels) == version {
            return Ok(());
        }
        let judged = self.judged(version).await?;
        self.change(&self.stable, |found| {
            let before = found.data.pointer("/spec/template").cloned().unwrap_or_default();
            if version_of(&before, &self.arm_labels) == version {
                return None;
            }
            let after = promoted(&judged, &before, &self.arm_labels);
            Some(json!({"spec": {"template": replacing(&before, &after)}}))
        })
        .await
    }

    /// Returns once stable runs this version on all its replicas, at least one, and nothing else. Ends by being dropped.
    pub async fn stable_settled(&self, version: &str) {
        let mut changes = self.watched.changes();
        loop {
            if self.stable().is_some_and(|stable| stable.settled && stable.ready > 0 && stable.version == version) {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether the canary has no ready replica while stable has one.
    #[must_use]
    pub fn is_canary_lost(&self) -> bool {
        self.canary().is_none_or(|canary| canary.ready == 0) && self.stable().is_some_and(|stable| stable.ready > 0)
    }

    /// Returns once that has been so for a while. Ends by being dropped.
    pub async fn canary_lost(&self) {
        let mut changes = self.watched.changes();
        let mut since = None;
        loop {
            since = self.is_canary_lost().then(|| since.unwrap_or_else(Instant::now));
            let wait = match since {
                Some(since) if since.elapsed() >= STEADY => return,
                Some(since) => STEADY.saturating_sub(since.elapsed()),
                None => LOOK_AGAIN,
            };
            let _ = timeout(wait, changes.changed()).await;
        }
    }

    /// Returns once the canary has had this many replicas, all of this version and ready, for a second: what is ready for a moment between two
    /// crashes is to get no traffic. Ends by being dropped.
    pub async fn canary_settled(&self, version: &str, replicas: i32) {
        let mut changes = self.watched.changes();
        let mut since = None;
        loop {
            let canary = self.canary().filter(|canary| canary.complete && canary.wanted == replicas && canary.version == version);
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

    /// The template of a version: the canary's own, or that of one of its ReplicaSets, if it was changed since.
    async fn judged(&self, version: &str) -> Result<Value, PairError> {
        let canary = self.fresh(&self.canary).await?;
        let template = canary.data.pointer("/spec/template").cloned().unwrap_or_default();
        if version_of(&template, &self.arm_labels) == version {
            return Ok(template);
        }
        let uid = canary.metadata.uid.as_deref().unwrap_or_default();
        let what = format!("list ReplicaSets of {}", self.canary);
        let params = ListParams::default().labels(&selector_of(&canary));
        let sets = within(&what, self.replica_sets.list(&params)).await?;
        let owned = sets.items.iter().filter(|set| set.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid));
        let mut templates = owned.filter_map(|set| set.data.pointer("/spec/template")).map(|template| {
            let mut template = template.clone();
            if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
                // Added to every ReplicaSet's copy by its own controller.
                labels.remove("pod-template-hash");
            }
            template
        });
        templates
            .find(|template| version_of(template, &self.arm_labels) == version)
            .ok_or_else(|| PairError::JudgedIsGone(self.canary.clone()))
    }

    /// Reads, changes and writes, again at once after a conflict, if we still lead. `change` returns a patch, or nothing if all is well already.
    async fn change(&self, name: &str, change: impl Fn(&DynamicObject) -> Option<Value>) -> Result<(), PairError> {
        let mut conflicts = 0;
        loop {
            let found = self.fresh(name).await?;
            let Some(mut patch) = change(&found) else { return Ok(()) };
            // After reading and before writing: whoever was replaced since then meets a conflict, also a process that stood still meanwhile.
            if !self.fence.holds().await {
                return Err(ApiError::not_leading().into());
            }
            if let Some(fields) = patch.as_object_mut() {
                fields.insert("metadata".to_owned(), json!({"resourceVersion": found.metadata.resource_version}));
            }
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            match within(&format!("patch Deployment {}/{name}", self.namespace), self.api.patch(name, &params, &Patch::Merge(patch))).await
            {
                Ok(_) => return Ok(()),
                Err(ApiError::Conflict(_)) if conflicts < CONFLICTS => {
                    conflicts += 1;
                    tokio::time::sleep(Duration::from_millis(2 + rand::random_range(0..20 * u64::from(conflicts)))).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn fresh(&self, name: &str) -> Result<DynamicObject, PairError> {
        let what = format!("get Deployment {}/{name}", self.namespace);
        let found = within(&what, self.api.get_opt(name)).await?;
        found.ok_or_else(|| PairError::Missing(format!("{}/{name}", self.namespace)))
    }
}

/// Deployments as JSON.
#[must_use]
pub fn deployments() -> ApiResource {
    resource("Deployment", "deployments")
}

fn replica_sets() -> ApiResource {
    resource("ReplicaSet", "replicasets")
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        api_version: "apps/v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// How a Deployment is, as its object says.
fn seen(deployment: &DynamicObject, arm_labels: &BTreeSet<String>) -> ArmSeen {
    let number = |at: &str| i32::try_from(deployment.data.pointer(at).and_then(Value::as_i64).unwrap_or(0)).unwrap_or(i32::MAX);
    let wanted = deployment.data.pointer("/spec/replicas").map_or(1, |_| number("/spec/replicas"));
    let is_observed = deployment.data.pointer("/status/observedGeneration").and_then(Value::as_i64) >= deployment.metadata.generation;
    let [total, updated, available] = ["replicas", "updatedReplicas", "availableReplicas"].map(|name| number(&format!("/status/{name}")));
    let conditions = deployment.data.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let text = |condition: &Value, field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let trouble = conditions
        .filter(|one| match text(one, "type").as_str() {
            "Progressing" => text(one, "reason") == "ProgressDeadlineExceeded",
            "ReplicaFailure" => text(one, "status") == "True",
            _ => false,
        })
        .map(|one| format!("{}: {}", text(one, "reason"), text(one, "message")))
        .next();
    let complete = total == wanted && updated == wanted && available == wanted;
    ArmSeen {
        wanted,
        ready: number("/status/readyReplicas"),
        settled: is_observed && complete,
        complete,
        version: version_of(deployment.data.pointer("/spec/template").unwrap_or(&Value::Null), arm_labels),
        selector: selector_of(deployment),
        trouble: trouble.filter(|_| is_observed),
    }
}

fn match_labels(deployment: &DynamicObject) -> Map<String, Value> {
    deployment.data.pointer("/spec/selector/matchLabels").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn selector_of(deployment: &DynamicObject) -> String {
    let labels: Vec<String> =
        match_labels(deployment).iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
    labels.join(",")
}

/// `after` as a merge patch over `before`: what is not in `after` goes.
fn replacing(before: &Value, after: &Value) -> Value {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut patch: Map<String, Value> =
                before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name.clone(), Value::Null)).collect();
            for (name, value) in after {
                patch.insert(name.clone(), replacing(before.get(name).unwrap_or(&Value::Null), value));
            }
            Value::Object(patch)
        }
        (_, after) => after.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn of_two(status: &Value) -> ArmSeen {
        let object = json!({
            "metadata": {"name": "checkout", "generation": 3},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "checkout", "track": "canary"}}, "template": {}},
            "status": status,
        });
        seen(&deployment(object), &BTreeSet::new())
    }

    #[test]
    fn settled_is_all_of_the_current_template_and_nothing_else() {
        let all = json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2});
        assert!(of_two(&all).settled);
        for (field, value) in [("observedGeneration", 2), ("replicas", 3), ("updatedReplicas", 1), ("availableReplicas", 1)] {
            let mut other = all.clone();
            other[field] = json!(value);
            assert!(!of_two(&other).settled, "{field}");
            // Somebody's annotation makes the status an older one without a replica less.
            assert_eq!(of_two(&other).complete, field == "observedGeneration", "{field}");
        }
        assert!(!of_two(&json!({})).settled);
        assert_eq!(of_two(&json!({})).selector, "app=checkout,track=canary");
    }

    #[test]
    fn its_own_controllers_complaints_are_passed_on() {
        let late = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out"});
        let status = |generation: i64| json!({"observedGeneration": generation, "conditions": [late]});
        assert_eq!(of_two(&status(3)).trouble.unwrap(), "ProgressDeadlineExceeded: has timed out");
        assert_eq!(of_two(&status(2)).trouble, None, "about an older template");
    }

    #[test]
    fn a_template_is_replaced_and_not_mixed() {
        let before = json!({"metadata": {"annotations": {"a": "1"}}, "spec": {"containers": [{"name": "x"}], "hostNetwork": true}});
        let after = json!({"metadata": {}, "spec": {"containers": [{"name": "y"}]}});
        let patch = replacing(&before, &after);
        let expected = json!({"metadata": {"annotations": null}, "spec": {"containers": [{"name": "y"}], "hostNetwork": null}});
        assert_eq!(patch, expected);
    }
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod conflicts;
