//! The `ReleaseMemory` object: what the judge of a release remembers, where its status has no room for it. A kind of its own and no ConfigMap,
//! so that the controller needs no right to change the configuration of others. It belongs to its release, and goes with it.

use std::borrow::Cow;

use kube::{Resource, core::NamespaceResourceScope, core::ObjectMeta};
use serde::{Deserialize, Serialize};

use super::{GROUP, MEMORIES, VERSION};

/// What a judge remembers. The status of the release says which object it is in, and with which hash.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseMemory {
    /// `serin.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// `ReleaseMemory`.
    #[serde(default)]
    pub kind: String,
    /// Name, namespace and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Which ownership of the release wrote it; an older one writes it no more.
    #[serde(default)]
    pub epoch: u64,
    /// The memory, packed.
    #[serde(default)]
    pub content: String,
}

impl Resource for ReleaseMemory {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "ReleaseMemory".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        MEMORIES.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
