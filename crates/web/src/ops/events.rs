//! The event stream: what a client missed, then whatever happens, as server-sent events.
//!
//! A client that says which event it saw last (`Last-Event-ID`, which browsers send by themselves, or `after`) gets everything since. If
//! that is no longer known, or the client is so slow that events had to be dropped, it gets `event: reset`: it is to read the state anew
//! and goes on from there. A stream ends when the token that it was opened with is taken away. Signs of life carry the newest id, so that a client which watches one quiet service does not fall behind.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serin_engine::serve::{EventId, Server, ServerEvent, Subscription};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, sleep_until},
};

use super::header;
use crate::{answer::Answer, identity::Identity, pipeline::Call, problem::Problem, routes::is_segment, shared::Shared};

/// Events that wait for a client beside those that the engine keeps for it.
const AHEAD: usize = 16;
/// How long a client waits before it connects again, in milliseconds.
const RETRY_MS: u32 = 1_000;

pub(super) fn events(call: &Call) -> Result<Answer, Problem> {
    let service = call.query.text("service");
    if service.is_some_and(|service| !is_segment(service)) {
        return Err(Problem::invalid("service must be a service's name"));
    }
    let seen = header(&call.headers, "last-event-id").or_else(|| call.query.text("after")).filter(|seen| !seen.is_empty());
    if call.head_only {
        return Ok(Answer::Text { kind: "text/event-stream", text: Bytes::new() });
    }
    let shared = &call.shared;
    let identity = call.identity.clone().ok_or_else(Problem::internal)?;
    let place = shared.streams.take(identity.name.clone()).ok_or_else(|| {
        Problem::too_many(10).hint("too many event streams are open; close one, or watch several services through one stream")
    })?;
    // What is no id is no longer known either.
    let reader = match seen.map(str::parse::<EventId>) {
        None => Reader::new(&shared.server, service, None, false),
        Some(Ok(id)) => Reader::new(&shared.server, service, Some(id), false),
        Some(Err(_)) => Reader::new(&shared.server, service, None, true),
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let stream = reader.run(&shared, &sender);
        tokio::select! {
            () = stream => {}
            () = shared.stopped() => {}
            () = revoked(&shared, &identity) => {}
        }
        drop(place);
    });
    Ok(Answer::Events(receiver))
}

/// Returns when the token that a stream was opened with is taken away.
async fn revoked(shared: &Shared, identity: &Identity) {
    let mut rights = shared.rights.subscribe();
    // The sender lives as long as `shared`.
    let _ = rights.wait_for(|rights| !identity.is_known_to(rights)).await;
}

struct Reader {
    service: Option<String>,
    subscription: Subscription,
    /// Where the client stands.
    at: EventId,
}

impl Reader {
    fn new(server: &Server, service: Option<&str>, after: Option<EventId>, lost: bool) -> Self {
        let mut subscription = server.events(after);
        subscription.reset |= lost;
        let at = subscription.newest;
        Self { service: service.map(str::to_owned), subscription, at }
    }

    /// Sends until the client is gone.
    async fn run(mut self, shared: &Shared, client: &mpsc::Sender<Bytes>) {
        let heartbeat = Duration::from_millis(shared.limits.heartbeat_ms);
        let hello = format!(": serin\nretry: {RETRY_MS}\n\n");
        if client.send(hello.into()).await.is_err() || !self.begin(client).await {
            return;
        }
        let mut alive_at = Instant::now() + heartbeat;
        loop {
            let sent = tokio::select! {
                () = client.closed() => false,
                () = sleep_until(alive_at) => {
                    alive_at = Instant::now() + heartbeat;
                    client.send(alive(self.at)).await.is_ok()
                }
                event = self.subscription.live.recv() => match event {
                    Ok(event) => {
                        alive_at = Instant::now() + heartbeat;
                        self.pass_on(&event, client).await
                    }
                    Err(RecvError::Lagged(_)) => {
                        shared.measured.stream_lagged();
                        self.subscription = shared.server.events(Some(self.at));
                        self.begin(client).await
                    }
                    // The server is gone; the client may find its successor.
                    Err(RecvError::Closed) => false,
                },
            };
            if !sent {
                return;
            }
        }
    }

    /// What the client missed, or that it missed something, and where it stands.
    async fn begin(&mut self, client: &mpsc::Sender<Bytes>) -> bool {
        let newest = self.subscription.newest;
        if self.subscription.reset {
            self.at = newest;
            return client.send(reset(newest)).await.is_ok();
        }
        for event in std::mem::take(&mut self.subscription.missed) {
            if !self.pass_on(&event, client).await {
                return false;
            }
        }
        self.at = newest;
        client.send(alive(newest)).await.is_ok()
    }

    async fn pass_on(&mut self, event: &ServerEvent, client: &mpsc::Sender<Bytes>) -> bool {
        if let Ok(id) = event.id.parse() {
            self.at = id;
        }
        if self.service.as_ref().is_some_and(|service| *service != event.service) {
            return true;
        }
        let Some(message) = message(event) else { return true };
        client.send(message).await.is_ok()
    }
}

/// JSON has no line breaks of its own, so an event is one line of data.
fn message(event: &ServerEvent) -> Option<Bytes> {
    let data = serde_json::to_string(event).ok()?;
    Some(format!("id: {}\ndata: {data}\n\n", event.id).into())
}

fn reset(at: EventId) -> Bytes {
    format!("id: {at}\nevent: reset\ndata: {{}}\n\n").into()
}

/// A sign of life. Without data it is no event, but the client remembers the id.
fn alive(at: EventId) -> Bytes {
    format!(": alive\nid: {at}\n\n").into()
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;
    use crate::openapi::samples;

    fn event(number: u64, service: &str) -> Arc<ServerEvent> {
        Arc::new(ServerEvent { id: EventId { process: 1, number }.to_string(), service: service.to_owned(), ..samples::event() })
    }

    fn reader(service: Option<&str>, missed: Vec<Arc<ServerEvent>>, reset: bool) -> Reader {
        let newest = EventId { process: 1, number: 9 };
        let live = broadcast::channel(1).1;
        Reader { service: service.map(str::to_owned), subscription: Subscription { missed, reset, newest, live }, at: newest }
    }

    async fn sent(mut reader: Reader) -> Vec<String> {
        let (sender, mut receiver) = mpsc::channel(16);
        assert!(reader.begin(&sender).await);
        drop(sender);
        let mut all = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            all.push(String::from_utf8(bytes.to_vec()).unwrap());
        }
        all
    }

    #[tokio::test]
    async fn what_was_missed_comes_first_and_in_order() {
        let all = sent(reader(None, vec![event(7, "shop"), event(8, "blog")], false)).await;
        assert!(all[0].starts_with("id: 00000001-7\ndata: {") && all[0].ends_with("}\n\n"), "{}", all[0]);
        assert_eq!(all[0].matches('\n').count(), 3, "one line of data");
        assert!(all[1].starts_with("id: 00000001-8\n"));
        assert_eq!(all[2..], [": alive\nid: 00000001-9\n\n"]);
    }

    #[tokio::test]
    async fn only_one_service_if_asked_for() {
        let all = sent(reader(Some("blog"), vec![event(7, "shop"), event(8, "blog")], false)).await;
        assert_eq!(all.len(), 2);
        assert!(all[0].contains("\"service\":\"blog\""));
    }

    #[tokio::test]
    async fn a_gap_is_said() {
        assert_eq!(sent(reader(None, vec![event(7, "shop")], true)).await, ["id: 00000001-9\nevent: reset\ndata: {}\n\n"]);
    }
}
