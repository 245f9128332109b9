//! What is left where giving something back fails in the midst.

use serde_json::{Value, json};
use serin_spec::validated::WorkloadKind;

use super::*;
use crate::{
    api::{ADOPTED, MADE},
    controller::{Eyes, Recorder, Scope},
    release::Setting,
    testing::{FakeApi, Leads, status},
    workload::Memory,
};

fn deployment(name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "1", "annotations": annotations},
        "spec": {"replicas": 2, "paused": true, "selector": {"matchLabels": {"app": name}}, "template": {}},
    })
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";

/// A Deployment that this release has adopted, and its canary, which cannot be written until the server is healed.
async fn adopted(by: &str) -> (FakeApi, Memory) {
    let note = json!({"release": by, "name": "shop/shop", "proven": "shop-1"}).to_string();
    let made = json!({"release": by, "of": "shop"}).to_string();
    let api = FakeApi::start().await;
    let of = |name: &str, annotations: Value| {
        let path = format!("{DEPLOYMENTS}/{name}");
        api.put(&path, deployment(name, &annotations));
        api.get(&path).unwrap()
    };
    let both = [of("shop", json!({ADOPTED: note})), of("shop-canary", json!({MADE: made}))];
    let mut memory = Memory::empty();
    memory.remember(WorkloadKind::Deployment, both.map(|one| serde_json::from_value(one).unwrap()).into());
    api.put("/apis/apps/v1/namespaces/shop/replicasets", json!({"items": []}));
    api.fault(|method, path| (method == "PATCH" && path.contains("/shop-canary")).then(|| status(500)));
    (api, memory)
}

fn patched(api: &FakeApi, name: &str) -> Vec<Value> {
    let is_it = |path: &str| path == format!("{DEPLOYMENTS}/{name}");
    api.sent("PATCH").into_iter().filter(|(path, _)| is_it(path)).map(|(_, body)| body).collect()
}

#[tokio::test]
async fn the_note_on_a_deployment_goes_only_after_the_canary_has_an_owner() {
    let (api, memory) = adopted("1").await;
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
    api.heal();
    assert!(reign.give_back(&release, None).await.unwrap());
    assert_eq!(patched(&api, "shop-canary").last().unwrap()["metadata"]["ownerReferences"][0]["uid"], "1");
    assert_eq!(patched(&api, "shop")[0]["metadata"]["annotations"][ADOPTED], Value::Null);
}

#[tokio::test]
async fn what_was_made_for_another_release_is_left_to_that_one() {
    let (api, memory) = adopted("2").await;
    api.heal();
    let names = Names {
        release: "1".to_owned(),
        release_name: "shop/other".to_owned(),
        namespace: "shop".to_owned(),
        canary_namespace: "shop".to_owned(),
        kinds: [WorkloadKind::Deployment; 2],
        stable: "shop".to_owned(),
        canary: "shop-canary".to_owned(),
        is_managed: true,
        services: None,
    };
    let pair = Pair::new(&api.client, &memory, names, ["app".to_owned()].into(), Arc::new(Leads));
    pair.leave_to_collector().await.unwrap();
    assert_eq!(pair.give_back().await.unwrap(), None);
    assert_eq!(api.sent("PATCH").len(), 0);
}
