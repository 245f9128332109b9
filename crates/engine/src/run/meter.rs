//! From the proxy's cumulative counters to what happened since the last look, exactly once.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serin_core::{
    Timestamp,
    traffic::{Arm, Assignment, Counts, TrafficCell},
};
use serin_proxy::protocol::Stats;

/// Turns cumulative counters into differences and keeps the release's totals. Part of the checkpoint, so that a restarted
/// control process neither misses nor repeats what happened meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TrafficMeter {
    instance: String,
    last: Vec<TrafficCell>,
    totals: [ArmTotals; 2],
    rescued: Progressive,
    own_errors: Progressive,
}

/// What an arm has served since the release began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmTotals {
    /// Requests that came by weight.
    pub by_weight: u64,
    /// Requests that a declared rule sent.
    pub matched: u64,
    /// Errors among both.
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
    pub(super) fn take(&mut self, stats: &Stats) -> Vec<TrafficCell> {
        if !self.knows(stats) {
            // A new proxy process counts from zero: all of it is new.
            self.instance.clone_from(&stats.instance);
            self.last.clear();
            self.rescued.last = 0;
            self.own_errors.last = 0;
        }
        self.rescued.see(stats.rescued);
        self.own_errors.see(stats.own_errors);
        let mut fresh = Vec::new();
        for cell in &stats.cells {
            let before = self.last.iter().find(|old| old.weight == cell.weight && old.arm == cell.arm && old.assignment == cell.assignment);
            let counts = before.map_or_else(|| cell.counts.clone(), |old| cell.counts.since(&old.counts));
            if counts.by_outcome.iter().any(|count| *count > 0) {
                self.add(cell.arm, cell.assignment, &counts);
                fresh.push(TrafficCell { counts, ..cell.clone() });
            }
        }
        self.last.clone_from(&stats.cells);
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
            _ => totals.by_weight += counts.requests(),
        }
        totals.errors += counts.errors();
    }
}

impl Progressive {
    fn see(&mut self, value: u64) {
        self.total += value.checked_sub(self.last).unwrap_or(value);
        self.last = value;
    }
}

/// The last seconds of both arms, for people to look at.
#[derive(Debug, Clone, Default)]
pub(super) struct RecentTraffic {
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

    fn stats(instance: &str, requests: u64) -> Stats {
        let mut counts = Counts::default();
        for _ in 0..requests {
            counts.record(Outcome::Success, 1_000);
        }
        let cell = TrafficCell { weight: WeightBps::new(500).unwrap(), arm: Arm::Canary, assignment: Assignment::Random, counts };
        Stats {
            instance: instance.to_owned(),
            epoch: 1,
            version: 1,
            weight: WeightBps::new(500).unwrap(),
            cells: if requests > 0 { vec![cell] } else { Vec::new() },
            in_flight: [0, 0],
            endpoints: Vec::new(),
            rescued: requests,
            own_errors: 0,
            unsupported: 0,
        }
    }

    fn taken(meter: &mut TrafficMeter, stats: &Stats) -> u64 {
        meter.take(stats).iter().map(|cell| cell.counts.requests()).sum()
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
        let stored = serde_json::to_string(&meter).unwrap();
        let mut restored: TrafficMeter = serde_json::from_str(&stored).unwrap();
        assert!(restored.knows(&stats("a", 0)));
        assert_eq!(taken(&mut restored, &stats("a", 6)), 2);
    }
}
