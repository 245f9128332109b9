//! The status as the journal: one write at a time, guarded by the version that was read and by the epoch.
//!
//! After a conflict the object is read again. If another owner wrote the engine's part since it was last seen, or it is another object of the
//! same name, or the lease is somebody else's, this owner is fenced and writes no more: whoever leads then goes on from what is there. Otherwise
//! somebody changed something else, and the write is tried again at once.

use std::{sync::Arc, time::Duration};

use kube::{Api, Client, api::PostParams};

use crate::{
    api::{ApiError, FIELD_MANAGER, Release, ReleaseStatus, within},
    route::Fence,
};

const CONFLICTS: u32 = 12;

/// Why the status was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum JournalError {
    /// Another owner writes from here on.
    #[error("another controller owns the release now")]
    Fenced,
    /// The release is gone.
    #[error("the release was deleted")]
    Gone,
    /// Not now.
    #[error("the status cannot be written: {0}")]
    Trouble(String),
}

/// Writes the status of one release.
#[derive(Clone)]
pub(super) struct Journal {
    api: Api<Release>,
    name: String,
    uid: String,
    epoch: u64,
    fence: Arc<dyn Fence>,
}

impl Journal {
    pub(super) fn new(client: Client, release: &Release, epoch: u64, fence: Arc<dyn Fence>) -> Self {
        let api = Api::namespaced(client, release.namespace());
        Self { api, name: release.name().to_owned(), uid: release.uid().to_owned(), epoch, fence }
    }

    /// Writes the status over what `known` has. Returns the object as it is then.
    pub(super) async fn write(&self, known: &Release, status: ReleaseStatus) -> Result<Release, JournalError> {
        let params = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let what = format!("update the status of Release {}", self.name);
        let mut object = known.clone();
        let mut conflicts = 0;
        loop {
            object.status = Some(status.clone());
            match within(&what, self.api.replace_status(&self.name, &params, &object)).await {
                Ok(written) => return Ok(written),
                Err(ApiError::Conflict(_)) if conflicts < CONFLICTS => {
                    conflicts += 1;
                    object = self.fresh(known).await?;
                    if !self.fence.holds().await {
                        return Err(JournalError::Fenced);
                    }
                    tokio::time::sleep(Duration::from_millis(rand::random_range(0..4 * u64::from(conflicts)))).await;
                }
                Err(ApiError::NotFound(_)) => return Err(JournalError::Gone),
                Err(error) => return Err(JournalError::Trouble(error.to_string())),
            }
        }
    }

    /// The object as it is now, if it is still ours.
    async fn fresh(&self, known: &Release) -> Result<Release, JournalError> {
        let what = format!("get Release {}", self.name);
        let found = match within(&what, self.api.get(&self.name)).await {
            Ok(found) => found,
            Err(ApiError::NotFound(_)) => return Err(JournalError::Gone),
            Err(error) => return Err(JournalError::Trouble(error.to_string())),
        };
        if found.uid() != self.uid {
            return Err(JournalError::Gone);
        }
        let engine = |release: &Release| release.status.as_ref().and_then(|status| status.engine.clone());
        // A write of ours of which no answer came may be there; one of any other epoch is somebody else's.
        let is_ours = engine(&found).is_some_and(|engine| engine.epoch == self.epoch) || engine(&found) == engine(known);
        if is_ours { Ok(found) } else { Err(JournalError::Fenced) }
    }
}
