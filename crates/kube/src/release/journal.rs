//! The status as the journal: one write at a time, guarded by the version that was read and by the epoch.
//!
//! After a conflict the object is read again. If another owner wrote the engine's part since it was last seen, or it is another object of the
//! same name, or the lease is somebody else's, this owner is fenced and writes no more: whoever leads then goes on from what is there. Otherwise
//! somebody changed something else, and the write is tried again at once.

use std::{sync::Arc, time::Duration};

use kube::{Api, Client, api::PostParams};

use super::memory::{Placed, Shelf, ShelfError, pack};
use crate::{
    api::{ApiError, Elsewhere, FIELD_MANAGER, Release, ReleaseStatus, within},
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
    shelf: Shelf,
}

/// A status that was written.
#[derive(Debug)]
pub(super) struct Kept {
    /// The object as it is then.
    pub(super) object: Release,
    /// Why what the judge remembers is not all there.
    pub(super) lacking: Option<String>,
}

impl Journal {
    pub(super) fn new(client: Client, release: &Release, epoch: u64, fence: Arc<dyn Fence>) -> Self {
        let api = Api::namespaced(client.clone(), release.namespace());
        let shelf = Shelf::new(client, release, epoch);
        Self { api, name: release.name().to_owned(), uid: release.uid().to_owned(), epoch, fence, shelf }
    }

    /// Writes the status over what `known` has, with what the judge remembers (JSON).
    pub(super) async fn write(&self, known: &Release, status: ReleaseStatus, memory: Option<String>) -> Result<Kept, JournalError> {
        let packed = memory.map(|json| tokio::task::block_in_place(|| pack(&json)));
        let params = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let what = format!("update the status of Release {}", self.name);
        let mut object = known.clone();
        let mut conflicts = 0;
        loop {
            let mut fresh = status.clone();
            let lacking = match &packed {
                Some(packed) => self.place(&mut fresh, packed, known, &mut object).await?,
                None => None,
            };
            object.status = Some(fresh);
            match within(&what, self.api.replace_status(&self.name, &params, &object)).await {
                Ok(object) => return Ok(Kept { object, lacking }),
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

    /// Puts what the judge remembers into the status, or where the status names it. Says why it is not all there, if so.
    async fn place(
        &self,
        status: &mut ReleaseStatus,
        packed: &str,
        known: &Release,
        object: &mut Release,
    ) -> Result<Option<String>, JournalError> {
        let Some(engine) = &mut status.engine else { return Ok(None) };
        // As it is at the server: an answer to the last write may have been lost, and what the status names there is not to be touched.
        if engine.state.len() + packed.len() > super::MAX_ENGINE_BYTES {
            *object = self.fresh(known).await?;
        }
        let in_use = elsewhere(object);
        match self.shelf.put(packed.to_owned(), engine.state.len(), in_use.as_ref()).await {
            Ok(Placed::Here(packed)) => engine.checkpoint = Some(packed),
            Ok(Placed::Elsewhere(place)) => engine.elsewhere = Some(place),
            Err(ShelfError::Fenced) => return Err(JournalError::Fenced),
            Err(ShelfError::Trouble(why)) => {
                let is_same_run = object.status.as_ref().is_some_and(|before| before.run == status.run);
                engine.elsewhere = in_use.filter(|_| is_same_run);
                return Ok(Some(why));
            }
        }
        Ok(None)
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

fn elsewhere(release: &Release) -> Option<Elsewhere> {
    release.status.as_ref()?.engine.as_ref()?.elsewhere.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::Engine,
        testing::{FakeApi, Leads, status as answer},
    };

    const PATH: &str = "/apis/serin.dev/v1alpha1/namespaces/shop/releases/shop";

    /// What no packing makes small.
    fn noise(seed: u64) -> String {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + u8::try_from((state >> 40) % 26).unwrap())
        };
        (0..80_000).map(|_| next()).collect()
    }

    fn status(run: u64, epoch: u64) -> ReleaseStatus {
        ReleaseStatus { run, engine: Some(Engine { epoch, state: "{}".to_owned(), ..Engine::default() }), ..ReleaseStatus::default() }
    }

    async fn open(epoch: u64) -> (FakeApi, Journal, Release) {
        let api = FakeApi::start().await;
        api.put(PATH, json!({"metadata": {"name": "shop", "namespace": "shop", "uid": "u-1"}}));
        let known: Release = serde_json::from_value(api.get(PATH).unwrap()).unwrap();
        let journal = Journal::new(api.client.clone(), &known, epoch, Arc::new(Leads));
        (api, journal, known)
    }

    fn named(api: &FakeApi) -> Value {
        let engine = api.get(PATH).unwrap()["status"]["engine"].clone();
        assert!(engine["checkpoint"].is_null());
        engine["elsewhere"].clone()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_small_memory_stands_in_the_status_and_a_large_one_elsewhere() {
        let (api, journal, known) = open(3).await;
        let kept = journal.write(&known, status(1, 3), Some("{}".to_owned())).await.unwrap();
        let engine = kept.object.status.clone().unwrap().engine.unwrap();
        assert!(kept.lacking.is_none() && engine.checkpoint.is_some() && engine.elsewhere.is_none());
        let kept = journal.write(&kept.object, status(1, 3), Some(noise(1))).await.unwrap();
        assert!(kept.lacking.is_none());
        let first = named(&api);
        // The answer to this one is lost: what is known is not what the server has.
        let lost = journal.write(&kept.object, status(1, 3), Some(noise(2))).await.unwrap();
        let second = named(&api);
        assert_ne!(first["name"], second["name"]);
        drop(lost);
        let memory = format!("/apis/serin.dev/v1alpha1/namespaces/shop/releasememories/{}", second["name"].as_str().unwrap());
        let before = api.get(&memory);
        api.fault(|method, path| (method == "PUT" && path.contains("/status")).then(|| answer(500)));
        let failed = journal.write(&kept.object, status(1, 3), Some(noise(3))).await;
        assert!(matches!(failed, Err(JournalError::Trouble(_))), "{failed:?}");
        assert!(before.is_some() && api.get(&memory) == before && named(&api) == second, "what the status names was written to");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_memory_that_cannot_be_stored_costs_no_status() {
        let (api, journal, known) = open(3).await;
        let kept = journal.write(&known, status(1, 3), Some(noise(1))).await.unwrap();
        let before = named(&api);
        api.fault(|_, path| path.contains("releasememories").then(|| answer(403)));
        let kept = journal.write(&kept.object, status(1, 3), Some(noise(2))).await.unwrap();
        assert!(kept.lacking.is_some_and(|why| why.contains("not allowed")));
        assert_eq!(named(&api), before, "what was remembered before is better than nothing");
        let kept = journal.write(&kept.object, status(2, 3), Some(noise(2))).await.unwrap();
        assert!(kept.lacking.is_some() && named(&api).is_null(), "but not that of another run");
    }
}
