//! What is seen of both arms since the last look.

use serde::{Deserialize, Serialize};

use super::{Arm, Assignment, Counts};
use crate::{Timestamp, WeightBps};

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
    /// Requests without an answer so far, by [`Arm::index`].
    pub in_flight: [u64; 2],
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
}

/// An array by [`Arm::index`].
pub fn by_arm<T>(mut make: impl FnMut(Arm) -> T) -> [T; 2] {
    [make(Arm::Stable), make(Arm::Canary)]
}
