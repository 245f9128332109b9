//! What is seen of both arms since the last look.

use serde::{Deserialize, Serialize};
use serin_stats::Histogram;

use super::{Arm, Assignment, Counts, Measured, Reading};
use crate::{Timestamp, WeightBps, plan::MetricName};

/// Counts of the requests that share a weight, an arm and an assignment.
///
/// The weight is the one in force when the request was *assigned*: slow failures that end after a weight change belong to
/// the split that sent them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficCell {
    /// The canary's share in the route table that assigned these requests.
    pub weight: WeightBps,
    /// Who served them.
    pub arm: Arm,
    /// How they came to that arm.
    pub assignment: Assignment,
    /// How they ended: cumulative on the wire, since the previous observation in an [`Observation`].
    pub counts: Counts,
    /// For [`Assignment::Sticky`] only: the same traffic by client. What one client sends is not independent, so comparisons
    /// count clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Sessions>,
}

/// Sticky traffic by client. Cumulative or since the previous observation, like the cell that it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// The first request of every client since [`TrafficCell::weight`] came into force, however it ended: a client has one
    /// at every weight of the release, so that each stage can pass on the clients it sees, and another one if a weight comes
    /// back after a different one. Requests that were in flight when the weight changed belong to the weight that assigned them
    /// and count there, at most one of each client.
    pub first: Counts,
    /// The first error of every client in this release, at whatever weight: evidence of harm belongs to the release.
    pub errors: Counts,
}

/// Ages of requests that have no complete answer yet: a state, not a count.
///
/// With it every request that is older than a limit counts as slow now rather than when it ends. A request is in here until it
/// is in [`TrafficCell::counts`], so that for any bin edge the sum of both never falls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCell {
    /// The canary's share in the route table that assigned these requests.
    pub weight: WeightBps,
    /// Who serves them.
    pub arm: Arm,
    /// How they came to that arm. Of [`Assignment::Sticky`] only what counts in [`Sessions::first`].
    pub assignment: Assignment,
    /// Their ages in microseconds.
    pub ages: Histogram,
}

/// What one replica of stable answered by weight: the placebo that shows how much events come in clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaCell {
    /// The replica's id in the route table.
    pub id: String,
    /// How its compared requests ended: cumulative on the wire, since the previous observation in an [`Observation`].
    pub counts: Counts,
}

/// Resource use of one arm, summed over its replicas. `None`: not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmGauges {
    /// CPU time per wall time, in percent of one core, mean per replica.
    pub cpu_percent: Option<f64>,
    /// Resident memory in bytes, mean per replica.
    pub memory_bytes: Option<f64>,
    /// Restarts after crashes since the release began, all replicas.
    pub restarts: Option<u64>,
}

/// What happened on both arms since the previous observation. The shell makes it from cumulative counters, so that a lost
/// message does no harm and nothing is counted twice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When the counters were read.
    pub at: Timestamp,
    /// What was counted since the previous observation: cells with at least one request.
    pub cells: Vec<TrafficCell>,
    /// Resource use by [`Arm::index`].
    pub gauges: [ArmGauges; 2],
    /// Ages of the requests without an answer: cells with at least one.
    #[serde(default)]
    pub open: Vec<OpenCell>,
    /// Stable's replicas, those with at least one request since the previous observation.
    #[serde(default)]
    pub replicas: Vec<ReplicaCell>,
    /// What other sources measured, if they were looked at since the previous observation; several looks at a metric in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measured>,
}

impl Observation {
    /// The counts of an arm over every cell whose assignment `wanted` accepts.
    #[must_use]
    pub fn counts(&self, arm: Arm, wanted: impl Fn(Assignment) -> bool) -> Counts {
        let mut sum = Counts::default();
        for cell in self.cells.iter().filter(|cell| cell.arm == arm && wanted(cell.assignment)) {
            sum.merge(&cell.counts);
        }
        sum
    }

    /// What was measured of a metric by another source.
    pub fn readings(&self, metric: MetricName) -> impl Iterator<Item = &Reading> {
        self.measured.iter().filter(move |one| one.metric == metric).map(|one| &one.reading)
    }
}

/// An array by [`Arm::index`].
pub fn by_arm<T>(mut make: impl FnMut(Arm) -> T) -> [T; 2] {
    [make(Arm::Stable), make(Arm::Canary)]
}
