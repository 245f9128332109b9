//! Numbers of replicas that others change as well: autoscalers, and people.

mod cluster;

use cluster::Shop;
use serde_json::{Value, json};

const HPA: (&str, &str) = ("autoscaling/v2", "HorizontalPodAutoscaler");

fn autoscaler(shop: &Shop, of: &str, min: u32, max: u32) {
    shop.cluster.apply(&format!(
        "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: {of}, namespace: shop}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {of}}}
  minReplicas: {min}
  maxReplicas: {max}
  metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 70}}}}}}]
"
    ));
}

fn ready(shop: &Shop, deployment: &str) -> u64 {
    shop.deployment(deployment)["status"]["readyReplicas"].as_u64().unwrap_or(0)
}

fn minimum(shop: &Shop) -> Value {
    shop.get(HPA.0, HPA.1, "shop")["spec"]["minReplicas"].clone()
}

#[test]
fn autoscalers_own_their_numbers_and_stable_is_kept_from_shrinking() {
    let Some(shop) = Shop::open("autoscalers_own_their_numbers_and_stable_is_kept_from_shrinking") else { return };
    autoscaler(&shop, "shop", 1, 5);
    autoscaler(&shop, "shop-canary", 1, 4);
    let traffic = shop.traffic();
    shop.controller();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 1h, gate: manual}, {weight: 50, hold: 1h}", ", bake: 1h");
    shop.until("the first stage", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    // Stable has two: with its load gone it would be shrunk to one, and a rollback would meet that.
    assert_eq!(minimum(&shop), 2);
    // The canary's autoscaler wants more than Serin has started: it gets them, and nothing puts that back.
    shop.cluster.patch(HPA, "shop", "shop-canary", &json!({"spec": {"minReplicas": 3}}));
    shop.until("what the autoscaler wants", |shop| (ready(shop, "shop-canary") == 3).then_some(()));
    shop.command("1", &json!("promote"));
    shop.until("everything for the canary", |shop| (shop.canary_weight().0 == 10_000).then_some(()));
    assert_eq!(ready(&shop, "shop-canary"), 3);
    assert_eq!(minimum(&shop), 2);
    shop.command("2", &json!("abort"));
    // Stable has its traffic again, and what is measured of it says otherwise for a while.
    shop.until("the canary to be stopped", |shop| (shop.deployment("shop-canary")["spec"]["replicas"] == 0).then_some(()));
    let waits = "stable's autoscaler to see the traffic";
    let reason = |shop: &Shop| shop.status()["reason"].as_str().unwrap_or_default().to_owned();
    shop.until("the autoscaler's time", |shop| reason(shop).contains(waits).then_some(()));
    assert_eq!(minimum(&shop), 2);
    shop.until_phase("RolledBack");
    assert_eq!(shop.deployment("shop-canary")["spec"]["replicas"], 0);
    assert_eq!(minimum(&shop), 1);
    assert_eq!(shop.get(HPA.0, HPA.1, "shop")["metadata"]["annotations"]["serin.dev/held-minimum"], Value::Null);
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v1", "v2"], "{counts:?}\n{}", shop.logs());
}

#[test]
fn the_canary_is_scaled_ahead_of_its_weight() {
    let Some(shop) = Shop::open("the_canary_is_scaled_ahead_of_its_weight") else { return };
    let traffic = shop.traffic();
    shop.controller();
    shop.new_version("v2");
    let pair = "stable: {deployment: shop}, canary: {deployment: shop-canary, replicas: 1}";
    shop.release_of(pair, "{weight: 20, hold: 1h}", "");
    shop.until("the first stage", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    assert_eq!(shop.deployment("shop-canary")["spec"]["replicas"], 1);
    // Stable is scaled up while the canary is on trial.
    shop.cluster.patch(("apps/v1", "Deployment"), "shop", "shop", &json!({"spec": {"replicas": 4}}));
    shop.until("four of stable", |shop| (ready(shop, "shop") == 4).then_some(()));
    shop.command("1", &json!({"weight": 5_000}));
    shop.until("half of it", |shop| (shop.canary_weight().0 == 5_000).then_some(()));
    assert!(ready(&shop, "shop-canary") >= 2);
    shop.command("2", &json!("promote"));
    // Everything goes to as many as stable has, and not before they are there.
    let (weight, replicas) = shop.until("all of it", |shop| {
        let replicas = ready(shop, "shop-canary");
        let weight = shop.canary_weight().0;
        (weight == 10_000).then_some((weight, replicas))
    });
    assert_eq!((weight, replicas), (10_000, 4));
    shop.until_phase("Succeeded");
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v1", "v2"], "{counts:?}\n{}", shop.logs());
}
