//! Releases whose Prometheus is down, slow, or has nothing to say. None of it is a pass, none of it is silently a failure: the document says what follows.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail the test; figures are for whoever reads its output"
)]

mod cluster;
mod faults;

use std::time::Duration;

use cluster::Shop;
use faults::{
    image,
    measured::{counted_traffic, judged},
    record::Record,
    until_holding, until_scaled_back,
    wire::Wire,
};
use serde_json::{Value, json};

const STAGE: &str = "{weight: 30, hold: 4s, maxHold: 8s, minRequests: 20}";

/// A relay to the cluster's Prometheus.
fn wire(shop: &Shop) -> Wire {
    Wire::to(shop.cluster.prometheus().url().trim_start_matches("http://").parse().unwrap())
}

/// A release that is measured through the relay.
fn release(shop: &Shop, wire: &Wire, stages: &str, on_no_data: &str) {
    let mut document = judged(shop, stages, "");
    let analysis = &mut document["spec"]["analysis"];
    analysis["sources"]["prom"]["prometheus"]["url"] = json!(format!("http://{}", wire.address));
    analysis["onNoData"] = json!(on_no_data);
    shop.apply(&document);
}

fn until_run(shop: &Shop, run: u64, phase: &str) -> Value {
    shop.until(&format!("run {run} in {phase}"), |shop| {
        let status = shop.status();
        (status["run"] == run && status["phase"] == phase).then_some(status)
    })
}

#[test]
fn what_cannot_be_measured_is_waited_for_and_then_asked_about() {
    let Some(shop) = Shop::open_measured("what_cannot_be_measured_is_waited_for_and_then_asked_about") else { return };
    shop.controller();
    let traffic = counted_traffic(&shop);
    let wire = wire(&shop);
    shop.new_version("v2");
    release(&shop, &wire, &format!("{STAGE}, {{weight: 60, hold: 4s, maxHold: 8s, minRequests: 20}}"), "hold");
    until_holding(&shop, 3_000);
    // Down: whoever asks is hung up on.
    wire.hold(true);
    wire.cut();
    let status = until_run(&shop, 1, "Paused");
    let reason = status["reason"].as_str().unwrap();
    println!("down: {reason}; {}", status["criteria"]);
    let is_told = |status: &Value, why: &str| status["criteria"].to_string().contains(why);
    assert!(is_told(&status, "unknown"), "{status:#}");
    assert!(reason.contains("no verdict at 30 %") && reason.contains("resume"), "{status:#}");
    assert_eq!(shop.canary_weight().0, 3_000);
    wire.hold(false);
    shop.command("1", &json!("resume"));
    until_holding(&shop, 6_000);
    // Slow: it answers long after the time that its source gives it.
    wire.delay(Duration::from_secs(10));
    let status = until_run(&shop, 1, "Paused");
    println!("slow: {}; {}", status["reason"], status["criteria"]);
    assert!(is_told(&status, "unknown"), "{status:#}");
    assert_eq!(shop.canary_weight().0, 6_000);
    wire.delay(Duration::ZERO);
    shop.command("2", &json!("resume"));
    shop.until_phase("Succeeded");
    assert_eq!(image(&shop, "shop"), "v2");
    let record = Record::of(&shop);
    record.assert_rules();
    assert_eq!(record.weights(), [3_000, 6_000, 10_000, 0]);
    faults::assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}

#[test]
fn what_cannot_be_measured_is_taken_back_where_the_document_says_so() {
    let Some(shop) = Shop::open_measured("what_cannot_be_measured_is_taken_back_where_the_document_says_so") else { return };
    shop.controller();
    let traffic = counted_traffic(&shop);
    let wire = wire(&shop);
    shop.new_version("v2");
    release(&shop, &wire, STAGE, "rollback");
    until_holding(&shop, 3_000);
    shop.cluster.prometheus().freeze(true);
    let status = until_run(&shop, 1, "RolledBack");
    println!("standing still: {}", status["reason"]);
    assert!(status["reason"].as_str().unwrap().contains("no verdict at 30 %"), "{status:#}");
    shop.cluster.prometheus().freeze(false);
    until_scaled_back(&shop);

    // Empty: nobody scrapes the canary.
    let deployment = shop.get("apps/v1", "Deployment", "shop-canary");
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["annotations"]["prometheus.io/scrape"] = json!("false");
    template["spec"]["containers"][0]["image"] = json!("registry.example/sample-app:v3");
    shop.cluster.patch(faults::DEPLOYMENTS, "shop", "shop-canary", &json!({"spec": {"template": template}}));
    let status = until_run(&shop, 2, "RolledBack");
    println!("empty: {}", status["reason"]);
    assert!(status["reason"].as_str().unwrap().contains("no verdict at 30 %"), "{status:#}");
    until_scaled_back(&shop);
    let record = Record::of(&shop);
    record.assert_rules();
    assert_eq!(record.weights(), [3_000, 0, 3_000, 0]);
    faults::assert_answered(&traffic.stop(), &["v1", "v2", "v3"], &shop);
}
