//! An interrupted run, as store and latch remember it.

use std::sync::PoisonError;

use serin_core::{
    release::{State, TargetState},
    traffic::Arm,
};

use super::ledger::SharedStore;
use crate::{
    router::Split,
    store::{Latch, ReleaseRow, StateFolder, StoreError},
    workload::{Workload, WorkloadError},
};

/// What is known of an interrupted run before anything is touched.
pub(super) struct Resumed {
    pub(super) row: ReleaseRow,
    pub(super) state: State,
    pub(super) latch: Latch,
}

impl Resumed {
    pub(super) fn read(row: ReleaseRow, folder: &StateFolder, store: &SharedStore) -> Result<Self, StoreError> {
        let latch = Latch::open(folder.latch(row.id))?;
        let state = store.lock().unwrap_or_else(PoisonError::into_inner).journal(row.id)?.state();
        Ok(Self { row, state, latch })
    }

    /// Finds the processes again. Arms that the release had not started or had stopped stay as they are.
    pub(super) fn adopt(&self, workload: &dyn Workload) -> Result<(), WorkloadError> {
        workload.adopt(Arm::Stable)?;
        if self.state.deployed && !self.state.is_final() {
            workload.adopt(Arm::Canary)?;
        }
        Ok(())
    }

    /// What the routers were last asked for; nothing if the latch says that traffic was taken back since.
    pub(super) fn split(&self) -> Split {
        if self.latch.is_set() {
            return Split::default();
        }
        let any = |wanted: fn(&TargetState) -> bool| self.state.targets.values().any(wanted);
        Split { weight: self.state.asked_weight(), matches: any(|target| target.matches), preview: any(|target| target.preview) }
    }
}
