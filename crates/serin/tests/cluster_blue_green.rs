//! Blue-green in a cluster: green is looked at before anybody is sent to it, gets everything at once, and blue stays warm for the way back.

mod cluster;

use cluster::Shop;
use serde_json::{Value, json};
use serin_testkit::{cluster::Door, http};

const HOST: &str = "web.shop.svc.cluster.local";

/// A Service whose selector is switched, and an address that leads to green alone.
const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {team: shop, app: shop}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: green, namespace: shop}
spec: {hosts: [127.0.0.1], http: [{route: [{destination: {host: shop-canary}}]}]}
";

fn release(shop: &Shop, traffic: &Value, retain: &str) {
    let preview = shop.cluster.door(Door::Mesh);
    let checks = "[{http: {path: /, every: 200ms, successes: 3, failures: 5}}]";
    let preview = format!("{{hold: 2s, address: '{preview}', checks: {checks}}}");
    let mut document = shop.judged(&format!("blueGreen: {{preview: {preview}, bake: 3s, retain: {retain}}}"));
    document["spec"]["traffic"] = traffic.clone();
    document["spec"]["analysis"]["criteria"] = json!([{"metric": "failures", "max": "20%"}]);
    shop.apply(&document);
}

fn selected(shop: &Shop) -> Value {
    shop.get("v1", "Service", "web")["spec"]["selector"].clone()
}

#[test]
fn green_is_looked_at_and_then_gets_everything_at_once() {
    let Some(shop) = Shop::open_measured("green_is_looked_at_and_then_gets_everything_at_once") else { return };
    shop.cluster.apply(OBJECTS);
    shop.until("the service to serve", |shop| (shop.ask_at(Door::Mesh, HOST, &[]).ok()? == "v1").then_some(()));
    shop.controller();
    let traffic = shop.traffic_at(Door::Mesh, HOST);

    shop.until_scraped();
    // Green that fails its checks is never seen by anybody.
    shop.change_canary(|container| container["args"] = json!(["--error-rate=100%"]));
    release(&shop, &json!({"service": {"service": "web", "stable": {"app": "shop"}, "canary": {"app": "shop-canary"}}}), "0s");
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("answered 500"), "{status:#}");
    assert_eq!(traffic.counts().keys().map(String::as_str).collect::<Vec<_>>(), ["v1"], "{:?}", traffic.counts());

    // One that passes gets everything, and is measured with it.
    shop.change_canary(|container| {
        container.as_object_mut().unwrap().remove("args");
        container["image"] = json!("registry.example/sample-app:v2");
    });
    shop.until("the switch", |shop| (selected(shop)["app"] == "shop-canary").then_some(()));
    let status = shop.until("the end", |shop| {
        let status = shop.status();
        (status["run"] == 2 && status["phase"] == "Succeeded").then_some(status)
    });
    let heads: Vec<&str> = status["timeline"].as_array().unwrap().iter().filter_map(|line| line["head"].as_str()).collect();
    assert!(heads.contains(&"preview asked") && heads.contains(&"bake passed"), "{status:#}");
    assert_eq!(selected(&shop), json!({"team": "shop", "app": "shop"}));
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v1", "v2"], "{counts:?}");
    assert_eq!(shop.ask_at(Door::Mesh, HOST, &[]).as_deref(), Ok("v2"));
}

#[test]
fn green_that_crashes_after_the_switch_loses_its_traffic_in_seconds() {
    let Some(shop) = Shop::open_measured("green_that_crashes_after_the_switch_loses_its_traffic_in_seconds") else { return };
    shop.cluster.apply(OBJECTS);
    shop.controller();
    let traffic = shop.traffic();
    shop.until_scraped();
    shop.new_version("v2");
    release(&shop, &json!({"gatewayApi": {"route": "shop", "stableService": "shop", "canaryService": "shop-canary"}}), "10m");
    shop.until_phase("Retained");
    assert_eq!(shop.canary_weight(), (10_000, 1));
    // Every pod of green, whenever it is started again.
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = serin_testkit::Over(&is_over);
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                for pod in shop.cluster.pods("shop", "app=shop-canary") {
                    // One that has crashed already does not answer.
                    let body = json!({"mode": "crash"}).to_string();
                    let _ = http::request(pod.address, "PATCH", "/admin/behaviour", &[], body.as_bytes());
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        });
        shop.until("everything on blue", |shop| (shop.canary_weight() == (0, 1)).then_some(()));
        drop(over);
    });
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("crash") || status["reason"].as_str().unwrap().contains("replica"), "{status:#}");
    // What was under way to green when it crashed is answered, or refused, first.
    for _ in 0..2 {
        traffic.forget();
        shop.until("more requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
    }
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v1"], "{counts:?}");
}
