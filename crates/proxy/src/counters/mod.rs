//! Counts of requests: one shard per worker, merged when control asks.
//!
//! A shard is locked for the few nanoseconds in which a request begins or ends, by its worker alone except while it is read.
//! The lock makes every cell consistent in itself, so outcomes and latencies always agree; and it makes cells consistent with
//! the open requests: a request leaves these and enters its cell in one step, and both its latency and its age at a reading
//! are taken from the clock within that lock. So no request's age at a reading exceeds the latency that it ends with, and
//! for any bin edge the slow or failed of a cell and the older ones among its open requests never become fewer. Of sticky
//! requests that is true for the first ones of their clients, which are the only ones among the open.
//!
//! Requests belong to the [`Era`] that they began in: the time until the next canary has left the table. What is still open then is at a
//! version that has become stable, or is gone; its arm and weight would make it look like the next canary's. So it is not told of any
//! more, neither as open nor when it ends.
//!
//! Only the [`MAX_WEIGHTS`] weights that came into force last have cells. An older weight's cells are dropped as a whole
//! rather than merged into others: readers take differences, and a cell that begins anew reads as new, while a cell that
//! swallowed another would count its requests twice, at the wrong weight. Replicas of stable are dropped with their endpoint.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Instant,
};

use serin_core::{
    WeightBps,
    traffic::{Arm, Assignment, Counts, OpenCell, Outcome, ReplicaCell, Sessions, TrafficCell},
};
use serin_stats::Histogram;

use crate::{
    classes::ErrorClasses,
    endpoint::EndpointState,
    lock,
    open::{OpenId, OpenRequests},
};

/// Most distinct weights with cells at one time.
pub(crate) const MAX_WEIGHTS: usize = 64;
/// Most endpoints of stable with counts of their own: the first ones of the table.
const MAX_REPLICAS: usize = 64;

/// What the requests of one cell share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CellKey {
    /// In force when the request was assigned.
    pub(crate) weight: WeightBps,
    pub(crate) arm: Arm,
    pub(crate) assignment: Assignment,
}

/// The time from one canary's end to the next one's. Between the two there is none.
#[derive(Debug, Default)]
pub(crate) struct Era {
    number: u64,
    /// Requests in flight that began in it, by `Arm::index`.
    pub(crate) in_flight: [AtomicU64; 2],
}

impl Era {
    /// Which one; the first of a process is 0.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The one after this.
    pub(crate) fn next(&self) -> Self {
        Self { number: self.number + 1, ..Self::default() }
    }
}

/// A request that ends now.
#[derive(Debug)]
pub(crate) struct Ended {
    /// When it began.
    pub(crate) era: u64,
    pub(crate) key: CellKey,
    pub(crate) started: Instant,
    /// Its place among the open requests, if it has one.
    pub(crate) open: Option<OpenId>,
    pub(crate) outcome: Outcome,
    /// Of an error.
    pub(crate) class: Option<String>,
    /// Number of stable's endpoint that it ended at, if it is compared.
    pub(crate) replica: Option<u64>,
    /// The first request of a sticky client at its weight.
    pub(crate) first: bool,
    /// The first error of a sticky client in the release.
    pub(crate) first_error: bool,
}

/// The counts of one worker.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    state: Mutex<ShardState>,
}

#[derive(Debug, Default)]
struct ShardState {
    /// What began in another one is told no more.
    era: u64,
    cells: BTreeMap<CellKey, Cell>,
    open: OpenRequests,
    /// By the number of the endpoint. No other endpoint gets in.
    replicas: BTreeMap<u64, Counts>,
    /// Grows with everything that begins or ends.
    changes: u64,
}

#[derive(Debug, Clone, Default)]
struct Cell {
    counts: Counts,
    /// For sticky requests only.
    sessions: Option<Sessions>,
}

/// What there is at one moment: see the module about what belongs together.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) cells: Vec<TrafficCell>,
    pub(crate) open: Vec<OpenCell>,
    pub(crate) replicas: Vec<ReplicaCell>,
}

impl Shard {
    /// A request begins. Only the latency's own start may be given here.
    pub(crate) fn begin(&self, era: u64, key: CellKey, started: Instant) -> OpenId {
        let mut state = lock(&self.state);
        state.changes += 1;
        state.open.insert(era, key, started)
    }

    /// A request ends at the time of `clock`. Returns its latency in microseconds.
    pub(crate) fn end(&self, ended: Ended, clock: impl FnOnce() -> Instant) -> u64 {
        let mut state = lock(&self.state);
        state.changes += 1;
        let latency_us = age_us(ended.started, clock());
        if let Some(open) = ended.open {
            state.open.remove(open);
        }
        if ended.era != state.era {
            return latency_us;
        }
        let count = |counts: &mut Counts| {
            counts.record(ended.outcome, latency_us);
            if let Some(class) = &ended.class {
                counts.record_class(class);
            }
        };
        let cell = state.cells.entry(ended.key).or_default();
        count(&mut cell.counts);
        if ended.key.assignment == Assignment::Sticky {
            let sessions = cell.sessions.get_or_insert_default();
            if ended.first {
                count(&mut sessions.first);
            }
            if ended.first_error {
                count(&mut sessions.errors);
            }
        }
        // Without classes: what clusters is told by the totals.
        if let Some(counts) = ended.replica.and_then(|number| state.replicas.get_mut(&number)) {
            counts.record(ended.outcome, latency_us);
        }
        latency_us
    }

    fn read(&self, clock: impl FnOnce() -> Instant) -> Reading {
        let state = lock(&self.state);
        // Ages become histograms when the lock is free again.
        let (open, at) = (state.open.iter(state.era).collect(), clock());
        Reading { cells: state.cells.clone(), replicas: state.replicas.clone(), open, at }
    }
}

/// A copy of a shard.
struct Reading {
    cells: BTreeMap<CellKey, Cell>,
    replicas: BTreeMap<u64, Counts>,
    open: Vec<(CellKey, Instant)>,
    at: Instant,
}

/// The counts of all workers.
#[derive(Debug)]
pub(crate) struct Counters {
    shards: Vec<Arc<Shard>>,
    pub(crate) classes: ErrorClasses,
    /// Least recently in force first.
    weights: Mutex<VecDeque<WeightBps>>,
    /// Number and id of every endpoint with counts of its own.
    replicas: Mutex<Vec<(u64, String)>>,
}

impl Counters {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            shards: (0..workers).map(|_| Arc::default()).collect(),
            classes: ErrorClasses::default(),
            weights: Mutex::default(),
            replicas: Mutex::default(),
        }
    }

    pub(crate) fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// A number that grows with everything that is counted, and whether a request is open, whose age does.
    pub(crate) fn mark(&self) -> (u64, bool) {
        self.shards.iter().fold((0, false), |(changes, open), shard| {
            let state = lock(&shard.state);
            (changes.wrapping_add(state.changes), open || !state.open.is_empty())
        })
    }

    /// This era begins.
    pub(crate) fn era_in_force(&self, era: &Era) {
        for shard in &self.shards {
            lock(&shard.state).era = era.number;
        }
    }

    /// A table with this weight comes into force: makes room for it.
    pub(crate) fn weight_in_force(&self, weight: WeightBps) {
        let mut weights = lock(&self.weights);
        weights.retain(|known| *known != weight);
        weights.push_back(weight);
        if weights.len() > MAX_WEIGHTS {
            weights.pop_front();
            for shard in &self.shards {
                lock(&shard.state).cells.retain(|key, _| weights.contains(&key.weight));
            }
            self.classes.retain(|weight| weights.contains(&weight));
        }
    }

    /// These are stable's endpoints from now on.
    pub(crate) fn replicas_in_force(&self, endpoints: &[Arc<EndpointState>]) {
        let mut replicas = lock(&self.replicas);
        *replicas = endpoints.iter().take(MAX_REPLICAS).map(|endpoint| (endpoint.number, endpoint.id.clone())).collect();
        for shard in &self.shards {
            let mut state = lock(&shard.state);
            let mut before = std::mem::take(&mut state.replicas);
            state.replicas = replicas.iter().map(|(number, _)| (*number, before.remove(number).unwrap_or_default())).collect();
        }
    }

    /// Everything, summed over the workers.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot_at(Instant::now)
    }

    fn snapshot_at(&self, clock: impl Fn() -> Instant) -> Snapshot {
        let mut cells: BTreeMap<CellKey, Cell> = BTreeMap::new();
        let mut open: BTreeMap<CellKey, Histogram> = BTreeMap::new();
        let mut replicas: BTreeMap<u64, Counts> = BTreeMap::new();
        for shard in &self.shards {
            let reading = shard.read(&clock);
            for (key, cell) in reading.cells {
                cells.entry(key).or_default().merge(&cell);
            }
            for (key, started) in reading.open {
                open.entry(key).or_default().record_us(age_us(started, reading.at));
            }
            for (number, counts) in reading.replicas {
                replicas.entry(number).or_default().merge(&counts);
            }
        }
        let cell =
            |(CellKey { weight, arm, assignment }, Cell { counts, sessions })| TrafficCell { weight, arm, assignment, counts, sessions };
        let open_cell = |(CellKey { weight, arm, assignment }, ages)| OpenCell { weight, arm, assignment, ages };
        let names = lock(&self.replicas);
        let replica = |(number, id): &(u64, String)| {
            let counts = replicas.remove(number).filter(|counts| counts.all() > 0)?;
            Some(ReplicaCell { id: id.clone(), counts })
        };
        Snapshot {
            cells: cells.into_iter().map(cell).collect(),
            open: open.into_iter().map(open_cell).collect(),
            replicas: names.iter().filter_map(replica).collect(),
        }
    }
}

impl Cell {
    fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        if let Some(theirs) = &other.sessions {
            let mine = self.sessions.get_or_insert_default();
            mine.first.merge(&theirs.first);
            mine.errors.merge(&theirs.errors);
        }
    }
}

fn age_us(started: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(started).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
