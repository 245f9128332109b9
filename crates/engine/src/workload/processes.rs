//! Versions that Serin runs as processes.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use serin_core::traffic::{Arm, ArmGauges};
use serin_proxy::{
    protocol::Stats,
    table::{Endpoint, HealthCheck, Pool},
};
use serin_spec::validated::{ProcessArm, Processes};

use super::{ArmStatus, Workload, WorkloadError};
use crate::{
    Pending,
    process::{LaunchContext, Ledger, Phase, ReplicaRecord, ReplicaSet, ReplicaSetStatus, replica_specs},
};

/// Where processes are started from.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The state folder.
    pub state_dir: PathBuf,
    /// What relative paths of the document start from.
    pub document_dir: PathBuf,
    /// The running binary, for `{{serin}}`.
    pub serin_exe: PathBuf,
    /// Processes that an earlier control process left running.
    pub previous: Vec<ReplicaRecord>,
    /// What the versions are called, by [`Arm::index`]. A version keeps its name when it becomes the stable one.
    pub names: [String; 2],
}

impl Launch {
    /// The same, as the process supervisor takes it.
    #[must_use]
    pub fn context(&self) -> LaunchContext<'_> {
        LaunchContext {
            state_dir: &self.state_dir,
            document_dir: &self.document_dir,
            serin_exe: &self.serin_exe,
            previous: &self.previous,
            names: &self.names,
        }
    }
}

/// Starts, watches and stops the processes of both arms.
pub struct ProcessesWorkload {
    spec: Processes,
    launch: Launch,
    ledger: Arc<dyn Ledger>,
    sets: Mutex<[Option<Arc<ReplicaSet>>; 2]>,
}

impl ProcessesWorkload {
    /// A workload of which nothing runs yet, but for what `launch.previous` remembers.
    #[must_use]
    pub fn new(spec: Processes, launch: Launch, ledger: Arc<dyn Ledger>) -> Self {
        Self { spec, launch, ledger, sets: Mutex::default() }
    }

    /// The same, with a stable version that runs already: the one that an earlier release brought.
    #[must_use]
    pub fn with_stable(self, running: Arc<ReplicaSet>) -> Self {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)[Arm::Stable.index()] = Some(running);
        self
    }

    fn spec(&self, arm: Arm) -> &ProcessArm {
        match arm {
            Arm::Stable => &self.spec.stable,
            Arm::Canary => &self.spec.canary,
        }
    }

    fn set(&self, arm: Arm) -> Option<Arc<ReplicaSet>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)[arm.index()].clone()
    }

    fn ensure(&self, arm: Arm) -> Result<Arc<ReplicaSet>, WorkloadError> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = &sets[arm.index()] {
            return Ok(Arc::clone(set));
        }
        let specs = replica_specs(arm, self.spec(arm), &self.launch.context()).map_err(|error| WorkloadError(error.to_string()))?;
        let adopt = self.launch.previous.iter().filter(|record| specs.iter().any(|spec| spec.id == record.id)).cloned().collect();
        let set = Arc::new(ReplicaSet::start(specs, adopt, Arc::clone(&self.ledger)));
        sets[arm.index()] = Some(Arc::clone(&set));
        Ok(set)
    }
}

impl Workload for ProcessesWorkload {
    fn start(&self, arm: Arm) -> Pending<'_, Result<(), WorkloadError>> {
        Box::pin(async move {
            let set = self.ensure(arm)?;
            let mut status = set.status();
            loop {
                let current = status.borrow_and_update().clone();
                if current.all_ready() {
                    return Ok(());
                }
                // Each replica's own patience (`ready.within`) bounds the wait.
                if let Some(failure) = current.failure() {
                    return Err(WorkloadError(failure.to_string()));
                }
                if status.changed().await.is_err() {
                    return Err(WorkloadError(format!("the {arm} processes were stopped before they became ready")));
                }
            }
        })
    }

    fn adopt(&self, arm: Arm) -> Result<(), WorkloadError> {
        self.ensure(arm).map(|_| ())
    }

    fn stop(&self, arm: Arm) -> Pending<'_, Result<(), WorkloadError>> {
        Box::pin(async move {
            if let Some(set) = self.set(arm) {
                set.stop().await;
            }
            self.sets.lock().unwrap_or_else(PoisonError::into_inner)[arm.index()] = None;
            Ok(())
        })
    }

    fn pool(&self, arm: Arm) -> Option<Pool> {
        let status = self.set(arm)?.status().borrow().clone();
        let ready = &self.spec(arm).ready;
        let health = HealthCheck {
            path: ready.path.clone(),
            interval_ms: ready.interval_ms,
            timeout_ms: ready.timeout_ms,
            failures: ready.failures,
        };
        let endpoints =
            status.replicas.iter().map(|replica| Endpoint { id: replica.id.clone(), address: replica.address.clone() }).collect();
        Some(Pool { endpoints, health: Some(health) })
    }

    fn arm(&self, arm: Arm, _proxy: Option<&Stats>) -> ArmStatus {
        let Some(set) = self.set(arm) else { return ArmStatus::default() };
        let status = set.status().borrow().clone();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        ArmStatus {
            // Replicas that were only just found again have not been asked yet.
            ready: (!unasked(&status)).then(|| count(status.ready_count())),
            replicas: count(status.replicas.len()),
            failure: status.failure().map(|failure| failure.to_string()).or_else(|| unresponsive(arm, &status)),
            gauges: gauges(&status),
            notes: status.replicas.iter().filter_map(note).collect(),
        }
    }

    fn give(&self, arm: Arm) -> Option<Arc<ReplicaSet>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)[arm.index()].take()
    }

    fn detach(&self) {
        for set in self.sets.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().filter_map(Option::take) {
            if let Some(set) = Arc::into_inner(set) {
                set.detach();
            }
        }
    }
}

fn unasked(status: &ReplicaSetStatus) -> bool {
    status.replicas.iter().all(|replica| replica.phase == Phase::Starting && !replica.ever_ready && replica.pid.is_some())
}

/// Processes that live and were ready, but none of which answers any more. A crashed one that is being restarted is not
/// meant: its restart policy decides.
fn unresponsive(arm: Arm, status: &ReplicaSetStatus) -> Option<String> {
    let mut reasons = status.replicas.iter().map(|replica| match &replica.phase {
        Phase::Unready { reason } => Some(format!("{}: {reason}", replica.id)),
        _ => None,
    });
    let first = reasons.next()??;
    reasons.all(|reason| reason.is_some()).then(|| format!("no {arm} replica responds ({first}); see its log in the state folder"))
}

fn gauges(status: &ReplicaSetStatus) -> ArmGauges {
    let mean = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    ArmGauges {
        cpu_percent: mean(status.replicas.iter().filter_map(|replica| replica.cpu_percent).collect()),
        memory_bytes: mean(status.replicas.iter().filter_map(|replica| replica.memory_bytes.map(|bytes| bytes as f64)).collect()),
        restarts: Some(status.replicas.iter().map(|replica| u64::from(replica.restarts)).sum()),
    }
}

fn note(replica: &crate::process::ReplicaStatus) -> Option<String> {
    let text = match &replica.phase {
        Phase::Ready => return None,
        Phase::Starting => "starting".to_owned(),
        Phase::Unready { reason } => format!("not ready: {reason}"),
        Phase::BackOff { restart_in_ms } => format!("restart in {}", serin_core::human_duration(*restart_in_ms)),
        Phase::Stopping => "stopping".to_owned(),
        Phase::Stopped => "stopped".to_owned(),
        Phase::Failed => "failed".to_owned(),
    };
    let exit = replica.last_exit.as_ref().map(|exit| format!(" ({exit})")).unwrap_or_default();
    Some(format!("{} {text}{exit}", replica.id))
}
