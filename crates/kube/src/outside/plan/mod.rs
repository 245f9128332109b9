//! What a release would change, object by object and field by field, tried by the server and changed nowhere.
//!
//! `diff` compares objects, `draft` draws changes on each other and has them tried. Here is which changes there are: those that the controller
//! writes, made by the same functions; `replicas` has those of numbers. `checks` are those that a person can make from outside; the controller
//! makes its own before it begins.

mod checks;
mod diff;
mod draft;
mod replicas;

use k8s_openapi::api::core::v1::Service;
use kube::api::ApiResource;
use serde::Serialize;
use serde_json::{Value, json};
use serin_core::{
    WeightBps,
    release::{Check, CheckStatus},
};
use serin_spec::validated::{ClusterRelease, ClusterRouter};

use checks::{accepted, services, versions};
pub use diff::{Field, fields};
use draft::Draft;
pub use draft::{Change, Tried};
use replicas::Replicas;

use super::{MANAGER, Session, look};
use crate::{
    api::{ApiError, DECISION, Release, merge_patch, merged},
    release::{Place, check, shares},
    route::{Decision, Lens, LensError, lens_of},
    workload::{Arm, Names, Pair, PairError, promoted, workloads},
};

/// What a release would change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterPlan {
    /// Where the release is.
    pub namespace: String,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// The steps that change something, in order. Empty if what they would change could not be read.
    pub steps: Vec<Step>,
    /// What a rollback changes, from the last stage.
    pub rollback: Vec<Change>,
    /// Replicas that stable is asked to have.
    pub stable_replicas: usize,
}

/// A step with what it changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Which.
    pub kind: Kind,
    /// What it changes.
    pub changes: Vec<Change>,
}

/// A step that changes objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The canary comes up.
    Deploy,
    /// A stage of the plan, by its place from 0.
    Stage(usize),
    /// All traffic to the canary.
    Promote,
    /// Stable becomes what was judged, gets all traffic, and the canary goes back to rest.
    Retire,
}

impl ClusterPlan {
    /// Whether nothing stands against it.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let refused = |change: &Change| matches!(change.server, Tried::Refuses(_));
        self.checks.iter().all(|check| check.status != CheckStatus::Fail)
            && !self.steps.iter().flat_map(|step| &step.changes).chain(&self.rollback).any(refused)
    }
}

/// Says what a release would change. `document`: the object, if it is not in the cluster as it is.
///
/// # Errors
/// If the API server cannot be asked. What it has to say about the release is in the checks.
pub async fn plan(session: &Session, release: &ClusterRelease, document: Option<&Value>) -> Result<ClusterPlan, ApiError> {
    let mut checks = Vec::new();
    if let Some(document) = document {
        checks.push(accepted(session, &release.name, document).await?);
    }
    let found = session.release(&release.name).await.map(Some).or_else(|error| match error {
        ApiError::NotFound(_) => Ok(None),
        error => Err(error),
    })?;
    let under_way = found
        .as_ref()
        .and_then(|found| found.status.as_ref())
        .filter(|status| status.engine.as_ref().is_some_and(|engine| !engine.is_over()));
    if let Some(status) = under_way {
        let hint = "what is shown begins where things are now; the release under way is taken back first";
        checks.push(check("under way", CheckStatus::Warn, format!("run {} is under way: {}", status.run, status.reason), Some(hint)));
    }
    let mut object = found.unwrap_or_else(|| empty(session, &release.name));
    object.metadata.namespace.get_or_insert_with(|| session.namespace.clone());
    let place = Place::of(release);
    let (pair, unread) = look::pair(&session.client, &object, &place).await?;
    if let Some(error) = unread {
        let hint = "with `get` on the ConfigMaps of the namespace, what pods read is a part of the plan";
        checks.push(check("configuration", CheckStatus::Warn, error.to_string(), Some(hint)));
    }
    let mut draft = Draft::default();
    let routes = place.traffic.namespace.clone().unwrap_or_else(|| session.namespace.clone());
    let lens = lens_of(&place.traffic, &routes);
    let objects = read(session, &place, pair.names(), (lens.as_ref(), &routes), &mut draft, &mut checks).await?;
    versions(&pair, &mut checks).await;
    if let (ClusterRouter::Replicas { max, .. }, Some(stable)) = (&place.traffic.router, pair.stable()) {
        let weights: Vec<WeightBps> = release.plan.steps.iter().map(serin_core::plan::Step::weight).collect();
        let most = max.and_then(|max| i32::try_from(max).ok()).unwrap_or(stable.wanted);
        checks.push(shares(&weights, stable.wanted, most));
    }
    let stable_replicas = pair.stable().and_then(|stable| usize::try_from(stable.wanted).ok()).unwrap_or(0);
    services(session, &place, &mut checks).await?;
    let mut planned =
        ClusterPlan { namespace: session.namespace.clone(), checks, steps: Vec::new(), rollback: Vec::new(), stable_replicas };
    if let Some(objects) = objects {
        let replicas =
            Replicas::read(session, (&pair, &place, object.uid(), &release.plan), objects.canary, &mut draft, &mut planned.checks).await?;
        let route = draft.current(objects.route).clone();
        let drawing = Drawing { release, object: &object, pair: &pair, objects, lens: lens.as_ref(), replicas, route };
        let ours = match changes(&pair).await {
            Ok(ours) => ours,
            Err(error) => {
                planned.checks.push(check("workload", CheckStatus::Fail, error.to_string(), None));
                return Ok(planned);
            }
        };
        if let Err(error) = drawing.steps(&ours, &mut draft, &mut planned).await {
            planned.checks.push(check("router", CheckStatus::Fail, error.to_string(), Some(&lens.hint())));
        }
    }
    Ok(planned)
}

/// The objects of a draft.
#[derive(Clone, Copy)]
struct Objects {
    stable: usize,
    canary: usize,
    route: usize,
    /// The canary's Service, where Serin makes it.
    service: Option<usize>,
}

/// What is done to the workload before the canary has replicas, as merge patches.
struct Changes {
    /// Takes on a Deployment that is released in place.
    stable: Option<Value>,
    canary: Value,
    service: Option<Value>,
}

struct Drawing<'a> {
    release: &'a ClusterRelease,
    object: &'a Release,
    pair: &'a Pair,
    objects: Objects,
    lens: &'a dyn Lens,
    replicas: Replicas,
    /// The router's object as it is.
    route: Value,
}

impl Drawing<'_> {
    async fn steps(&self, ours: &Changes, draft: &mut Draft, planned: &mut ClusterPlan) -> Result<(), LensError> {
        let plan = &self.release.plan;
        self.router(draft, &mut planned.checks)?;
        let is_managed = self.pair.is_managed();
        let mut order = 0;
        let taken = ours.stable.as_ref().and_then(|patch| draft.draw(self.objects.stable, patch));
        let served = self.objects.service.zip(ours.service.as_ref()).and_then(|(service, made)| draft.draw(service, made));
        let held = self.replicas.held(draft);
        let up = draft.draw(self.objects.canary, &merged(&ours.canary, &self.replicas.begun(draft)));
        push(planned, draft, Kind::Deploy, vec![taken, served, held, up]).await;
        for (place, step) in plan.steps.iter().enumerate() {
            order += 1;
            let matches = !step.weight().is_zero() || step.weights.values().all(|weight| weight.is_zero());
            let shift = self.shift(draft, step.weight(), matches, Decision { order, ..self.note() })?;
            let drawn = vec![self.replicas.grown(draft, step.weight()), draft.put(self.objects.route, shift)];
            push(planned, draft, Kind::Stage(place), drawn).await;
        }
        // From the last stage: a branch of its own, drawn and then undone.
        let before = draft.clone();
        let back = self.shift(draft, WeightBps::ZERO, false, Decision { order: order + 1, retreated: true, done: true, ..self.note() })?;
        for drawn in [draft.put(self.objects.route, back), self.replicas.stopped(draft), self.replicas.let_go(draft)].into_iter().flatten()
        {
            planned.rollback.push(draft.tried(drawn).await);
        }
        *draft = before;
        let all = self.shift(draft, WeightBps::FULL, false, Decision { order: order + 1, ..self.note() })?;
        let drawn = vec![self.replicas.grown(draft, WeightBps::FULL), draft.put(self.objects.route, all)];
        push(planned, draft, Kind::Promote, drawn).await;
        let judged = template(draft.current(self.objects.canary));
        let old = template(draft.current(self.objects.stable));
        let made = promoted(&judged, &old, self.pair.arm_labels());
        let mut becomes = json!({"spec": {"template": merge_patch(&old, &made)}});
        if is_managed && let Some(spec) = becomes.pointer_mut("/spec").and_then(Value::as_object_mut) {
            // The controller writes `false`, which the server leaves out.
            spec.insert("paused".to_owned(), Value::Null);
        }
        let over =
            self.shift(draft, WeightBps::ZERO, false, Decision { order: order + 2, handed_over: true, done: true, ..self.note() })?;
        let resumed = draft.draw(self.objects.stable, &becomes);
        let paused = if is_managed { draft.draw(self.objects.stable, &json!({"spec": {"paused": true}})) } else { None };
        let over = draft.put(self.objects.route, over);
        let drawn = vec![resumed, paused, over, self.replicas.stopped(draft), self.replicas.let_go(draft)];
        push(planned, draft, Kind::Retire, drawn).await;
        Ok(())
    }

    /// Whether the router's object can be used, as the controller asks before it begins.
    fn router(&self, draft: &Draft, checks: &mut Vec<Check>) -> Result<(), LensError> {
        let object = draft.current(self.objects.route);
        self.lens.check(object)?;
        let seen = self.lens.seen(object)?;
        let note = Decision::read(object.pointer("/metadata/annotations").and_then(|all| all.get(DECISION)).and_then(Value::as_str));
        let (status, detail, hint) = match note.filter(|note| !note.done) {
            Some(note) if note.release != self.object.uid() => (
                CheckStatus::Fail,
                format!("its weights are those of the release {}", note.name),
                Some("wait for its end, or give this release an object of its own"),
            ),
            None if !seen.weight.is_zero() => (
                CheckStatus::Fail,
                format!("it gives the canary {} before the release has begun", seen.weight),
                Some("give the canary nothing; the release gives it its share"),
            ),
            _ => (CheckStatus::Pass, "it can be used, and belongs to nobody else".to_owned(), None),
        };
        checks.push(check("router", status, detail, hint));
        Ok(())
    }

    /// The router's object with this share and the note that says whose it is.
    fn shift(&self, draft: &Draft, weight: WeightBps, matches: bool, note: Decision) -> Result<Value, LensError> {
        let mut after = self.lens.shifted(draft.current(self.objects.route), weight, matches)?;
        let mut added = self.lens.added(&self.route, &after);
        if note.done {
            after = self.lens.without(&after, &std::mem::take(&mut added));
        }
        let note = Decision { weight: weight.canary_bps(), matches, added, ..note };
        Ok(merged(&after, &json!({"metadata": {"annotations": {DECISION: note.text()}}})))
    }

    fn note(&self) -> Decision {
        let status = self.object.status.as_ref();
        Decision {
            release: self.object.uid().to_owned(),
            name: format!("{}/{}", self.object.namespace(), self.release.name),
            run: status.map_or(0, |status| status.run) + 1,
            epoch: 0,
            order: 0,
            weight: 0,
            matches: false,
            retreated: false,
            handed_over: false,
            done: false,
            added: Vec::new(),
        }
    }
}

async fn push(planned: &mut ClusterPlan, draft: &Draft, kind: Kind, drawn: Vec<Option<draft::Drawn>>) {
    let mut changes = Vec::new();
    for drawn in drawn.into_iter().flatten() {
        changes.push(draft.tried(drawn).await);
    }
    planned.steps.push(Step { kind, changes });
}

/// The objects that a release changes; `None`, and a check that says so, if one is missing.
async fn read(
    session: &Session,
    place: &Place,
    names: &Names,
    (lens, routes): (&dyn Lens, &str),
    draft: &mut Draft,
    checks: &mut Vec<Check>,
) -> Result<Option<Objects>, ApiError> {
    let (stable, canary) = (names.place(Arm::Stable), names.place(Arm::Canary));
    let mut found = Vec::new();
    for (resource, namespace, name) in [
        (workloads(names.kind(Arm::Stable)), stable.0, stable.1),
        (workloads(names.kind(Arm::Canary)), canary.0, canary.1),
        (lens.resource(), routes, lens.name()),
    ] {
        match draft.read(&session.client, &resource, namespace, name).await? {
            Some(index) => found.push(index),
            None if place.workload.is_managed && name == place.workload.canary && resource.kind == "Deployment" => {
                found.push(draft.absent(&session.client, &resource, namespace, name));
            }
            None => {
                let hint = Some("create it, or correct its name in the document");
                checks.push(check("objects", CheckStatus::Fail, format!("there is no {} {namespace}/{name}", resource.kind), hint));
            }
        }
    }
    let [stable, canary, route] = found[..] else { return Ok(None) };
    let service = match place.traffic.services().filter(|_| place.workload.is_managed) {
        Some([_, (elsewhere, name)]) => {
            let namespace = elsewhere.as_deref().unwrap_or(&session.namespace);
            let resource = ApiResource::erase::<Service>(&());
            let is_there = draft.read(&session.client, &resource, namespace, &name).await?.is_some();
            (!is_there).then(|| draft.absent(&session.client, &resource, namespace, &name))
        }
        None => None,
    };
    Ok(Some(Objects { stable, canary, route, service }))
}

/// What the controller does to the workload first.
async fn changes(pair: &Pair) -> Result<Changes, PairError> {
    if !pair.is_managed() {
        // Whoever may not read what pods read plans without it, and was told so.
        return Ok(Changes { stable: None, canary: pair.would_mark().unwrap_or_else(|_| json!({})), service: None });
    }
    let (canary, service) = pair.would_make()?;
    Ok(Changes { stable: pair.would_adopt().await?, canary, service })
}

fn empty(session: &Session, name: &str) -> Release {
    let mut release = Release {
        api_version: String::new(),
        kind: String::new(),
        metadata: kube::core::ObjectMeta::default(),
        spec: Value::Null,
        status: None,
    };
    (release.metadata.name, release.metadata.namespace) = (Some(name.to_owned()), Some(session.namespace.clone()));
    release
}

fn template(deployment: &Value) -> Value {
    deployment.pointer("/spec/template").cloned().unwrap_or_default()
}
