//! A draft of changes to objects: each is drawn on what the ones before have left, and the server tries the whole on the object as it is.
//!
//! Nothing is changed: every request says `dryRun=All`. What a webhook or a default of the server would make of a change is so found before
//! the release, and so is a change that it would refuse.

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams, TypeMeta},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::diff::{Field, fields};
use crate::api::{ApiError, FIELD_MANAGER, merge_patch, merged, within};

/// An object that changes are drawn on.
#[derive(Clone)]
pub(super) struct Object {
    api: Api<DynamicObject>,
    /// Kind, namespace and name.
    pub(super) called: String,
    name: String,
    live: Value,
    current: Value,
    /// It is not there, and would be created.
    is_new: bool,
}

/// What a step changes on one object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Kind, namespace and name.
    pub object: String,
    /// What changes from the step before to this one.
    pub fields: Vec<Field>,
    /// What the server says to it.
    pub server: Tried,
}

/// What the server said to a change, without making it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tried {
    /// It would do exactly that.
    Accepts,
    /// It would do it, and change these fields beside: by defaults, or by what somebody has installed.
    Changes(Vec<Field>),
    /// It would refuse.
    Refuses(String),
    /// It could not be asked: no permission, or no answer.
    Unknown(String),
}

/// A change that was not tried yet.
pub(super) struct Drawn {
    index: usize,
    fields: Vec<Field>,
    after: Value,
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Draft(Vec<Object>);

impl Draft {
    /// Reads an object; `None` if there is none.
    pub(super) async fn read(
        &mut self,
        client: &Client,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<usize>, ApiError> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let found = within(&format!("get {} {namespace}/{name}", resource.kind), api.get_opt(name)).await?;
        Ok(found.map(|found| self.take(client, resource, namespace, found)))
    }

    /// An object that was read already.
    pub(super) fn take(&mut self, client: &Client, resource: &ApiResource, namespace: &str, mut found: DynamicObject) -> usize {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let name = found.metadata.name.clone().unwrap_or_default();
        let called = format!("{} {namespace}/{name}", resource.kind);
        found.metadata.managed_fields = None;
        // What comes from a list does not say what it is, and the server's answer to a change does.
        found.types.get_or_insert_with(|| TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() });
        let live = serde_json::to_value(&found).unwrap_or_default();
        self.0.push(Object { api, called, name, current: live.clone(), live, is_new: false });
        self.0.len() - 1
    }

    /// An object that is not there, and that a change makes.
    pub(super) fn absent(&mut self, client: &Client, resource: &ApiResource, namespace: &str, name: &str) -> usize {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let called = format!("{} {namespace}/{name} (new)", resource.kind);
        let none = json!({"metadata": {"namespace": namespace}});
        self.0.push(Object { api, called, name: name.to_owned(), current: none.clone(), live: none, is_new: true });
        self.0.len() - 1
    }

    /// The object as the changes so far leave it.
    pub(super) fn current(&self, index: usize) -> &Value {
        &self.0[index].current
    }

    /// Draws a merge patch; `None` if nothing changes.
    pub(super) fn draw(&mut self, index: usize, patch: &Value) -> Option<Drawn> {
        let after = merged(&self.0[index].current, patch);
        self.put(index, after)
    }

    /// Draws the object as it is to be; `None` if nothing changes.
    pub(super) fn put(&mut self, index: usize, after: Value) -> Option<Drawn> {
        let object = &mut self.0[index];
        let fields = fields(&object.current, &after);
        object.current.clone_from(&after);
        (!fields.is_empty()).then_some(Drawn { index, fields, after })
    }

    /// Lets the server try the object as it would be then.
    pub(super) async fn tried(&self, drawn: Drawn) -> Change {
        let object = &self.0[drawn.index];
        let answer = if object.is_new { object.create(&drawn.after).await } else { object.patch(&drawn.after).await };
        let server = match answer {
            Ok(made) => {
                let made = serde_json::to_value(&made).unwrap_or_default();
                let mut beside = fields(&ours(&drawn.after), &ours(&made));
                // What is new gets defaults for all that nobody said.
                beside.retain(|field| !object.is_new || field.before.is_some() || !field.path.starts_with("spec"));
                if beside.is_empty() { Tried::Accepts } else { Tried::Changes(beside) }
            }
            Err(ApiError::Invalid(_, why)) => Tried::Refuses(why),
            Err(ApiError::Forbidden(what, why)) => Tried::Unknown(format!("{what}: not allowed: {why}")),
            Err(error) => Tried::Unknown(error.to_string()),
        };
        Change { object: object.called.clone(), fields: drawn.fields, server }
    }
}

impl Object {
    async fn patch(&self, after: &Value) -> Result<DynamicObject, ApiError> {
        let patch = merge_patch(&self.live, after);
        let params = PatchParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        within(&format!("try a patch of {}", self.called), self.api.patch(&self.name, &params, &Patch::Merge(patch))).await
    }

    async fn create(&self, after: &Value) -> Result<DynamicObject, ApiError> {
        let what = format!("try to create {}", self.called);
        let object = serde_json::from_value(after.clone()).map_err(|error| ApiError::Invalid(what.clone(), error.to_string()))?;
        let params = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
        within(&what, self.api.create(&params, &object)).await
    }
}

/// What a change is about: without the server's own book-keeping.
fn ours(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        // The server leaves out what is empty.
        metadata.retain(|name, value| {
            matches!(name.as_str(), "annotations" | "labels" | "name" | "namespace" | "finalizers" | "ownerReferences")
                && !value.as_object().is_some_and(Map::is_empty)
                && !value.as_array().is_some_and(Vec::is_empty)
        });
    }
    object
}
