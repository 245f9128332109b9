//! Replicas and autoscalers at the end of a run, against an API server that answers what the test says.

use std::sync::Arc;

use serde_json::{Value, json};
use serin_engine::{Pending, source::Keyring};
use serin_spec::validated::Measures;

use super::*;
use crate::{
    api::{DECISION, HELD},
    fake_api::FakeApi,
    release::keys::ClusterKeys,
    route::{Decision, Fence, Owner, lens_of},
    watch::Watched,
    workload::{Memory, Names},
};

struct Leads;

impl Fence for Leads {
    fn holds(&self) -> Pending<'_, bool> {
        Box::pin(std::future::ready(true))
    }
}

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop", "resourceVersion": "1"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": {}},
        "status": {"readyReplicas": 2},
    })
}

/// A release of which stable has an autoscaler that it holds, and a route whose weights it has written, or not.
async fn world(is_touched: bool) -> (FakeApi, Arc<World>) {
    let document = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Release", "metadata": {"name": "shop"}, "spec": {
        "workload": {"kubernetes": {"stable": {"deployment": "shop"}, "canary": {"deployment": "shop-canary"}}},
        "traffic": {"gatewayApi": {"route": "shop", "stableService": "shop", "canaryService": "shop-canary"}},
        "strategy": {"canary": {"stages": [{"weight": 50, "hold": "1m"}]}},
    }});
    let place = Place::of(&serin_spec::load_cluster("shop", &document.to_string()).unwrap().release);
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
        "metadata": {"name": "shop", "namespace": "shop", "resourceVersion": "1", "annotations": annotations},
        "spec": {"rules": [{"backendRefs": [{"name": "shop", "port": 80, "weight": 10_000}, {"name": "shop-canary", "port": 80, "weight": 0}]}]},
    });
    let held = json!({"release": "1", "min": 1}).to_string();
    let autoscaler = json!({
        "metadata": {"name": "shop", "namespace": "shop", "resourceVersion": "1", "annotations": {HELD: held}},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "shop"}, "minReplicas": 1, "maxReplicas": 5},
    });
    let all = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscalerList", "metadata": {}, "items": [autoscaler]});
    let api = FakeApi::start(move |asked| {
        let path = asked.path.split('?').next().unwrap_or_default();
        match path.rsplit('/').next().unwrap_or_default() {
            "horizontalpodautoscalers" => (200, all.clone()),
            "scaledobjects" => FakeApi::refusal(404),
            _ if path.contains("/httproutes/") => (200, route.clone()),
            _ if path.contains("/horizontalpodautoscalers/") => (200, autoscaler.clone()),
            name => (200, deployment(name)),
        }
    })
    .await;
    let deployments = ["shop", "shop-canary"].map(|name| serde_json::from_value(deployment(name)).unwrap());
    let memory = Memory {
        deployments: Arc::new(Watched::of(deployments.into())),
        services: Arc::new(Watched::of(vec![])),
        config_maps: Arc::new(Watched::of(vec![])),
    };
    let names = Names {
        release: "1".to_owned(),
        release_name: "shop/shop".to_owned(),
        namespace: "shop".to_owned(),
        stable: "shop".to_owned(),
        canary: "shop-canary".to_owned(),
        is_managed: false,
        services: None,
    };
    let fence: Arc<dyn Fence> = Arc::new(Leads);
    let owner = Owner { release: "1".to_owned(), name: "shop/shop".to_owned(), run: 1, epoch: 1 };
    let keys: Arc<dyn Keyring> = Arc::new(ClusterKeys::new(api.client.clone(), "shop"));
    let world = World {
        client: api.client.clone(),
        router: ObjectRouter::new(api.client.clone(), "shop", lens_of(&place.traffic, "shop"), owner, Arc::clone(&fence)),
        pair: Pair::new(&api.client, &memory, names, ["app".to_owned()].into(), fence),
        place,
        namespace: "shop".to_owned(),
        route_namespace: "shop".to_owned(),
        judged: String::new(),
        canary_replicas: 0,
        unwanted: watch::channel(false).0,
        stable_peak: AtomicI32::new(0),
        granted_bps: AtomicU16::new(0),
        scaling: tokio::sync::Mutex::default(),
        note: Mutex::default(),
        sources: Sources::new(&Measures::default(), &keys),
    };
    (api, Arc::new(world))
}

/// Fields of specs that were written, by the object's kind.
fn written(api: &FakeApi) -> Vec<(String, Value)> {
    let kind = |path: &str| path.rsplit('/').nth(1).unwrap_or_default().to_owned();
    api.asked("PATCH").into_iter().map(|asked| (kind(&asked.path), asked.body["spec"].clone())).collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_share_needs_its_part_of_the_replicas() {
    let needed = |replicas, bps| share_of(replicas, WeightBps::new(bps).unwrap());
    assert_eq!([needed(10, 10_000), needed(10, 5_000), needed(10, 100), needed(3, 5_000), needed(0, 10_000)], [10, 5, 1, 2, 1]);
}

#[tokio::test]
async fn after_a_rollback_stables_minimum_stays_until_its_autoscaler_has_seen_the_traffic() {
    let (api, world) = world(true).await;
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
    let (api, world) = world(false).await;
    world.stop_canary(EffectId(2)).await.unwrap();
    let expected = [("deployments", json!({"replicas": 0})), ("horizontalpodautoscalers", json!({"minReplicas": 1}))];
    assert_eq!(written(&api), expected.map(|(kind, spec)| (kind.to_owned(), spec)));
}

#[tokio::test]
async fn a_canary_that_is_not_wanted_any_more_holds_nothing() {
    let (api, world) = world(true).await;
    world.grow(WeightBps::new(5_000).unwrap()).await.unwrap();
    assert_eq!(written(&api), [("horizontalpodautoscalers".to_owned(), json!({"minReplicas": 2}))]);
    world.unwanted.send_replace(true);
    assert!(world.grow(WeightBps::FULL).await.unwrap_err().text.contains("no longer wanted"));
    assert!(world.deploy().await.unwrap_err().text.contains("no longer wanted"));
    assert_eq!(written(&api).len(), 1);
}
