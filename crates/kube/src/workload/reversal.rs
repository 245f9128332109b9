//! Giving a Deployment back that was released in place: the proven template and no pause, in one patch. An edit that was never proven is not rolled
//! out by that. What was made of it is left to the cluster to collect.

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    Arm, Pair, PairError,
    adoption::{self, Made, Note},
    arm, config,
    template::version_of,
};
use crate::api::{ADOPTED, ApiError, FIELD_MANAGER, NEXT, merge_patch, within};

/// What was done to a Deployment that is nobody's any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reverted {
    /// It runs as it did, and so does its template.
    Resumed,
    /// Its template is the proven one again: an edit was never proven.
    EditLeftOut,
    /// Nobody knows which version was proven: it stays paused.
    LeftPaused,
}

impl Pair {
    /// Gives the Deployment back: with the proven template, and not paused. `None`: it is not this release's.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn give_back(&self) -> Result<Option<Reverted>, PairError> {
        let mut conflicts = 0;
        loop {
            let found = match self.fresh(Arm::Stable).await {
                Ok(found) => found,
                Err(PairError::Missing(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
            let Some(note) = Note::on(&found.metadata).filter(|note| note.release == self.names.release) else { return Ok(None) };
            let proven = match self.proven(&found, Some(&note)).await {
                Ok(proven) => proven,
                // Pods of two versions: somebody has resumed it, or stopped it in the midst. Nothing is guessed.
                Err(PairError::NotYet(_)) => None,
                Err(error) => return Err(error),
            };
            let mut patch = json!({"metadata": {"annotations": {ADOPTED: null, NEXT: null}}});
            let (is_paused, before) = (arm::is_paused(&found), arm::template_of(&found));
            let reverted = match proven {
                _ if !is_paused && adoption::put_aside(&found).is_some() => Reverted::EditLeftOut,
                _ if !is_paused => Reverted::Resumed,
                None => Reverted::LeftPaused,
                Some(proven) => {
                    patch = json!({"metadata": patch["metadata"], "spec": {"paused": false}});
                    let plain = |template: &Value| version_of(&config::with(template, None), &self.arm_labels);
                    let is_proven = plain(&proven.template) == plain(&before);
                    if !is_proven && let Some(spec) = patch.pointer_mut("/spec").and_then(Value::as_object_mut) {
                        spec.insert("template".to_owned(), merge_patch(&before, &proven.template));
                    }
                    if is_proven { Reverted::Resumed } else { Reverted::EditLeftOut }
                }
            };
            if self.patch(Arm::Stable, &found, patch, &mut conflicts).await? {
                return Ok(Some(reverted));
            }
        }
    }

    /// Lets the cluster remove the canary's objects that this release made, as soon as the release is gone. Until then they have no owner: whoever
    /// deletes a release in the foreground would otherwise take the canary's pods away before their traffic. What is made of a Deployment that
    /// another release has is that one's.
    ///
    /// # Errors
    /// If they cannot be written.
    pub async fn leave_to_collector(&self) -> Result<(), PairError> {
        let names = &self.names;
        let noted = match self.fresh(Arm::Stable).await {
            Ok(found) => Note::on(&found.metadata),
            Err(PairError::Missing(_)) => None,
            Err(error) => return Err(error),
        };
        if noted.is_some_and(|note| note.release != names.release) {
            return Ok(());
        }
        let name = names.release_name.split('/').nth(1).unwrap_or_default();
        let patch = adoption::owned_by(&names.release, name);
        let is_ours = |metadata: &kube::core::ObjectMeta| Made::on(metadata).is_some_and(|made| made.of == names.stable);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let what = |kind: &str| format!("patch {kind} {}", names.canary);
        let found = within(&what("Deployment"), self.api(Arm::Canary).get_opt(&names.canary)).await?;
        if found.is_some_and(|found| is_ours(&found.metadata)) {
            self.still_leads().await?;
            gone_is_fine(within(&what("Deployment"), self.api(Arm::Canary).patch(&names.canary, &params, &Patch::Merge(&patch))).await)?;
        }
        let Some([_, (namespace, service)]) = &names.services else { return Ok(()) };
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let found = within(&what("Service"), api.get_opt(service)).await?;
        if found.is_some_and(|found| is_ours(&found.metadata)) {
            self.still_leads().await?;
            gone_is_fine(within(&what("Service"), api.patch(service, &params, &Patch::Merge(&patch))).await)?;
        }
        Ok(())
    }
}

fn gone_is_fine<T>(answer: Result<T, ApiError>) -> Result<(), ApiError> {
    match answer {
        Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
