//! What the judge remembers, between owners of a run.
//!
//! It is stored packed: deflated JSON, as base64. Where that has no room in the status beside the state, it goes to one of two `ReleaseMemory`
//! objects that belong to the release, and the status names that object and the hash of what is in it. The one that the status names is never
//! written to; the other one is, before the status that will name it. So whichever write was the last to succeed, what the status names is
//! there. Both are written again and again and never deleted: they go with their release.
//!
//! Where they cannot be written, the status goes on to name what it named before in the same run: the engine takes up a memory that is older
//! than the state, with what was measured since missing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{
    Api, Client,
    api::PostParams,
    core::{ObjectMeta, Resource as _},
};
use serin_core::judge::Checkpoint;
use sha2::{Digest as _, Sha256};

use super::MAX_ENGINE_BYTES;
use crate::api::{ApiError, Elsewhere, Engine, FIELD_MANAGER, GROUP, Release, ReleaseMemory, VERSION, within};

/// The largest memory that is stored elsewhere, packed: about ten times what the largest document leads to.
const MAX_ELSEWHERE_BYTES: usize = 512 * 1024;
/// The largest memory that is read, unpacked: what packs better than any memory of ours is not one.
const MAX_JSON_BYTES: usize = 32 * 1024 * 1024;
/// Quick, and within a few percent of the smallest.
const LEVEL: u8 = 6;
const CONFLICTS: u32 = 4;

/// What became of a memory that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Placed {
    /// Beside the state.
    Here(String),
    /// In an object of its own.
    Elsewhere(Elsewhere),
}

/// Why a memory was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ShelfError {
    /// Another owner writes from here on.
    #[error("another controller owns the release now")]
    Fenced,
    /// Not there, or not now.
    #[error("{0}")]
    Trouble(String),
}

/// What a new owner finds.
#[derive(Debug)]
pub(crate) enum Recalled {
    /// All of it.
    Whole(Box<Checkpoint>),
    /// Nothing that can be used, and why.
    Lost(String),
}

/// Writes the memory of one release.
#[derive(Clone)]
pub(super) struct Shelf {
    api: Api<ReleaseMemory>,
    epoch: u64,
    owner: kube::core::ObjectMeta,
}

impl Shelf {
    pub(super) fn new(client: Client, release: &Release, epoch: u64) -> Self {
        Self { api: Api::namespaced(client, release.namespace()), epoch, owner: release.metadata.clone() }
    }

    /// Stores a memory. `in_use`: what the status at the server names at present, which is not touched.
    pub(super) async fn put(&self, packed: String, state_bytes: usize, in_use: Option<&Elsewhere>) -> Result<Placed, ShelfError> {
        if state_bytes + packed.len() <= MAX_ENGINE_BYTES {
            return Ok(Placed::Here(packed));
        }
        if packed.len() > MAX_ELSEWHERE_BYTES {
            let why = format!("it is larger than {} KiB", MAX_ELSEWHERE_BYTES / 1024);
            return Err(ShelfError::Trouble(why));
        }
        let hash = hash(&packed);
        if let Some(same) = in_use.filter(|in_use| in_use.hash == hash) {
            return Ok(Placed::Elsewhere(same.clone()));
        }
        let name = self.free(in_use);
        self.write(&name, packed).await?;
        Ok(Placed::Elsewhere(Elsewhere { name, hash }))
    }

    async fn write(&self, name: &str, content: String) -> Result<(), ShelfError> {
        let params = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let trouble = |error: ApiError| ShelfError::Trouble(error.to_string());
        let mut conflicts = 0;
        loop {
            let found = within(&format!("get ReleaseMemory {name}"), self.api.get_opt(name)).await.map_err(trouble)?;
            let outcome = match found {
                None => {
                    let object = self.object(name, content.clone());
                    within(&format!("create ReleaseMemory {name}"), self.api.create(&params, &object)).await
                }
                Some(found) if found.epoch > self.epoch => return Err(ShelfError::Fenced),
                Some(found) => {
                    let object = ReleaseMemory { epoch: self.epoch, content: content.clone(), ..found };
                    within(&format!("update ReleaseMemory {name}"), self.api.replace(name, &params, &object)).await
                }
            };
            match outcome {
                Ok(_) => return Ok(()),
                Err(ApiError::Conflict(_)) if conflicts < CONFLICTS => conflicts += 1,
                Err(error) => return Err(trouble(error)),
            }
        }
    }

    fn object(&self, name: &str, content: String) -> ReleaseMemory {
        ReleaseMemory {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: ReleaseMemory::kind(&()).into_owned(),
            metadata: ObjectMeta { name: Some(name.to_owned()), owner_references: Some(vec![self.owner()]), ..ObjectMeta::default() },
            epoch: self.epoch,
            content,
        }
    }

    fn owner(&self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
        k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "Release".to_owned(),
            name: self.owner.name.clone().unwrap_or_default(),
            uid: self.owner.uid.clone().unwrap_or_default(),
            controller: Some(true),
            // That would need a right on the finalizers of releases.
            block_owner_deletion: None,
        }
    }

    /// The one of the two that the status does not name. Their names have a part of the release's identity: what the garbage collector still
    /// has to remove of a deleted release of the same name is none of ours.
    fn free(&self, in_use: Option<&Elsewhere>) -> String {
        let uid: String = self.owner.uid.iter().flat_map(|uid| uid.chars()).filter(char::is_ascii_alphanumeric).take(12).collect();
        let [first, second] = ["a", "b"].map(|slot| format!("{}-{uid}-{slot}", self.owner.name.as_deref().unwrap_or_default()));
        if in_use.is_some_and(|in_use| in_use.name == first) { second } else { first }
    }
}

/// What the judge of a run that is under way remembers.
///
/// # Errors
/// If it cannot be read now and may be later.
pub(crate) async fn recall(client: &Client, namespace: &str, engine: &Engine) -> Result<Recalled, ApiError> {
    let packed = match (&engine.checkpoint, &engine.elsewhere) {
        (Some(packed), _) => packed.clone(),
        (None, None) => return Ok(Recalled::Lost("it could not be stored".to_owned())),
        (None, Some(elsewhere)) => {
            let api: Api<ReleaseMemory> = Api::namespaced(client.clone(), namespace);
            match within(&format!("get ReleaseMemory {}", elsewhere.name), api.get(&elsewhere.name)).await {
                Ok(found) if hash(&found.content) == elsewhere.hash => found.content,
                Ok(_) => return Ok(Recalled::Lost(format!("ReleaseMemory {} has another content than it should", elsewhere.name))),
                Err(error) if error.may_pass() => return Err(error),
                Err(error) => return Ok(Recalled::Lost(error.to_string())),
            }
        }
    };
    Ok(match unpack(&packed).and_then(|json| serde_json::from_str(&json).ok()) {
        Some(checkpoint) => Recalled::Whole(Box::new(checkpoint)),
        None => Recalled::Lost("it cannot be read".to_owned()),
    })
}

/// As it is stored.
pub(super) fn pack(json: &str) -> String {
    STANDARD.encode(miniz_oxide::deflate::compress_to_vec(json.as_bytes(), LEVEL))
}

fn unpack(packed: &str) -> Option<String> {
    let deflated = STANDARD.decode(packed).ok()?;
    String::from_utf8(miniz_oxide::inflate::decompress_to_vec_with_limit(&deflated, MAX_JSON_BYTES).ok()?).ok()
}

fn hash(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{FakeApi, status};

    const RELEASE: &str = r#"{"apiVersion": "serin.dev/v1alpha1", "kind": "Release", "metadata": {"name": "shop"}, "spec": {
        "workload": {"kubernetes": {"stable": {"deployment": "a"}, "canary": {"deployment": "b"}}},
        "traffic": {"gatewayApi": {"route": "a", "stableService": "a", "canaryService": "b"}},
        "strategy": {"canary": {"stages": [{"weight": 1, "hold": "1m"}]}}}}"#;
    const PLACE: &str = "/apis/serin.dev/v1alpha1/namespaces/shop/releasememories/";

    fn shelf(api: &FakeApi, epoch: u64) -> Shelf {
        let metadata = json!({"name": "shop", "namespace": "shop", "uid": "12345678-90ab-cdef"});
        Shelf::new(api.client.clone(), &serde_json::from_value(json!({"metadata": metadata})).unwrap(), epoch)
    }

    /// A memory that has no room in a status.
    fn large(letter: &str) -> String {
        letter.repeat(MAX_ENGINE_BYTES)
    }

    async fn put(shelf: &Shelf, content: &str, in_use: Option<&Elsewhere>) -> Elsewhere {
        match shelf.put(content.to_owned(), 1_000, in_use).await.unwrap() {
            Placed::Elsewhere(place) => place,
            Placed::Here(_) => panic!("in the status"),
        }
    }

    #[tokio::test]
    async fn what_the_status_names_is_never_written_to() {
        let api = FakeApi::start().await;
        let shelf = shelf(&api, 7);
        assert_eq!(shelf.put("small".to_owned(), 1_000, None).await, Ok(Placed::Here("small".to_owned())));
        assert!(api.calls().is_empty());
        let mut in_use: Option<Elsewhere> = None;
        for round in ["a", "b", "c", "d"] {
            let before = in_use.as_ref().map(|in_use| api.get(&format!("{PLACE}{}", in_use.name)).unwrap());
            let next = put(&shelf, &large(round), in_use.as_ref()).await;
            if let (Some(in_use), Some(before)) = (&in_use, before) {
                assert_ne!(next.name, in_use.name);
                assert_eq!(api.get(&format!("{PLACE}{}", in_use.name)), Some(before));
            }
            let found = api.get(&format!("{PLACE}{}", next.name)).unwrap();
            assert_eq!((&found["content"], &found["epoch"]), (&json!(large(round)), &json!(7)));
            assert_eq!(found["metadata"]["ownerReferences"][0]["uid"], "12345678-90ab-cdef");
            in_use = Some(next);
        }
        let writes = api.calls().len();
        assert_eq!(put(&shelf, &large("d"), in_use.as_ref()).await, in_use.unwrap(), "the same again");
        assert_eq!(api.calls().len(), writes, "is not written again");
    }

    #[tokio::test]
    async fn an_owner_before_writes_no_more() {
        let api = FakeApi::start().await;
        let place = put(&shelf(&api, 8), &large("b"), None).await;
        assert_eq!(shelf(&api, 7).put(large("a"), 1_000, None).await.map(drop), Err(ShelfError::Fenced));
        assert_eq!(api.get(&format!("{PLACE}{}", place.name)).unwrap()["content"], json!(large("b")));
        assert_eq!(put(&shelf(&api, 9), &large("c"), None).await.name, place.name);
    }

    #[tokio::test]
    async fn a_memory_that_is_not_what_was_meant_is_lost_and_one_that_cannot_be_read_now_is_not() {
        let api = FakeApi::start().await;
        let recalled = async |engine: &Engine| match recall(&api.client, "shop", engine).await {
            Ok(Recalled::Whole(_)) => "whole".to_owned(),
            Ok(Recalled::Lost(why)) => why,
            Err(error) => format!("error: {error}"),
        };
        let plan = serin_spec::load_cluster("", RELEASE).unwrap().release.plan;
        let release = serin_core::release::Release::new(plan, 1, serin_core::Timestamp(0));
        let packed = pack(&serde_json::to_string(&release.trial().checkpoint()).unwrap());
        let here = Engine { checkpoint: Some(packed.clone()), ..Engine::default() };
        assert_eq!(recalled(&here).await, "whole");
        assert!(recalled(&Engine { checkpoint: Some(pack("{")), ..Engine::default() }).await.contains("cannot be read"));
        assert!(recalled(&Engine::default()).await.contains("could not be stored"));

        let path = format!("{PLACE}one");
        api.put(&path, json!({"metadata": {"name": "one"}, "content": packed}));
        let elsewhere = Elsewhere { name: "one".to_owned(), hash: hash(&packed) };
        let engine = Engine { elsewhere: Some(elsewhere), ..Engine::default() };
        assert_eq!(recalled(&engine).await, "whole");
        api.fault(|_, _| Some(status(500)));
        assert!(recalled(&engine).await.starts_with("error: "));
        api.fault(|_, _| Some(status(403)));
        assert!(recalled(&engine).await.contains("not allowed"));
        api.heal();
        api.put(&path, json!({"metadata": {"name": "one"}, "content": pack("{}")}));
        assert!(recalled(&engine).await.contains("another content"));
        api.remove(&path);
        assert!(recalled(&engine).await.contains("not found"));
    }

    #[test]
    fn what_is_packed_is_unpacked_and_anything_else_is_not() {
        let json = format!("{{\"a\": \"{}\"}}", "x".repeat(100_000));
        let packed = pack(&json);
        assert!(packed.len() < 1_000);
        assert_eq!(unpack(&packed), Some(json));
        for broken in ["", "{\"a\": 1}", packed.split_at(40).0, &STANDARD.encode("abc")] {
            assert_eq!(unpack(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        assert_eq!(unpack(&pack(&" ".repeat(MAX_JSON_BYTES + 1))), None);
    }
}
