//! Which of several controllers leads.
//!
//! The leader holds a `coordination.k8s.io` Lease and renews it. Whoever sees no renewal for the lease's whole duration takes it. Clocks of
//! machines are never compared: a record counts as renewed when it was *seen* to change, by one's own monotonic clock. [`evaluate`] is the whole
//! rule, as a pure function; `keeper` carries it out.

mod keeper;

pub use keeper::{Leadership, LeaseKeeper, LeaseName};

/// A Lease as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; `None` or empty: nobody.
    pub holder: Option<String>,
    /// How long it is valid after a renewal, in milliseconds.
    pub duration_ms: u64,
    /// How often it changed hands: the epoch of whoever holds it.
    pub transitions: u64,
    /// Changes with every write.
    pub version: String,
}

/// The last record, and since when it has not changed, by one's own clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    record: Option<Record>,
    since_ms: u64,
}

/// What to do about a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// There is none: create it with this number of transitions.
    Create {
        /// The epoch that comes with it.
        transitions: u64,
    },
    /// It is ours: write it again.
    Renew {
        /// The epoch that we have.
        transitions: u64,
    },
    /// It is nobody's, or its holder is silent: take it, if it has not changed meanwhile.
    Take {
        /// The epoch that comes with it.
        transitions: u64,
    },
    /// It is somebody else's: look again then.
    Wait {
        /// By our own clock, in milliseconds.
        until_ms: u64,
    },
}

impl Observed {
    /// Takes in what was read now.
    pub fn see(&mut self, record: Option<Record>, now_ms: u64) {
        if self.record != record || self.record.is_none() {
            self.since_ms = now_ms;
            self.record = record;
        }
    }

    /// The last record.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }
}

/// What `me` has to do.
#[must_use]
pub fn evaluate(observed: &Observed, now_ms: u64, me: &str) -> Decision {
    let Some(record) = &observed.record else { return Decision::Create { transitions: 1 } };
    let transitions = record.transitions.saturating_add(1);
    match record.holder.as_deref() {
        None | Some("") => Decision::Take { transitions },
        // A process of the same identity that was restarted is another owner all the same: see `keeper`.
        Some(holder) if holder == me => Decision::Renew { transitions: record.transitions },
        Some(_) => {
            let until_ms = observed.since_ms.saturating_add(record.duration_ms);
            if now_ms >= until_ms { Decision::Take { transitions } } else { Decision::Wait { until_ms } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, version: &str) -> Record {
        Record { holder: Some(holder.to_owned()), duration_ms: 15_000, transitions: 4, version: version.to_owned() }
    }

    #[test]
    fn a_lease_that_is_not_there_is_made() {
        assert_eq!(evaluate(&Observed::default(), 0, "a"), Decision::Create { transitions: 1 });
    }

    #[test]
    fn ones_own_is_renewed_with_the_same_epoch() {
        let mut observed = Observed::default();
        observed.see(Some(held_by("a", "1")), 0);
        assert_eq!(evaluate(&observed, 100_000, "a"), Decision::Renew { transitions: 4 });
    }

    #[test]
    fn a_lease_that_was_let_go_is_taken_at_once() {
        let mut observed = Observed::default();
        observed.see(Some(Record { holder: None, ..held_by("", "1") }), 0);
        assert_eq!(evaluate(&observed, 0, "b"), Decision::Take { transitions: 5 });
    }

    #[test]
    fn a_silent_holder_loses_it_after_the_whole_duration_and_not_before() {
        let mut observed = Observed::default();
        observed.see(Some(held_by("a", "1")), 1_000);
        assert_eq!(evaluate(&observed, 1_000, "b"), Decision::Wait { until_ms: 16_000 });
        observed.see(Some(held_by("a", "1")), 9_000);
        assert_eq!(evaluate(&observed, 15_999, "b"), Decision::Wait { until_ms: 16_000 });
        assert_eq!(evaluate(&observed, 16_000, "b"), Decision::Take { transitions: 5 });
        observed.see(Some(held_by("a", "2")), 15_500);
        assert_eq!(evaluate(&observed, 16_000, "b"), Decision::Wait { until_ms: 30_500 });
    }

    #[test]
    fn a_standby_that_has_just_begun_grants_the_holder_its_whole_time() {
        let mut observed = Observed::default();
        observed.see(Some(held_by("a", "1")), 500_000);
        assert_eq!(evaluate(&observed, 500_001, "b"), Decision::Wait { until_ms: 515_000 });
    }
}
