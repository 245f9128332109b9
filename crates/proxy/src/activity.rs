//! When counters are sent: as soon as there is something new, and hardly ever when there is not.
//!
//! While anything changes, control hears of it every [`STATS_EVERY`]. Once a look shows nothing new, the sender sleeps until
//! something happens or [`HEARTBEAT`] is over; what happens after a quiet time is sent at once. A proxy without traffic costs its
//! machine a wake-up per second, and hundreds of them share one.
//!
//! Nothing is overlooked for longer than a heartbeat, and no request at all: whoever goes to sleep says so first and looks once
//! more, and whoever counts a request does so under its shard's lock before it looks whether somebody sleeps.

use std::{
    sync::atomic::{
        AtomicBool,
        Ordering::{Relaxed, SeqCst},
        fence,
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::state::{Mark, Shared};

/// The least time between two messages with counters.
pub(crate) const STATS_EVERY: Duration = Duration::from_millis(50);
/// The most time between two messages with counters.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// Wakes whoever waits for something to happen.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    asleep: AtomicBool,
    wakes: watch::Sender<u64>,
}

impl Activity {
    /// Something that counters tell of has changed. Costs next to nothing while nobody sleeps.
    pub(crate) fn happened(&self) {
        fence(SeqCst);
        if self.asleep.load(Relaxed) && self.asleep.swap(false, SeqCst) {
            self.wakes.send_modify(|wakes| *wakes = wakes.wrapping_add(1));
        }
    }

    fn fall_asleep(&self) {
        self.asleep.store(true, SeqCst);
        fence(SeqCst);
    }
}

/// Says when counters are due on one connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    wakes: watch::Receiver<u64>,
    heartbeat: Duration,
    sent: Option<(Mark, Instant)>,
    looked_at: Instant,
    asleep: bool,
}

impl Pulse {
    /// The first counters are due at once.
    pub(crate) fn new(activity: &Activity) -> Self {
        Self::with_heartbeat(activity, HEARTBEAT)
    }

    fn with_heartbeat(activity: &Activity, heartbeat: Duration) -> Self {
        Self { wakes: activity.wakes.subscribe(), heartbeat, sent: None, looked_at: Instant::now(), asleep: false }
    }

    /// Ready when counters should be sent, with the mark to give to [`sent`](Self::sent) then. Nothing is lost if this is dropped
    /// before it is ready.
    pub(crate) async fn due(&mut self, shared: &Shared) -> Mark {
        loop {
            let Some((seen, sent_at)) = self.sent else { return shared.mark() };
            let heartbeat = sent_at + self.heartbeat;
            if self.asleep {
                tokio::select! {
                    // An error means that the sender is gone, and with it the whole proxy.
                    _ = self.wakes.changed() => {}
                    () = sleep_until(heartbeat) => {}
                }
                self.asleep = false;
            }
            sleep_until((self.looked_at + STATS_EVERY).min(heartbeat)).await;
            self.looked_at = Instant::now();
            let mark = shared.mark();
            if mark.is_news(&seen) || self.looked_at >= heartbeat {
                return mark;
            }
            self.wakes.borrow_and_update();
            shared.activity.fall_asleep();
            let mark = shared.mark();
            if mark.is_news(&seen) {
                return mark;
            }
            self.asleep = true;
        }
    }

    /// Counters are being sent that are at least as new as `mark`.
    pub(crate) fn sent(&mut self, mark: Mark) {
        self.sent = Some((mark, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        sync::{Arc, atomic::Ordering::SeqCst},
    };

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::protocol::Speaks;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn shared() -> Arc<Shared> {
        Arc::new(Shared::new(1, Speaks::OURS, TcpListener::bind("127.0.0.1:0").unwrap(), true))
    }

    async fn asleep(shared: &Shared) {
        let wait = async {
            while !shared.activity.asleep.load(SeqCst) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(DEADLINE, wait).await.expect("it falls asleep without news");
    }

    /// Sleeps until something happens, for two control connections at once; nothing but that ends the sleep.
    #[tokio::test]
    async fn what_happens_ends_the_sleep_of_everyone() {
        let shared = shared();
        let sleeper = |shared: &Arc<Shared>| {
            let shared = shared.clone();
            let mut pulse = Pulse::with_heartbeat(&shared.activity, Duration::from_secs(3_600));
            tokio::spawn(async move {
                let first = pulse.due(&shared).await;
                pulse.sent(first);
                (first, pulse.due(&shared).await)
            })
        };
        for _ in 0..20 {
            let one = sleeper(&shared);
            asleep(&shared).await;
            let other = sleeper(&shared);
            sleep(STATS_EVERY * 2).await;
            assert!(!one.is_finished() && !other.is_finished(), "nothing happened");
            shared.rescued.fetch_add(1, SeqCst);
            shared.activity.happened();
            for sleeper in [one, other] {
                let (first, second) = timeout(DEADLINE, sleeper).await.expect("it wakes up").unwrap();
                assert!(second.is_news(&first) || second == shared.mark());
            }
        }
    }

    #[tokio::test]
    async fn without_news_there_is_a_heartbeat() {
        let shared = shared();
        let mut pulse = Pulse::new(&shared.activity);
        let began = Instant::now();
        for _ in 0..3 {
            let mark = timeout(DEADLINE, pulse.due(&shared)).await.expect("a heartbeat");
            pulse.sent(mark);
        }
        // Timers are never early: this can be too late, but not too soon.
        assert!(began.elapsed() >= HEARTBEAT * 2, "{:?}", began.elapsed());
    }
}
