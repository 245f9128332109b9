//! Which events are posted, which are counted into one that was posted before, and which are left out. A pure rule with bounded memory.
//!
//! The same text about the same object within [`SAME_FOR_MS`] is the same event, seen once more. New ones of one object are bounded by a bucket:
//! what flaps must not fill the cluster's store.

use std::collections::HashMap;

/// For how long an event is the same as one before.
const SAME_FOR_MS: u64 = 600_000;
/// Between two writes that say how often one was seen.
const TELL_EVERY_MS: u64 = 30_000;
/// New events that one object may have at once; a whole release has fewer.
const BURST: u64 = 60;
/// Time for one more.
const REFILL_MS: u64 = 10_000;
/// Series and objects that are remembered.
const MOST: usize = 1_024;

/// What makes an event the same as another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Same {
    pub(super) object: String,
    pub(super) reason: String,
    pub(super) note: String,
}

/// What to do with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Post it under this name.
    Post(String),
    /// It was posted; how often it was seen is told later.
    Count,
    /// Too many.
    Drop,
}

/// An event that was seen more often than its object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repeated {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) count: u64,
}

#[derive(Debug)]
struct Series {
    namespace: String,
    name: String,
    seen: u64,
    told: u64,
    at_ms: u64,
    told_at_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    series: HashMap<Same, Series>,
    /// Events left, and when that was so.
    buckets: HashMap<String, (u64, u64)>,
}

impl Ledger {
    /// An event at this time; `name` is what it would be called.
    pub(super) fn see(&mut self, same: Same, namespace: &str, name: String, now_ms: u64) -> Answer {
        if let Some(series) = self.series.get_mut(&same).filter(|series| now_ms.saturating_sub(series.at_ms) <= SAME_FOR_MS) {
            (series.seen, series.at_ms) = (series.seen + 1, now_ms);
            return Answer::Count;
        }
        if !self.may_post(&same.object, now_ms) {
            return Answer::Drop;
        }
        if self.series.len() >= MOST {
            self.series.retain(|_, series| now_ms.saturating_sub(series.at_ms) <= SAME_FOR_MS);
        }
        if self.series.len() >= MOST {
            self.series.clear();
        }
        let series = Series { namespace: namespace.to_owned(), name: name.clone(), seen: 1, told: 1, at_ms: now_ms, told_at_ms: now_ms };
        self.series.insert(same, series);
        Answer::Post(name)
    }

    /// It was not posted after all: the next one is new.
    pub(super) fn forget(&mut self, same: &Same) {
        self.series.remove(same);
    }

    /// What is to be told now.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<Repeated> {
        let due = self
            .series
            .values_mut()
            .filter(|series| series.seen > series.told && now_ms.saturating_sub(series.told_at_ms) >= TELL_EVERY_MS);
        due.map(|series| {
            (series.told, series.told_at_ms) = (series.seen, now_ms);
            Repeated { namespace: series.namespace.clone(), name: series.name.clone(), count: series.seen }
        })
        .collect()
    }

    fn may_post(&mut self, object: &str, now_ms: u64) -> bool {
        let refilled = |(left, at_ms): (u64, u64)| {
            let more = now_ms.saturating_sub(at_ms) / REFILL_MS;
            ((left + more).min(BURST), at_ms + more * REFILL_MS)
        };
        if self.buckets.len() >= MOST {
            self.buckets.retain(|_, bucket| refilled(*bucket).0 < BURST);
        }
        if self.buckets.len() >= MOST {
            self.buckets.clear();
        }
        let bucket = self.buckets.entry(object.to_owned()).or_insert((BURST, now_ms));
        *bucket = refilled(*bucket);
        if bucket.0 == 0 {
            return false;
        }
        bucket.0 -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(object: &str, note: &str) -> Same {
        Same { object: object.to_owned(), reason: "Warning".to_owned(), note: note.to_owned() }
    }

    fn see(ledger: &mut Ledger, object: &str, note: &str, now_ms: u64) -> Answer {
        ledger.see(same(object, note), "shop", format!("{object}.{now_ms}"), now_ms)
    }

    #[test]
    fn the_same_is_counted_and_told_now_and_then() {
        let mut ledger = Ledger::default();
        assert_eq!(see(&mut ledger, "a", "x", 1_000), Answer::Post("a.1000".to_owned()));
        assert_eq!(see(&mut ledger, "a", "y", 1_000), Answer::Post("a.1000".to_owned()), "another text");
        assert_eq!(see(&mut ledger, "b", "x", 1_000), Answer::Post("b.1000".to_owned()), "another object");
        assert_eq!([see(&mut ledger, "a", "x", 2_000), see(&mut ledger, "a", "x", 3_000)], [Answer::Count, Answer::Count]);
        assert_eq!(ledger.due(30_000), []);
        assert_eq!(ledger.due(31_000), [Repeated { namespace: "shop".to_owned(), name: "a.1000".to_owned(), count: 3 }]);
        assert_eq!(ledger.due(99_000), [], "nothing new");
        assert_eq!(
            see(&mut ledger, "a", "x", 3_000 + SAME_FOR_MS + 1),
            Answer::Post("a.603001".to_owned()),
            "so long ago that it is another one"
        );
    }

    #[test]
    fn what_was_not_posted_is_new_again() {
        let mut ledger = Ledger::default();
        let _ = see(&mut ledger, "a", "x", 0);
        ledger.forget(&same("a", "x"));
        assert_eq!(see(&mut ledger, "a", "x", 1), Answer::Post("a.1".to_owned()));
    }

    #[test]
    fn one_object_takes_no_more_than_its_share_and_memory_is_bounded() {
        let mut ledger = Ledger::default();
        let posted = (0..1_000).filter(|n| see(&mut ledger, "a", &n.to_string(), 0) != Answer::Drop).count();
        assert_eq!(posted as u64, BURST);
        assert!(matches!(see(&mut ledger, "b", "x", 0), Answer::Post(_)), "others have theirs");
        assert!(matches!(see(&mut ledger, "a", "later", REFILL_MS), Answer::Post(_)));
        assert_eq!(see(&mut ledger, "a", "too soon", REFILL_MS + 1), Answer::Drop);
        for n in 0..10_000 {
            let _ = see(&mut ledger, &n.to_string(), "x", 0);
        }
        assert!(ledger.series.len() <= MOST && ledger.buckets.len() <= MOST);
    }
}
