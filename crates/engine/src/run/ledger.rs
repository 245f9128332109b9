//! Remembers started processes in the store, so that a later control process finds them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    process::{Ledger, ReplicaRecord},
    store::{Store, StoreError},
};

/// The store, shared between the driver and the replicas' tasks. Each holds it for one short transaction.
pub(crate) type SharedStore = Arc<Mutex<Store>>;

pub(crate) struct StoreLedger(pub(crate) SharedStore);

impl StoreLedger {
    /// The disk may take its time, and the runtime is told so: other tasks, moves of traffic among them, go on elsewhere.
    fn write(&self, write: impl FnOnce(&Store) -> Result<(), StoreError>) -> Result<(), StoreError> {
        tokio::task::block_in_place(|| write(&self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Ledger for StoreLedger {
    fn save(&self, record: &ReplicaRecord) {
        let saved = self.write(|store| store.save_process(record));
        if let Err(error) = saved {
            tracing::error!(replica = record.id, %error, "a started process could not be remembered; after a crash of serin it would have to be stopped by hand");
        }
    }

    fn forget(&self, id: &str) {
        let forgotten = self.write(|store| store.forget_process(id));
        if let Err(error) = forgotten {
            tracing::warn!(replica = id, %error, "a stopped process could not be forgotten");
        }
    }
}
