//! What a template reads from `ConfigMaps`: a new content is a new version.
//!
//! The hash of all that a template refers to stands in an annotation of the canary's template, and goes to stable with it: so pods are rolled
//! that would otherwise go on with what they read when they began. Of the content itself nothing is kept in memory, only a digest.
//!
//! Not tracked is what has the label or annotation `serin.dev/track: disabled`: a `ConfigMap`, or a template as a whole. `Secrets` are never read.

use std::{borrow::Cow, collections::BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Resource,
    core::{NamespaceResourceScope, ObjectMeta},
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    api::{CONFIG, TRACK, list},
    watch::Watched,
};

/// A `ConfigMap` of which only a digest is kept.
#[derive(Debug, Clone)]
pub struct ConfigDigest {
    metadata: ObjectMeta,
    digest: String,
}

impl<'de> Deserialize<'de> for ConfigDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Whole {
            #[serde(default)]
            metadata: ObjectMeta,
            #[serde(default)]
            data: Value,
            #[serde(default)]
            binary_data: Value,
        }
        let whole = Whole::deserialize(deserializer)?;
        // Keys of objects are sorted.
        let digest = hash(&json!([whole.data, whole.binary_data]).to_string());
        Ok(Self { metadata: whole.metadata, digest })
    }
}

impl Resource for ConfigDigest {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ConfigMap::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ConfigMap::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ConfigMap::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ConfigMap::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Names of the `ConfigMaps` and of the `Secrets` that a template refers to.
pub(crate) fn references(template: &Value) -> [BTreeSet<String>; 2] {
    let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    let mut take = |value: &Value, of_map: &str, of_secret: &str| {
        let name = |at: &str| value.pointer(at).and_then(Value::as_str).map(str::to_owned);
        maps.extend(name(of_map));
        secrets.extend(name(of_secret));
    };
    for at in ["/spec/containers", "/spec/initContainers"] {
        for container in list(template, at) {
            list(container, "/envFrom").for_each(|from| take(from, "/configMapRef/name", "/secretRef/name"));
            for variable in list(container, "/env") {
                take(variable, "/valueFrom/configMapKeyRef/name", "/valueFrom/secretKeyRef/name");
            }
        }
    }
    for volume in list(template, "/spec/volumes") {
        take(volume, "/configMap/name", "/secret/secretName");
        list(volume, "/projected/sources").for_each(|source| take(source, "/configMap/name", "/secret/name"));
    }
    [maps, secrets]
}

/// Names of the `ConfigMaps` whose content belongs to the version that a template is, in order.
pub(super) fn tracked(template: &Value) -> Vec<String> {
    let [names, _] = references(template);
    let is_off = template.pointer("/metadata").is_some_and(|metadata| {
        ["labels", "annotations"]
            .iter()
            .any(|kind| metadata.get(kind).and_then(|all| all.get(TRACK)).is_some_and(|value| value == "disabled"))
    });
    if is_off { Vec::new() } else { names.into_iter().collect() }
}

/// The hash of what a template reads that refers to these `ConfigMaps`; `None`: nothing is tracked. Not known before the `ConfigMaps` were listed.
pub(super) fn hash_of(names: &[String], maps: &Watched<ConfigDigest>, namespace: &str) -> Result<Option<String>, NotListed> {
    if names.is_empty() {
        return Ok(None);
    }
    if maps.silent_for().is_none() {
        return Err(NotListed);
    }
    let found = names.iter().map(|name| (name, maps.get(namespace, name)));
    let tracked: Vec<(&String, Option<String>)> = found
        .filter(|(_, map)| map.as_ref().is_none_or(|map| !is_disabled(&map.metadata)))
        .map(|(name, map)| (name, map.map(|map| map.digest.clone())))
        .collect();
    Ok((!tracked.is_empty()).then(|| hash(&json!(tracked).to_string())))
}

/// The `ConfigMaps` were not listed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotListed;

/// The hash that a template has.
pub(super) fn stated(template: &Value) -> Option<String> {
    template.pointer("/metadata/annotations")?.get(CONFIG)?.as_str().map(str::to_owned)
}

/// The template with this hash, or none.
pub(super) fn with(template: &Value, hash: Option<&str>) -> Value {
    let mut made = template.clone();
    if hash.is_none() && stated(template).is_none() {
        return made;
    }
    if let Some(fields) = made.as_object_mut()
        && let Some(metadata) = fields.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
        && let Some(annotations) = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
    {
        match hash {
            Some(hash) => drop(annotations.insert(CONFIG.to_owned(), json!(hash))),
            None => drop(annotations.remove(CONFIG)),
        }
    }
    made
}

fn is_disabled(metadata: &ObjectMeta) -> bool {
    let has = |all: &Option<std::collections::BTreeMap<String, String>>| {
        all.as_ref().and_then(|all| all.get(TRACK)).is_some_and(|value| value == "disabled")
    };
    has(&metadata.labels) || has(&metadata.annotations)
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_refer_to_one_is_found() {
        let template = json!({"spec": {
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "x"}}]}],
            "containers": [{"env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "b", "key": "k"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "y", "key": "k"}}},
            ]}],
            "volumes": [
                {"configMap": {"name": "c"}}, {"secret": {"secretName": "z"}}, {"emptyDir": {}},
                {"projected": {"sources": [{"configMap": {"name": "d"}}, {"secret": {"name": "w"}}]}},
            ],
        }});
        let [maps, secrets] = references(&template).map(|names| names.into_iter().collect::<Vec<_>>());
        assert_eq!((maps, secrets), (["a", "b", "c", "d"].map(str::to_owned).to_vec(), ["w", "x", "y", "z"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_digest_is_of_the_data_alone() {
        let digest = |value: Value| serde_json::from_value::<ConfigDigest>(value).unwrap().digest;
        let one = digest(json!({"metadata": {"name": "a", "resourceVersion": "1"}, "data": {"a": "1", "b": "2"}}));
        assert_eq!(digest(json!({"metadata": {"name": "a", "resourceVersion": "2"}, "data": {"b": "2", "a": "1"}})), one);
        assert_ne!(digest(json!({"data": {"a": "1", "b": "3"}})), one);
        assert_ne!(digest(json!({"data": {"a": "1"}, "binaryData": {"b": "2"}})), one);
    }

    #[test]
    fn the_hash_is_put_and_taken_without_a_trace() {
        let plain = json!({"metadata": {"annotations": {"a": "1"}}, "spec": {}});
        let marked = with(&plain, Some("5"));
        assert_eq!((stated(&marked).as_deref(), with(&marked, None)), (Some("5"), plain));
        assert_eq!(with(&json!({"spec": {}}), None), json!({"spec": {}}));
    }
}
