//! Counts what only events tell: how long it takes until the canary has no traffic, and what failed on the way.

use std::sync::Arc;

use serin_core::release::Event;
use serin_engine::{
    measure::WaysBack,
    serve::{EventId, ServerEvent},
};
use tokio::sync::broadcast::error::RecvError;

use super::Measured;
use crate::shared::Shared;

/// Reads events until the server is gone. One that falls behind goes on where it was, or says that it missed some.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut counter = Counter { measured: Arc::clone(&shared.measured), ways_back: WaysBack::default() };
    let mut at: Option<EventId> = None;
    loop {
        let mut subscription = shared.server.events(at);
        if subscription.reset {
            shared.measured.events_missed();
            counter.ways_back = WaysBack::default();
        }
        at = Some(subscription.newest);
        subscription.missed.iter().for_each(|event| counter.count(event));
        loop {
            match subscription.live.recv().await {
                Ok(event) => {
                    at = event.id.parse().ok().or(at);
                    counter.count(&event);
                }
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return,
            }
        }
    }
}

struct Counter {
    measured: Arc<Measured>,
    ways_back: WaysBack,
}

impl Counter {
    fn count(&mut self, event: &ServerEvent) {
        let Some(entry) = &event.entry else { return };
        let took_s = self.ways_back.took_s(&event.service, entry);
        self.measured.of_service(&event.service, |service| {
            service.journal_entries += 1;
            service.effect_errors += u64::from(matches!(entry.event, Event::Failed { .. }));
            if let Some(seconds) = took_s {
                service.traffic_zero.add(seconds);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use serin_core::{
        Timestamp,
        release::{Cause, CauseKind, EffectId, Entry},
    };

    use super::*;

    #[test]
    fn the_way_back_is_timed_and_failures_are_counted() {
        let measured = Arc::new(Measured::default());
        let mut counter = Counter { measured: Arc::clone(&measured), ways_back: WaysBack::default() };
        let mut happen = |at, event: Option<Event>| {
            let entry = event.map(|event| Entry { seq: 1, epoch: 1, at: Timestamp(at), event });
            let event = ServerEvent {
                id: "00000001-1".to_owned(),
                at: Timestamp(at),
                service: "shop".to_owned(),
                run: Some(1),
                head: String::new(),
                text: String::new(),
                entry,
            };
            counter.count(&event);
        };
        let cause = Cause { kind: CauseKind::Workload, text: String::new() };
        happen(0, Some(Event::TrafficReturned));
        happen(1_000, Some(Event::RollbackDecided { cause }));
        happen(1_010, Some(Event::Failed { id: EffectId(1), error: String::new(), attempts: 1 }));
        happen(1_040, Some(Event::TrafficReturned));
        happen(1_050, None);
        let shop = measured.keep_services(|_| true).remove("shop").unwrap();
        assert_eq!((shop.journal_entries, shop.effect_errors), (4, 1));
        let (buckets, all, sum) = shop.traffic_zero.cumulative();
        assert_eq!((all, buckets[2].1, buckets[3].1), (1, 0, 1), "between 25 and 50 ms");
        assert!((sum - 0.04).abs() < 1e-9);
        assert!(measured.keep_services(|_| false).is_empty());
    }
}
