//! What people and the engine see of the replicas.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serin_core::traffic::Arm;
use tokio::sync::watch;

use super::{ExitInfo, ReplicaSpec, WorkloadFailure};

/// All replicas of a set, in the order of their specs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaSetStatus {
    /// The replicas.
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// `canary-1`.
    pub id: String,
    /// Which version it runs; `None` for the load command.
    pub arm: Option<Arm>,
    /// `127.0.0.1:20001`, whether it listens there or not.
    pub address: String,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// What it is doing.
    pub phase: Phase,
    /// How often it was restarted, also by earlier control processes.
    pub restarts: u32,
    /// Restarts within the window of its restart policy, by this control process.
    pub recent_restarts: u32,
    /// Whether it was ready at any time under this control process.
    pub ever_ready: bool,
    /// How its last process ended, if one has.
    pub last_exit: Option<ExitInfo>,
    /// What is wrong with it, for as long as it is. Being ready ends it, but for a crash loop: that ends when restarts are rare again.
    pub failure: Option<WorkloadFailure>,
    /// Processor use of its process group in percent of one processor, over the last second.
    pub cpu_percent: Option<f64>,
    /// Memory of its process group in bytes. Pages that its processes share count for each.
    pub memory_bytes: Option<u64>,
}

/// What a replica is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Started or about to be, and not ready yet.
    Starting,
    /// May get traffic.
    Ready,
    /// Runs, was ready, and then failed too many probes in a row.
    Unready {
        /// The last one: `GET /ready timed out after 1 s`.
        reason: String,
    },
    /// Has exited and waits to be started again.
    BackOff {
        /// The length of the wait, in milliseconds; 0 while what its process left behind is being ended.
        restart_in_ms: u64,
    },
    /// Was asked to stop and has not gone yet.
    Stopping,
    /// Was asked to stop, and has.
    Stopped,
    /// A canary that never came up. It is not tried again.
    Failed,
}

impl ReplicaSetStatus {
    /// Whether there are replicas and all are ready.
    #[must_use]
    pub fn all_ready(&self) -> bool {
        !self.replicas.is_empty() && self.ready_count() == self.replicas.len()
    }

    /// How many replicas are ready.
    #[must_use]
    pub fn ready_count(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.phase == Phase::Ready).count()
    }

    /// The first replica's failure, if any has one now.
    #[must_use]
    pub fn failure(&self) -> Option<WorkloadFailure> {
        self.replicas.iter().find_map(|replica| replica.failure.clone())
    }

    /// Restarts of all replicas within the window of the restart policy.
    #[must_use]
    pub fn recent_restarts(&self) -> u32 {
        self.replicas.iter().fold(0, |sum, replica| sum.saturating_add(replica.recent_restarts))
    }
}

impl ReplicaStatus {
    /// A replica that is about to be started.
    pub(super) fn new(spec: &ReplicaSpec) -> Self {
        Self {
            id: spec.id.clone(),
            arm: spec.arm,
            address: format!("127.0.0.1:{}", spec.port),
            pid: None,
            phase: Phase::Starting,
            restarts: 0,
            recent_restarts: 0,
            ever_ready: false,
            last_exit: None,
            failure: None,
            cpu_percent: None,
            memory_bytes: None,
        }
    }
}

/// Where one replica's task writes its status.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    status: Arc<watch::Sender<ReplicaSetStatus>>,
    index: usize,
}

impl Reporter {
    pub(super) fn new(status: Arc<watch::Sender<ReplicaSetStatus>>, index: usize) -> Self {
        Self { status, index }
    }

    /// Changes the status. Watchers are told if it did change.
    pub(super) fn update(&self, change: impl FnOnce(&mut ReplicaStatus)) {
        self.status.send_if_modified(|status| {
            let Some(replica) = status.replicas.get_mut(self.index) else { return false };
            let before = replica.clone();
            change(replica);
            *replica != before
        });
    }
}
