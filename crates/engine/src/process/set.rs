//! All replicas of one version (or the load command): one task each, and one that measures what they use.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    Ledger, ReplicaRecord, ReplicaSetStatus, ReplicaSpec, ReplicaStatus, proc_stat, replica::Replica, status::Reporter, usage::Sampler,
};

/// How often processor and memory use are measured.
const USAGE_INTERVAL: Duration = Duration::from_secs(1);
/// How old a look at the machine's processes may be to be shared: short enough that every set sees a newer one each time.
const LOOK_AGE: Duration = Duration::from_millis(900);

/// Supervised replicas. End it with [`stop`](Self::stop) or [`detach`](Self::detach): dropped without either it leaves the
/// processes running, as a crash would, and logs a warning.
#[derive(Debug)]
pub struct ReplicaSet {
    status: watch::Receiver<ReplicaSetStatus>,
    /// Each replica's task holds a receiver until nothing of the replica runs any more.
    stop: watch::Sender<bool>,
    tasks: Vec<AbortHandle>,
    detached: bool,
}

impl ReplicaSet {
    /// Starts the replicas, or takes over the processes that `adopt` names: those whose id and port are a spec's and which still
    /// run. What runs of a record with another port is ended first. Records of other ids are not touched.
    ///
    /// Must be called within a Tokio runtime with I/O and time.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "the tasks share it from here on; the caller need not keep it")]
    pub fn start(specs: Vec<ReplicaSpec>, adopt: Vec<ReplicaRecord>, ledger: Arc<dyn Ledger>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let replicas = specs.iter().map(ReplicaStatus::new).collect();
        let (status_sender, status) = watch::channel(ReplicaSetStatus { replicas });
        let status_sender = Arc::new(status_sender);
        let mut adopt = adopt;
        let mut tasks = Vec::with_capacity(specs.len() + 1);
        for (index, spec) in specs.into_iter().enumerate() {
            let record = adopt.iter().position(|record| record.id == spec.id).map(|at| adopt.swap_remove(at));
            let reporter = Reporter::new(Arc::clone(&status_sender), index);
            let replica = Replica::new(spec, Arc::clone(&ledger), reporter, stopping.clone());
            tasks.push(tokio::spawn(replica.run(record)).abort_handle());
        }
        tasks.push(tokio::spawn(measure(status_sender)).abort_handle());
        Self { status, stop, tasks, detached: false }
    }

    /// The status now and whenever it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ReplicaSetStatus> {
        self.status.clone()
    }

    /// Stops all replicas at once: SIGTERM to each process group, SIGKILL after the grace time. Returns when nothing of them runs
    /// any more, or 10 s after SIGKILL if the kernel holds on to a process. May be called again, and while another call waits.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        self.stop.closed().await;
    }

    /// Stops to supervise and leaves the processes running, for the next control process to adopt.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for ReplicaSet {
    fn drop(&mut self) {
        if !self.detached && !self.stop.is_closed() {
            tracing::warn!("replicas are left running without supervision");
        }
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Measures for as long as it is polled.
async fn measure(status: Arc<watch::Sender<ReplicaSetStatus>>) {
    let mut sampler = Sampler::default();
    let mut tick = interval(USAGE_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let groups: BTreeSet<u32> = status.borrow().replicas.iter().filter_map(|replica| replica.pid).collect();
        if groups.is_empty() {
            continue;
        }
        // One look at all processes of the machine serves all replicas, those of other sets included.
        let look = match proc_stat::seen(LOOK_AGE) {
            Some(look) => look,
            None => match tokio::task::spawn_blocking(|| proc_stat::recent(LOOK_AGE)).await {
                Ok(look) => look,
                Err(_) => continue,
            },
        };
        let usages = sampler.sample(&look, groups);
        status.send_if_modified(|status| {
            let mut changed = false;
            for replica in &mut status.replicas {
                let usage = replica.pid.and_then(|pid| usages.get(&pid));
                let (cpu, memory) = (usage.and_then(|usage| usage.cpu_percent), usage.map(|usage| usage.memory_bytes));
                changed |= (replica.cpu_percent, replica.memory_bytes) != (cpu, memory);
                (replica.cpu_percent, replica.memory_bytes) = (cpu, memory);
            }
            changed
        });
    }
}
