//! Live endpoints: health and requests in flight of each server, and who gets the next request.
//!
//! The state of an endpoint that stays in the table (same id and address) is kept across tables, also when it moves from
//! the canary to stable. Among healthy endpoints the less busy of two random ones is taken.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use rand::RngExt as _;
use serin_core::traffic::Arm;

use crate::{lock, protocol::EndpointStats, table::Pool};

/// State of one server, shared by all workers.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// No other endpoint of this process has it, whatever its id.
    pub(crate) number: u64,
    pub(crate) id: String,
    pub(crate) address: String,
    healthy: AtomicBool,
    in_flight: AtomicU64,
    /// Checks.
    failures_in_row: AtomicU32,
    /// Connections.
    refused_in_row: AtomicU32,
    last_error: Mutex<Option<String>>,
    /// Grows whenever health or the newest error become others.
    changes: AtomicU64,
}

impl EndpointState {
    pub(crate) fn new(id: &str, address: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Relaxed),
            id: id.to_owned(),
            address: address.to_owned(),
            healthy: AtomicBool::new(true),
            in_flight: AtomicU64::new(0),
            failures_in_row: AtomicU32::new(0),
            refused_in_row: AtomicU32::new(0),
            last_error: Mutex::new(None),
            changes: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }

    /// A connection stands. What checks say is another matter: a server that hangs accepts connections all the same.
    pub(crate) fn connected(&self) {
        self.refused_in_row.store(0, Relaxed);
    }

    /// A connection failed; see [`failed`](Self::failed).
    pub(crate) fn refused(&self, limit: Option<u32>, error: String) {
        self.failed_as(&self.refused_in_row, limit, error);
    }

    /// A check succeeded.
    pub(crate) fn succeeded(&self) {
        self.failures_in_row.store(0, Relaxed);
        self.refused_in_row.store(0, Relaxed);
        self.set_healthy(true);
        self.set_error(None);
    }

    /// A check failed. `limit`: failures in a row that make it unhealthy; `None` if nothing checks it,
    /// because then nothing would ever make it healthy again.
    pub(crate) fn failed(&self, limit: Option<u32>, error: String) {
        self.failed_as(&self.failures_in_row, limit, error);
    }

    fn failed_as(&self, in_row: &AtomicU32, limit: Option<u32>, error: String) {
        let failures = in_row.fetch_add(1, Relaxed).saturating_add(1);
        self.set_error(Some(error));
        if limit.is_some_and(|limit| failures >= limit) {
            self.set_healthy(false);
        }
    }

    /// Nothing checks it any more: it counts as healthy.
    pub(crate) fn unchecked(&self) {
        self.failures_in_row.store(0, Relaxed);
        self.refused_in_row.store(0, Relaxed);
        self.set_healthy(true);
    }

    /// Two numbers of which at least one is another when [`stats`](Self::stats) are.
    pub(crate) fn mark(&self) -> (u64, u64) {
        (self.changes.load(Relaxed), self.in_flight.load(Relaxed))
    }

    fn set_healthy(&self, healthy: bool) {
        if self.healthy.swap(healthy, Relaxed) != healthy {
            self.changes.fetch_add(1, Relaxed);
        }
    }

    fn set_error(&self, error: Option<String>) {
        let mut last = lock(&self.last_error);
        if *last != error {
            *last = error;
            self.changes.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    pub(crate) fn stats(&self, arm: Arm) -> EndpointStats {
        EndpointStats {
            arm,
            id: self.id.clone(),
            healthy: self.is_healthy(),
            in_flight: self.in_flight.load(Relaxed),
            last_error: lock(&self.last_error).clone(),
        }
    }
}

/// The endpoints of one arm in one table.
#[derive(Debug, Default)]
pub(crate) struct ArmEndpoints {
    pub(crate) endpoints: Vec<Arc<EndpointState>>,
    pub(crate) failure_limit: Option<u32>,
}

impl ArmEndpoints {
    /// The endpoints of `pool`, each with its state from before where it had one.
    pub(crate) fn new(pool: &Pool, before: impl Fn(&str, &str) -> Option<Arc<EndpointState>>) -> Self {
        let endpoints = pool
            .endpoints
            .iter()
            .map(|endpoint| {
                before(&endpoint.id, &endpoint.address).unwrap_or_else(|| Arc::new(EndpointState::new(&endpoint.id, &endpoint.address)))
            })
            .collect::<Vec<_>>();
        if pool.health.is_none() {
            endpoints.iter().for_each(|endpoint| endpoint.unchecked());
        }
        Self { endpoints, failure_limit: pool.health.as_ref().map(|health| health.failures) }
    }

    pub(crate) fn find(&self, id: &str, address: &str) -> Option<Arc<EndpointState>> {
        self.endpoints.iter().find(|endpoint| endpoint.id == id && endpoint.address == address).cloned()
    }

    /// The endpoint for a request that has failed to connect to those in `tried`.
    ///
    /// `last_resort`: when no healthy one is left, take an unhealthy one rather than none.
    pub(crate) fn pick(&self, tried: &[Arc<EndpointState>], last_resort: bool, rng: &mut impl rand::Rng) -> Option<Arc<EndpointState>> {
        let untried = |endpoint: &&Arc<EndpointState>| !tried.iter().any(|other| Arc::ptr_eq(other, endpoint));
        less_busy(|| self.endpoints.iter().filter(untried).filter(|endpoint| endpoint.is_healthy()), rng)
            .or_else(|| last_resort.then(|| less_busy(|| self.endpoints.iter().filter(untried), rng)).flatten())
    }
}

fn less_busy<'a, I: Iterator<Item = &'a Arc<EndpointState>>>(
    candidates: impl Fn() -> I,
    rng: &mut impl rand::Rng,
) -> Option<Arc<EndpointState>> {
    let count = candidates().count();
    let chosen = match count {
        0 => return None,
        1 => candidates().next(),
        _ => {
            let first = rng.random_range(0..count);
            let step = rng.random_range(1..count);
            let (one, other) = (candidates().nth(first), candidates().nth((first + step) % count));
            match (one, other) {
                (Some(one), Some(other)) if other.in_flight.load(Relaxed) < one.in_flight.load(Relaxed) => Some(other),
                (one, other) => one.or(other),
            }
        }
    };
    chosen.cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Endpoint, HealthCheck};

    fn arm(count: usize, failures: Option<u32>) -> ArmEndpoints {
        let pool = Pool {
            endpoints: (0..count).map(|n| Endpoint { id: format!("e{n}"), address: format!("127.0.0.1:{}", n + 1) }).collect(),
            health: failures.map(|failures| HealthCheck { path: None, interval_ms: 1, timeout_ms: 1, failures }),
        };
        ArmEndpoints::new(&pool, |_, _| None)
    }

    #[test]
    fn the_less_busy_of_two_is_taken() {
        let arm = arm(2, None);
        arm.endpoints[0].begin();
        for _ in 0..50 {
            assert_eq!(arm.pick(&[], false, &mut rand::rng()).unwrap().id, "e1");
        }
    }

    #[test]
    fn unhealthy_and_tried_ones_are_skipped() {
        let arm = arm(3, Some(2));
        for _ in 0..2 {
            arm.endpoints[0].failed(arm.failure_limit, "refused".to_owned());
        }
        let tried = [arm.endpoints[1].clone()];
        for _ in 0..50 {
            assert_eq!(arm.pick(&tried, false, &mut rand::rng()).unwrap().id, "e2");
        }
        let tried = [arm.endpoints[1].clone(), arm.endpoints[2].clone()];
        assert!(arm.pick(&tried, false, &mut rand::rng()).is_none());
        assert_eq!(arm.pick(&tried, true, &mut rand::rng()).unwrap().id, "e0");
        arm.endpoints[0].succeeded();
        assert!(arm.pick(&tried, false, &mut rand::rng()).is_some());
    }

    #[test]
    fn without_a_check_nothing_becomes_unhealthy() {
        let arm = arm(1, None);
        for _ in 0..10 {
            arm.endpoints[0].failed(arm.failure_limit, "refused".to_owned());
        }
        assert!(arm.endpoints[0].is_healthy());
        assert_eq!(arm.endpoints[0].stats(Arm::Stable).last_error.as_deref(), Some("refused"));
    }
}
