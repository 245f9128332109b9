//! Releases in a real cluster, by the real controller under the role that ships, with requests that are counted.

mod cluster;

use std::time::{Duration, Instant};

use cluster::Shop;
use serde_json::{Value, json};
use serin_testkit::Over;

const STAGES: &str = "{weight: 20, hold: 2s, maxHold: 2s, minRequests: 1}, {weight: 50, hold: 2s, maxHold: 2s, minRequests: 1}";

fn heads(status: &Value) -> Vec<String> {
    status["timeline"].as_array().into_iter().flatten().map(|line| line["head"].as_str().unwrap_or_default().to_owned()).collect()
}

fn container(shop: &Shop, deployment: &str) -> Value {
    shop.get("apps/v1", "Deployment", deployment)["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn a_good_release_ends_with_stable_as_judged_and_loses_no_request() {
    let Some(shop) = Shop::open("a_good_release_ends_with_stable_as_judged_and_loses_no_request") else { return };
    shop.controller();
    shop.release(STAGES, "");
    // Both are the same version: there is nothing to do, and it says so.
    shop.until_phase("Idle");
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.until("the first stage", |shop| (shop.status()["stage"] == "1/2").then_some(()));
    shop.until("a fifth for the canary, and the rule for matches", |shop| (shop.canary_weight() == (2_000, 2)).then_some(()));
    shop.until("the header to be obeyed", |shop| (shop.ask(&[("x-canary", "true")]).ok()? == "v2").then_some(()));
    let status = shop.until_phase("Succeeded");
    assert_eq!((&status["run"], &status["stage"]), (&json!(1), &json!("2/2")));
    assert!(status["conditions"].as_array().unwrap().iter().any(|one| one["type"] == "Ready" && one["status"] == "True"), "{status:#}");

    // Exactly what was judged, with stable's own labels; the route as before but for the weights; the canary at rest.
    assert_eq!(container(&shop, "shop"), container(&shop, "shop-canary"));
    let stable = shop.get("apps/v1", "Deployment", "shop");
    assert_eq!(stable["spec"]["template"]["metadata"]["labels"], json!({"app": "shop", "team": "shop"}));
    assert_eq!(shop.canary_weight(), (0, 1));
    assert_eq!(shop.route()["metadata"]["annotations"]["owner"], "somebody");
    assert_eq!(shop.get("apps/v1", "Deployment", "shop-canary")["spec"]["replicas"], 0);
    traffic.forget();
    shop.until("some more requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v2"], "{counts:?}");
}

#[test]
fn no_request_is_lost_from_the_first_to_the_last_step() {
    let Some(shop) = Shop::open("no_request_is_lost_from_the_first_to_the_last_step") else { return };
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release(STAGES, "");
    shop.controller();
    shop.until_phase("Succeeded");
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v1", "v2"], "{counts:?}\n{}", shop.logs());
}

#[test]
fn a_canary_that_crashes_gets_no_traffic_and_is_scaled_back() {
    let Some(shop) = Shop::open("a_canary_that_crashes_gets_no_traffic_and_is_scaled_back") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.change_canary(|container| container["args"] = json!(["--crash-after=300ms"]));
    shop.release(STAGES, "");
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("crash loop"), "{status:#}");
    assert_eq!(shop.canary_weight(), (0, 1));
    shop.until("no replicas", |shop| (shop.get("apps/v1", "Deployment", "shop-canary")["spec"]["replicas"] == 0).then_some(()));
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v1"], "it was never ready: {counts:?}");

    // The same version is not tried again by itself; another one is.
    shop.change_canary(|container| {
        container.as_object_mut().unwrap().remove("args");
        container["image"] = json!("registry.example/sample-app:v3");
    });
    let status = shop.until("the second run to succeed", |shop| {
        let status = shop.status();
        (status["run"] == 2 && status["phase"] == "Succeeded").then_some(status)
    });
    assert!(!heads(&status).contains(&"rollback".to_owned()), "{status:#}");
}

#[test]
fn controllers_come_and_go_and_the_release_goes_on() {
    let Some(shop) = Shop::open("controllers_come_and_go_and_the_release_goes_on") else { return };
    let traffic = shop.traffic();
    let first = shop.controller();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 3s, maxHold: 3s}, {weight: 50, hold: 3s, maxHold: 3s}", ", bake: 1s");
    shop.until("the first stage", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    shop.kill(first);
    let second = shop.controller();
    shop.until("the second stage", |shop| (shop.canary_weight().0 == 5_000).then_some(()));
    // A standby takes over at once from a leader that goes in order.
    shop.controller();
    shop.terminate(second);
    // The bake needs a request that was measured, of which there is none here.
    shop.until("everything for the canary", |shop| (shop.canary_weight().0 == 10_000).then_some(()));
    let status = shop.status();
    assert!(heads(&status).iter().filter(|head| *head == "taken over").count() >= 2, "{status:#}");
    assert_eq!(status["run"], 1);

    // A person takes it back: nothing has to time out before the route gives the canary nothing. The bound has room for a machine that has other
    // things to do.
    let asked = Instant::now();
    shop.command("1", &json!("abort"));
    shop.until("nothing for the canary", |shop| (shop.canary_weight() == (0, 1)).then_some(()));
    let took = asked.elapsed();
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("aborted by ann: test"), "{status:#}");
    assert_eq!((&status["lastCommand"]["id"], &status["lastCommand"]["accepted"]), (&json!("1"), &json!(true)));
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(container(&shop, "shop")["image"], "registry.example/sample-app:v1");
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v1", "v2"], "{counts:?}");
}

#[test]
fn what_others_change_meanwhile_is_met() {
    let Some(shop) = Shop::open("what_others_change_meanwhile_is_met") else { return };
    shop.controller();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    // Somebody else writes to the route and the release all the time.
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            let mut number = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                let patch = json!({"metadata": {"annotations": {"other": number.to_string()}}});
                shop.cluster.patch(("gateway.networking.k8s.io/v1", "HTTPRoute"), "shop", "shop", &patch);
                shop.cluster.patch(("serin.dev/v1alpha1", "Release"), "shop", "shop", &patch);
            }
        });
        shop.until("the first stage", |shop| (shop.canary_weight() == (2_000, 2)).then_some(()));
        // Another version in the middle: what is on trial ends, nothing unjudged is promoted.
        shop.new_version("v3");
        shop.until("the end of the first run", |shop| {
            let status = shop.status();
            let is_told = heads(&status).iter().any(|head| head == "rollback") || status["run"] == 2;
            is_told.then_some(())
        });
        shop.until("the second run", |shop| (shop.status()["run"] == 2 && shop.canary_weight().0 == 2_000).then_some(()));
    });
    // A hand edit of the weights is put right.
    let mut rules = shop.route()["spec"]["rules"].clone();
    let last = rules.as_array().unwrap().len() - 1;
    for backend in rules[last]["backendRefs"].as_array_mut().unwrap() {
        backend["weight"] = json!(50);
    }
    shop.cluster.patch(("gateway.networking.k8s.io/v1", "HTTPRoute"), "shop", "shop", &json!({"spec": {"rules": rules}}));
    shop.until("the drift to be told", |shop| heads(&shop.status()).contains(&"drift found".to_owned()).then_some(()));
    shop.until("the weight again", |shop| (shop.canary_weight() == (2_000, 2)).then_some(()));
    // So is one that takes our note away as well, as when an old file is put in its place.
    let drifts = |shop: &Shop| heads(&shop.status()).iter().filter(|head| *head == "drift found").count();
    let before = drifts(&shop);
    let replaced = json!({"metadata": {"annotations": {"serin.dev/decision": null}}, "spec": {"rules": rules}});
    shop.cluster.patch(("gateway.networking.k8s.io/v1", "HTTPRoute"), "shop", "shop", &replaced);
    shop.until("the drift to be told again", |shop| (drifts(shop) > before).then_some(()));
    shop.until("the weight once more", |shop| (shop.canary_weight() == (2_000, 2)).then_some(()));

    // Deleted in the middle, it takes its traffic back first.
    shop.cluster.delete("serin.dev/v1alpha1", "Release", "shop", "shop");
    shop.until("the release to go", |shop| shop.status().is_null().then_some(()));
    assert_eq!(shop.canary_weight(), (0, 1));
    assert_eq!(shop.get("apps/v1", "Deployment", "shop-canary")["spec"]["replicas"], 0);
    assert_eq!(container(&shop, "shop")["image"], "registry.example/sample-app:v1");
}

#[test]
fn a_deleted_release_goes_whatever_else_went() {
    let Some(shop) = Shop::open("a_deleted_release_goes_whatever_else_went") else { return };
    let first = shop.controller();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    shop.until("the first stage", |shop| (shop.canary_weight() == (2_000, 2)).then_some(()));
    // Deleted while nobody leads: whoever leads next takes its traffic back.
    shop.terminate(first);
    shop.cluster.delete("serin.dev/v1alpha1", "Release", "shop", "shop");
    assert!(!shop.status().is_null(), "it waits for a controller");
    let second = shop.controller();
    shop.until("the release to go", |shop| shop.status().is_null().then_some(()));
    assert_eq!(shop.canary_weight(), (0, 1));

    // One of the same name is another release, which may have the route. What is not there gives the canary nothing.
    shop.release("{weight: 20, hold: 60s}", "");
    shop.until("the first stage again", |shop| (shop.canary_weight() == (2_000, 2)).then_some(()));
    let mut route = shop.route();
    shop.cluster.delete("gateway.networking.k8s.io/v1", "HTTPRoute", "shop", "shop");
    shop.cluster.delete("serin.dev/v1alpha1", "Release", "shop", "shop");
    shop.until("the release without a route to go", |shop| shop.status().is_null().then_some(()));
    shop.until("no replicas", |shop| (shop.get("apps/v1", "Deployment", "shop-canary")["spec"]["replicas"] == 0).then_some(()));

    // A state that nobody can read is no reason to leave the canary its share.
    route["metadata"] = json!({"name": "shop", "namespace": "shop"});
    route["spec"]["rules"] = json!([{"backendRefs": [{"name": "shop", "port": 80}]}]);
    route.as_object_mut().unwrap().remove("status");
    shop.cluster.try_apply(&route).unwrap();
    shop.release("{weight: 20, hold: 60s}", "");
    shop.until("the first stage once more", |shop| (shop.canary_weight() == (2_000, 2)).then_some(()));
    shop.terminate(second);
    let unreadable = json!({"status": {"engine": {"state": "of another version"}}});
    shop.cluster.patch(("serin.dev/v1alpha1", "Release/status"), "shop", "shop", &unreadable);
    shop.controller();
    let status = shop.until_phase("Invalid");
    assert!(status["reason"].as_str().unwrap().contains("cannot be read"), "{status:#}");
    assert_eq!(shop.canary_weight(), (0, 1));
}

#[test]
fn what_cannot_begin_says_why_and_touches_nothing() {
    let Some(shop) = Shop::open("what_cannot_begin_says_why_and_touches_nothing") else { return };
    shop.controller();
    // What the schema knows is refused when it is applied.
    let local = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Release", "metadata": {"name": "local", "namespace": "shop"},
        "spec": {
            "workload": {"processes": {"stable": {"command": ["a"]}, "canary": {"command": ["b"]}}},
            "traffic": {"embedded": {"listen": "127.0.0.1:1"}},
            "strategy": {"canary": {"stages": [{"weight": 5, "hold": "1m"}]}},
        },
    });
    let refusal = shop.cluster.try_apply(&local).unwrap_err().to_string();
    assert!(refusal.contains("kubernetes") || refusal.contains("processes"), "{refusal}");
    // What only our own validation knows is in the status.
    shop.release("{weight: 50, hold: 1m}, {weight: 20, hold: 1m}", "");
    let status = shop.until_phase("Invalid");
    assert!(status["reason"].as_str().unwrap().contains("spec.strategy.canary.stages[1].weight"), "{status:#}");
    // What only the cluster knows is found before anything is touched.
    let before = shop.route();
    shop.cluster.delete("v1", "Service", "shop", "shop-canary");
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 1m}", "");
    let status = shop.until_phase("Refused");
    assert!(status["reason"].as_str().unwrap().contains("shop-canary"), "{status:#}");
    assert_eq!(shop.route()["metadata"]["generation"], before["metadata"]["generation"]);
    assert_eq!(shop.get("apps/v1", "Deployment", "shop-canary")["spec"]["replicas"], 0);
}

#[test]
fn what_prometheus_measures_decides() {
    let Some(shop) = Shop::open_measured("what_prometheus_measures_decides") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.until_scraped();
    // A third of the canary's answers are errors: it is found out and gets nothing more, without a crash.
    shop.change_canary(|container| container["args"] = json!(["--error-rate=33%"]));
    shop.judged_release("{weight: 30, hold: 60s, minRequests: 50}", "");
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().starts_with("failures"), "{status:#}");
    assert_eq!(shop.canary_weight(), (0, 1));
    assert!(traffic.counts().contains_key("500"), "{:?}", traffic.counts());

    // A version that is as good as stable passes on its evidence, through a bake that needs it as well.
    shop.change_canary(|container| {
        container.as_object_mut().unwrap().remove("args");
        container["image"] = json!("registry.example/sample-app:v3");
    });
    shop.judged_release("{weight: 50, hold: 5s, minRequests: 50}", ", bake: 3s");
    let status = shop.until("the good version to be promoted", |shop| {
        let status = shop.status();
        (status["phase"] == "Succeeded").then_some(status)
    });
    let passed = status["timeline"].as_array().unwrap().iter().find(|line| line["head"] == "stage 1 passed").unwrap();
    assert!(passed["detail"].as_str().unwrap().contains("failures"), "{status:#}");
    traffic.forget();
    shop.until("some more requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
    assert_eq!(traffic.stop().keys().map(String::as_str).collect::<Vec<_>>(), ["v3"]);
}
