//! A copy of objects that keeps itself up to date.
//!
//! Each kind has a stream of its own with a back-off of its own: one kind that cannot be read holds up no other. A stream ends by itself after
//! a little more than three minutes at the latest, so that a connection that hangs silently is noticed, and the age of the last sign of life can be asked for.
//! A gap in the events (`410 Gone`) leads to a new list; every other break goes on where it was.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, pin_mut};
use kube::{
    Api, Resource,
    api::{ListParams, WatchParams},
    core::WatchEvent,
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::api::{ApiError, within};

/// How long the server may keep one stream open, in seconds.
const STREAM_FOR_S: u32 = 180;
/// How long this side waits for it at most: a server that does not keep to its own limit is gone.
const STREAM_FOR: Duration = Duration::from_secs(195);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// Objects in one answer to a list.
const PAGE: u32 = 500;

/// Namespace and name.
pub type Key = (String, String);

/// The objects of one kind.
#[derive(Debug)]
pub struct Watched<K> {
    objects: RwLock<HashMap<Key, Arc<K>>>,
    version: watch::Sender<u64>,
    began: Instant,
    /// Milliseconds from `began` to the last sign of life, plus one; 0 before the first list.
    alive: AtomicU64,
}

/// Stops its stream when it is dropped.
#[derive(Debug)]
pub struct WatchTask(JoinHandle<()>);

impl Drop for WatchTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<K> Watched<K> {
    fn new() -> Self {
        Self { objects: RwLock::default(), version: watch::channel(0).0, began: Instant::now(), alive: AtomicU64::new(0) }
    }

    /// Objects that are never changed.
    #[cfg(test)]
    pub(crate) fn fixed(objects: impl IntoIterator<Item = K>) -> Arc<Self>
    where
        K: Resource,
    {
        let watched = Self::new();
        watched.change(|known| known.extend(objects.into_iter().map(|object| (key(&object), Arc::new(object)))));
        Arc::new(watched)
    }

    /// Before the first list.
    #[cfg(test)]
    pub(crate) fn unlisted() -> Arc<Self> {
        Arc::new(Self::new())
    }

    /// The object, if there is one.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Every object, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Changes whenever an object does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Age of the last sign of life; `None` before the first list.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        match self.alive.load(Ordering::Relaxed) {
            0 => None,
            alive => Some(self.began.elapsed().saturating_sub(Duration::from_millis(alive - 1))),
        }
    }

    /// Returns once the objects have been listed.
    pub async fn synced(&self) {
        let mut changes = self.version.subscribe();
        while self.silent_for().is_none() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn sign_of_life(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.alive.store(ms + 1, Ordering::Relaxed);
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Key, Arc<K>>)) {
        change(&mut self.objects.write().unwrap_or_else(PoisonError::into_inner));
        self.sign_of_life();
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }
}

/// Begins to watch. `labels`: a selector, if not everything is wanted.
pub fn watch_all<K>(api: Api<K>, labels: Option<String>) -> (Arc<Watched<K>>, WatchTask)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let watched = Arc::new(Watched::new());
    let task = tokio::spawn(run(api, labels, Arc::clone(&watched)));
    (watched, WatchTask(task))
}

async fn run<K>(api: Api<K>, labels: Option<String>, watched: Arc<Watched<K>>)
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut retry = FIRST_RETRY;
    let mut version: Option<String> = None;
    loop {
        let outcome = match version.take() {
            None => list(&api, labels.as_deref(), &watched).await.map(Some).map_err(|error| error.to_string()),
            Some(from) => follow(&api, labels.as_deref(), &watched, from).await,
        };
        match outcome {
            Ok(next) => {
                version = next;
                retry = FIRST_RETRY;
            }
            Err(error) => {
                tracing::warn!(url = api.resource_url(), %error, "the watch broke, trying again");
                sleep(retry.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

/// Replaces everything by what there is. Returns the version that the list is of.
async fn list<K>(api: &Api<K>, labels: Option<&str>, watched: &Watched<K>) -> Result<String, ApiError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut found = HashMap::new();
    let mut next = None;
    loop {
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = labels.map(str::to_owned);
        params.continue_token = next.take();
        let page = within(&format!("list {}", api.resource_url()), api.list(&params)).await?;
        found.extend(page.items.into_iter().map(|object| (key(&object), Arc::new(trimmed(object)))));
        next = page.metadata.continue_.filter(|token| !token.is_empty());
        if next.is_none() {
            watched.change(|objects| *objects = found);
            return Ok(page.metadata.resource_version.unwrap_or_default());
        }
    }
}

/// Follows the events until the stream ends. Returns where to go on; `None`: a new list is needed.
async fn follow<K>(api: &Api<K>, labels: Option<&str>, watched: &Watched<K>, mut version: String) -> Result<Option<String>, String>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut params = WatchParams::default().timeout(STREAM_FOR_S);
    params.label_selector = labels.map(str::to_owned);
    let stream = match within(&format!("watch {}", api.resource_url()), api.watch(&params, &version)).await {
        Ok(stream) => stream,
        // Too old, or a server that wants something else: a list is always right.
        Err(ApiError::Invalid(..)) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    watched.sign_of_life();
    let end = Instant::now() + STREAM_FOR;
    pin_mut!(stream);
    loop {
        let event = match timeout(end.saturating_duration_since(Instant::now()), stream.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(Some(version)),
            Err(_) => return Err("the stream did not end when it should have".to_owned()),
        };
        match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                version = object.meta().resource_version.clone().unwrap_or(version);
                watched.change(|objects| drop(objects.insert(key(&object), Arc::new(trimmed(object)))));
            }
            Ok(WatchEvent::Deleted(object)) => {
                version = object.meta().resource_version.clone().unwrap_or(version);
                watched.change(|objects| drop(objects.remove(&key(&object))));
            }
            Ok(WatchEvent::Bookmark(bookmark)) => {
                version = bookmark.metadata.resource_version;
                watched.sign_of_life();
            }
            Ok(WatchEvent::Error(status)) if status.code == 410 => return Ok(None),
            Ok(WatchEvent::Error(status)) => return Err(format!("{} {}", status.code, status.message)),
            // The connection broke in the middle: what was seen is known, what was not comes again.
            Err(error) => {
                tracing::debug!(url = api.resource_url(), %error, "the stream broke");
                return Ok(Some(version));
            }
        }
    }
}

fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Without what nobody here reads and what is often most of an object.
fn trimmed<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}
