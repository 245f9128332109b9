//! One Deployment that people go on editing, released in place.
//!
//! *Adoption* is `spec.paused: true` and a note. Nothing restarts, and its Service, autoscaler and disruption budget go on as before: a paused
//! Deployment still scales the ReplicaSet that it has. From then on an edit of its template rolls nothing out by itself. What is proven is the
//! template of the ReplicaSet that has the pods; what is edited is the new version, of which Serin makes a canary.
//!
//! *Promotion.* While the canary serves everything, the Deployment is resumed with exactly the judged template, and paused again once it runs that
//! on all its replicas, before traffic comes back to it. An edit that comes meanwhile is put aside in an annotation, so that it is neither lost
//! nor rolled out unjudged, and put back in the same patch that pauses again. Whoever talks to the pods past the route may see such an edit
//! begin to come up for a moment: nothing but admission control could prevent that.
//!
//! Every step finds out by itself how far it was done already, and every write is guarded by the version that was read.

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{DynamicObject, PostParams},
};
use serde_json::{Map, Value, json};

use super::{
    Arm, Pair, PairError,
    adoption::{self, MAX_NEXT_BYTES, Made, Note},
    arm, config,
    pair::template_of_set,
    template::{promoted, version_of},
};
use crate::api::{ADOPTED, ApiError, FIELD_MANAGER, NEXT, merge_patch, within};

/// What a Deployment that is released in place needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is adopted, and runs the proven version.
    Adopted {
        /// The version that its pods are.
        proven: String,
        /// The version that its template is.
        candidate: String,
    },
    /// It can be adopted; what there is to say about it.
    Adoptable(&'static str),
}

/// The version that has the pods.
pub(super) struct Proven {
    set: String,
    pub(super) template: Value,
    version: String,
}

impl Pair {
    /// What is wrong with the Deployment, as far as is known without asking.
    pub(super) fn check_managed(&self) -> Result<(), PairError> {
        let names = &self.names;
        let own = names.release_name.split('/').next().unwrap_or_default();
        let [stables, canarys] = self.services()?;
        if [&names.namespace, &stables.0, &canarys.0].into_iter().any(|namespace| namespace != own) {
            let why = format!("Deployment {}, its Services and its route must be in the namespace of the release, {own}", names.stable);
            return Err(PairError::Unfit(why));
        }
        let Some(found) = self.memory.deployment(&names.namespace, &names.stable) else { return Ok(()) };
        let Some(service) = self.memory.services.get(&stables.0, &stables.1) else {
            return Err(PairError::Unfit(format!("there is no Service {}/{}", stables.0, stables.1)));
        };
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        let template = arm::template_of(&found);
        let has = |name: &String, value: &String| label(&template, name) == Some(value);
        if selector.is_empty() || !selector.iter().all(|(name, value)| has(name, value)) {
            let why = format!("the Service {} does not select the pods of Deployment {}", stables.1, names.stable);
            return Err(PairError::Unfit(why));
        }
        Ok(())
    }

    /// Namespace and name of both versions' Services.
    fn services(&self) -> Result<&[(String, String); 2], PairError> {
        let why = || format!("the router of Deployment {} names no Service for each version", self.names.stable);
        self.names.services.as_ref().ok_or_else(|| PairError::Unfit(why()))
    }

    /// How the Deployment stands, by what is remembered of it: what follows from this is compared with the same memory. `is_alive`: whether there
    /// still is a release of that identity.
    ///
    /// # Errors
    /// If it cannot be adopted, or not yet, or if that cannot be told.
    pub async fn standing(&self, is_alive: impl Fn(&str) -> bool) -> Result<Standing, PairError> {
        let name = &self.names.stable;
        let found = self.memory.deployment(&self.names.namespace, name);
        let found = found.ok_or_else(|| PairError::Missing(self.names.title(Arm::Stable)))?;
        let note = Note::on(&found.metadata);
        if let Some(other) = note.as_ref().filter(|note| note.release != self.names.release && is_alive(&note.release)) {
            return Err(PairError::Unfit(format!("Deployment {name} is released by {} already", other.name)));
        }
        let is_paused = arm::is_paused(&found);
        if is_paused && note.is_none() {
            let why =
                format!("Deployment {name} is paused by somebody else; resume it with `kubectl rollout resume`: Serin pauses it itself");
            return Err(PairError::Unfit(why));
        }
        if !is_paused {
            let seen = self.seen(Arm::Stable, &found);
            if !seen.settled {
                let why = format!("Deployment {name} is in a rollout of its own: {} of {} replicas are ready", seen.ready, seen.wanted);
                return Err(PairError::NotYet(format!("{why}; it is taken on when that has ended")));
            }
        }
        match self.proven(&found, note.as_ref()).await? {
            None => Err(PairError::NotYet(format!("Deployment {name} has no pods; scale it up"))),
            Some(_) if note.is_none() => Ok(Standing::Adoptable("an edit of its template begins a release from now on")),
            Some(_) if !is_paused => {
                Ok(Standing::Adoptable("somebody had resumed it; what it rolled out meanwhile was not judged, and counts as proven now"))
            }
            Some(_) if note.as_ref().is_some_and(|note| note.release != self.names.release) => {
                Ok(Standing::Adoptable("the release that had it before is gone"))
            }
            Some(proven) => {
                let noted = note.and_then(|note| note.config);
                let (proven, candidate) = self.compared(&proven.template, noted.as_deref(), arm::template_in(&found))?;
                Ok(Standing::Adopted { proven, candidate })
            }
        }
    }

    /// Takes the Deployment on, as [`standing`](Self::standing) found that it can be, and makes the canary's Service, so that routes may name it.
    /// `false`: it was so already.
    ///
    /// # Errors
    /// If it is no longer as it was found, or cannot be written.
    pub async fn adopt(&self) -> Result<bool, PairError> {
        let mut conflicts = 0;
        loop {
            let found = self.fresh(Arm::Stable).await?;
            let Some(patch) = self.adoption(&found).await? else {
                self.make_service(&found).await?;
                return Ok(false);
            };
            if self.patch(Arm::Stable, &found, patch, &mut conflicts).await? {
                self.make_service(&found).await?;
                return Ok(true);
            }
        }
    }

    /// What takes the Deployment on, as a merge patch; `None` if that was done.
    ///
    /// # Errors
    /// If it cannot be taken on as it is.
    async fn adoption(&self, found: &DynamicObject) -> Result<Option<Value>, PairError> {
        let note = Note::on(&found.metadata);
        let seen = self.seen(Arm::Stable, found);
        if !seen.paused && !seen.settled {
            return Err(PairError::NotYet(format!("Deployment {} has begun a rollout of its own", self.names.stable)));
        }
        let proven = self.proven(found, note.as_ref()).await?;
        let proven = proven.ok_or_else(|| PairError::NotYet(format!("Deployment {} has no pods", self.names.stable)))?;
        // Once it was adopted, what it reads may have changed since.
        let known = note.as_ref().filter(|note| seen.paused && note.proven == proven.set).and_then(|note| note.config.clone());
        let ours = Note { config: known.or(self.config_of(Arm::Stable, &proven.template)?), ..self.note(proven.set) };
        if seen.paused && note.as_ref() == Some(&ours) {
            return Ok(None);
        }
        if seen.paused && note.is_none() {
            return Err(PairError::NotYet(format!("Deployment {} was paused by somebody else", self.names.stable)));
        }
        // An edit that a release before had put aside is old news: what is in the template is what its owners want now.
        Ok(Some(json!({"metadata": {"annotations": {ADOPTED: ours.text(), NEXT: null}}, "spec": {"paused": true}})))
    }

    /// Makes the canary what is to be tried: its Service and its Deployment, of this version, if they are not so already.
    ///
    /// # Errors
    /// If the template is another version by now, or what is there cannot be used.
    pub async fn make_canary(&self, judged: &str) -> Result<(), PairError> {
        let of = self.fresh(Arm::Stable).await?;
        let template = self.candidate_of(&arm::template_of(&of))?;
        if version_of(&template, &self.arm_labels) != judged {
            return Err(PairError::Unfit(format!(
                "the template of Deployment {} was changed since the release was begun",
                self.names.stable
            )));
        }
        self.make_service(&of).await?;
        let name = &self.names.canary;
        let found = within(&format!("get Deployment {}/{name}", self.names.namespace), self.api(Arm::Canary).get_opt(name)).await?;
        let Some(found) = found else {
            let object = self.new_canary(&of, &template);
            let what = format!("create Deployment {}/{name}", self.names.namespace);
            let object: DynamicObject = serde_json::from_value(object).map_err(|error| PairError::Unfit(error.to_string()))?;
            let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            self.still_leads().await?;
            // One that exists by now is looked at in the next attempt.
            within(&what, self.api(Arm::Canary).create(&params, &object)).await?;
            return Ok(());
        };
        self.check_made("Deployment", name, &found.metadata)?;
        let wanted = adoption::canary_template(&template, &self.arm_labels, &arm::match_labels(&found));
        self.change(Arm::Canary, |found| {
            let before = arm::template_of(found);
            let labels = |template: &Value| template.pointer("/metadata/labels").cloned();
            let is_so = version_of(&before, &self.arm_labels) == judged && labels(&before) == labels(&wanted);
            (!is_so).then(|| json!({"spec": {"template": merge_patch(&before, &wanted)}}))
        })
        .await
    }

    /// Resumes the Deployment with the judged template, unless it runs that already. An edit that is in the way is put aside.
    ///
    /// # Errors
    /// If the judged template or room for the edit cannot be found, or nothing can be written.
    pub async fn roll_out(&self, judged: &str) -> Result<(), PairError> {
        let mut conflicts = 0;
        loop {
            let found = self.fresh(Arm::Stable).await?;
            let note = Note::on(&found.metadata);
            let is_paused = arm::is_paused(&found);
            let before = arm::template_of(&found);
            let is_judged = version_of(&before, &self.arm_labels) == judged;
            let proven = match self.proven(&found, note.as_ref()).await {
                // Somebody has paused it in the midst: it goes on.
                Err(PairError::NotYet(_)) => None,
                other => other?,
            };
            if is_paused && proven.is_some_and(|proven| proven.version == judged) {
                return Ok(());
            }
            if !is_paused && is_judged {
                return Ok(());
            }
            let mut patch = json!({"spec": {"paused": false}});
            let judged_template = if is_judged { None } else { Some(self.judged(judged).await?) };
            // The same template but for the hash of what it read: nobody's edit is in the way.
            let hash = judged_template.as_ref().and_then(config::stated);
            let marked = config::with(&before, hash.as_deref());
            if judged_template.is_some() && version_of(&marked, &self.arm_labels) == judged {
                patch = json!({"spec": {"paused": false, "template": merge_patch(&before, &marked)}});
            } else if let Some(template) = judged_template {
                let after = promoted(&template, &before, &self.arm_labels);
                let aside = before.to_string();
                if aside.len() > MAX_NEXT_BYTES {
                    let why = "has a new template that is too large to be put aside; take that edit back until this release has ended";
                    return Err(PairError::Unfit(format!("Deployment {} {why}", self.names.stable)));
                }
                patch = json!({
                    "metadata": {"annotations": {NEXT: aside}},
                    "spec": {"paused": false, "template": merge_patch(&before, &after)},
                });
            }
            if self.patch(Arm::Stable, &found, patch, &mut conflicts).await? {
                return Ok(());
            }
        }
    }

    /// Whether the Deployment runs this version on all its replicas, at least one, and nothing else; or what is missing.
    ///
    /// # Errors
    /// What is missing, or that it cannot be told.
    pub async fn runs(&self, judged: &str) -> Result<(), PairError> {
        let found = self.fresh(Arm::Stable).await?;
        self.check_runs(&found, judged).await.map(drop)
    }

    async fn check_runs(&self, found: &DynamicObject, judged: &str) -> Result<Proven, PairError> {
        let seen = self.seen(Arm::Stable, found);
        let missing = |why: String| Err(PairError::NotYet(why));
        if seen.wanted == 0 {
            return missing(format!("Deployment {} is asked to have no replicas: scale it up", self.names.stable));
        }
        if !seen.paused && seen.version != judged {
            return missing(format!("Deployment {} was edited: what was judged is rolled out first", self.names.stable));
        }
        if !seen.settled || seen.ready == 0 {
            return missing(format!("{} of {} replicas of stable are ready, and the rollout has not ended", seen.ready, seen.wanted));
        }
        match self.proven(found, Note::on(&found.metadata).as_ref()).await? {
            Some(proven) if proven.version == judged => Ok(proven),
            _ => missing(format!("the pods of Deployment {} are not yet what was judged", self.names.stable)),
        }
    }

    /// Pauses the Deployment again, which runs what was judged, and puts back the edit that was put aside.
    ///
    /// # Errors
    /// If it does not run that any more, or cannot be written.
    pub async fn pause_again(&self, judged: &str) -> Result<(), PairError> {
        let mut conflicts = 0;
        loop {
            let found = self.fresh(Arm::Stable).await?;
            let proven = self.check_runs(&found, judged).await?;
            let next = adoption::put_aside(&found);
            if arm::is_paused(&found) && next.is_none() {
                return Ok(());
            }
            let note = self.note(proven.set);
            let mut patch = json!({"metadata": {"annotations": {ADOPTED: note.text(), NEXT: null}}, "spec": {"paused": true}});
            if let (Some(next), Some(spec)) = (next, patch.pointer_mut("/spec").and_then(Value::as_object_mut)) {
                spec.insert("template".to_owned(), merge_patch(&arm::template_of(&found), &next));
            }
            if self.patch(Arm::Stable, &found, patch, &mut conflicts).await? {
                return Ok(());
            }
        }
    }

    /// The version that has the pods; `None` if none has, and it is not known which one had.
    pub(super) async fn proven(&self, found: &DynamicObject, note: Option<&Note>) -> Result<Option<Proven>, PairError> {
        let sets = self.sets_of(found).await?;
        let has_pods = |set: &&DynamicObject| set.data.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1) > 0;
        let mut with_pods = sets.iter().filter(has_pods);
        let set = match (with_pods.next(), with_pods.next()) {
            (Some(_), Some(_)) => {
                let why = "has pods of two versions; resume it with `kubectl rollout resume` until its rollout has ended";
                return Err(PairError::NotYet(format!("Deployment {} {why}", self.names.stable)));
            }
            (only, _) => only.or_else(|| sets.iter().find(|set| note.is_some_and(|note| set.metadata.name.as_ref() == Some(&note.proven)))),
        };
        Ok(set.map(|set| {
            let template = template_of_set(set);
            let version = version_of(&template, &self.arm_labels);
            Proven { set: set.metadata.name.clone().unwrap_or_default(), template, version }
        }))
    }

    /// The labels by which the canary's Deployment selects, or would.
    pub(super) fn canary_match_labels(&self, of: Option<&DynamicObject>) -> Option<Map<String, Value>> {
        let remembered = self.memory.deployment(&self.names.namespace, &self.names.stable);
        let of = of.or(remembered.as_ref())?;
        Some(adoption::other_labels(&arm::match_labels(of), &self.arm_labels, &Map::new()))
    }

    async fn make_service(&self, of: &DynamicObject) -> Result<(), PairError> {
        let [(_, stable), (namespace, name)] = self.services()?;
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let place = format!("Service {namespace}/{name}");
        let canary = self.memory.deployment(&self.names.namespace, &self.names.canary);
        let fixed = canary.map(|canary| arm::match_labels(&canary)).unwrap_or_default();
        let template = adoption::canary_template(&arm::template_of(of), &self.arm_labels, &fixed);
        if let Some(found) = within(&format!("get {place}"), api.get_opt(name)).await? {
            let selector = found.spec.and_then(|spec| spec.selector).unwrap_or_default();
            let selects = !selector.is_empty() && selector.iter().all(|(name, value)| label(&template, name) == Some(value));
            let why = format!("{place} does not select the canary's pods; remove it, and Serin makes one that does");
            return if selects { Ok(()) } else { Err(PairError::Unfit(why)) };
        }
        let of_stable = within(&format!("get Service {stable}"), api.get(stable)).await?;
        let object = self.new_service(name, &of_stable, &template);
        let object: Service = serde_json::from_value(object).map_err(|error| PairError::Unfit(error.to_string()))?;
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.still_leads().await?;
        match within(&format!("create {place}"), api.create(&params, &object)).await {
            Ok(_) | Err(ApiError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The canary's Deployment, where there is none yet. `template`: with the hash of what it reads.
    fn new_canary(&self, of: &DynamicObject, template: &Value) -> Value {
        let selector = self.canary_match_labels(Some(of)).unwrap_or_default();
        let template = adoption::canary_template(template, &self.arm_labels, &selector);
        adoption::canary_deployment(&self.names.canary, &self.made(), of, &selector, template)
    }

    /// The canary's Service, where there is none yet. `template`: the canary's.
    fn new_service(&self, name: &str, of_stable: &Service, template: &Value) -> Value {
        let spec = serde_json::to_value(&of_stable.spec).unwrap_or_default();
        let names = spec.pointer("/selector").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let selector: Map<String, Value> = names.filter_map(|name| Some((name.clone(), json!(label(template, name)?)))).collect();
        adoption::canary_service(name, &self.made(), spec.pointer("/ports").unwrap_or(&Value::Null), &selector)
    }

    /// What a release would make of the Deployment, by what is remembered: the canary's Deployment as a merge patch over what is there, and its
    /// Service, if there is none.
    ///
    /// # Errors
    /// If something that they are made of is not there or not known.
    pub(crate) fn would_make(&self) -> Result<(Value, Option<Value>), PairError> {
        let known = |name: &String| self.memory.deployment(&self.names.namespace, name);
        let of = known(&self.names.stable);
        let of = of.ok_or_else(|| PairError::Missing(self.names.title(Arm::Stable)))?;
        let template = self.candidate_of(&arm::template_of(&of))?;
        let there = known(&self.names.canary);
        let fixed = there.as_ref().map(arm::match_labels).unwrap_or_default();
        let made = adoption::canary_template(&template, &self.arm_labels, &fixed);
        let [(home, stable), (namespace, name)] = self.services()?;
        let of_stable = self.memory.services.get(home, stable).filter(|_| self.memory.services.get(namespace, name).is_none());
        let service = of_stable.map(|of_stable| self.new_service(name, &of_stable, &made));
        let canary = match there {
            Some(found) => {
                self.check_made("Deployment", &self.names.canary, &found.metadata)?;
                json!({"spec": {"template": merge_patch(&arm::template_of(&found), &made)}})
            }
            None => self.new_canary(&of, &template),
        };
        Ok((canary, service))
    }

    /// What takes the Deployment on, as a merge patch, by what is remembered of it; `None` if that was done.
    ///
    /// # Errors
    /// If it cannot be taken on as it is.
    pub(crate) async fn would_adopt(&self) -> Result<Option<Value>, PairError> {
        let found = self.memory.deployment(&self.names.namespace, &self.names.stable);
        match found {
            Some(found) => self.adoption(&found).await,
            None => Err(PairError::Missing(self.names.title(Arm::Stable))),
        }
    }

    /// Whether something may be used as if this release had made it.
    fn check_made(&self, kind: &str, name: &str, metadata: &kube::core::ObjectMeta) -> Result<(), PairError> {
        let made = Made::on(metadata).ok_or_else(|| {
            PairError::Unfit(format!("the {kind} {name} was not made by Serin; rename or remove it, or give both as a pair"))
        })?;
        if made.of != self.names.stable {
            return Err(PairError::Unfit(format!("the {kind} {name} is the canary of {}", made.of)));
        }
        if metadata.owner_references.iter().flatten().any(|owner| owner.uid != self.names.release) {
            return Err(PairError::NotYet(format!("the {kind} {name} of a release that was deleted is still being removed")));
        }
        Ok(())
    }

    fn made(&self) -> Made {
        Made { release: self.names.release.clone(), of: self.names.stable.clone() }
    }

    fn note(&self, proven: String) -> Note {
        Note { release: self.names.release.clone(), name: self.names.release_name.clone(), proven, config: None }
    }
}

fn label<'a>(template: &'a Value, name: &str) -> Option<&'a String> {
    match template.pointer("/metadata/labels")?.get(name)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}
