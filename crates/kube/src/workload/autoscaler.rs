//! Autoscalers of the Deployments: `HorizontalPodAutoscalers`, and `ScaledObjects` of KEDA.
//!
//! Where one owns the canary's number of replicas, Serin starts it from zero and stops it to zero, and takes whatever number is there in between.
//!
//! Stable's sees its load leave with its traffic, and would shrink it to its minimum while the canary serves: whatever came back to it then, by a
//! rollback or at the end, would meet too few pods. So while a release is under way its minimum is held at the number that stable had,
//! and an annotation on it says what it was and who holds it. It is put back when the run is over, a minute after stable got its traffic back,
//! because what is measured of it lags behind. Who finds it held by a release that is gone takes it over, with what it was before that one.

use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serin_spec::validated::WorkloadKind;

use super::{Arm, Pair, PairError};
use crate::api::{ApiError, FIELD_MANAGER, HELD, within};

const CONFLICTS: u32 = 8;

/// Which kind it is, and where it says its least number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Horizontal,
    Keda,
}

/// What scales a Deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Autoscaler {
    kind: Kind,
    /// Its kind and name, for people.
    pub title: String,
    /// The least number of replicas that it keeps.
    pub min: i32,
    /// The greatest number of replicas that it allows.
    pub max: i32,
    object: DynamicObject,
}

/// On an autoscaler: which release holds its minimum, and what that was; `None`: its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    release: String,
    min: Option<i32>,
}

impl Kind {
    fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = match self {
            Self::Horizontal => ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
            Self::Keda => ("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
        };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: format!("{group}/{version}"),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    /// Fields and defaults of the least and the greatest number.
    fn bounds(self) -> [(&'static str, i32); 2] {
        match self {
            Self::Horizontal => [("minReplicas", 1), ("maxReplicas", i32::MAX)],
            Self::Keda => [("minReplicaCount", 0), ("maxReplicaCount", 100)],
        }
    }

    /// An object as the autoscaler of a workload, if it is that.
    fn of(self, object: DynamicObject, (workload, name): (WorkloadKind, &str)) -> Option<Autoscaler> {
        let target = object.data.pointer("/spec/scaleTargetRef")?;
        // KEDA takes one without a kind for a Deployment.
        let is_kind = target.get("kind").and_then(Value::as_str).unwrap_or("Deployment") == workload.name();
        let is_its = is_kind && target.get("name").and_then(Value::as_str) == Some(name);
        is_its.then(|| self.read(object))
    }

    fn read(self, object: DynamicObject) -> Autoscaler {
        let [min, max] = self.bounds().map(|(field, default)| number(&object, field).unwrap_or(default));
        let title = format!("{} {}", self.resource().kind, object.metadata.name.as_deref().unwrap_or_default());
        Autoscaler { kind: self, title, min, max, object }
    }
}

impl Pair {
    /// What scales stable.
    ///
    /// # Errors
    /// If that cannot be read.
    pub async fn stables_autoscaler(&self) -> Result<Option<Autoscaler>, PairError> {
        self.autoscaler_of(Arm::Stable).await
    }

    /// What scales the canary.
    ///
    /// # Errors
    /// If that cannot be read.
    pub async fn canarys_autoscaler(&self) -> Result<Option<Autoscaler>, PairError> {
        self.autoscaler_of(Arm::Canary).await
    }

    /// Keeps stable's autoscaler from going below a number, or below what it is held at already; no further than its maximum.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn hold(&self, at_least: i32) -> Result<(), PairError> {
        self.change_stables(|found| found.holding(&self.names.release, at_least)).await
    }

    /// Puts the minimum of stable's autoscaler back, if this release holds it.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn let_scale(&self) -> Result<(), PairError> {
        self.change_stables(|found| found.letting_go(&self.names.release)).await
    }

    /// Whether this release holds the minimum of stable's autoscaler.
    ///
    /// # Errors
    /// If that cannot be read.
    pub async fn holds(&self) -> Result<bool, PairError> {
        let found = self.stables_autoscaler().await?;
        Ok(found.and_then(|found| found.held()).is_some_and(|held| held.release == self.names.release))
    }

    async fn change_stables(&self, change: impl Fn(&Autoscaler) -> Option<Value>) -> Result<(), PairError> {
        let mut conflicts = 0;
        loop {
            let Some(found) = self.stables_autoscaler().await? else { return Ok(()) };
            let Some(mut patch) = change(&found) else { return Ok(()) };
            if let Some(metadata) = patch.pointer_mut("/metadata").and_then(Value::as_object_mut) {
                metadata.insert("resourceVersion".to_owned(), json!(found.object.metadata.resource_version));
            }
            let name = found.object.metadata.name.as_deref().unwrap_or_default();
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let api = self.autoscalers(found.kind, &self.names.namespace);
            self.still_leads().await?;
            match within(&format!("patch {}", found.title), api.patch(name, &params, &Patch::Merge(patch))).await {
                Ok(_) | Err(ApiError::NotFound(_)) => return Ok(()),
                Err(ApiError::Conflict(_)) if conflicts < CONFLICTS => {
                    conflicts += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// KEDA makes an autoscaler of its own, whose numbers it keeps: its own object is the one that counts.
    async fn autoscaler_of(&self, arm: Arm) -> Result<Option<Autoscaler>, PairError> {
        let (namespace, name) = self.names.place(arm);
        for kind in [Kind::Keda, Kind::Horizontal] {
            let what = format!("list {} in {}", kind.resource().plural, namespace);
            let found = match within(&what, self.autoscalers(kind, namespace).list(&ListParams::default())).await {
                Ok(found) => found.items,
                // There is no KEDA.
                Err(ApiError::NotFound(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(found) = found.into_iter().find_map(|object| kind.of(object, (self.names.kind(arm), name))) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn autoscalers(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }
}

impl Autoscaler {
    /// API group and plural of its kind.
    #[must_use]
    pub fn resource(&self) -> (&'static str, &'static str) {
        match self.kind {
            Kind::Horizontal => ("autoscaling", "horizontalpodautoscalers"),
            Kind::Keda => ("keda.sh", "scaledobjects"),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.object.metadata.name.clone().unwrap_or_default()
    }

    /// Its object.
    pub(crate) fn object(&self) -> (ApiResource, &DynamicObject) {
        (self.kind.resource(), &self.object)
    }

    /// The same one as a change of its object leaves it.
    pub(crate) fn changed(&self, object: &Value) -> Self {
        serde_json::from_value(object.clone()).map_or_else(|_| self.clone(), |object| self.kind.read(object))
    }

    /// What holds the minimum for a release, as a merge patch; `None` if it is held so already, or great enough by itself.
    pub(crate) fn holding(&self, release: &str, at_least: i32) -> Option<Value> {
        let (held, field) = (self.held(), self.kind.bounds()[0].0);
        let at_least = at_least.min(self.max).max(self.min);
        let is_ours = held.as_ref().is_none_or(|held| held.release == release);
        if self.min == at_least && is_ours {
            return None;
        }
        // What it was before anybody held it: a release that is gone with its hold does not put it back any more.
        let min = held.map_or_else(|| number(&self.object, field), |held| held.min);
        let text = serde_json::to_string(&Held { release: release.to_owned(), min }).unwrap_or_default();
        Some(json!({"metadata": {"annotations": {HELD: text}}, "spec": {field: at_least}}))
    }

    /// What puts the minimum back, as a merge patch, if this release holds it.
    pub(crate) fn letting_go(&self, release: &str) -> Option<Value> {
        let held = self.held().filter(|held| held.release == release)?;
        Some(json!({"metadata": {"annotations": {HELD: null}}, "spec": {self.kind.bounds()[0].0: held.min}}))
    }

    fn held(&self) -> Option<Held> {
        serde_json::from_str(self.object.metadata.annotations.as_ref()?.get(HELD)?).ok()
    }
}

fn number(object: &DynamicObject, field: &str) -> Option<i32> {
    object.data.pointer("/spec")?.get(field)?.as_i64().and_then(|number| i32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: Kind, spec: &Value) -> Option<(i32, i32)> {
        let object = json!({"metadata": {"name": "a"}, "spec": spec});
        kind.of(serde_json::from_value(object).unwrap(), (WorkloadKind::Deployment, "shop")).map(|found| (found.min, found.max))
    }

    #[test]
    fn an_autoscaler_is_that_of_the_deployment_that_it_names() {
        let shop = |kind: Value| json!({"name": "shop", "kind": kind});
        let horizontal = json!({"scaleTargetRef": shop(json!("Deployment")), "minReplicas": 2, "maxReplicas": 5});
        assert_eq!(found(Kind::Horizontal, &horizontal), Some((2, 5)));
        assert_eq!(found(Kind::Horizontal, &json!({"scaleTargetRef": shop(json!("StatefulSet")), "maxReplicas": 5})), None);
        assert_eq!(found(Kind::Horizontal, &json!({"scaleTargetRef": {"kind": "Deployment", "name": "other"}})), None);
        assert_eq!(found(Kind::Keda, &json!({"scaleTargetRef": {"name": "shop"}, "minReplicaCount": 3})), Some((3, 100)));
        assert_eq!(found(Kind::Keda, &json!({})), None);
    }

    fn of_shop(min: i32, held: Option<&str>) -> Autoscaler {
        let object = json!({
            "metadata": {"name": "shop", "annotations": held.map(|held| json!({HELD: held}))},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "shop"}, "minReplicas": min, "maxReplicas": 5},
        });
        Kind::Horizontal.of(serde_json::from_value(object).unwrap(), (WorkloadKind::Deployment, "shop")).unwrap()
    }

    fn held(patch: &Value) -> (i64, Held) {
        let note = patch["metadata"]["annotations"][HELD].as_str().unwrap();
        (patch["spec"]["minReplicas"].as_i64().unwrap(), serde_json::from_str(note).unwrap())
    }

    #[test]
    fn a_minimum_that_nobody_else_puts_back_is_taken_over_with_what_it_was() {
        let by = |release: &str, min| Held { release: release.to_owned(), min: Some(min) };
        let first = of_shop(1, None).holding("gone", 4).unwrap();
        assert_eq!(held(&first), (4, by("gone", 1)));
        let note = serde_json::to_string(&by("gone", 1)).unwrap();
        for (at_least, min) in [(3, 4), (4, 4), (5, 5), (9, 5)] {
            assert_eq!(held(&of_shop(4, Some(&note)).holding("next", at_least).unwrap()), (min, by("next", 1)), "{at_least}");
        }
        let ours = of_shop(4, Some(&serde_json::to_string(&by("next", 1)).unwrap()));
        assert_eq!(ours.holding("next", 4), None);
        assert_eq!((&ours.letting_go("next").unwrap()["spec"], ours.letting_go("gone")), (&json!({"minReplicas": 1}), None));
        assert_eq!(of_shop(4, None).holding("next", 4), None, "great enough by itself");
    }
}
