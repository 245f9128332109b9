//! Autoscalers of the Deployments: `HorizontalPodAutoscalers`, and `ScaledObjects` of KEDA.
//!
//! Where one owns the canary's number of replicas, Serin starts it from zero and stops it to zero, and takes whatever number is there in between.
//!
//! Stable's sees its load leave with its traffic, and would shrink it to its minimum while the canary serves: whatever came back to it then, by a
//! rollback or at the end, would meet too few pods. So while a release is under way its minimum is held at the number that stable had,
//! and an annotation on it says what it was. It is put back when the run is over; a minute later where stable has only just got its traffic back,
//! because what is measured of it lags behind.

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
        if !is_kind || target.get("name").and_then(Value::as_str) != Some(name) {
            return None;
        }
        let [min, max] = self.bounds().map(|(field, default)| number(&object, field).unwrap_or(default));
        let title = format!("{} {}", self.resource().kind, object.metadata.name.as_deref().unwrap_or_default());
        Some(Autoscaler { kind: self, title, min, max, object })
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
        self.change_stables(|found| {
            let at_least = at_least.min(found.max);
            if found.min >= at_least {
                return None;
            }
            let field = found.kind.bounds()[0].0;
            // What it was before it was held first.
            let held = found.held().unwrap_or_else(|| Held { release: self.names.release.clone(), min: number(&found.object, field) });
            let text = serde_json::to_string(&held).unwrap_or_default();
            Some(json!({"metadata": {"annotations": {HELD: text}}, "spec": {field: at_least}}))
        })
        .await
    }

    /// Puts the minimum of stable's autoscaler back, if this release holds it.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn let_scale(&self) -> Result<(), PairError> {
        self.change_stables(|found| {
            let held = found.held().filter(|held| held.release == self.names.release)?;
            Some(json!({"metadata": {"annotations": {HELD: null}}, "spec": {found.kind.bounds()[0].0: held.min}}))
        })
        .await
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
}
