//! Objects of any kind as JSON, by `apiVersion`, kind and name.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::{Client, error::Status};
use serde_json::Value;

/// How long one answer may take: longer than the API server is frozen in tests.
const ANSWER: Duration = Duration::from_secs(60);

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The API server refused it.
    #[error("{what}: {} {}: {}", .status.code, .status.reason, .status.message)]
    Refused {
        /// What was asked.
        what: String,
        /// The answer.
        status: Box<Status>,
    },
    /// There was no answer.
    #[error("{what}: {why}")]
    Failed {
        /// What was asked.
        what: String,
        /// What happened.
        why: String,
    },
}

impl ObjectError {
    /// The HTTP status; 0 without an answer.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Refused { status, .. } => status.code,
            Self::Failed { .. } => 0,
        }
    }
}

/// Where objects of one kind are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) plural: String,
    pub(super) is_namespaced: bool,
}

/// Asks as one user.
#[derive(Clone)]
pub(super) struct Objects {
    client: Client,
    known: std::sync::Arc<Mutex<BTreeMap<(String, String), Place>>>,
}

impl Objects {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: std::sync::Arc::default() }
    }

    pub(super) async fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Value, ObjectError> {
        let path = self.path(api_version, kind, namespace, name).await?;
        self.send("GET", &path, "", &Value::Null).await
    }

    pub(super) async fn list(&self, api_version: &str, kind: &str, namespace: &str) -> Result<Vec<Value>, ObjectError> {
        let path = self.path(api_version, kind, namespace, "").await?;
        let mut list = self.send("GET", &path, "", &Value::Null).await?;
        let Value::Array(mut items) = list["items"].take() else { return Ok(Vec::new()) };
        // Lists leave these out of their items.
        for item in &mut items {
            item["apiVersion"] = api_version.into();
            item["kind"] = kind.into();
        }
        Ok(items)
    }

    /// Server-side apply, taking over what others own.
    pub(super) async fn apply(&self, object: &Value, manager: &str) -> Result<Value, ObjectError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let path = self.path(text("/apiVersion"), text("/kind"), text("/metadata/namespace"), text("/metadata/name")).await?;
        let path = format!("{path}?fieldManager={manager}&force=true&fieldValidation=Strict");
        self.send("PATCH", &path, "application/apply-patch+yaml", object).await
    }

    pub(super) async fn merge(
        &self,
        (api_version, kind): (&str, &str),
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, ObjectError> {
        // `pods/status` as a kind: the status subresource.
        let (kind, subresource) = kind.split_once('/').map_or((kind, String::new()), |(kind, sub)| (kind, format!("/{sub}")));
        let path = self.path(api_version, kind, namespace, name).await?;
        self.send("PATCH", &format!("{path}{subresource}"), "application/merge-patch+json", patch).await
    }

    pub(super) async fn delete(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        options: &Value,
    ) -> Result<Value, ObjectError> {
        let path = self.path(api_version, kind, namespace, name).await?;
        self.send("DELETE", &path, "application/json", options).await
    }

    /// Any request; a body of null is none.
    pub(super) async fn send(&self, method: &str, path: &str, content_type: &str, body: &Value) -> Result<Value, ObjectError> {
        let what = format!("{method} {path}");
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let mut request = http::Request::builder().method(method).uri(path).header("accept", "application/json");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let failed = |why: String| ObjectError::Failed { what: what.clone(), why };
        let request = request.body(bytes).map_err(|error| failed(error.to_string()))?;
        match tokio::time::timeout(ANSWER, self.client.request::<Value>(request)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(kube::Error::Api(status))) => Err(ObjectError::Refused { what, status }),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer in {} s", ANSWER.as_secs()))),
        }
    }

    /// The path of an object, or of all objects if the name is empty. An empty namespace means `default` for an object and all for a list.
    pub(super) async fn path(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<String, ObjectError> {
        let place = self.place(api_version, kind).await?;
        let root = if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") };
        let namespace = match (namespace, name) {
            _ if !place.is_namespaced => String::new(),
            ("", "") => String::new(),
            ("", _) => "/namespaces/default".to_owned(),
            (namespace, _) => format!("/namespaces/{namespace}"),
        };
        let name = if name.is_empty() { String::new() } else { format!("/{name}") };
        Ok(format!("{root}{namespace}/{}{name}", place.plural))
    }

    /// Asks once per kind. A kind that is not there is asked for again each time: it may be created.
    async fn place(&self, api_version: &str, kind: &str) -> Result<Place, ObjectError> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(place) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(place.clone());
        }
        let root = if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") };
        let list = self.send("GET", &root, "", &Value::Null).await?;
        let resources = list["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found =
            resources.iter().find(|resource| resource["kind"] == kind && resource["name"].as_str().is_some_and(|name| !name.contains('/')));
        let Some(found) = found else {
            let status = Status {
                code: 404,
                reason: "NotFound".to_owned(),
                message: format!("no kind {kind} in {api_version}"),
                ..Status::default()
            };
            return Err(ObjectError::Refused { what: format!("GET {root}"), status: Box::new(status) });
        };
        let place = Place { plural: found["name"].as_str().unwrap_or_default().to_owned(), is_namespaced: found["namespaced"] == true };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, place.clone());
        Ok(place)
    }
}
