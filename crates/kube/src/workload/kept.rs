//! A workload as it is remembered: what is looked at for every release at every change, and the rest as text.
//!
//! As a tree of JSON a workload of usual size takes more than 30 KiB, because every object in it is a node with room for eleven fields; as text
//! it takes 3. A controller remembers every workload of a cluster and looks into the few that are under way, so the tree is made
//! whenever somebody does. No field is left out of the text: a version is the hash over all of a template, also over fields that this program
//! does not know.

use std::borrow::Cow;

use kube::{
    Resource,
    api::{ApiResource, DynamicObject},
    core::{DynamicResourceScope, ObjectMeta},
};
use serde::{Deserialize, Deserializer};

use super::{arm, config};

/// See the module.
#[derive(Debug, Clone)]
pub struct Kept {
    metadata: ObjectMeta,
    is_paused: bool,
    reads: Box<[String]>,
    rest: Box<str>,
}

impl Kept {
    /// Name, namespace, identity, generation, annotations.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    /// Whether it rolls out no edits.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Names of the `ConfigMaps` that its template reads and that are tracked, in order.
    #[must_use]
    pub fn reads(&self) -> &[String] {
        &self.reads
    }

    /// All of it.
    #[must_use]
    pub fn whole(&self) -> DynamicObject {
        // What was written as JSON can be read as such.
        DynamicObject { types: None, metadata: self.metadata.clone(), data: serde_json::from_str(&self.rest).unwrap_or_default() }
    }
}

impl From<DynamicObject> for Kept {
    fn from(object: DynamicObject) -> Self {
        Self {
            is_paused: arm::is_paused(&object),
            reads: object.data.pointer("/spec/template").map(config::tracked).unwrap_or_default().into(),
            rest: object.data.to_string().into(),
            metadata: object.metadata,
        }
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DynamicObject::deserialize(deserializer).map(Self::from)
    }
}

impl Resource for Kept {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "shop", "namespace": "shop", "uid": "1", "generation": 3, "annotations": {"a": "1"}},
            "spec": {
                "replicas": 2, "paused": true, "unknownToday": {"a": [1, 2.5, null]},
                "template": {"spec": {"containers": [{"envFrom": [{"configMapRef": {"name": "b"}}, {"configMapRef": {"name": "a"}}]}]}},
            },
            "status": {"observedGeneration": 3, "conditions": [{"type": "Progressing", "status": "True"}]},
        })
    }

    #[test]
    fn nothing_of_it_is_lost() {
        let kept: Kept = serde_json::from_value(object()).unwrap();
        let (whole, plain) = (kept.whole(), serde_json::from_value::<DynamicObject>(object()).unwrap());
        assert_eq!((&whole.data, &whole.metadata), (&plain.data, &plain.metadata));
        assert_eq!(whole.data["spec"], object()["spec"], "also of fields that nobody knows yet");
        assert!(kept.is_paused() && kept.metadata().generation == Some(3));
    }

    #[test]
    fn what_it_reads_is_known_without_looking_into_it() {
        let kept: Kept = serde_json::from_value(object()).unwrap();
        assert_eq!(kept.reads(), ["a", "b"]);
        let mut off = object();
        off["spec"]["template"]["metadata"] = json!({"annotations": {"serin.dev/track": "disabled"}});
        assert!(serde_json::from_value::<Kept>(off).unwrap().reads().is_empty());
    }
}
