//! How many replicas a share needs, and how an old version is retired while something that traffic needs is gone.

use serde_json::{Value, json};

use super::*;
use crate::{
    release::fixture::{GATEWAY, memory, world},
    testing::FakeApi,
    workload::version_of,
};

const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/shop";

#[test]
fn a_share_needs_its_part_of_the_replicas() {
    let needed = |replicas, bps| share_of(replicas, WeightBps::new(bps).unwrap());
    assert_eq!([needed(10, 10_000), needed(10, 5_000), needed(10, 100), needed(3, 5_000), needed(0, 10_000)], [10, 5, 1, 2, 1]);
}

fn template(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "a", "image": "a:v2"}]}})
}

/// A Deployment with the judged template. `ready`: how many of its two replicas.
fn deployment(name: &str, ready: u8) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "generation": 1},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template(name)},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": ready, "availableReplicas": ready},
    })
}

/// A run whose canary has all traffic, and two ready replicas. `stable_ready`: stable's; `services`: those that are there.
async fn retiring(stable_ready: u8, services: &[&str]) -> (FakeApi, World) {
    let api = FakeApi::start().await;
    let all = vec![deployment("shop", stable_ready), deployment("trial", 2)];
    for (name, deployment) in ["shop", "trial"].into_iter().zip(&all) {
        api.put(&format!("/apis/apps/v1/namespaces/shop/deployments/{name}"), deployment.clone());
    }
    for kind in ["autoscaling/v2/namespaces/shop/horizontalpodautoscalers", "keda.sh/v1alpha1/namespaces/shop/scaledobjects"] {
        api.put(&format!("/apis/{kind}"), json!({"items": []}));
    }
    // Whatever its backends are, the gateway says that one of them is not there.
    let conditions = json!([
        {"type": "Accepted", "status": "True", "observedGeneration": 1},
        {"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound", "observedGeneration": 1},
    ]);
    let backends = json!([{"name": "shop", "port": 80, "weight": 0}, {"name": "trial", "port": 80, "weight": 1}]);
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": "shop", "generation": 1},
        "spec": {"rules": [{"backendRefs": backends}]},
        "status": {"parents": [{"controllerName": "c", "conditions": conditions}]},
    });
    api.put(ROUTE, route);
    let mut world = world(&api, GATEWAY, &memory(all, services));
    world.judged = version_of(&template("shop"), world.pair.arm_labels());
    world.router.expect(WeightBps::FULL, false);
    (api, world)
}

/// The weights of stable and the canary; one without a weight has none.
fn weights(api: &FakeApi) -> [u64; 2] {
    let route = api.get(ROUTE).unwrap();
    let backends = route["spec"]["rules"][0]["backendRefs"].as_array().unwrap();
    ["shop", "trial"].map(|name| backends.iter().find(|one| one["name"] == name).and_then(|one| one["weight"].as_u64()).unwrap_or(0))
}

#[tokio::test]
async fn stable_serves_at_once_if_the_canarys_service_goes_while_stable_comes_up() {
    let (api, world) = retiring(1, &["shop"]).await;
    let why = world.try_to_retire(EffectId(9)).await.unwrap_err();
    assert!(why.starts_with("nothing reaches the canary any more"), "{why}");
    assert_eq!(weights(&api)[1], 0);
    assert!(weights(&api)[0] > 0);
}

#[tokio::test]
async fn a_run_whose_canary_lost_its_service_ends_once_stable_is_up() {
    let (api, world) = retiring(2, &["shop"]).await;
    world.try_to_retire(EffectId(9)).await.unwrap();
    assert_eq!(weights(&api)[1], 0);
    assert_eq!(api.get("/apis/apps/v1/namespaces/shop/deployments/trial").unwrap()["spec"]["replicas"], 0);
    assert!(world.router.note().await.unwrap().is_some_and(|note| note.handed_over && note.done));
}

#[tokio::test]
async fn nothing_is_sent_to_a_stable_without_its_service() {
    let (api, world) = retiring(2, &["trial"]).await;
    let why = world.try_to_retire(EffectId(9)).await.unwrap_err();
    assert_eq!(why, "the Service shop/shop is gone: the canary stays until it is back");
    assert_eq!((weights(&api), api.bodies("PATCH").len()), ([0, 1], 0));
}
