//! What happened lately, over all services: for people who watch, and for whoever must not miss anything for a while.
//!
//! Events are numbered, and the newest are kept, so that a reader whose connection broke goes on where it was. Numbers begin anew with
//! the process; a reader that comes with another process's number, or with one that is no longer kept, is told so and reads the state anew.

use std::{
    collections::VecDeque,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use serin_core::{Timestamp, release::Entry};
use tokio::sync::broadcast;

/// Events that are kept.
const KEPT: usize = 10_000;
/// Events that a slow reader may be behind before it has to start over.
const BEHIND: usize = 1_024;

/// Which event: of which process, and the how many-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// Random per process of the server.
    pub process: u32,
    /// From 1 without gaps.
    pub number: u64,
}

/// Something that happened to a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerEvent {
    /// Its place, as `process-number`.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// The service.
    pub service: String,
    /// The run's number among all of the service, if the event belongs to one.
    pub run: Option<i64>,
    /// Two or three words; empty for a note.
    pub head: String,
    /// The details.
    pub text: String,
    /// The journal entry, if it is one.
    pub entry: Option<Entry>,
}

/// What a reader gets: what it missed, then whatever happens.
#[derive(Debug)]
pub struct Subscription {
    /// Events between the one that the reader saw last and now, in order.
    pub missed: Vec<Arc<ServerEvent>>,
    /// Whether what the reader saw last is no longer known: it has to read the state anew.
    pub reset: bool,
    /// The newest event before `live`, number 0 if there was none: where a reader stands that has read the state.
    pub newest: EventId,
    /// Whatever happens from here on. A reader that lags has to subscribe again.
    pub live: broadcast::Receiver<Arc<ServerEvent>>,
}

/// The newest events.
#[derive(Debug)]
pub(super) struct Events {
    process: u32,
    kept: Mutex<Kept>,
    live: broadcast::Sender<Arc<ServerEvent>>,
}

#[derive(Debug, Default)]
struct Kept {
    newest: u64,
    events: VecDeque<Arc<ServerEvent>>,
}

impl Events {
    pub(super) fn new(process: u32) -> Self {
        Self { process, kept: Mutex::default(), live: broadcast::channel(BEHIND).0 }
    }

    /// Keeps an event and tells every reader. Never waits.
    pub(super) fn publish(&self, at: Timestamp, service: &str, run: Option<i64>, words: (String, String), entry: Option<Entry>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.newest += 1;
        let id = EventId { process: self.process, number: kept.newest }.to_string();
        let event = Arc::new(ServerEvent { id, at, service: service.to_owned(), run, head: words.0, text: words.1, entry });
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::clone(&event));
        // Within the lock, so that no reader sees an event twice or not at all.
        let _ = self.live.send(event);
    }

    /// Events that wait for the slowest reader.
    pub(super) fn waiting(&self) -> usize {
        self.live.len()
    }

    /// Everything after an event, without a gap; `None`: only what comes.
    pub(super) fn subscribe(&self, after: Option<EventId>) -> Subscription {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let newest = EventId { process: self.process, number: kept.newest };
        let Some(after) = after else { return Subscription { missed: Vec::new(), reset: false, newest, live } };
        let oldest = kept.newest - kept.events.len() as u64 + 1;
        // In this order: a number from outside may be the largest there is, to which nothing can be added.
        if after.process != self.process || after.number > kept.newest || after.number + 1 < oldest {
            return Subscription { missed: Vec::new(), reset: true, newest, live };
        }
        let skip = usize::try_from(after.number + 1 - oldest).unwrap_or(usize::MAX);
        Subscription { missed: kept.events.iter().skip(skip).cloned().collect(), reset: false, newest, live }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.process, self.number)
    }
}

/// Not an event's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event id looks like 1a2b3c4d-17")]
pub struct NotAnEventId;

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let (process, number) = text.split_once('-').ok_or(NotAnEventId)?;
        let process = u32::from_str_radix(process, 16).map_err(|_| NotAnEventId)?;
        Ok(Self { process, number: number.parse().map_err(|_| NotAnEventId)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(events: &Events, text: &str) {
        events.publish(Timestamp(1), "shop", None, (String::new(), text.to_owned()), None);
    }

    fn texts(events: &[Arc<ServerEvent>]) -> Vec<&str> {
        events.iter().map(|event| event.text.as_str()).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let events = Events::new(7);
        for text in ["a", "b", "c"] {
            publish(&events, text);
        }
        let id = |number| Some(EventId { process: 7, number });
        assert_eq!(texts(&events.subscribe(id(1)).missed), ["b", "c"]);
        assert_eq!(texts(&events.subscribe(id(0)).missed), ["a", "b", "c"]);
        let mut at_the_end = events.subscribe(id(3));
        assert!(at_the_end.missed.is_empty() && !at_the_end.reset);
        publish(&events, "d");
        assert_eq!(at_the_end.live.try_recv().unwrap().text, "d");
        assert!(events.subscribe(Some(EventId { process: 8, number: 1 })).reset, "another process");
        assert!(events.subscribe(id(9)).reset, "never was");
        assert!(events.subscribe(id(u64::MAX)).reset, "nothing can come after the largest number");
        assert_eq!(events.subscribe(None).newest, EventId { process: 7, number: 4 });
    }

    #[test]
    fn only_the_newest_are_kept() {
        let events = Events::new(7);
        (0..KEPT + 2).for_each(|n| publish(&events, &n.to_string()));
        assert!(events.subscribe(Some(EventId { process: 7, number: 1 })).reset);
        let all = events.subscribe(Some(EventId { process: 7, number: 2 }));
        assert_eq!((all.missed.len(), all.reset), (KEPT, false));
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = EventId { process: 0xab, number: 12 };
        assert_eq!(id.to_string(), "000000ab-12");
        assert_eq!("000000ab-12".parse(), Ok(id));
        for bad in ["", "12", "x-1", "1-", "1-x", "123456789-1"] {
            assert_eq!(bad.parse::<EventId>(), Err(NotAnEventId), "{bad}");
        }
    }
}
