//! A copy of all objects of one kind, kept current by list and watch.
//!
//! A watch that ends or fails is begun anew with a list, after a short pause: the API server is frozen and restarted on purpose here,
//! and the testbed should notice at once when it is back. A kind that does not exist is an empty list until it does.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use kube::{
    Client,
    api::{DynamicObject, WatchEvent},
};
use serde_json::Value;
use tokio::sync::watch;

/// Between a failure and the next list.
const PAUSE: Duration = Duration::from_millis(150);
/// After that the server ends a watch in order; shorter than a pooled connection may hang unnoticed.
const WATCH_SECONDS: u32 = 60;
/// Longer than the server may take for it.
const WATCH_LIMIT: Duration = Duration::from_secs(75);
const LIST_LIMIT: Duration = Duration::from_secs(10);

/// Objects by namespace and name.
pub(super) type ByName = BTreeMap<(String, String), Arc<Value>>;

/// See the module. It ends with its runtime.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    objects: Arc<Mutex<ByName>>,
    changes: Arc<watch::Sender<u64>>,
}

impl Mirror {
    /// Begins to follow a collection by its path (`/api/v1/pods`); `changes` is counted up with each change.
    pub(super) fn follow(client: Client, path: &'static str, changes: Arc<watch::Sender<u64>>) -> Self {
        let mirror = Self { objects: Arc::default(), changes };
        let follower = mirror.clone();
        tokio::spawn(async move {
            loop {
                // Why it ended does not matter: what is true is listed again.
                let _ = follower.round(&client, path).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        mirror
    }

    /// The objects as they are now.
    pub(super) fn all(&self) -> ByName {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn round(&self, client: &Client, path: &str) -> Result<(), kube::Error> {
        let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        let Ok(listed) = tokio::time::timeout(LIST_LIMIT, client.request::<Value>(request)).await else { return Ok(()) };
        let mut list = match listed {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                // Asked for again and again: that is no change.
                if !self.all().is_empty() {
                    self.replace(ByName::new());
                }
                return Ok(());
            }
            other => other?,
        };
        let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("0").to_owned();
        let items = if let Value::Array(items) = list["items"].take() { items } else { Vec::new() };
        self.replace(items.into_iter().map(|item| (key(&item), Arc::new(item))).collect());

        let watch = format!("{path}?watch=1&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}");
        let request = http::Request::get(watch).body(Vec::new()).map_err(kube::Error::HttpError)?;
        let follow = async {
            let mut events = pin!(client.request_events::<DynamicObject>(request).await?);
            while let Some(event) = events.next().await {
                match event? {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        let object = serde_json::to_value(object).unwrap_or_default();
                        self.change(|objects| objects.insert(key(&object), Arc::new(object)));
                    }
                    WatchEvent::Deleted(object) => {
                        let object = serde_json::to_value(object).unwrap_or_default();
                        self.change(|objects| objects.remove(&key(&object)));
                    }
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(_) => break,
                }
            }
            Ok(())
        };
        tokio::time::timeout(WATCH_LIMIT, follow).await.unwrap_or(Ok(()))
    }

    fn replace(&self, objects: ByName) {
        self.change(|old| *old = objects);
    }

    fn change<T>(&self, change: impl FnOnce(&mut ByName) -> T) {
        change(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_modify(|count| *count += 1);
    }
}

fn key(object: &Value) -> (String, String) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/metadata/namespace"), text("/metadata/name"))
}
