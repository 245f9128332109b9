//! What must be remembered of a replica so that a later control process finds it again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serin_core::{Timestamp, traffic::Arm};

use super::{group::Group, proc_stat};

/// A running replica, as its [`Ledger`] keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// `canary-1`; `load` for the load command.
    pub id: String,
    /// Which version it runs; `None` for the load command.
    pub arm: Option<Arm>,
    /// Its process, which also names its process group. 0: it was about to be started, see [`found`](Self::found).
    pub pid: u32,
    /// Clock ticks from boot to its start (field 22 of `/proc/PID/stat`): a pid may be given to another process later, the pair is not.
    pub start_time: u64,
    /// The boot that `start_time` counts from; empty where that is unknown.
    #[serde(default)]
    pub boot_id: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// When it was started, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// How often the replica was restarted before.
    pub restarts: u32,
}

impl ReplicaRecord {
    /// The environment entry that every process of the replica has, unless it clears its environment.
    pub(super) fn marker(&self) -> String {
        format!("{MARKER_VARIABLE}={}", marker_value(&self.id, Timestamp(self.started_at_ms)))
    }

    /// With the process that was started, if the record was written before the start and nothing came after: whoever started it died in
    /// between. It is known by its mark and its port, which no other process has together.
    #[must_use]
    pub fn found(self) -> Self {
        if self.pid != 0 || !self.is_of_this_boot() {
            return self;
        }
        let (marker, port) = (self.marker(), format!("{PORT_VARIABLE}={}", self.port));
        let is_it = |stat: &proc_stat::ProcStat| {
            stat.running && stat.group == stat.pid && proc_stat::has_env(stat.pid, &marker) && proc_stat::has_env(stat.pid, &port)
        };
        match proc_stat::all().into_iter().find(is_it) {
            Some(stat) => Self { pid: stat.pid, start_time: stat.start_time, ..self },
            None => self,
        }
    }

    /// Whether its first process, also a zombie, is the one that was started.
    pub(super) fn names_leader(&self) -> bool {
        self.is_of_this_boot() && proc_stat::read(self.pid).is_some_and(|stat| stat.start_time == self.start_time)
    }

    pub(super) fn is_of_this_boot(&self) -> bool {
        self.boot_id == proc_stat::boot_id()
    }
}

/// The environment variable that names its port.
pub(super) const PORT_VARIABLE: &str = "PORT";

/// The environment variable that marks the processes of a replica.
pub(super) const MARKER_VARIABLE: &str = "SERIN_REPLICA";

/// Its value: the replica and the moment of this start.
pub(super) fn marker_value(id: &str, started_at: Timestamp) -> String {
    format!("{id}@{}", started_at.0)
}

/// Where records are kept. Called from the replica's own task: an implementation may write to disk, and must not wait for anything else.
pub trait Ledger: Send + Sync {
    /// A process is about to be started, then once more with its pid, before the replica counts as started. Replaces an earlier record of
    /// the same id.
    fn save(&self, record: &ReplicaRecord);
    /// Nothing of the replica runs any more.
    fn forget(&self, id: &str);
}

/// Whether anything of the replica still runs.
#[must_use]
pub fn leftover(record: &ReplicaRecord) -> bool {
    Group::recorded(record).is_some_and(|group| !group.members().is_empty())
}

/// Stops what still runs of a replica: SIGTERM, after `grace` SIGKILL. Returns whether nothing is left; that is also so if
/// nothing was there. Must be called within a Tokio runtime.
pub async fn kill_leftover(record: &ReplicaRecord, grace: Duration) -> bool {
    match Group::recorded(record) {
        Some(group) if !group.members().is_empty() => group.terminate(grace).await,
        _ => true,
    }
}
