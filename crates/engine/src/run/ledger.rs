//! Remembers started processes in the store, so that a later control process finds them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    process::{Ledger, ReplicaRecord},
    store::Store,
};

/// The store, shared between the driver and the replicas' tasks. Each holds it for one short transaction.
pub(super) type SharedStore = Arc<Mutex<Store>>;

pub(super) struct StoreLedger(pub(super) SharedStore);

impl Ledger for StoreLedger {
    fn save(&self, record: &ReplicaRecord) {
        let saved = self.0.lock().unwrap_or_else(PoisonError::into_inner).save_process(record);
        if let Err(error) = saved {
            tracing::error!(replica = record.id, %error, "a started process could not be remembered; after a crash of serin it would have to be stopped by hand");
        }
    }

    fn forget(&self, id: &str) {
        let forgotten = self.0.lock().unwrap_or_else(PoisonError::into_inner).forget_process(id);
        if let Err(error) = forgotten {
            tracing::warn!(replica = id, %error, "a stopped process could not be forgotten");
        }
    }
}
