//! Workload processes: start them, see whether they are ready, restart them, stop them, and find them again.
//!
//! Policies:
//! - **Own process group, no pipes.** Each replica leads a process group of its own and appends to its log file directly, with
//!   no pipe to the control process in between. So it outlives a control process that dies, and never sees a signal or a SIGPIPE from that.
//! - **Found again.** A [`ReplicaRecord`] goes to the [`Ledger`] before a replica starts, and with its pid after. A later control process adopts it:
//!   same process, same port, no request lost.
//! - **Never a stranger.** Nothing is signalled before it was proven that it is still what was started: the unreaped child, or pid,
//!   start time and boot for an adopted one.
//! - **Whole groups.** A replica counts as gone when the last process of its group is gone. Whatever a crashed replica leaves
//!   behind is stopped before the restart, because it may still hold the port. A process that moves itself to another
//!   group or session is out of reach.
//! - **Restarts.** On the same port, after a back-off that doubles. Stable is restarted for ever. So is a canary that was ready
//!   once; one that never came up is tried twice and then left down, with its last output at hand.
//!
//! Processor and memory use, adoption and leftovers need `/proc`; elsewhere they are unknown, refused and not found.

mod backoff;
mod env;
mod error;
mod exit;
mod group;
mod launch;
mod log_file;
mod port;
mod probe;
mod proc_stat;
mod record;
mod replica;
mod running;
mod set;
mod status;
mod template;
mod usage;

pub use env::ResolvedEnv;
pub use error::{ProcessError, WorkloadFailure};
pub use exit::ExitInfo;
pub use launch::{LOAD_ID, LaunchContext, LogFile, ReplicaSpec, load_spec, replica_specs};
pub(crate) use port::reserve;
pub use probe::{ask_address, probe_address};
pub use record::{Ledger, ReplicaRecord, kill_leftover, leftover};
pub use set::ReplicaSet;
pub use status::{Phase, ReplicaSetStatus, ReplicaStatus};
pub use usage::own_use;

use std::time::{SystemTime, UNIX_EPOCH};

use serin_core::Timestamp;

/// When a process was started, in clock ticks since boot: with its pid it names a process once and for all.
pub(crate) fn start_time_of(pid: u32) -> Option<u64> {
    proc_stat::read(pid).filter(|stat| stat.running).map(|stat| stat.start_time)
}

/// The time of day, for records that outlive this process.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// Whole milliseconds of a duration.
fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
