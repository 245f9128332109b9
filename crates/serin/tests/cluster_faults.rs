//! Releases while objects that they need are changed or deleted by others. What cannot go on says why, and traffic goes where it is served.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail the test; figures are for whoever reads its output"
)]

mod cluster;
mod faults;

use cluster::Shop;
use faults::{
    DEPLOYMENTS, RELEASES, ROUTES, assert_answered, heads, image, record::Record, told, until_holding, until_scaled_back, until_taken_back,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use serin_testkit::http;

/// An object as it can be applied again.
fn again(shop: &Shop, mut object: Value) {
    let name = object["metadata"]["name"].clone();
    object["metadata"] = json!({"name": name, "namespace": "shop"});
    object.as_object_mut().unwrap().remove("status");
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.retain(|field, _| !field.starts_with("clusterIP"));
    }
    shop.cluster.try_apply(&object).unwrap();
}

#[test]
fn a_canary_that_loses_its_pods_gives_its_share_back() {
    let Some(shop) = Shop::open("a_canary_that_loses_its_pods_gives_its_share_back") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    until_holding(&shop, 2_000);
    // One that is deleted is replaced, and nobody notices.
    let pods = shop.cluster.pods("shop", "app=shop-canary");
    shop.cluster.delete("v1", "Pod", "shop", &pods[0].name);
    shop.until("another pod", |shop| {
        let now = shop.cluster.pods("shop", "app=shop-canary");
        let is_ready = |pod: &serin_testkit::cluster::Pod| pod.object["status"]["containerStatuses"][0]["ready"] == true;
        (now.len() == 2 && now.iter().all(|pod| pod.name != pods[0].name && is_ready(pod))).then_some(())
    });
    assert_eq!(shop.canary_weight().0, 2_000);
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
    // All of them run and none is ready: whoever gets the canary's share gets an error, and no pod counts it.
    for pod in shop.cluster.pods("shop", "app=shop-canary") {
        http::behave(pod.address, &json!({"ready": false}));
    }
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("no replica of the canary is ready"), "{status:#}");
    until_scaled_back(&shop);
    Record::of(&shop).assert_rules();
}

#[test]
fn services_that_go_are_missed() {
    let Some(shop) = Shop::open("services_that_go_are_missed") else { return };
    shop.controller();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    until_holding(&shop, 2_000);
    let service = shop.get("v1", "Service", "shop-canary");
    shop.cluster.delete("v1", "Service", "shop", "shop-canary");
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("the Service shop/shop-canary is gone"), "{status:#}");
    assert_eq!(shop.canary_weight(), (0, 1));
    again(&shop, service);

    // Stable's own: nothing can be moved onto it, and it is said. A canary that fails then needs a person, and goes once stable is back.
    shop.new_version("v3");
    shop.until("the second run", |shop| (shop.status()["run"] == 2 && shop.canary_weight().0 == 2_000).then_some(()));
    until_holding(&shop, 2_000);
    let service = shop.get("v1", "Service", "shop");
    shop.cluster.delete("v1", "Service", "shop", "shop");
    shop.until("it to be said", |shop| told(&shop.status()).contains("stable: the Service shop/shop is gone").then_some(()));
    shop.change_canary(|container| container["image"] = json!("registry.example/sample-app:v4"));
    let status = shop.until_phase("NeedsOperator");
    assert_eq!(shop.canary_weight().0, 2_000, "{status:#}");
    again(&shop, service);
    shop.until("the third run", |shop| (shop.status()["run"] == 3).then_some(()));
    Record::of(&shop).assert_rules();
}

#[test]
fn deployments_that_go_are_missed() {
    let Some(shop) = Shop::open("deployments_that_go_are_missed") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    until_holding(&shop, 2_000);
    let canary = shop.get("apps/v1", "Deployment", "shop-canary");
    shop.cluster.freeze_controllers(true);
    shop.cluster.delete("apps/v1", "Deployment", "shop", "shop-canary");
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("Deployment shop-canary is gone"), "{status:#}");
    assert_eq!(shop.canary_weight(), (0, 1));
    shop.cluster.freeze_controllers(false);
    // Its pods were there until the traffic was back.
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
    shop.until("the old pods to go", |shop| shop.cluster.pods("shop", "app=shop-canary").is_empty().then_some(()));

    // The same template is not tried again; another one is. Without stable nothing is judged to be good.
    again(&shop, canary);
    shop.new_version("v3");
    shop.until("the second run", |shop| (shop.status()["run"] == 2 && shop.canary_weight().0 == 2_000).then_some(()));
    until_holding(&shop, 2_000);
    let stable = shop.get("apps/v1", "Deployment", "shop");
    shop.cluster.delete("apps/v1", "Deployment", "shop", "shop");
    shop.until("it to be said", |shop| told(&shop.status()).contains("stable: its Deployment is gone").then_some(()));
    assert_eq!(shop.canary_weight().0, 2_000);
    again(&shop, stable);
    shop.cluster.wait_available("shop", "shop");
    shop.command("1", &json!("abort"));
    shop.until_phase("RolledBack");
    assert_eq!((shop.canary_weight(), image(&shop, "shop").as_str()), ((0, 1), "v1"));
    Record::of(&shop).assert_rules();
}

#[test]
fn a_route_that_goes_is_missed_and_one_that_comes_back_is_put_right() {
    let Some(shop) = Shop::open("a_route_that_goes_is_missed_and_one_that_comes_back_is_put_right") else { return };
    let first = shop.controller();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    until_holding(&shop, 2_000);
    let route = shop.route();
    shop.cluster.delete(ROUTES.0, ROUTES.1, "shop", "shop");
    shop.until("it to be said", |shop| {
        shop.status()["reason"].as_str()?.contains("there is no HTTPRoute shop/shop; create it again").then_some(())
    });
    again(&shop, route);
    until_holding(&shop, 2_000);
    assert_eq!(shop.status()["run"], 1);

    // An edit by hand that is made while nobody leads is found by whoever leads next.
    shop.terminate(first);
    let mut rules = shop.route()["spec"]["rules"].clone();
    let last = rules.as_array().unwrap().len() - 1;
    rules[last]["backendRefs"] = json!([{"name": "shop", "port": 80, "weight": 50}, {"name": "shop-canary", "port": 80, "weight": 50}]);
    shop.cluster.patch(ROUTES, "shop", "shop", &json!({"spec": {"rules": rules}}));
    shop.controller();
    shop.until("the weight again", |shop| (shop.canary_weight() == (2_000, 2)).then_some(()));
    let status = until_holding(&shop, 2_000);
    assert!(heads(&status).contains(&"drift found".to_owned()), "{status:#}");
}

#[test]
fn a_namespace_that_is_deleted_goes_with_its_release() {
    let Some(shop) = Shop::open("a_namespace_that_is_deleted_goes_with_its_release") else { return };
    shop.controller();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    until_holding(&shop, 2_000);
    shop.cluster.delete("v1", "Namespace", "", "shop");
    shop.until("the release to go", |shop| shop.status().is_null().then_some(()));
    // The deletion of the route is in the log once all of it is over.
    shop.until("the namespace to go", |shop| shop.cluster.get("v1", "Namespace", "", "shop").is_none().then_some(()));
    Record::of(&shop).assert_rules();
}

#[test]
fn a_release_whose_finalizer_is_taken_away_leaves_no_traffic_behind() {
    let Some(shop) = Shop::open("a_release_whose_finalizer_is_taken_away_leaves_no_traffic_behind") else { return };
    // A lease that outlasts its standing still on any machine.
    let controller = shop.controller_at(&shop.cluster.service_account("serin", "controller"), "60s");
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 1h}", "");
    until_holding(&shop, 2_000);
    // Before it can act: as `kubectl delete --force` with an editor in between.
    shop.signal(controller, Signal::STOP);
    shop.cluster.patch(RELEASES, "shop", "shop", &json!({"metadata": {"finalizers": null}}));
    shop.cluster.delete(RELEASES.0, RELEASES.1, "shop", "shop");
    shop.until("the release to be gone", |shop| shop.status().is_null().then_some(()));
    assert_eq!(shop.canary_weight().0, 2_000, "nobody acted before the release was gone");
    shop.signal(controller, Signal::CONT);
    until_taken_back(&shop);
    until_scaled_back(&shop);
    let note = shop.route()["metadata"]["annotations"]["serin.dev/decision"].as_str().unwrap().to_owned();
    assert!(note.contains("\"done\":true"), "{note}");
    // The route is free for the next one of the same name.
    shop.release("{weight: 20, hold: 60s}", "");
    until_holding(&shop, 2_000);
    Record::of(&shop).assert_rules();
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}

#[test]
fn a_stable_that_has_no_replicas_is_waited_for_while_the_canary_serves() {
    let Some(shop) = Shop::open("a_stable_that_has_no_replicas_is_waited_for_while_the_canary_serves") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 50, hold: 1s, maxHold: 1s}", ", retain: 4s");
    shop.until_phase("Retained");
    shop.cluster.patch(DEPLOYMENTS, "shop", "shop", &json!({"spec": {"replicas": 0}}));
    let status = shop.until("the reason", |shop| {
        let status = shop.status();
        status["reason"].as_str()?.contains("stable's Deployment").then_some(status)
    });
    assert_eq!(status["phase"], "Retiring", "{status:#}");
    assert_eq!(shop.canary_weight().0, 10_000);
    traffic.forget();
    shop.until("some more requests", |_| (traffic.counts().values().sum::<u64>() > 100).then_some(()));
    assert_answered(&traffic.counts(), &["v2"], &shop);
    shop.cluster.patch(DEPLOYMENTS, "shop", "shop", &json!({"spec": {"replicas": 2}}));
    shop.until_phase("Succeeded");
    until_scaled_back(&shop);
    let record = Record::of(&shop);
    record.assert_rules();
    assert_eq!(record.weights(), [5_000, 10_000, 0]);
    assert_answered(&traffic.stop(), &["v2"], &shop);
}

#[test]
fn a_canary_that_goes_while_the_old_version_is_retired_leaves_stable_to_serve() {
    let Some(shop) = Shop::open("a_canary_that_goes_while_the_old_version_is_retired_leaves_stable_to_serve") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 50, hold: 1s, maxHold: 1s}", ", retain: 3s");
    shop.until_phase("Retained");
    // Stable gets the new template and no new pods, and then the canary's Deployment goes; its pods are there as long as nobody cleans up.
    shop.cluster.freeze_controllers(true);
    shop.until("the promotion", |shop| (image(shop, "shop") == "v2").then_some(()));
    shop.cluster.delete("apps/v1", "Deployment", "shop", "shop-canary");
    shop.until("everything for stable", |shop| (shop.canary_weight() == (0, 1)).then_some(()));
    let status = shop.until("the reason", |shop| {
        let status = shop.status();
        status["reason"].as_str()?.contains("nothing reaches the canary any more").then_some(status)
    });
    assert_eq!(status["phase"], "Retiring", "{status:#}");
    shop.cluster.freeze_controllers(false);
    shop.until_phase("Succeeded");
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
    Record::of(&shop).assert_rules();
}

#[test]
fn a_canary_that_loses_its_service_while_the_old_version_is_retired_leaves_stable_to_serve() {
    let Some(shop) = Shop::open("a_canary_that_loses_its_service_while_the_old_version_is_retired_leaves_stable_to_serve") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 50, hold: 1s, maxHold: 1s}", ", retain: 3s");
    shop.until_phase("Retained");
    shop.cluster.freeze_controllers(true);
    shop.until("the promotion", |shop| (image(shop, "shop") == "v2").then_some(()));
    shop.cluster.delete("v1", "Service", "shop", "shop-canary");
    shop.until("everything for stable", |shop| (shop.canary_weight() == (0, 1)).then_some(()));
    assert_eq!(shop.status()["phase"], "Retiring");
    // What came before that was lost, and is counted once it ends; of what is sent from here on, nothing is.
    shop.until("requests that are answered", |shop| {
        traffic.forget();
        shop.until("some requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
        traffic.counts().keys().all(|what| what == "v1").then_some(())
    });
    traffic.stop();
    let traffic = shop.traffic();
    // The Service stays away, and the gateway says so: that is no hindrance.
    shop.cluster.freeze_controllers(false);
    shop.until_phase("Succeeded");
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
    Record::of(&shop).assert_rules();
}

#[test]
fn a_canary_that_is_lost_while_stable_is_kept_goes_back() {
    let Some(shop) = Shop::open("a_canary_that_is_lost_while_stable_is_kept_goes_back") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 50, hold: 1s, maxHold: 1s}", ", retain: 1h");
    shop.until_phase("Retained");
    shop.until("everything at the canary", |shop| (shop.canary_weight().0 == 10_000).then_some(()));
    for pod in shop.cluster.pods("shop", "app=shop-canary") {
        http::behave(pod.address, &json!({"ready": false}));
    }
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("no replica of the canary is ready"), "{status:#}");
    let is_only_stable = || {
        traffic.forget();
        shop.until("some more requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
        traffic.counts().keys().all(|what| what == "v1")
    };
    // What was on its way to the canary may still be counted in the first round.
    assert!(is_only_stable() || is_only_stable(), "{:?}", traffic.counts());
    Record::of(&shop).assert_rules();
}
