//! Versions that someone else runs. Serin sends them traffic and watches whether they are healthy; it never stops them.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serin_core::traffic::{Arm, ArmGauges, by_arm};
use serin_proxy::{
    protocol::Stats,
    table::{Endpoint, HealthCheck, Pool},
};
use serin_spec::validated::{External, ExternalArm};
use tokio::time::{Instant, sleep};

use super::{ArmStatus, Workload, WorkloadError};
use crate::{Pending, process::probe_address};

/// How long servers may take until the first health check succeeds, beside the time of the checks themselves.
const PATIENCE: Duration = Duration::from_secs(10);

/// Servers that run already.
pub struct ExternalWorkload {
    spec: External,
    used: [AtomicBool; 2],
}

impl ExternalWorkload {
    /// Servers that get no traffic yet.
    #[must_use]
    pub fn new(spec: External) -> Self {
        Self { spec, used: by_arm(|_| AtomicBool::new(false)) }
    }

    fn spec(&self, arm: Arm) -> &ExternalArm {
        match arm {
            Arm::Stable => &self.spec.stable,
            Arm::Canary => &self.spec.canary,
        }
    }
}

impl Workload for ExternalWorkload {
    fn start(&self, arm: Arm) -> Pending<'_, Result<(), WorkloadError>> {
        Box::pin(async move {
            let spec = self.spec(arm);
            let check = &spec.health;
            let patience = PATIENCE + Duration::from_millis(check.timeout_ms.saturating_mul(u64::from(check.failures)));
            let deadline = Instant::now() + patience;
            for endpoint in &spec.endpoints {
                while let Err(reason) = probe_address(check.path.as_deref(), check.timeout_ms, endpoint).await {
                    if Instant::now() >= deadline {
                        return Err(WorkloadError(format!(
                            "{arm} server {endpoint} is not healthy: {reason}; is it running, and is the health path right?"
                        )));
                    }
                    sleep(Duration::from_millis(check.interval_ms.min(500))).await;
                }
            }
            self.adopt(arm)
        })
    }

    fn adopt(&self, arm: Arm) -> Result<(), WorkloadError> {
        self.used[arm.index()].store(true, Ordering::Relaxed);
        Ok(())
    }

    fn stop(&self, arm: Arm) -> Pending<'_, Result<(), WorkloadError>> {
        self.used[arm.index()].store(false, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }

    fn pool(&self, arm: Arm) -> Option<Pool> {
        if !self.used[arm.index()].load(Ordering::Relaxed) {
            return None;
        }
        let ExternalArm { endpoints, health } = self.spec(arm);
        let endpoints = endpoints.iter().map(|address| Endpoint { id: address.clone(), address: address.clone() }).collect();
        let health = HealthCheck {
            path: health.path.clone(),
            interval_ms: health.interval_ms,
            timeout_ms: health.timeout_ms,
            failures: health.failures,
        };
        Some(Pool { endpoints, health: Some(health) })
    }

    fn arm(&self, arm: Arm, proxy: Option<&Stats>) -> ArmStatus {
        let replicas = u32::try_from(self.spec(arm).endpoints.len()).unwrap_or(u32::MAX);
        let mut status = ArmStatus { replicas, ..ArmStatus::default() };
        let Some(stats) = proxy else { return status };
        let mine: Vec<_> = stats.endpoints.iter().filter(|endpoint| endpoint.arm == arm).collect();
        if mine.is_empty() {
            return status;
        }
        let ready = mine.iter().filter(|endpoint| endpoint.healthy).count();
        status.ready = u32::try_from(ready).ok();
        let describe = |endpoint: &&serin_proxy::protocol::EndpointStats| {
            format!("{}: {}", endpoint.id, endpoint.last_error.as_deref().unwrap_or("unhealthy"))
        };
        status.notes = mine.iter().filter(|endpoint| !endpoint.healthy).map(describe).collect();
        if ready == 0 {
            status.failure = Some(format!("no {arm} server is healthy ({})", status.notes.join("; ")));
        }
        status.gauges = ArmGauges::default();
        status
    }
}
