//! Replicas and autoscalers at the end of a run.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{DECISION, HELD},
    release::fixture::{GATEWAY, memory, world},
    route::Decision,
    testing::FakeApi,
};

const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/shop";
const AUTOSCALERS: &str = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers";

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": {}},
        "status": {"readyReplicas": 2},
    })
}

/// A run of which stable has an autoscaler that it holds, and a route whose weights it has written, or not.
async fn rolling_back(is_touched: bool) -> (FakeApi, Arc<World>) {
    let api = FakeApi::start().await;
    for name in ["shop", "trial"] {
        api.put(&format!("/apis/apps/v1/namespaces/shop/deployments/{name}"), deployment(name));
    }
    let note = Decision {
        release: "1".to_owned(),
        name: "shop/shop".to_owned(),
        run: 1,
        epoch: 1,
        order: 1,
        weight: 0,
        matches: false,
        retreated: true,
        handed_over: false,
        done: false,
        added: Vec::new(),
    };
    let annotations = if is_touched { json!({DECISION: note.text()}) } else { json!({}) };
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": "shop", "annotations": annotations},
        "spec": {"rules": [{"backendRefs": [{"name": "shop", "port": 80, "weight": 10_000}, {"name": "trial", "port": 80, "weight": 0}]}]},
    });
    api.put(ROUTE, route);
    let held = json!({"release": "1", "min": 1}).to_string();
    let autoscaler = json!({
        "metadata": {"name": "shop", "namespace": "shop", "annotations": {HELD: held}},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "shop"}, "minReplicas": 1, "maxReplicas": 5},
    });
    api.put(&format!("{AUTOSCALERS}/shop"), autoscaler);
    api.put(AUTOSCALERS, json!({"items": [api.get(&format!("{AUTOSCALERS}/shop")).unwrap()]}));
    let world = world(&api, GATEWAY, &memory(vec![deployment("shop"), deployment("trial")], &["shop", "trial"]));
    (api, Arc::new(world))
}

/// Fields of specs that were written, by the object's kind.
fn written(api: &FakeApi) -> Vec<(String, Value)> {
    let kind = |path: &str| path.rsplit('/').nth(1).unwrap_or_default().to_owned();
    api.sent("PATCH").into_iter().map(|(path, body)| (kind(&path), body["spec"].clone())).collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn after_a_rollback_stables_minimum_stays_until_its_autoscaler_has_seen_the_traffic() {
    let (api, world) = rolling_back(true).await;
    let stopped = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.stop_canary(EffectId(2)).await })
    };
    let is_waiting = || world.note().is_some_and(|note| note.contains("autoscaler to see"));
    until("the wait, or the end", || is_waiting() || stopped.is_finished()).await;
    assert!(is_waiting());
    assert_eq!(written(&api), [("deployments".to_owned(), json!({"replicas": 0}))]);
    stopped.abort();
}

#[tokio::test]
async fn stable_that_kept_its_traffic_waits_for_nothing() {
    let (api, world) = rolling_back(false).await;
    world.stop_canary(EffectId(2)).await.unwrap();
    let expected = [("deployments", json!({"replicas": 0})), ("horizontalpodautoscalers", json!({"minReplicas": 1}))];
    assert_eq!(written(&api), expected.map(|(kind, spec)| (kind.to_owned(), spec)));
}

#[tokio::test]
async fn a_canary_that_is_not_wanted_any_more_holds_nothing() {
    let (api, world) = rolling_back(true).await;
    world.grow(WeightBps::new(5_000).unwrap()).await.unwrap();
    assert_eq!(written(&api), [("horizontalpodautoscalers".to_owned(), json!({"minReplicas": 2}))]);
    world.unwanted.send_replace(true);
    assert!(world.grow(WeightBps::FULL).await.unwrap_err().text.contains("no longer wanted"));
    assert!(world.deploy().await.unwrap_err().text.contains("no longer wanted"));
    assert_eq!(written(&api).len(), 1);
}
