//! A copy of objects that keeps itself up to date.
//!
//! Each kind has a stream of its own with a back-off of its own: one kind that cannot be read holds up no other. A stream ends by itself after
//! a little more than three minutes at the latest, so that a connection that hangs silently is noticed, and the age of the last sign of life can be asked for.
//! A gap in the events (`410 Gone`) leads to a new list; every other break goes on where it was.
//!
//! What breaks is tried again after a pause that doubles up to ten seconds. Only an event makes it short again: a server that takes every
//! request and ends every stream at once, or whose lists are always too old for its streams, is asked no more often than one that refuses.

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

use crate::api::{ApiError, calls::watch_broke, within};

/// How long the server may keep one stream open, in seconds.
const STREAM_FOR_S: u32 = 180;
/// How long this side waits for it at most: a server that does not keep to its own limit is gone.
pub(crate) const STREAM_FOR: Duration = Duration::from_secs(195);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// Objects in one answer to a list. An answer is in memory twice and more while it is read, and what was used once is seldom given back.
const PAGE: u32 = 50;
/// A second copy of the whole object, which nobody here reads.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

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
    /// Milliseconds from `began` to the last attempt.
    turned: AtomicU64,
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
        Self {
            objects: RwLock::default(),
            version: watch::channel(0).0,
            began: Instant::now(),
            alive: AtomicU64::new(0),
            turned: AtomicU64::new(0),
        }
    }

    /// What was read once, and is not followed.
    pub(crate) fn of(found: Vec<K>) -> Self
    where
        K: Resource,
    {
        let watched = Self::new();
        watched.change(|objects| objects.extend(found.into_iter().map(|object| (key(&object), Arc::new(object)))));
        watched
    }

    /// What nobody could list.
    pub(crate) fn unlisted() -> Self {
        Self::new()
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

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    /// How long ago this side last tried something, or had an answer. A server that is away makes this no older: it is asked again and again.
    #[must_use]
    pub fn idle_for(&self) -> Duration {
        let last = self.turned.load(Ordering::Relaxed).max(self.alive.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(Duration::from_millis(last))
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
        self.alive.store(self.now_ms() + 1, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Key, Arc<K>>)) {
        change(&mut self.objects.write().unwrap_or_else(PoisonError::into_inner));
        self.sign_of_life();
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }
}

/// Which objects of a kind are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// Those with labels, as a selector.
    Labels(String),
    /// The one of this name.
    Name(String),
}

impl Selection {
    fn labels(&self) -> Option<String> {
        match self {
            Self::Labels(labels) => Some(labels.clone()),
            Self::All | Self::Name(_) => None,
        }
    }

    fn fields(&self) -> Option<String> {
        match self {
            Self::Name(name) => Some(format!("metadata.name={name}")),
            Self::All | Self::Labels(_) => None,
        }
    }
}

/// Begins to watch.
pub fn watch_all<K>(api: Api<K>, selection: Selection) -> (Arc<Watched<K>>, WatchTask)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let watched = Arc::new(Watched::new());
    let task = tokio::spawn(run(api, selection, Arc::clone(&watched)));
    (watched, WatchTask(task))
}

async fn run<K>(api: Api<K>, selection: Selection, watched: Arc<Watched<K>>)
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut backoff = Backoff::default();
    let mut version: Option<String> = None;
    loop {
        watched.turned.store(watched.now_ms(), Ordering::Relaxed);
        let broken = match version.take() {
            None => match list(&api, &selection, &watched).await {
                Ok(listed) => {
                    version = Some(listed);
                    None
                }
                Err(error) => Some(error.to_string()),
            },
            Some(from) => {
                let Followed { next, is_lively, broken } = follow(&api, &selection, &watched, from).await;
                version = next;
                if is_lively {
                    backoff.reset();
                }
                // Streams end after some minutes, quiet ones too. One that ends at once and said nothing is as good as broken.
                broken.or_else(|| (!is_lively).then(|| "the stream ended without an event".to_owned()))
            }
        };
        if let Some(why) = broken {
            let pause = backoff.pause();
            watch_broke(api.resource_url());
            tracing::warn!(url = api.resource_url(), why, ?pause, "the watch broke, trying again");
            sleep(pause).await;
        }
    }
}

/// Pauses between attempts.
#[derive(Debug)]
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_RETRY)
    }
}

impl Backoff {
    /// The pause before the next attempt: between half of it and all of it, so that not all kinds and controllers come back together.
    fn pause(&mut self) -> Duration {
        let pause = self.0.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        self.0 = (self.0 * 2).min(LONGEST_RETRY);
        pause
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// How a stream ended.
#[derive(Debug)]
struct Followed {
    /// Where to go on; `None`: a new list is needed.
    next: Option<String>,
    /// It brought an event, or lasted as long as quiet ones do.
    is_lively: bool,
    /// Why it ended before its time.
    broken: Option<String>,
}

/// Replaces everything by what there is. Returns the version that the list is of.
async fn list<K>(api: &Api<K>, selection: &Selection, watched: &Watched<K>) -> Result<String, ApiError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut found = HashMap::new();
    let mut next = None;
    loop {
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = selection.labels();
        params.field_selector = selection.fields();
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

/// Follows the events until the stream ends.
async fn follow<K>(api: &Api<K>, selection: &Selection, watched: &Watched<K>, version: String) -> Followed
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut params = WatchParams::default().timeout(STREAM_FOR_S);
    params.label_selector = selection.labels();
    params.field_selector = selection.fields();
    let mut followed = Followed { next: Some(version.clone()), is_lively: false, broken: None };
    let stream = match within(&format!("watch {}", api.resource_url()), api.watch(&params, &version)).await {
        Ok(stream) => stream,
        Err(error) => {
            // Too old, or a server that wants something else: a list is always right.
            if matches!(error, ApiError::Invalid(..) | ApiError::Expired(_)) {
                followed.next = None;
            }
            followed.broken = Some(error.to_string());
            return followed;
        }
    };
    watched.sign_of_life();
    let (began, end) = (Instant::now(), Instant::now() + STREAM_FOR);
    pin_mut!(stream);
    loop {
        let event = match timeout(end.saturating_duration_since(Instant::now()), stream.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => {
                followed.is_lively |= began.elapsed() > LONGEST_RETRY;
                return followed;
            }
            Err(_) => {
                followed.broken = Some("the stream did not end when it should have".to_owned());
                return followed;
            }
        };
        followed.is_lively |=
            matches!(event, Ok(WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) | WatchEvent::Bookmark(_)));
        match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                followed.advance(object.meta().resource_version.clone());
                watched.change(|objects| drop(objects.insert(key(&object), Arc::new(trimmed(object)))));
            }
            Ok(WatchEvent::Deleted(object)) => {
                followed.advance(object.meta().resource_version.clone());
                watched.change(|objects| drop(objects.remove(&key(&object))));
            }
            Ok(WatchEvent::Bookmark(bookmark)) => {
                followed.advance(Some(bookmark.metadata.resource_version));
                watched.sign_of_life();
            }
            Ok(WatchEvent::Error(status)) => {
                // With another error, too: where this one is from, the next one would be the same.
                followed.next = None;
                followed.broken = Some(format!("{} {}", status.code, status.message));
                return followed;
            }
            // The connection broke in the middle: what was seen is known, what was not comes again.
            Err(error) => {
                followed.broken = Some(error.to_string());
                return followed;
            }
        }
    }
}

impl Followed {
    fn advance(&mut self, version: Option<String>) {
        if version.is_some() {
            self.next = version;
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
    if let Some(annotations) = object.meta_mut().annotations.as_mut() {
        annotations.remove(LAST_APPLIED);
    }
    object
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;
    use crate::testing::{FakeApi, status};

    const LIST: &str = r#"{"apiVersion": "v1", "kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": []}"#;

    fn added(version: &str) -> String {
        let metadata = json!({"name": format!("shop-{version}"), "namespace": "shop", "resourceVersion": version});
        json!({"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Service", "metadata": metadata}}).to_string() + "\n"
    }

    /// When streams were asked for.
    fn streams(api: &FakeApi) -> Vec<Instant> {
        api.timed_calls().into_iter().filter(|(call, _)| call.contains("watch=true")).map(|(_, at)| at).collect()
    }

    async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !condition() {
            assert!(Instant::now() < end, "waited in vain for {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_an_event_makes_them_short_again() {
        let mut backoff = Backoff::default();
        let mut longest = FIRST_RETRY;
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(longest / 2 <= pause && pause <= longest, "{pause:?}");
            longest = (longest * 2).min(LONGEST_RETRY);
        }
        assert_eq!(longest, LONGEST_RETRY);
        backoff.reset();
        assert!(backoff.pause() <= FIRST_RETRY);
    }

    #[tokio::test]
    async fn streams_that_end_at_once_are_asked_for_less_and_less_often() {
        for broken in [String::new(), status(410).1, json!({"type": "ERROR", "object": {"code": 410, "message": "old"}}).to_string()] {
            let api = FakeApi::start().await;
            let code = if broken.contains("Status") { 410 } else { 200 };
            api.fault(move |_, path| Some(if path.contains("watch=true") { (code, broken.clone()) } else { (200, LIST.to_owned()) }));
            let (watched, _task) = watch_all(Api::<Service>::all(api.client.clone()), Selection::All);
            watched.synced().await;
            until("five streams", || streams(&api).len() >= 5).await;
            // However slow the machine is: it can only make these longer.
            let asked = streams(&api);
            for (number, gap) in asked.windows(2).enumerate() {
                let least = FIRST_RETRY.mul_f64(0.45) * 2_u32.pow(u32::try_from(number).unwrap());
                assert!(gap[1] - gap[0] >= least, "after {:?} instead of {least:?}", gap[1] - gap[0]);
            }
        }
    }

    #[tokio::test]
    async fn one_that_breaks_goes_on_where_it_was_and_is_lively_only_with_events() {
        let api = FakeApi::start().await;
        api.fault(|_, path| {
            Some(match path.contains("watch=true") {
                // The last one is none.
                true => (200, added("7") + &added("8") + "no event\n"),
                false => (200, LIST.to_owned()),
            })
        });
        let services = Api::<Service>::all(api.client.clone());
        let watched = Watched::new();
        let followed = follow(&services, &Selection::All, &watched, "1".to_owned()).await;
        assert!(followed.is_lively && followed.broken.is_some(), "{followed:?}");
        assert_eq!((followed.next.as_deref(), watched.all().len()), (Some("8"), 2));
        for (code, text, next) in [(200, String::new(), Some("1")), (500, status(500).1, Some("1")), (410, status(410).1, None)] {
            api.fault(move |_, _| Some((code, text.clone())));
            let followed = follow(&services, &Selection::All, &watched, "1".to_owned()).await;
            assert!(!followed.is_lively && followed.next.as_deref() == next, "{code}: {followed:?}");
        }
    }
}
