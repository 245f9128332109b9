//! Secrets of sources: keys of Secrets beside the release.
//!
//! The controller has no rights on Secrets. Whoever wants one used binds a Role that lets the controller `get` that one by its name, and so says
//! that documents of this namespace may send it to the sources that they name. A value is kept for half a minute, so that a question costs no
//! call each, and a new one counts soon.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret as Object;
use kube::{Api, Client};
use serin_core::traffic::{Gap, GapKind};
use serin_engine::{Pending, source::Keyring};
use serin_spec::validated::Secret;

use crate::api::{ApiError, within};

const KEPT_FOR: Duration = Duration::from_secs(30);

/// Since when, by Secret and key.
type Known = HashMap<(String, String), (Instant, Vec<u8>)>;

/// See the module.
pub(super) struct ClusterKeys {
    api: Api<Object>,
    namespace: String,
    known: Mutex<Known>,
}

impl ClusterKeys {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.to_owned(), known: Mutex::default() }
    }

    async fn value(&self, name: &str, key: &str) -> Result<Vec<u8>, Gap> {
        let at = (name.to_owned(), key.to_owned());
        let kept = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&at).cloned();
        if let Some((since, value)) = kept
            && since.elapsed() < KEPT_FOR
        {
            return Ok(value);
        }
        let called = format!("the Secret {}/{name}", self.namespace);
        let found = within(&format!("get {called}"), self.api.get(name)).await.map_err(|error| match error {
            ApiError::NotFound(_) => gap(format!("{called} is not there")),
            ApiError::Forbidden(..) => gap(format!("the controller may not get {called}: bind a Role that names it (`resourceNames`)")),
            error => gap(error.to_string()),
        })?;
        let mut value = found.data.unwrap_or_default().remove(key).ok_or_else(|| gap(format!("{called} has no key {key}")))?.0;
        for end in [b'\n', b'\r'] {
            if value.last() == Some(&end) {
                value.pop();
            }
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(at, (Instant::now(), value.clone()));
        Ok(value)
    }
}

impl Keyring for ClusterKeys {
    fn read<'a>(&'a self, secret: &'a Secret) -> Pending<'a, Result<Vec<u8>, Gap>> {
        Box::pin(async move {
            match secret {
                Secret::Key { name, key } => self.value(name, key).await,
                // Refused with the document.
                Secret::Env(_) | Secret::File(_) => Err(gap("variables and files of the controller are its own".to_owned())),
            }
        })
    }
}

fn gap(text: String) -> Gap {
    Gap { kind: GapKind::Secret, text }
}
