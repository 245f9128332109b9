//! Shares that are made of replicas behind a plain Service, with requests that are counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod cluster;

use std::collections::BTreeMap;

use cluster::Shop;
use serde_json::{Value, json};
use serin_testkit::cluster::Door;

const HOST: &str = "web.shop.svc.cluster.local";
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, annotations: {owner: somebody}}
spec: {selector: {team: shop, app: shop}, ports: [{name: http, port: 80, targetPort: http}]}
";

fn release(shop: &Shop, weight: u64) {
    let traffic = "{replicas: {service: web, stable: {app: shop}, canary: {app: shop-canary}}}";
    shop.release_by(traffic, &format!("{{weight: {weight}, hold: 1s, maxHold: 1s, gate: manual}}"), "");
}

fn command(shop: &Shop, id: &str, action: &str) {
    let command = json!({"id": id, "action": action, "by": "ann", "reason": "enough"}).to_string();
    let patch = json!({"metadata": {"annotations": {"serin.dev/command": command}}});
    shop.cluster.patch(("serin.dev/v1alpha1", "Release"), "shop", "shop", &patch);
}

fn waits(shop: &Shop, run: u64) {
    shop.until("the stage to wait for approval", |shop| {
        let status = shop.status();
        (status["phase"] == "AwaitingApproval" && status["run"] == run).then_some(())
    });
}

fn selector(shop: &Shop) -> Value {
    shop.get("v1", "Service", "web")["spec"]["selector"].clone()
}

/// The canary's part of at least 600 requests, within five standard deviations of what the pods are.
fn split_is(shop: &Shop, traffic: &cluster::Traffic, share: f64) {
    traffic.forget();
    shop.until("enough requests", |_| (traffic.counts().values().sum::<u64>() >= 600).then_some(()));
    let counts: BTreeMap<String, u64> = traffic.counts();
    let of = |version: &str| counts.get(version).copied().unwrap_or(0);
    let all: u64 = counts.values().sum();
    assert_eq!(of("v1") + of("v2"), all, "lost: {counts:?}");
    #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
    let (all, canary) = (all as f64, of("v2") as f64);
    assert!((canary - all * share).abs() <= 5.0 * (all * share * (1.0 - share)).sqrt(), "{canary} of {all} at {share}");
}

#[test]
fn shares_are_made_of_replicas_and_taken_back_at_once() {
    let Some(shop) = Shop::open("shares_are_made_of_replicas_and_taken_back_at_once") else { return };
    shop.cluster.apply(SERVICE);
    shop.cluster.patch(("apps/v1", "Deployment"), "shop", "shop", &json!({"spec": {"replicas": 3}}));
    shop.until("three replicas of stable", |shop| (shop.deployment("shop")["status"]["readyReplicas"] == 3).then_some(()));
    shop.until("the Service to serve", |shop| (shop.ask_at(Door::Mesh, HOST, &[]).ok()? == "v1").then_some(()));
    shop.controller();
    let traffic = shop.traffic_at(Door::Mesh, HOST);
    let before = selector(&shop);

    // One pod beside three is a quarter: less than that they cannot make.
    shop.new_version("v2");
    release(&shop, 20);
    let status = shop.until_phase("Refused");
    assert!(status["reason"].as_str().unwrap().contains("less than one pod"), "{status:#}");
    assert_eq!((selector(&shop), &shop.deployment("shop-canary")["spec"]["replicas"]), (before.clone(), &json!(0)));

    // 30 % is rounded down to one of four.
    release(&shop, 30);
    waits(&shop, 2);
    assert_eq!((selector(&shop), &shop.deployment("shop-canary")["spec"]["replicas"]), (json!({"team": "shop"}), &json!(1)));
    split_is(&shop, &traffic, 0.25);
    // Somebody who scales the canary gives it a greater share: that is put right.
    shop.cluster.patch(("apps/v1", "Deployment"), "shop", "shop-canary", &json!({"spec": {"replicas": 3}}));
    shop.until("the drift to be told", |shop| {
        shop.status()["timeline"].as_array()?.iter().any(|line| line["head"] == "drift found").then_some(())
    });
    shop.until("one replica again", |shop| (shop.deployment("shop-canary")["spec"]["replicas"] == 1).then_some(()));
    command(&shop, "1", "approve");
    shop.until_phase("Succeeded");
    assert_eq!((selector(&shop), &shop.deployment("shop-canary")["spec"]["replicas"]), (before.clone(), &json!(0)));
    traffic.forget();
    shop.until("more requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
    assert_eq!(traffic.counts().keys().map(String::as_str).collect::<Vec<_>>(), ["v2"]);

    // Taken back by one write of the Service, while the canary's pods still run.
    shop.new_version("v3");
    waits(&shop, 3);
    shop.until("requests of the new version", |_| (traffic.counts().get("v3").copied().unwrap_or(0) > 0).then_some(()));
    command(&shop, "2", "abort");
    shop.until_phase("RolledBack");
    assert_eq!(selector(&shop), before);
    traffic.forget();
    shop.until("more requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
    let counts = traffic.stop();
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["v2"], "{counts:?}");
}
