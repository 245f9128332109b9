//! The `Release` object, thin: its spec is read by `serin-spec` like any other document, so that there is one validation.

use std::borrow::Cow;

use kube::{Resource, core::NamespaceResourceScope, core::ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serin_spec::{Diagnostics, LoadedCluster};

use super::{GROUP, PLURAL, ReleaseStatus, VERSION};

/// A release in a cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// `serin.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// `Release`.
    #[serde(default)]
    pub kind: String,
    /// Name, namespace, generation and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What its author wrote.
    #[serde(default)]
    pub spec: Value,
    /// How it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ReleaseStatus>,
}

impl Release {
    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The object's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The object's identity: another object of the same name has another one.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The generation of the spec.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// The document that the object is, as text. Positions in diagnostics are those of this text.
    #[must_use]
    pub fn document(&self) -> String {
        let document = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "Release",
            "metadata": {"name": self.name()},
            "spec": self.spec,
        });
        serde_json::to_string_pretty(&document).unwrap_or_default()
    }

    /// Reads the document.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<LoadedCluster, Diagnostics> {
        serin_spec::load_cluster(&format!("{}/{}", self.namespace(), self.name()), &self.document())
    }
}

impl Resource for Release {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Release".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
