//! The counters that no status has.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;
use serin_engine::measure::Histogram;

/// Services that are counted; the daemon has fewer at any time.
const MOST_SERVICES: usize = 4_096;

/// What was counted since the daemon started.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    times: Mutex<Histogram>,
    in_flight: AtomicU64,
    failed_authentications: AtomicU64,
    lagged_streams: AtomicU64,
    services: Mutex<BTreeMap<String, OfService>>,
    missed_events: AtomicU64,
    /// The configuration cannot be read anew.
    config_failed: AtomicBool,
}

/// What is counted for each service, from its events.
#[derive(Debug, Clone, Default)]
pub(super) struct OfService {
    pub(super) journal_entries: u64,
    pub(super) effect_errors: u64,
    /// From the decision to roll back until routers were read back without canary traffic.
    pub(super) traffic_zero: Histogram,
}

/// Counts a request as being worked on until dropped.
pub(crate) struct InFlight(Arc<Measured>);

impl Measured {
    pub(crate) fn request_began(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(crate) fn request_ended(&self, route: &'static str, status: StatusCode, took: Duration) {
        *lock(&self.requests).entry((route, status.as_u16())).or_default() += 1;
        lock(&self.times).add(took.as_secs_f64());
    }

    pub(crate) fn authentication_failed(&self) {
        self.failed_authentications.fetch_add(1, Relaxed);
    }

    pub(crate) fn stream_lagged(&self) {
        self.lagged_streams.fetch_add(1, Relaxed);
    }

    /// How the last attempt to read the configuration anew ended.
    pub(crate) fn config_reloaded(&self, is_ok: bool) {
        self.config_failed.store(!is_ok, Relaxed);
    }

    pub(super) fn is_config_failed(&self) -> bool {
        self.config_failed.load(Relaxed)
    }

    pub(super) fn events_missed(&self) {
        self.missed_events.fetch_add(1, Relaxed);
    }

    /// Changes what is counted for a service.
    pub(super) fn of_service(&self, service: &str, change: impl FnOnce(&mut OfService)) {
        let mut services = lock(&self.services);
        // Deleted services are forgotten when the page is read; without a reader the newest are not counted.
        if services.len() < MOST_SERVICES || services.contains_key(service) {
            change(services.entry(service.to_owned()).or_default());
        }
    }

    /// Forgets services that there are no more; their number is bounded by that.
    pub(super) fn keep_services(&self, keep: impl Fn(&str) -> bool) -> BTreeMap<String, OfService> {
        let mut services = lock(&self.services);
        services.retain(|service, _| keep(service));
        services.clone()
    }

    pub(super) fn requests(&self) -> BTreeMap<(&'static str, u16), u64> {
        lock(&self.requests).clone()
    }

    pub(super) fn times(&self) -> Histogram {
        lock(&self.times).clone()
    }

    /// Requests in flight, failed authentications, streams that lagged, gaps in the events counted here.
    pub(super) fn totals(&self) -> [u64; 4] {
        [&self.in_flight, &self.failed_authentications, &self.lagged_streams, &self.missed_events].map(|one| one.load(Relaxed))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
