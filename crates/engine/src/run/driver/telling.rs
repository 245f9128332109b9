//! What a driver tells of its release: to whoever watches, and to the recording.

use serin_core::{Timestamp, traffic::Arm};

use super::{
    super::{
        ArmTotals, StatusReport,
        status::{Sources, report},
    },
    Driver,
};
use crate::workload;

impl Driver {
    pub(super) fn record(&mut self, now: Timestamp, least_ms: u64) {
        let (state, assessment) = (self.release.state(), self.release.trial().assessment());
        if let Some(sample) = self.gatherer.due(now, least_ms, state.asked_weight(), assessment) {
            self.recorder.take(sample);
        }
    }

    pub(super) fn arms(&self) -> [workload::ArmStatus; 2] {
        let stats = self.world.stats.borrow().clone();
        serin_core::traffic::by_arm(|arm| self.world.workload.arm(arm, stats.as_deref()))
    }

    /// Nobody may look: a server asks when somebody does.
    pub(super) fn is_watched(&self) -> bool {
        self.feed.status.receiver_count() > 0 || self.status.receiver_count() > 0
    }

    pub(super) fn publish(&self) {
        if !self.is_watched() {
            return;
        }
        let report = self.report();
        self.feed.status.send_replace(Some(report.clone()));
        self.status.send_replace(Some(report));
    }

    /// How the release is right now.
    pub(crate) fn report(&self) -> StatusReport {
        let sources = Sources {
            release: &self.release,
            document_hash: &self.row.document_hash,
            run: self.row.run,
            meter: &self.meter,
            recent: &self.recent,
            arms: self.arms(),
            store_fault: self.store_fault.clone(),
            journal_backlog: self.backlog.iter().map(|batch| batch.entries.len() as u64).sum(),
            effects_running: self.running.len() as u64,
            listen: self.listen.clone(),
            preview: self.preview,
        };
        report(sources)
    }

    /// Errors and requests of an arm since the release began.
    pub(crate) fn totals(&self, arm: Arm) -> ArmTotals {
        self.meter.totals(arm)
    }
}
