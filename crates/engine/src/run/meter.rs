//! From the proxy's cumulative counters to what happened since the last look, exactly once.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serin_core::{
    Timestamp,
    traffic::{Arm, Assignment, Counts, ReplicaCell, Sessions, TrafficCell},
};
use serin_proxy::protocol::Stats;

/// Turns cumulative counters into differences and keeps the release's totals. Part of the checkpoint, so that a restarted
/// control process neither misses nor repeats what happened meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrafficMeter {
    instance: String,
    last: Vec<TrafficCell>,
    #[serde(default)]
    last_replicas: Vec<ReplicaCell>,
    totals: [ArmTotals; 2],
    rescued: Progressive,
    own_errors: Progressive,
}

/// What happened since the last look: only what something happened in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fresh {
    pub(super) cells: Vec<TrafficCell>,
    pub(super) replicas: Vec<ReplicaCell>,
}

/// What an arm has served since the release began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmTotals {
    /// Requests that came by weight.
    pub by_weight: u64,
    /// Requests that a declared rule sent.
    pub matched: u64,
    /// Requests through the preview address.
    #[serde(default)]
    pub preview: u64,
    /// Errors among all of these.
    pub errors: u64,
    /// Requests that this arm answered in the other's stead.
    pub rescues: u64,
}

/// A single cumulative counter that may start anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progressive {
    last: u64,
    total: u64,
}

impl TrafficMeter {
    /// A meter for which everything so far is past.
    #[must_use]
    pub(super) fn starting_at(stats: &Stats) -> Self {
        let progressive = |last| Progressive { last, total: 0 };
        Self {
            instance: stats.instance.clone(),
            last: stats.cells.clone(),
            last_replicas: stats.replicas.clone(),
            totals: Default::default(),
            rescued: progressive(stats.rescued),
            own_errors: progressive(stats.own_errors),
        }
    }

    /// Whether this meter was reading the same proxy process.
    #[must_use]
    pub(super) fn knows(&self, stats: &Stats) -> bool {
        self.instance == stats.instance
    }

    /// What happened since the last call.
    pub(super) fn take(&mut self, stats: &Stats) -> Fresh {
        if !self.knows(stats) {
            // A new proxy process counts from zero: all of it is new.
            self.instance.clone_from(&stats.instance);
            self.last.clear();
            self.last_replicas.clear();
            self.rescued.last = 0;
            self.own_errors.last = 0;
        }
        self.rescued.see(stats.rescued);
        self.own_errors.see(stats.own_errors);
        let mut fresh = Fresh::default();
        for cell in &stats.cells {
            let before = self.last.iter().find(|old| old.weight == cell.weight && old.arm == cell.arm && old.assignment == cell.assignment);
            let cell = before.map_or_else(|| cell.clone(), |before| since(cell, before));
            if cell.counts.all() > 0 {
                self.add(cell.arm, cell.assignment, &cell.counts);
                fresh.cells.push(cell);
            }
        }
        for replica in &stats.replicas {
            let before = self.last_replicas.iter().find(|old| old.id == replica.id);
            let counts = before.map_or_else(|| replica.counts.clone(), |before| replica.counts.since(&before.counts));
            if counts.all() > 0 {
                fresh.replicas.push(ReplicaCell { id: replica.id.clone(), counts });
            }
        }
        self.last.clone_from(&stats.cells);
        self.last_replicas.clone_from(&stats.replicas);
        fresh
    }

    /// What an arm has served since the release began.
    #[must_use]
    pub(super) fn totals(&self, arm: Arm) -> ArmTotals {
        self.totals[arm.index()]
    }

    /// Requests that failed on the canary and that stable answered, since the release began.
    #[must_use]
    pub(super) fn rescued(&self) -> u64 {
        self.rescued.total
    }

    /// Error answers of the proxy's own making that clients saw, since the release began.
    #[must_use]
    pub(super) fn own_errors(&self) -> u64 {
        self.own_errors.total
    }

    fn add(&mut self, arm: Arm, assignment: Assignment, counts: &Counts) {
        let totals = &mut self.totals[arm.index()];
        match assignment {
            Assignment::Rescue => return totals.rescues += counts.requests(),
            Assignment::Matched => totals.matched += counts.requests(),
            Assignment::Preview => totals.preview += counts.requests(),
            _ => totals.by_weight += counts.requests(),
        }
        totals.errors += counts.errors();
    }
}

/// What was counted in a cell since `before`. If its requests started anew, its sessions did too, even where these have
/// outgrown the old ones.
fn since(cell: &TrafficCell, before: &TrafficCell) -> TrafficCell {
    let counts = cell.counts.since(&before.counts);
    let goes_on = before.counts.all().checked_add(counts.all()) == Some(cell.counts.all());
    let sessions_before = before.sessions.as_ref().filter(|_| goes_on);
    let sessions = cell.sessions.as_ref().map(|now| match sessions_before {
        Some(before) => Sessions { first: now.first.since(&before.first), errors: now.errors.since(&before.errors) },
        None => now.clone(),
    });
    TrafficCell { counts, sessions, ..*cell }
}

impl Progressive {
    fn see(&mut self, value: u64) {
        self.total += value.checked_sub(self.last).unwrap_or(value);
        self.last = value;
    }
}

/// The last seconds of both arms, for people to look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentTraffic {
    slots: VecDeque<(Timestamp, [Counts; 2])>,
    began: Option<Timestamp>,
}

const RECENT_MS: u64 = 10_000;
const SLOT_MS: u64 = 500;

impl RecentTraffic {
    pub(super) fn add(&mut self, at: Timestamp, cells: &[TrafficCell]) {
        self.began.get_or_insert(at);
        if self.slots.back().is_none_or(|(opened, _)| at.ms_since(*opened) >= SLOT_MS) {
            self.slots.push_back((at, Default::default()));
        }
        while self.slots.front().is_some_and(|(opened, _)| at.ms_since(*opened) > RECENT_MS) {
            self.slots.pop_front();
        }
        let Some((_, slot)) = self.slots.back_mut() else { return };
        for cell in cells.iter().filter(|cell| cell.assignment != Assignment::Rescue) {
            slot[cell.arm.index()].merge(&cell.counts);
        }
    }

    /// Counts of an arm and the seconds they cover.
    pub(super) fn of(&self, arm: Arm, now: Timestamp) -> (Counts, f64) {
        let mut sum = Counts::default();
        for (_, slot) in &self.slots {
            sum.merge(&slot[arm.index()]);
        }
        let covered_ms = self.began.map_or(0, |began| now.ms_since(began).min(RECENT_MS));
        (sum, covered_ms.max(SLOT_MS) as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use serin_core::{WeightBps, traffic::Outcome};

    use super::*;

    fn counts(outcome: Outcome, requests: u64) -> Counts {
        let mut counts = Counts::default();
        for _ in 0..requests {
            counts.record(outcome, 1_000);
            if outcome.is_error() {
                counts.record_class("503 GET /");
            }
        }
        counts
    }

    fn stats(instance: &str, requests: u64) -> Stats {
        let cell = TrafficCell {
            weight: WeightBps::new(500).unwrap(),
            arm: Arm::Canary,
            assignment: Assignment::Random,
            counts: counts(Outcome::Success, requests),
            sessions: None,
        };
        Stats {
            instance: instance.to_owned(),
            epoch: 1,
            version: 1,
            weight: WeightBps::new(500).unwrap(),
            cells: if requests > 0 { vec![cell] } else { Vec::new() },
            open: Vec::new(),
            replicas: Vec::new(),
            in_flight: [0, 0],
            endpoints: Vec::new(),
            rescued: requests,
            own_errors: 0,
            unsupported: 0,
        }
    }

    /// Failing sticky requests, of which so many were their client's first request or first error.
    fn sticky(instance: &str, requests: u64, first: u64, errors: u64) -> Stats {
        let mut stats = stats(instance, requests);
        for cell in &mut stats.cells {
            cell.assignment = Assignment::Sticky;
            cell.counts = counts(Outcome::ServerError, requests);
            cell.sessions = Some(Sessions { first: counts(Outcome::ServerError, first), errors: counts(Outcome::ServerError, errors) });
        }
        stats
    }

    fn replicated<const N: usize>(instance: &str, replicas: [(&str, u64); N]) -> Stats {
        let replica = |(id, requests): (&str, u64)| ReplicaCell { id: id.to_owned(), counts: counts(Outcome::Success, requests) };
        Stats { replicas: replicas.into_iter().map(replica).collect(), ..stats(instance, 0) }
    }

    fn restored(meter: &TrafficMeter) -> TrafficMeter {
        serde_json::from_str(&serde_json::to_string(meter).unwrap()).unwrap()
    }

    fn taken(meter: &mut TrafficMeter, stats: &Stats) -> u64 {
        meter.take(stats).cells.iter().map(|cell| cell.counts.requests()).sum()
    }

    /// Requests, first requests, first errors; their errors all have classes.
    fn taken_sticky(meter: &mut TrafficMeter, stats: &Stats) -> (u64, u64, u64) {
        let fresh = meter.take(stats).cells;
        fresh.first().map_or((0, 0, 0), |cell| {
            let Sessions { first, errors } = cell.sessions.as_ref().unwrap();
            for counts in [&cell.counts, first, errors] {
                assert_eq!(counts.error_classes.values().sum::<u64>(), counts.errors());
            }
            (cell.counts.requests(), first.requests(), errors.requests())
        })
    }

    fn taken_replicas(meter: &mut TrafficMeter, stats: &Stats) -> Vec<(String, u64)> {
        meter.take(stats).replicas.into_iter().map(|replica| (replica.id, replica.counts.requests())).collect()
    }

    #[test]
    fn counts_once_whatever_is_lost_repeated_or_restarted() {
        let mut meter = TrafficMeter::starting_at(&stats("a", 3));
        assert_eq!(taken(&mut meter, &stats("a", 5)), 2);
        assert_eq!(taken(&mut meter, &stats("a", 5)), 0, "repeated");
        assert_eq!(taken(&mut meter, &stats("a", 9)), 4, "one message lost in between");
        assert_eq!(taken(&mut meter, &stats("b", 2)), 2, "a new proxy process");
        assert_eq!(meter.totals(Arm::Canary).by_weight, 8);
        assert_eq!(meter.rescued(), 8);
    }

    #[test]
    fn a_checkpoint_goes_on_where_it_was() {
        let mut meter = TrafficMeter::starting_at(&stats("a", 0));
        meter.take(&stats("a", 4));
        let mut restored = restored(&meter);
        assert!(restored.knows(&stats("a", 0)));
        assert_eq!(taken(&mut restored, &stats("a", 6)), 2);
    }

    #[test]
    fn clients_count_once_too() {
        let mut meter = TrafficMeter::starting_at(&sticky("a", 10, 4, 3));
        assert_eq!(taken_sticky(&mut meter, &sticky("a", 15, 6, 4)), (5, 2, 1));
        assert_eq!(taken_sticky(&mut meter, &sticky("a", 15, 6, 4)), (0, 0, 0), "repeated");
        assert_eq!(taken_sticky(&mut meter, &sticky("a", 16, 6, 4)), (1, 0, 0), "a client that is known");
        let mut meter = restored(&meter);
        assert_eq!(taken_sticky(&mut meter, &sticky("a", 20, 7, 5)), (4, 1, 1), "after a checkpoint");
        assert_eq!(taken_sticky(&mut meter, &sticky("b", 21, 8, 6)), (21, 8, 6), "a new proxy process");
        assert_eq!(taken_sticky(&mut meter, &sticky("b", 20, 19, 18)), (20, 19, 18), "a cell that began anew");
    }

    #[test]
    fn replicas_count_once_by_id() {
        let mut meter = TrafficMeter::starting_at(&replicated("a", [("one", 5), ("two", 5)]));
        let one = |requests| vec![("one".to_owned(), requests)];
        assert_eq!(taken_replicas(&mut meter, &replicated("a", [("one", 7), ("two", 5)])), one(2));
        let mut meter = restored(&meter);
        assert_eq!(taken_replicas(&mut meter, &replicated("a", [("one", 8)])), one(1), "after a checkpoint");
        let both = [("one".to_owned(), 9), ("two".to_owned(), 3)];
        assert_eq!(taken_replicas(&mut meter, &replicated("b", [("one", 9), ("two", 3)])), both, "a new proxy process");
        assert_eq!(taken_replicas(&mut meter, &replicated("b", [("one", 4), ("two", 3)])), one(4), "a replica of the same name");
    }
}
