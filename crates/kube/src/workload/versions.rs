//! Which versions serve and would be tried: templates together with what they read from `ConfigMaps`.
//!
//! A template that went through a release says itself what it read, in its annotation. What served before the first one cannot: for that it is
//! noted on the Deployment, of a pair in its annotations, else in the note of the adoption.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Arm, Pair, PairError, arm, config, template::version_of};
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
        let found = self.known(self.names.edited()).ok()?;
        self.candidate_of(&arm::template_of(&found)).ok().map(|template| version_of(&template, &self.arm_labels))
    }

    /// The versions that serves and that would be tried, of two workloads that are given; the replicas that the canary has.
    ///
    /// # Errors
    /// If one is missing, or cannot be told from the other, or what they read is not known yet.
    pub fn versions(&self) -> Result<(String, String, i32), PairError> {
        self.check()?;
        let (stable, canary) = (self.known(Arm::Stable)?, self.known(Arm::Canary)?);
        let edited = self.candidate_of(&arm::template_of(&canary))?;
        let noted = stable.metadata.annotations.as_ref().and_then(|all| all.get(CONFIG));
        let serving = proven_of(&arm::template_of(&stable), noted.map(String::as_str), config::stated(&edited).as_deref());
        let version = |template: &Value| version_of(template, &self.arm_labels);
        Ok((version(&serving), version(&edited), self.seen(Arm::Canary, &canary).wanted))
    }

    /// What stable of a pair reads, where nothing says so: before its first release.
    #[must_use]
    pub fn unnoted_config(&self) -> Option<String> {
        let found = self.known(Arm::Stable).ok()?;
        let template = arm::template_of(&found);
        let is_noted = found.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CONFIG));
        if is_noted || config::stated(&template).is_some() { None } else { self.config_of(Arm::Stable, &template).ok().flatten() }
    }

    /// Notes what stable of a pair reads, so that a new content is known as new.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn note_config(&self, hash: &str) -> Result<(), PairError> {
        self.change(Arm::Stable, |found| {
            let is_noted = found.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CONFIG));
            (!is_noted).then(|| json!({"metadata": {"annotations": {CONFIG: hash}}}))
        })
        .await
    }

    /// Names of the `ConfigMaps` and of the `Secrets` that the edited template refers to.
    #[must_use]
    pub fn references(&self) -> [BTreeSet<String>; 2] {
        let found = self.known(self.names.edited()).ok();
        found.map(|found| config::references(&arm::template_of(&found))).unwrap_or_default()
    }

    /// What [`mark_canary`](Self::mark_canary) would change, as a merge patch, by what is remembered.
    ///
    /// # Errors
    /// If the canary is not there, or what it reads is not known.
    pub(crate) fn would_mark(&self) -> Result<Value, PairError> {
        let found = self.known(Arm::Canary)?;
        let template = arm::template_of(&found);
        Ok(json!({"spec": {"template": merge_patch(&template, &self.candidate_of(&template)?)}}))
    }

    /// Gives the canary of a pair the hash of what it reads, if it has another one.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn mark_canary(&self) -> Result<(), PairError> {
        let edited = self.fresh(Arm::Canary).await?;
        let hash = config::stated(&self.candidate_of(&arm::template_of(&edited))?);
        self.change(Arm::Canary, |found| {
            let template = arm::template_of(found);
            let is_so = config::stated(&template) == hash;
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
        config::hash_of(template, &self.memory.config_maps, self.names.place(arm).0)
            .map_err(|_| PairError::NotYet("the ConfigMaps cannot be read yet".to_owned()))
    }
}

/// The template that serves, to be compared with an edited one. `noted`: what it reads, where it does not say so itself; `current`: what the
/// edited one reads.
pub(super) fn proven_of(template: &Value, noted: Option<&str>, current: Option<&str>) -> Value {
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
