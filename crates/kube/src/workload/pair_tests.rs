//! Changes of Deployments while others change them, and while somebody else leads.

use std::sync::atomic::{AtomicUsize, Ordering};

use serin_engine::Pending;

use super::*;
use crate::{
    fake_api::FakeApi,
    watch::{Selection, watch_all},
};

/// Leads for so many questions.
struct Leads(AtomicUsize);

impl Fence for Leads {
    fn holds(&self) -> Pending<'_, bool> {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        Box::pin(std::future::ready(left.is_ok()))
    }
}

/// A canary of no replicas whose first patches meet conflicts.
async fn pair(conflicts: usize, leads_for: usize) -> (FakeApi, Pair) {
    let patches = AtomicUsize::new(0);
    let api = FakeApi::start(move |asked| {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "shop-canary", "namespace": "shop", "resourceVersion": patches.load(Ordering::SeqCst).to_string()},
            "spec": {"replicas": 0, "template": {}},
        });
        match asked.method.as_str() {
            "GET" if asked.path.contains("shop-canary") => (200, deployment),
            "PATCH" if patches.fetch_add(1, Ordering::SeqCst) < conflicts => FakeApi::refusal(409),
            "PATCH" => (200, deployment),
            _ => FakeApi::refusal(404),
        }
    })
    .await;
    let (deployments, _) = watch_all(Api::all_with(api.client.clone(), &deployments()), Selection::All);
    let (services, _) = watch_all(Api::all(api.client.clone()), Selection::All);
    let fence = Arc::new(Leads(AtomicUsize::new(leads_for)));
    let pair = Pair::new(&api.client, &Memory { deployments, services }, "shop", ["shop", "shop-canary"], BTreeSet::new(), fence);
    (api, pair)
}

#[tokio::test]
async fn a_conflict_is_read_again_and_tried_at_once() {
    let (api, pair) = pair(3, usize::MAX).await;
    pair.scale_canary(2).await.unwrap();
    let patches = api.asked("PATCH");
    let versions: Vec<_> = patches.iter().map(|one| one.body["metadata"]["resourceVersion"].as_str().unwrap()).collect();
    assert_eq!(versions, ["0", "1", "2", "3"], "each over what was read last");
    assert!(patches.iter().all(|one| one.body["spec"] == json!({"replicas": 2})));
}

#[tokio::test]
async fn conflicts_without_end_are_an_error_that_may_pass() {
    let (api, pair) = pair(usize::MAX, usize::MAX).await;
    let Err(PairError::Api(error)) = pair.scale_canary(2).await else { panic!("no error of the API") };
    assert!(matches!(error, ApiError::Conflict(_)) && error.is_transient(), "{error}");
    assert_eq!(api.asked("PATCH").len(), CONFLICTS as usize + 1);
}

#[tokio::test]
async fn whoever_does_not_lead_writes_nothing() {
    let (api, pair) = pair(0, 0).await;
    let error = pair.scale_canary(2).await.unwrap_err().to_string();
    assert!(error.contains("another controller leads"), "{error}");
    assert_eq!(api.asked("PATCH"), []);
}

#[tokio::test]
async fn whoever_leads_no_more_after_a_conflict_stops() {
    let (api, pair) = self::pair(usize::MAX, 2).await;
    assert!(pair.scale_canary(2).await.unwrap_err().to_string().contains("another controller leads"));
    assert_eq!(api.asked("PATCH").len(), 2);
}

#[tokio::test]
async fn what_is_so_already_is_not_written() {
    let (api, pair) = self::pair(0, usize::MAX).await;
    pair.scale_canary(0).await.unwrap();
    assert_eq!(api.asked("PATCH"), []);
}
