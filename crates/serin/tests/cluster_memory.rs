//! What a judge remembers is more than a status can hold: another controller goes on with it all the same, and says so where it cannot.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod cluster;

use cluster::Shop;
use serde_json::{Value, json};

const MEMORIES: (&str, &str) = ("serin.dev/v1alpha1", "ReleaseMemory");
/// With limits that differ, and errors, their evidence takes more than 32 KiB.
const CRITERIA: usize = 50;

fn release(shop: &Shop) -> Value {
    let metrics: Vec<Value> = (0..CRITERIA).map(|number| Shop::answers(&format!("failures-{number}"), "prom", "500")).collect();
    // Limits that differ: what is the same for all criteria takes no room.
    let criteria: Vec<Value> = (0..CRITERIA)
        .map(|number| {
            let limits = json!({"ratio": 2.0 + number as f64 / 100.0, "increase": format!("{}pp", 10 + number)});
            json!({"metric": format!("failures-{number}"), "max": format!("{}.{number}%", 20 + number), "versusStable": limits})
        })
        .collect();
    let mut document = shop.judged("canary: {stages: [{weight: 50, hold: 1h}]}");
    let analysis = &mut document["spec"]["analysis"];
    analysis["interval"] = json!("2s");
    analysis["sources"]["prom"]["prometheus"]["timeout"] = json!("5s");
    analysis["metrics"] = json!(metrics);
    analysis["criteria"] = json!(criteria);
    document
}

fn is_told(status: &Value, head: &str) -> bool {
    status["timeline"].as_array().into_iter().flatten().any(|line| line["head"] == head)
}

/// Another controller in the place of the one with this number; returns its number once it has written.
fn replace(shop: &Shop, controller: usize) -> usize {
    let epoch = shop.status()["engine"]["epoch"].as_u64().unwrap();
    shop.kill(controller);
    let next = shop.controller();
    shop.until("the next controller", |shop| (shop.status()["engine"]["epoch"].as_u64()? > epoch).then_some(()));
    next
}

#[test]
fn a_large_memory_outlives_its_controller() {
    let Some(shop) = Shop::open_measured("a_large_memory_outlives_its_controller") else { return };
    let controller = shop.controller();
    let traffic = shop.traffic();
    shop.until_scraped();
    shop.change_canary(|container| {
        container["image"] = json!("registry.example/sample-app:v2");
        container["args"] = json!(["--error-rate=3%"]);
    });
    shop.apply(&release(&shop));
    shop.until("a memory that has no room in the status", |shop| {
        let status = shop.status();
        (status["stage"] == "1/1" && status["engine"]["elsewhere"]["name"].is_string()).then_some(())
    });
    // Both objects are there once it was written twice, and they belong to the release.
    shop.until("two memories", |shop| (shop.cluster.list(MEMORIES.0, MEMORIES.1, "shop").len() == 2).then_some(()));
    for memory in shop.cluster.list(MEMORIES.0, MEMORIES.1, "shop") {
        assert_eq!(memory["metadata"]["ownerReferences"][0]["name"], "shop", "{memory}");
    }
    let controller = replace(&shop, controller);
    let status = shop.status();
    assert!(!is_told(&status, "memory lost") && !is_told(&status, "memory"), "{status:#}\n{}", shop.logs());

    // Without the objects it goes on and says what is missing.
    shop.kill(controller);
    for memory in shop.cluster.list(MEMORIES.0, MEMORIES.1, "shop") {
        shop.cluster.delete(MEMORIES.0, MEMORIES.1, "shop", memory["metadata"]["name"].as_str().unwrap());
    }
    shop.controller();
    shop.until("the loss to be said", |shop| is_told(&shop.status(), "memory lost").then_some(()));
    shop.command("1", &json!("abort"));
    let status = shop.until_phase("RolledBack");
    let past = &status["history"][0];
    assert_eq!((&past["run"], &past["outcome"]), (&json!(1), &json!("RolledBack")), "{status:#}");
    assert!(past["reason"].as_str().unwrap().contains("aborted by ann"), "{past}");
    let counts = traffic.stop();
    assert!(counts.keys().all(|what| ["500", "v1", "v2"].contains(&what.as_str())), "{counts:?}");

    // They go with their release.
    shop.cluster.delete("serin.dev/v1alpha1", "Release", "shop", "shop");
    shop.until("the memories to go", |shop| shop.cluster.list(MEMORIES.0, MEMORIES.1, "shop").is_empty().then_some(()));
}
