//! Events of the cluster (`events.k8s.io`): what happens to a release, where people look first.
//!
//! Nothing depends on them: they are posted in the background, in a bounded queue, and those that do not fit are left out and counted. What is
//! said again and again is one event that says how often (see `series`).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use serde_json::json;
use serin_core::release::Entry;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    Vitals,
    series::{Answer, Ledger, Repeated, Same},
    vitals::Fate,
};
use crate::api::{FIELD_MANAGER, GROUP, Release, VERSION, within};

const QUEUE: usize = 256;
/// The API takes 1,024 bytes.
const MAX_NOTE_BYTES: usize = 1_000;
/// The API takes 128 bytes.
const MAX_WORD_BYTES: usize = 120;
/// How often repetitions are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What is no good news.
const WARNINGS: [&str; 13] = [
    "rollback",
    "rolled back",
    "retreated",
    "failed",
    "preflight failed",
    "warning",
    "operator needed",
    "drift found",
    "paused",
    "memory",
    "memory lost",
    "must end",
    "alerts",
];

/// Posts events, and counts what happens.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Event>,
    vitals: Arc<Vitals>,
    instance: Arc<str>,
}

impl Recorder {
    /// Begins to post. `instance`: which of several controllers this is; `leads`: whether it is for us to say anything. What a leader that stood still
    /// decided before it knew is another's to decide and to tell.
    #[must_use]
    pub fn start(client: Client, vitals: Arc<Vitals>, instance: &str, leads: impl Fn() -> bool + Send + 'static) -> Self {
        let (queue, events) = mpsc::channel::<Event>(QUEUE);
        tokio::spawn(post_all(client, events, Arc::clone(&vitals), leads));
        Self { queue, vitals, instance: bounded(instance, MAX_WORD_BYTES).into() }
    }

    /// Something happened to a release.
    pub fn tell(&self, release: &Release, head: &str, detail: &str) {
        if self.queue.try_send(event(release, head, detail, &self.instance)).is_err() {
            self.vitals.event(Fate::Dropped);
        }
    }

    /// An entry of a release's journal.
    pub fn entry(&self, release: &Release, entry: &Entry) {
        self.vitals.entry(release, entry);
    }
}

/// Posts until nobody is left who says anything.
async fn post_all(client: Client, mut events: mpsc::Receiver<Event>, vitals: Arc<Vitals>, leads: impl Fn() -> bool + Send) {
    let (began, mut ledger) = (Instant::now(), Ledger::default());
    let now_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(_) if !leads() => vitals.event(Fate::Dropped),
                Some(event) => vitals.event(post(&client, &mut ledger, event, now_ms()).await),
                None => return,
            },
            _ = look.tick() => for repeated in ledger.due(now_ms()) {
                tell_repeated(&client, &repeated).await;
            },
        }
    }
}

async fn post(client: &Client, ledger: &mut Ledger, mut event: Event, now_ms: u64) -> Fate {
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let regarding = event.regarding.clone().unwrap_or_default();
    let same = Same {
        object: regarding.uid.unwrap_or_default(),
        reason: event.reason.clone().unwrap_or_default(),
        note: event.note.clone().unwrap_or_default(),
    };
    let name = format!("{}.{:016x}", regarding.name.unwrap_or_default(), rand::random::<u64>());
    match ledger.see(same.clone(), &namespace, name, now_ms) {
        Answer::Count => Fate::Repeated,
        Answer::Drop => Fate::Dropped,
        Answer::Post(name) => {
            event.metadata.name = Some(name);
            let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
            match within("create Event", api.create(&PostParams::default(), &event)).await {
                Ok(_) => Fate::Posted,
                Err(error) => {
                    ledger.forget(&same);
                    tracing::debug!(%error, "an event could not be posted");
                    Fate::Failed
                }
            }
        }
    }
}

async fn tell_repeated(client: &Client, repeated: &Repeated) {
    let api: Api<Event> = Api::namespaced(client.clone(), &repeated.namespace);
    let series = json!({"series": {"count": repeated.count, "lastObservedTime": MicroTime(Timestamp::now())}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    // One that is gone (they are kept for an hour) is said anew in time.
    if let Err(error) = within("patch Event", api.patch(&repeated.name, &params, &Patch::Merge(series))).await {
        tracing::debug!(%error, "it could not be said how often an event was seen");
    }
}

fn event(release: &Release, head: &str, detail: &str, instance: &str) -> Event {
    let reason = bounded(&camel(head), MAX_WORD_BYTES);
    Event {
        metadata: ObjectMeta { namespace: Some(release.namespace().to_owned()), ..ObjectMeta::default() },
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some(format!("{GROUP}/controller")),
        reporting_instance: Some(instance.to_owned()),
        // What the controller did; of a release that is what happened.
        action: Some(reason.clone()),
        reason: Some(reason),
        regarding: Some(ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some("Release".to_owned()),
            name: Some(release.name().to_owned()),
            namespace: Some(release.namespace().to_owned()),
            uid: Some(release.uid().to_owned()),
            ..ObjectReference::default()
        }),
        note: Some(bounded(if detail.is_empty() { head } else { detail }, MAX_NOTE_BYTES)),
        type_: Some(if WARNINGS.contains(&head) { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

/// At most so many bytes, and whole characters.
fn bounded(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// `stage 2 passed` as Kubernetes writes reasons: `Stage2Passed`.
fn camel(head: &str) -> String {
    head.split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| {
            let (first, rest) = word.split_at(1);
            format!("{}{rest}", first.to_ascii_uppercase())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeApi, status};

    const EVENTS: &str = "POST /apis/events.k8s.io/v1/namespaces/shop/events";

    fn release() -> Release {
        serde_json::from_value(json!({"metadata": {"name": "shop", "namespace": "shop", "uid": "u-1"}})).unwrap()
    }

    #[test]
    fn reasons_are_words_as_kubernetes_writes_them() {
        assert_eq!(camel("stage 2 passed"), "Stage2Passed");
        assert_eq!(camel("rollback"), "Rollback");
    }

    #[test]
    fn events_have_what_the_api_demands_and_no_more_than_it_takes() {
        let event = event(&release(), "rollback", &"ä".repeat(2_000), "host_1");
        let note = event.note.unwrap();
        assert!(note.len() <= 1_024 && note.chars().all(|one| one == 'ä'));
        assert_eq!((event.reason.as_deref(), event.type_.as_deref()), (Some("Rollback"), Some("Warning")));
        assert!(event.event_time.is_some() && event.action.is_some() && event.reporting_instance.is_some());
        let plain = super::event(&release(), "bake passed", "", "host_1");
        assert_eq!((plain.note.as_deref(), plain.type_.as_deref()), (Some("bake passed"), Some("Normal")));
    }

    #[tokio::test]
    async fn the_same_is_posted_once_and_what_was_refused_is_tried_with_the_next() {
        let api = FakeApi::start().await;
        let mut ledger = Ledger::default();
        let tell = |detail: &str| event(&release(), "failed", detail, "host_1");
        api.fault(|_, _| Some(status(403)));
        assert_eq!(post(&api.client, &mut ledger, tell("x"), 0).await, Fate::Failed);
        api.heal();
        let mut fates = Vec::new();
        for detail in ["x", "x", "x", "y"] {
            fates.push(post(&api.client, &mut ledger, tell(detail), 1).await);
        }
        assert_eq!(fates, [Fate::Posted, Fate::Repeated, Fate::Repeated, Fate::Posted]);
        assert_eq!(api.calls().iter().filter(|call| call.starts_with(EVENTS)).count(), 3);
        let due = ledger.due(100_000);
        assert_eq!((due.len(), due[0].count), (1, 3));
        tell_repeated(&api.client, &due[0]).await;
        assert!(api.calls().last().unwrap().starts_with("PATCH /apis/events.k8s.io/v1/namespaces/shop/events/shop."));
    }

    #[tokio::test]
    async fn who_leads_no_longer_says_nothing() {
        let api = FakeApi::start().await;
        for (leads, expected) in [(true, 1), (false, 0)] {
            let before = api.calls().len();
            let (queue, events) = mpsc::channel(1);
            queue.try_send(event(&release(), "rollback", &leads.to_string(), "host_1")).unwrap();
            drop(queue);
            post_all(api.client.clone(), events, Arc::default(), || leads).await;
            assert_eq!(api.calls().len() - before, expected, "{leads}");
        }
    }
}
