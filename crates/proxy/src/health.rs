//! Active health checks: one task per endpoint of the table in service, for all workers together.
//!
//! An endpoint starts healthy, becomes unhealthy after the table's number of failures in a row (failed connects of
//! requests count as well), and healthy again with the first successful check.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serin_core::traffic::Arm;
use tokio::{
    net::TcpStream,
    task::AbortHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{endpoint::EndpointState, state::Shared, table::HealthCheck};

/// Keeps the checks in step with the table. Never ends.
pub(crate) async fn supervise(shared: Arc<Shared>) {
    let mut changes = shared.table_changes.subscribe();
    let mut checks: Vec<Check> = Vec::new();
    loop {
        changes.borrow_and_update();
        let wanted = wanted(&shared);
        checks.retain(|check| {
            let stays = wanted.iter().any(|(endpoint, health)| check.is_for(endpoint, health));
            if !stays {
                check.task.abort();
            }
            stays
        });
        for (endpoint, health) in wanted {
            if !checks.iter().any(|check| check.is_for(&endpoint, &health)) {
                let task = tokio::spawn(watch(shared.clone(), endpoint.clone(), health.clone())).abort_handle();
                checks.push(Check { endpoint, health, task });
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

struct Check {
    endpoint: Arc<EndpointState>,
    health: HealthCheck,
    task: AbortHandle,
}

impl Check {
    fn is_for(&self, endpoint: &Arc<EndpointState>, health: &HealthCheck) -> bool {
        Arc::ptr_eq(&self.endpoint, endpoint) && self.health == *health
    }
}

fn wanted(shared: &Shared) -> Vec<(Arc<EndpointState>, HealthCheck)> {
    let Some(live) = shared.live.load_full() else {
        return Vec::new();
    };
    let pools = [(Arm::Stable, Some(&live.table.stable)), (Arm::Canary, live.table.canary.as_ref())];
    pools
        .into_iter()
        .filter_map(|(arm, pool)| Some((arm, pool?.health.as_ref()?)))
        .flat_map(|(arm, health)| live.arm(arm).endpoints.iter().map(|endpoint| (endpoint.clone(), health.clone())))
        .collect()
}

async fn watch(shared: Arc<Shared>, endpoint: Arc<EndpointState>, health: HealthCheck) {
    let mut ticks = interval(Duration::from_millis(health.interval_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let limit = Duration::from_millis(health.timeout_ms);
        let result = match timeout(limit, check(&endpoint.address, health.path.as_deref())).await {
            Ok(result) => result,
            Err(_) => Err(format!("health check: no answer within {} ms", health.timeout_ms)),
        };
        let (was_healthy, before) = (endpoint.is_healthy(), endpoint.mark());
        match result {
            Ok(()) => endpoint.succeeded(),
            Err(error) => endpoint.failed(Some(health.failures), error),
        }
        let is_healthy = endpoint.is_healthy();
        if is_healthy != was_healthy {
            tracing::info!(endpoint = endpoint.id, healthy = is_healthy, "health changed");
        }
        if endpoint.mark() != before {
            shared.activity.happened();
        }
    }
}

async fn check(address: &str, path: Option<&str>) -> Result<(), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("health check: cannot connect: {error}"))?;
    let Some(path) = path else {
        return Ok(());
    };
    let no_http = |error: hyper::Error| format!("health check: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    let request = Request::get(path)
        .header(header::HOST, address)
        .header(header::USER_AGENT, "serin-health-check")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("health check: {error}"))?;
    // Both end with this function: nothing is left behind when the check is given up. A connection may end in the same
    // moment as it delivers the answer, so its end is not a failure by itself.
    let mut answer = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut answer => response,
        _ = connection => answer.await,
    };
    let response = response.map_err(no_http)?;
    match response.status().as_u16() {
        200..400 => Ok(()),
        status => Err(format!("health check: status {status}, expected 200 to 399")),
    }
}
