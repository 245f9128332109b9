//! Older templates of StatefulSets and DaemonSets, which the cluster keeps as `ControllerRevisions`.

use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;

use super::{
    Arm, Pair, PairError,
    arm::{controller_revisions, selector_of},
};
use crate::api::within;

impl Pair {
    /// The templates that the canary had, as far as they are kept.
    pub(super) async fn revisions_of(&self, canary: &DynamicObject) -> Result<Vec<Value>, PairError> {
        let uid = canary.metadata.uid.as_deref().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), self.names.place(Arm::Canary).0, &controller_revisions());
        let params = ListParams::default().labels(&selector_of(canary));
        let what = format!("list ControllerRevisions of {}", self.names.title(Arm::Canary));
        let all = within(&what, api.list(&params)).await?.items;
        let is_own = |one: &&DynamicObject| one.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid);
        Ok(all.iter().filter(is_own).filter_map(template_of_revision).collect())
    }
}

/// A revision is a patch that replaces the template.
fn template_of_revision(revision: &DynamicObject) -> Option<Value> {
    let mut template = revision.data.pointer("/data/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    Some(template)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::workload::version_of;

    #[test]
    fn a_revision_is_the_version_that_its_template_was() {
        let template = json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "app", "image": "a:v1"}]}});
        let mut patch = template.clone();
        patch["$patch"] = json!("replace");
        patch["metadata"]["creationTimestamp"] = json!(null);
        let revision = json!({"metadata": {"name": "shop-1"}, "data": {"spec": {"template": patch}}, "revision": 1});
        let found = template_of_revision(&serde_json::from_value(revision).unwrap()).unwrap();
        assert_eq!(version_of(&found, &BTreeSet::new()), version_of(&template, &BTreeSet::new()));
        assert_eq!(template_of_revision(&serde_json::from_value(json!({"metadata": {"name": "odd"}})).unwrap()), None);
    }
}
