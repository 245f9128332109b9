//! One request on one arm, from its assignment to the end of its answer's body. It is counted exactly once.
//!
//! The latency runs from the moment the request's head was received to the moment the last byte of the answer was handed
//! to the client's connection. Whoever drops a tracker without an outcome is a client that went away.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use http::Response;
use serin_core::traffic::{Arm, Assignment, Outcome};

use crate::{
    access_log::Line,
    classes::Subject,
    counters::{CellKey, Ended, Era},
    endpoint::EndpointState,
    open::OpenId,
    seen::Session,
    state::Live,
    worker::Worker,
};

/// What the access log says about a request, whatever becomes of it.
#[derive(Debug)]
pub(crate) struct LogContext {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) table_version: u64,
    pub(crate) weight_bps: u16,
}

/// What a request is about, for people.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) subject: Subject,
    /// `None`: it is not logged.
    pub(crate) log: Option<Box<LogContext>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tracker {
    worker: Arc<Worker>,
    era: Arc<Era>,
    key: CellKey,
    started: Instant,
    open: Option<OpenId>,
    session: Option<Session>,
    endpoint: Option<Arc<EndpointState>>,
    about: About,
    /// What the client saw; 0 before it saw anything.
    pub(crate) status: u16,
    /// Bytes of the answer's body so far.
    pub(crate) bytes: u64,
    finished: bool,
}

impl Tracker {
    /// `live`: the table that assigned it. `session`: of a sticky request.
    pub(crate) fn new(worker: Arc<Worker>, live: &Live, key: CellKey, started: Instant, session: Option<Session>, about: About) -> Self {
        let era = Arc::clone(&live.era);
        era.in_flight[key.arm.index()].fetch_add(1, Relaxed);
        let watched = match key.assignment {
            Assignment::Random | Assignment::Forced | Assignment::Matched | Assignment::Preview => true,
            Assignment::Sticky => session.as_ref().is_some_and(Session::is_first),
            Assignment::Mirror | Assignment::Rescue => false,
        };
        let open = watched.then(|| worker.shard.begin(era.number(), key, started));
        worker.shared.activity.happened();
        Self { worker, era, key, started, open, session, endpoint: None, about, status: 0, bytes: 0, finished: false }
    }

    /// The endpoint that works on it now.
    pub(crate) fn at(&mut self, endpoint: &Arc<EndpointState>) {
        self.leave();
        endpoint.begin();
        self.endpoint = Some(endpoint.clone());
    }

    /// No endpoint works on it any more.
    pub(crate) fn leave(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            endpoint.end();
        }
    }

    /// The head of the answer is there.
    pub(crate) fn answered<T>(&mut self, answer: &Response<T>) {
        self.status = answer.status().as_u16();
        self.about.subject.answered(answer);
    }

    /// Ends here but the request goes on elsewhere: what it is about goes along.
    pub(crate) fn handed_over(mut self, outcome: Outcome) -> About {
        let about = About { subject: self.about.subject.clone(), log: self.about.log.take() };
        self.finish(outcome);
        about
    }

    /// Counts it. Only the first outcome counts.
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let compared_on_stable = self.key.arm == Arm::Stable && self.key.assignment.is_compared();
        let replica = self.endpoint.as_ref().filter(|_| compared_on_stable).map(|endpoint| endpoint.number);
        self.leave();
        let shared = &self.worker.shared;
        self.era.in_flight[self.key.arm.index()].fetch_sub(1, Relaxed);
        let failed = outcome.is_error();
        let ended = Ended {
            era: self.era.number(),
            key: self.key,
            started: self.started,
            open: self.open.take(),
            outcome,
            class: failed.then(|| shared.counters.classes.class(self.key, outcome, self.status, &self.about.subject)),
            replica,
            first: self.session.as_ref().is_some_and(Session::is_first),
            first_error: failed && self.session.as_ref().is_some_and(Session::fails_first),
        };
        let latency_us = self.worker.shard.end(ended, Instant::now);
        shared.activity.happened();
        if let Some(log) = self.about.log.take() {
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
