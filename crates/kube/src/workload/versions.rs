//! Which versions serve and would be tried: templates together with what they read from `ConfigMaps`.
//!
//! A template that went through a release says itself what it read, in its annotation. What served before the first one cannot: for that it is
//! noted on the Deployment, of a pair in its annotations, else in the note of the adoption.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{Arm, Note, Pair, PairError, arm, config, template::version_of};
use crate::api::{CONFIG, merge_patch};

impl Pair {
    /// What is edited to release something, in words.
    #[must_use]
    pub fn edited(&self) -> String {
        let arm = self.names.edited();
        format!("the template of {} {}", self.names.kind(arm).name(), self.names.place(arm).1)
    }

    /// The version that would be tried now, as far as is known.
    #[must_use]
    pub fn candidate(&self) -> Option<String> {
        let edited = self.names.edited();
        let found = self.known(edited).ok()?;
        let hash = config::hash_of(found.reads(), &self.memory.config_maps, self.names.place(edited).0).ok()?;
        let version = |hash: &Option<String>| {
            let whole = found.whole();
            version_of(&config::with(arm::template_in(&whole), hash.as_deref()), &self.arm_labels)
        };
        Some(self.candidates.of(&self.names.title(edited), &found, hash, version))
    }

    /// The versions that serves and that would be tried, of two workloads that are given; the replicas that the canary has.
    ///
    /// # Errors
    /// If one is missing, or cannot be told from the other, or what they read is not known yet.
    pub fn versions(&self) -> Result<(String, String, i32), PairError> {
        self.check()?;
        let (stable, canary) = (self.known(Arm::Stable)?.whole(), self.known(Arm::Canary)?.whole());
        let (proven, candidate) = self.compared(arm::template_in(&stable), noted(&stable), arm::template_in(&canary))?;
        Ok((proven, candidate, self.seen(Arm::Canary, &canary).wanted))
    }

    /// The versions that serves and that would be tried, not from memory: for a check right before a release.
    ///
    /// # Errors
    /// If it cannot be told.
    pub async fn fresh_versions(&self) -> Result<(String, String), PairError> {
        let stable = self.fresh(Arm::Stable).await?;
        if !self.is_managed() {
            let canary = self.fresh(Arm::Canary).await?;
            return self.compared(arm::template_in(&stable), noted(&stable), arm::template_in(&canary));
        }
        let note = Note::on(&stable.metadata);
        let proven = self.proven(&stable, note.as_ref()).await?;
        let proven = proven.ok_or_else(|| PairError::NotYet(format!("{} has no pods", self.names.title(Arm::Stable))))?;
        self.compared(&proven.template, note.and_then(|note| note.config).as_deref(), arm::template_in(&stable))
    }

    /// The versions of the template that serves and of an edited one. `noted`: what the former reads, where it does not say so itself.
    pub(super) fn compared(&self, serving: &Value, noted: Option<&str>, edited: &Value) -> Result<(String, String), PairError> {
        let edited = self.candidate_of(edited)?;
        let serving = proven_of(serving, noted, config::stated(&edited).as_deref());
        Ok((version_of(&serving, &self.arm_labels), version_of(&edited, &self.arm_labels)))
    }

    /// What stable of a pair reads, where nothing says so: before its first release.
    #[must_use]
    pub fn unnoted_config(&self) -> Option<String> {
        let found = self.known(Arm::Stable).ok()?.whole();
        let template = arm::template_in(&found);
        let is_known = noted(&found).is_some() || config::stated(template).is_some();
        if is_known { None } else { self.config_of(Arm::Stable, template).ok().flatten() }
    }

    /// Notes what stable of a pair reads, so that a new content is known as new.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn note_config(&self, hash: &str) -> Result<(), PairError> {
        self.change(Arm::Stable, |found| noted(found).is_none().then(|| json!({"metadata": {"annotations": {CONFIG: hash}}}))).await
    }

    /// Names of the `ConfigMaps` and of the `Secrets` that the edited template refers to.
    #[must_use]
    pub fn references(&self) -> [BTreeSet<String>; 2] {
        let found = self.known(self.names.edited()).ok().map(|found| found.whole());
        found.map(|found| config::references(arm::template_in(&found))).unwrap_or_default()
    }

    /// What [`mark_canary`](Self::mark_canary) would change, as a merge patch, by what is remembered.
    ///
    /// # Errors
    /// If the canary is not there, or what it reads is not known.
    pub(crate) fn would_mark(&self) -> Result<Value, PairError> {
        let found = self.known(Arm::Canary)?.whole();
        let template = arm::template_in(&found);
        Ok(json!({"spec": {"template": merge_patch(template, &self.candidate_of(template)?)}}))
    }

    /// Gives the canary of a pair the hash of what it reads, if it has another one.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn mark_canary(&self) -> Result<(), PairError> {
        let edited = self.fresh(Arm::Canary).await?;
        let hash = config::stated(&self.candidate_of(arm::template_in(&edited))?);
        self.change(Arm::Canary, |found| {
            let is_so = config::stated(arm::template_in(found)) == hash;
            (!is_so).then(|| json!({"spec": {"template": {"metadata": {"annotations": {CONFIG: hash}}}}}))
        })
        .await
    }

    /// An edited template with the hash of what it would read now.
    pub(super) fn candidate_of(&self, template: &Value) -> Result<Value, PairError> {
        Ok(config::with(template, self.config_of(self.names.edited(), template)?.as_deref()))
    }

    /// The hash of what a template reads where that version is.
    pub(super) fn config_of(&self, arm: Arm, template: &Value) -> Result<Option<String>, PairError> {
        config::hash_of(&config::tracked(template), &self.memory.config_maps, self.names.place(arm).0)
            .map_err(|_| PairError::NotYet("the ConfigMaps cannot be read yet".to_owned()))
    }
}

/// What stable of a pair reads, as was noted on it.
fn noted(stable: &DynamicObject) -> Option<&str> {
    stable.metadata.annotations.as_ref()?.get(CONFIG).map(String::as_str)
}

/// The template that serves, to be compared with an edited one. `noted`: what it reads, where it does not say so itself; `current`: what the
/// edited one reads.
fn proven_of(template: &Value, noted: Option<&str>, current: Option<&str>) -> Value {
    // Nothing is tracked any more, or was noted: then that makes no difference.
    let stated = config::stated(template);
    let hash = current.map(|current| stated.as_deref().or(noted).unwrap_or(current));
    config::with(template, hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_served_before_is_compared_by_what_it_read_then() {
        let (plain, marked) = (json!({"spec": {}}), config::with(&json!({"spec": {}}), Some("1")));
        let of = |template: &Value, noted, current| config::stated(&proven_of(template, noted, current));
        assert_eq!(of(&marked, Some("2"), Some("3")).as_deref(), Some("1"), "it says so itself");
        assert_eq!(of(&plain, Some("2"), Some("3")).as_deref(), Some("2"), "it was noted");
        assert_eq!(of(&plain, None, Some("3")).as_deref(), Some("3"), "nobody knows: that alone is no new version");
        assert_eq!(of(&marked, Some("2"), None), None, "nothing is tracked any more");
    }
}
