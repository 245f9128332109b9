//! Events of the cluster: what happens to a release, where people look first. Nothing depends on them: they are posted in the background, in a
//! bounded queue, and those that do not fit are left out.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, api::PostParams, core::ObjectMeta};
use tokio::sync::mpsc;

use crate::api::{FIELD_MANAGER, GROUP, Release, VERSION, within};

const QUEUE: usize = 256;
/// The longest message that the API takes is 1,024 bytes.
const MAX_MESSAGE: usize = 250;

/// Posts events.
#[derive(Debug, Clone)]
pub struct Recorder(mpsc::Sender<Event>);

impl Recorder {
    /// Begins to post.
    #[must_use]
    pub fn start(client: Client) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Event>(QUEUE);
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                let namespace = event.metadata.namespace.clone().unwrap_or_default();
                let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
                if let Err(error) = within("create Event", api.create(&PostParams::default(), &event)).await {
                    tracing::debug!(%error, "an event could not be posted");
                }
            }
        });
        Self(sender)
    }

    /// Something happened to a release.
    pub fn tell(&self, release: &Release, head: &str, detail: &str) {
        let is_warning = ["rollback", "retreated", "failed", "preflight failed", "warning", "operator needed", "drift found", "paused"];
        let now = Time(Timestamp::now());
        let message: String = if detail.is_empty() { head.to_owned() } else { detail.chars().take(MAX_MESSAGE).collect() };
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}.", release.name())),
                namespace: Some(release.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(format!("{GROUP}/{VERSION}")),
                kind: Some("Release".to_owned()),
                name: Some(release.name().to_owned()),
                namespace: Some(release.namespace().to_owned()),
                uid: Some(release.uid().to_owned()),
                ..ObjectReference::default()
            },
            reason: Some(camel(head)),
            message: Some(message),
            type_: Some(if is_warning.contains(&head) { "Warning" } else { "Normal" }.to_owned()),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource { component: Some(FIELD_MANAGER.to_owned()), host: None }),
            ..Event::default()
        };
        let _ = self.0.try_send(event);
    }
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

    #[test]
    fn reasons_are_words_as_kubernetes_writes_them() {
        assert_eq!(camel("stage 2 passed"), "Stage2Passed");
        assert_eq!(camel("rollback"), "Rollback");
    }
}
