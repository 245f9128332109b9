//! The port to whatever runs the versions. One adapter per kind of workload.

mod external;
mod processes;

pub use external::ExternalWorkload;
pub use processes::{Launch, ProcessesWorkload};

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serin_core::{
    release::WorkloadSeen,
    traffic::{Arm, ArmGauges},
};
use serin_proxy::{protocol::Stats, table::Pool};

use crate::{Pending, process::ReplicaSet};

/// The versions of a release as something that runs.
pub trait Workload: Send + Sync {
    /// Starts an arm, or finds it running, and returns when all its replicas are ready.
    fn start(&self, arm: Arm) -> Pending<'_, Result<(), WorkloadError>>;

    /// Finds an arm that an earlier control process started, without waiting for it to be ready. Starts what is missing.
    fn adopt(&self, arm: Arm) -> Result<(), WorkloadError>;

    /// Stops an arm for good. Idempotent.
    fn stop(&self, arm: Arm) -> Pending<'_, Result<(), WorkloadError>>;

    /// The servers of an arm that was started or adopted, ready or not; `None` if it was not.
    fn pool(&self, arm: Arm) -> Option<Pool>;

    /// How an arm is, as far as known without asking anyone. `proxy`: the latest counters, which know the health checks.
    fn arm(&self, arm: Arm, proxy: Option<&Stats>) -> ArmStatus;

    /// Hands the processes of an arm over to whoever runs that version from here on; `None` if there are none to hand over. The arm
    /// counts as never started then.
    fn give(&self, _arm: Arm) -> Option<Arc<ReplicaSet>> {
        None
    }

    /// Leaves everything running.
    fn detach(&self) {}
}

/// How one arm is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmStatus {
    /// Replicas that may get traffic; `None`: not known.
    pub ready: Option<u32>,
    /// Replicas there should be.
    pub replicas: u32,
    /// What is wrong with the arm as a whole, with its cause.
    pub failure: Option<String>,
    /// Resource use.
    pub gauges: ArmGauges,
    /// One line per replica that is not simply ready.
    pub notes: Vec<String>,
}

/// Why a version could not be started or stopped. The text names the cause and where to look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WorkloadError(pub String);

/// Both arms as the state machine takes them.
#[must_use]
pub fn seen(stable: &ArmStatus, canary: &ArmStatus) -> WorkloadSeen {
    WorkloadSeen {
        stable_ready: stable.ready,
        canary_ready: canary.ready,
        stable_failure: stable.failure.clone(),
        canary_failure: canary.failure.clone(),
    }
}
