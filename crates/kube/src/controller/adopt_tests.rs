//! What is left where giving something back fails in the midst.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use serin_engine::Pending;

use super::*;
use crate::{
    api::{ADOPTED, MADE},
    controller::{Eyes, Recorder, Scope},
    fake_api::FakeApi,
    release::Setting,
    route::Fence,
    watch::Watched,
    workload::Memory,
};

struct Leads;

impl Fence for Leads {
    fn holds(&self) -> Pending<'_, bool> {
        Box::pin(std::future::ready(true))
    }
}

fn deployment(name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "1", "annotations": annotations},
        "spec": {"replicas": 2, "paused": true, "selector": {"matchLabels": {"app": name}}, "template": {}},
    })
}

/// A Deployment that this release has adopted, and its canary. Whether the canary may be written.
async fn adopted(by: &str) -> (FakeApi, Memory, Arc<AtomicBool>) {
    let note = json!({"release": by, "name": "shop/shop", "proven": "shop-1"}).to_string();
    let made = json!({"release": by, "of": "shop"}).to_string();
    let [stable, canary] = [deployment("shop", &json!({ADOPTED: note})), deployment("shop-canary", &json!({MADE: made}))];
    let memory = Memory {
        deployments: Arc::new(Watched::of([&stable, &canary].map(|one| serde_json::from_value(one.clone()).unwrap()).into())),
        services: Arc::new(Watched::of(vec![])),
        config_maps: Arc::new(Watched::of(vec![])),
    };
    let may_write = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&may_write);
    let api = FakeApi::start(move |asked| {
        let path = asked.path.split('?').next().unwrap_or_default();
        match (asked.method.as_str(), path.rsplit('/').next().unwrap_or_default()) {
            ("PATCH", "shop-canary") if !may.load(Ordering::SeqCst) => FakeApi::refusal(500),
            (_, "shop") if path.contains("/deployments/") => (200, stable.clone()),
            (_, "shop-canary") if path.contains("/deployments/") => (200, canary.clone()),
            ("GET", "replicasets") => (200, json!({"apiVersion": "apps/v1", "kind": "ReplicaSetList", "metadata": {}, "items": []})),
            _ => {
                (404, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "", "code": 404}))
            }
        }
    })
    .await;
    (api, memory, may_write)
}

fn patched(api: &FakeApi, name: &str) -> Vec<Value> {
    let is_it = |path: &str| path.split('?').next().is_some_and(|path| path.ends_with(&format!("/deployments/{name}")));
    api.asked("PATCH").into_iter().filter(|asked| is_it(&asked.path)).map(|asked| asked.body).collect()
}

#[tokio::test]
async fn the_note_on_a_deployment_goes_only_after_the_canary_has_an_owner() {
    let (api, memory, may_write) = adopted("1").await;
    let eyes = Eyes::open(&api.client, &Scope::Cluster);
    let setting = Setting {
        client: api.client.clone(),
        releases: Arc::clone(&eyes.releases),
        memory,
        fence: Arc::new(Leads),
        epoch: 1,
        recorder: Recorder::start(api.client.clone(), Arc::default(), "test", || true),
    };
    let reign = Reign::new(&api.client, &eyes, setting);
    let release: Release = serde_json::from_value(json!({"metadata": {"name": "shop", "namespace": "shop", "uid": "1"}})).unwrap();
    assert!(reign.give_back(&release, None).await.is_err());
    assert_eq!(patched(&api, "shop"), [Value::Null; 0], "it would not be found again");
    may_write.store(true, Ordering::SeqCst);
    assert!(reign.give_back(&release, None).await.unwrap());
    assert_eq!(patched(&api, "shop-canary").last().unwrap()["metadata"]["ownerReferences"][0]["uid"], "1");
    assert_eq!(patched(&api, "shop")[0]["metadata"]["annotations"][ADOPTED], Value::Null);
}

#[tokio::test]
async fn what_was_made_for_another_release_is_left_to_that_one() {
    let (api, memory, may_write) = adopted("2").await;
    may_write.store(true, Ordering::SeqCst);
    let names = Names {
        release: "1".to_owned(),
        release_name: "shop/other".to_owned(),
        namespace: "shop".to_owned(),
        stable: "shop".to_owned(),
        canary: "shop-canary".to_owned(),
        is_managed: true,
        services: None,
    };
    let pair = Pair::new(&api.client, &memory, names, ["app".to_owned()].into(), Arc::new(Leads));
    pair.leave_to_collector().await.unwrap();
    assert_eq!(pair.give_back().await.unwrap(), None);
    assert_eq!(api.asked("PATCH").len(), 0);
}
