//! The controller is killed in every phase of a release. Each time the next one goes on, the release ends as it deserves, and no request is lost.
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
    DEPLOYMENTS, assert_answered, heads, image, measured::counted_traffic, record::Record, until_holding, until_scaled_back,
    until_taken_back,
};
use serde_json::json;
use serin_testkit::cluster::mesh::Held;

const HELD: Held = Held { routes: false, status: true };
const LEASE: &str = "3s";

fn start(shop: &Shop) -> usize {
    shop.controller_at(&shop.cluster.service_account("serin", "controller"), LEASE)
}

/// Kills the controller, and starts the next one.
fn replace(shop: &Shop, controller: &mut usize) {
    shop.kill(*controller);
    *controller = start(shop);
}

/// Replaces the controller in this phase, which must not end meanwhile.
fn replace_in(shop: &Shop, phase: &str, controller: &mut usize) {
    shop.until_phase(phase);
    replace(shop, controller);
    let epoch = |shop: &Shop| shop.status()["engine"]["epoch"].as_u64();
    let before = epoch(shop);
    let status = shop.until(&format!("the next controller in {phase}"), |shop| (epoch(shop) > before).then(|| shop.status()));
    assert_eq!(status["phase"], phase, "{status:#}");
}

#[test]
fn killed_from_preflight_to_a_stage_that_is_observed() {
    let Some(shop) = Shop::open("killed_from_preflight_to_a_stage_that_is_observed") else { return };
    let mut controller = start(&shop);
    let traffic = shop.traffic();
    // Stable does not come to rest, so that preflight takes its time.
    shop.cluster.freeze_controllers(true);
    shop.cluster.patch(DEPLOYMENTS, "shop", "shop", &json!({"spec": {"replicas": 3}}));
    shop.change_canary(|container| {
        container["image"] = json!("registry.example/sample-app:v2");
        container["args"] = json!(["--start-delay=6s"]);
    });
    shop.release("{weight: 20, hold: 3s, maxHold: 3s}", "");
    replace_in(&shop, "Preflight", &mut controller);
    shop.cluster.freeze_controllers(false);
    replace_in(&shop, "Deploying", &mut controller);
    shop.cluster.mesh().hold(HELD);
    shop.until("the first stage", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    replace_in(&shop, "Progressing", &mut controller);
    shop.cluster.mesh().hold(Held::default());
    until_holding(&shop, 2_000);
    replace(&shop, &mut controller);
    let status = shop.until_phase("Succeeded");
    assert_eq!((&status["run"], image(&shop, "shop").as_str()), (&json!(1), "v2"));
    let record = Record::of(&shop);
    record.assert_rules();
    assert_eq!(record.weights(), [2_000, 10_000, 0]);
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}

#[test]
fn killed_from_promotion_to_the_end() {
    let Some(shop) = Shop::open_measured("killed_from_promotion_to_the_end") else { return };
    let mut controller = start(&shop);
    let traffic = counted_traffic(&shop);
    shop.new_version("v2");
    shop.judged_release("{weight: 50, hold: 1s, minRequests: 20}", ", bake: 6s, retain: 6s");
    until_holding(&shop, 5_000);
    shop.cluster.mesh().hold(HELD);
    replace_in(&shop, "Promoting", &mut controller);
    shop.cluster.mesh().hold(Held::default());
    shop.until_phase("Baking");
    replace(&shop, &mut controller);
    shop.until_phase("Retained");
    replace(&shop, &mut controller);
    // Stable does not come up, so that retiring takes its time.
    shop.cluster.freeze_controllers(true);
    replace_in(&shop, "Retiring", &mut controller);
    shop.cluster.mesh().hold(HELD);
    shop.cluster.freeze_controllers(false);
    shop.until("everything for the new stable", |shop| (shop.canary_weight().0 == 0).then_some(()));
    replace_in(&shop, "Retiring", &mut controller);
    assert_ne!(shop.get("apps/v1", "Deployment", "shop-canary")["spec"]["replicas"], 0, "gateways have not taken the route yet");
    shop.cluster.mesh().hold(Held::default());
    let status = shop.until_phase("Succeeded");
    assert_eq!((&status["run"], image(&shop, "shop").as_str()), (&json!(1), "v2"));
    until_scaled_back(&shop);
    let record = Record::of(&shop);
    record.assert_rules();
    assert_eq!((record.weights(), record.promotions().len()), (vec![5_000, 10_000, 0], 1));
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}

#[test]
fn killed_while_traffic_is_taken_back() {
    let Some(shop) = Shop::open("killed_while_traffic_is_taken_back") else { return };
    let mut controller = start(&shop);
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    until_holding(&shop, 2_000);
    // The move is written, and not proven.
    shop.cluster.mesh().hold(HELD);
    shop.command("1", &json!("abort"));
    until_taken_back(&shop);
    replace_in(&shop, "RollingBack", &mut controller);
    assert_ne!(shop.get("apps/v1", "Deployment", "shop-canary")["spec"]["replicas"], 0, "gateways have not taken the route yet");
    shop.cluster.mesh().hold(Held::default());
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("aborted by ann"), "{status:#}");
    until_scaled_back(&shop);

    // Killed with the command, whether it was heard or not.
    shop.new_version("v3");
    shop.until("the second run", |shop| (shop.status()["run"] == 2 && shop.canary_weight().0 == 2_000).then_some(()));
    until_holding(&shop, 2_000);
    shop.command("2", &json!("abort"));
    replace(&shop, &mut controller);
    let status = shop.until_phase("RolledBack");
    assert_eq!(status["run"], 2, "{status:#}");
    assert!(heads(&status).contains(&"rollback".to_owned()), "{status:#}");
    until_scaled_back(&shop);
    assert_eq!(image(&shop, "shop"), "v1");
    Record::of(&shop).assert_rules();
    assert_answered(&traffic.stop(), &["v1", "v2", "v3"], &shop);
}
