//! One request on one arm, from its assignment to the end of its answer's body. It is counted exactly once.
//!
//! The latency runs from the moment the request's head was received to the moment the last byte of the answer was handed
//! to the client's connection. Whoever drops a tracker without an outcome is a client that went away.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use serin_core::traffic::Outcome;

use crate::{access_log::Line, counters::CellKey, endpoint::EndpointState, worker::Worker};

/// What the access log says about a request, whatever becomes of it.
#[derive(Debug)]
pub(crate) struct LogContext {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) table_version: u64,
    pub(crate) weight_bps: u16,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tracker {
    worker: Arc<Worker>,
    key: CellKey,
    started: Instant,
    endpoint: Option<Arc<EndpointState>>,
    log: Option<Box<LogContext>>,
    /// What the client saw; 0 before it saw anything.
    pub(crate) status: u16,
    /// Bytes of the answer's body so far.
    pub(crate) bytes: u64,
    finished: bool,
}

impl Tracker {
    pub(crate) fn new(worker: Arc<Worker>, key: CellKey, started: Instant, log: Option<Box<LogContext>>) -> Self {
        worker.shared.in_flight[key.arm.index()].fetch_add(1, Relaxed);
        Self { worker, key, started, endpoint: None, log, status: 0, bytes: 0, finished: false }
    }

    /// The endpoint that works on it now.
    pub(crate) fn at(&mut self, endpoint: &Arc<EndpointState>) {
        self.leave();
        endpoint.begin();
        self.endpoint = Some(endpoint.clone());
    }

    /// Ends here but the request goes on elsewhere: the log line goes along.
    pub(crate) fn handed_over(mut self, outcome: Outcome) -> Option<Box<LogContext>> {
        let log = self.log.take();
        self.finish(outcome);
        log
    }

    /// Counts it. Only the first outcome counts.
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.leave();
        let shared = &self.worker.shared;
        shared.in_flight[self.key.arm.index()].fetch_sub(1, Relaxed);
        let latency_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.worker.shard.record(self.key, outcome, latency_us);
        if let Some(log) = self.log.take() {
            shared.log.write(Line {
                time: now(),
                method: log.method,
                path: log.path,
                status: self.status,
                outcome: Some(outcome),
                arm: Some(self.key.arm),
                assignment: Some(self.key.assignment),
                weight_bps: self.key.weight.canary_bps(),
                table_version: log.table_version,
                duration_us: latency_us,
                bytes: self.bytes,
            });
        }
    }

    fn leave(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            endpoint.end();
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.finish(Outcome::ClientAborted);
    }
}

/// The time of a log line.
pub(crate) fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}
