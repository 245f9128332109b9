//! Counts of finished requests: one shard per worker, merged when control asks.
//!
//! A shard is locked for the few nanoseconds of one record, by its worker alone except while it is merged; the lock makes
//! every cell consistent in itself, so outcomes and latencies always agree.
//!
//! Only the [`MAX_WEIGHTS`] weights that came into force last have cells. An older weight's cells are dropped as a whole
//! rather than merged into others: readers take differences, and a cell that begins anew reads as new, while a cell that
//! swallowed another would count its requests twice, at the wrong weight.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use serin_core::{
    WeightBps,
    traffic::{Arm, Assignment, Counts, Outcome, TrafficCell},
};

use crate::lock;

/// Most distinct weights with cells at one time.
pub(crate) const MAX_WEIGHTS: usize = 64;

/// What the requests of one cell share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CellKey {
    /// In force when the request was assigned.
    pub(crate) weight: WeightBps,
    pub(crate) arm: Arm,
    pub(crate) assignment: Assignment,
}

/// The counts of one worker.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    cells: Mutex<BTreeMap<CellKey, Counts>>,
}

impl Shard {
    pub(crate) fn record(&self, key: CellKey, outcome: Outcome, latency_us: u64) {
        lock(&self.cells).entry(key).or_default().record(outcome, latency_us);
    }
}

/// The counts of all workers.
#[derive(Debug)]
pub(crate) struct Counters {
    shards: Vec<Arc<Shard>>,
    /// Least recently in force first.
    weights: Mutex<VecDeque<WeightBps>>,
}

impl Counters {
    pub(crate) fn new(workers: usize) -> Self {
        Self { shards: (0..workers).map(|_| Arc::default()).collect(), weights: Mutex::default() }
    }

    pub(crate) fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// A table with this weight comes into force: makes room for it.
    pub(crate) fn weight_in_force(&self, weight: WeightBps) {
        let mut weights = lock(&self.weights);
        weights.retain(|known| *known != weight);
        weights.push_back(weight);
        if weights.len() > MAX_WEIGHTS {
            weights.pop_front();
            for shard in &self.shards {
                lock(&shard.cells).retain(|key, _| weights.contains(&key.weight));
            }
        }
    }

    /// Every cell, summed over the workers.
    pub(crate) fn cells(&self) -> Vec<TrafficCell> {
        let mut sum: BTreeMap<CellKey, Counts> = BTreeMap::new();
        for shard in &self.shards {
            let cells = lock(&shard.cells).clone();
            for (key, counts) in cells {
                sum.entry(key).or_default().merge(&counts);
            }
        }
        sum.into_iter().map(|(CellKey { weight, arm, assignment }, counts)| TrafficCell { weight, arm, assignment, counts }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bps: u16) -> CellKey {
        CellKey { weight: WeightBps::new(bps).unwrap(), arm: Arm::Stable, assignment: Assignment::Random }
    }

    #[test]
    fn shards_add_up() {
        let counters = Counters::new(2);
        counters.shards()[0].record(key(5), Outcome::Success, 10);
        counters.shards()[1].record(key(5), Outcome::ServerError, 10);
        counters.shards()[1].record(key(6), Outcome::Success, 10);
        let cells = counters.cells();
        assert_eq!(cells.len(), 2);
        assert_eq!((cells[0].counts.requests(), cells[0].counts.errors(), cells[0].counts.latency.total()), (2, 1, 1));
    }

    #[test]
    fn the_weight_longest_out_of_force_makes_room() {
        let counters = Counters::new(1);
        for bps in 0..64 {
            counters.weight_in_force(key(bps).weight);
            counters.shards()[0].record(key(bps), Outcome::Success, 1);
        }
        counters.weight_in_force(key(0).weight);
        counters.weight_in_force(key(100).weight);
        counters.shards()[0].record(key(100), Outcome::Success, 1);
        let weights: Vec<u16> = counters.cells().iter().map(|cell| cell.weight.canary_bps()).collect();
        assert_eq!(weights.len(), 64);
        assert!(weights.contains(&0) && !weights.contains(&1) && weights.contains(&100));
    }
}
