//! Where other tools fail their users (numbers as in the list of peers), and the test that shows that this one does not.
//!
//! | # | what fails elsewhere | shown by |
//! |---|---|---|
//! | 1 | rollback takes many intervals; alerts come first; one conflict costs an interval | `cluster_bad` (figures), `a_second_writer_of_everything…` in `cluster_faults_api` |
//! | 1 | one provider that hangs delays all verdicts | [`a_source_that_hangs_delays_no_verdict_of_another`] |
//! | 2 | an abort is blocked by an invalid document, a stable that scales, constant scaling | [`an_abort_needs_nothing_else_to_be_well`] |
//! | 2 | crash loops keep their traffic | `a_crash_loop…` in `cluster_bad`, `a_canary_that_loses_its_pods…` in `cluster_faults` |
//! | 3 | an outage of metrics rolls back what is healthy, or passes what is bad | `cluster_faults_metrics`; NaN, empty and several series in `metrics_prometheus` |
//! | 4 | nothing guards what serves everything | [`what_turns_bad_at_100_percent_goes_back`] |
//! | 4 | an untested template is promoted | [`a_template_that_comes_during_promotion_is_not_promoted`], `the_split_is_the_weight…` in `cluster_split` |
//! | 5 | editing the list of stages jumps to 100 %, editing the service resets the weight | [`editing_a_running_release_never_jumps`] |
//! | 5 | a revision that comes during a failure is swallowed | [`a_version_that_comes_during_a_rollback_is_not_swallowed`], `a_canary_that_crashes…` in `cluster_releases` |
//! | 6 | what a router cannot do succeeds without being done | [`what_a_route_cannot_do_is_refused`] |
//! | 7 | weights are not verified, pods go while traffic flows | `killed_from_promotion…` and `killed_while…` in `cluster_kills`; `Record::assert_rules` in most tests of `cluster_faults…`, `cluster_kills`, `cluster_split` and here |
//! | 8 | an upgrade or a foreign annotation begins releases | [`what_others_write_begins_no_release`] |
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail the test; figures are for whoever reads its output"
)]

mod cluster;
mod faults;

use std::sync::atomic::{AtomicBool, Ordering};

use cluster::Shop;
use faults::{
    DEPLOYMENTS, RELEASES, ROUTES, assert_answered, heads, image,
    measured::{counted_traffic, decided_at, judged, last_scrape_before, took},
    record::Record,
    told, until_holding, until_scaled_back, until_taken_back,
    wire::Wire,
};
use serde_json::{Value, json};
use serin_testkit::{Over, cluster::mesh::Held, http};

#[test]
fn a_source_that_hangs_delays_no_verdict_of_another() {
    let Some(shop) = Shop::open_measured("a_source_that_hangs_delays_no_verdict_of_another") else { return };
    shop.controller();
    let traffic = counted_traffic(&shop);
    let url = shop.cluster.prometheus().url();
    let wire = Wire::to(url.trim_start_matches("http://").parse().unwrap());
    shop.change_canary(|container| container["args"] = json!(["--error-rate=40%"]));
    let mut document = shop.judged("canary: {stages: [{weight: 30, hold: 60s, minRequests: 20}]}");
    let analysis = &mut document["spec"]["analysis"];
    analysis["sources"]["other"] = json!({"prometheus": {"url": format!("http://{}", wire.address), "timeout": "1m"}});
    analysis["metrics"].as_array_mut().unwrap().insert(0, Shop::answers("other", "other", "503"));
    analysis["criteria"] = json!([{"metric": "other", "max": "20%"}, {"metric": "failures", "max": "20%"}]);
    shop.apply(&document);
    shop.until_phase("Deploying");
    wire.hold(true);
    let status = shop.until_phase("RolledBack");
    assert!(told(&status).contains("failures: canary"), "{status:#}");
    let ms = took(&shop, &last_scrape_before(&shop, &decided_at(&shop)));
    println!("beside a source that hangs: {ms} ms from the deciding scrape to weight 0");
    assert!(ms < 10_000, "{ms} ms");
    traffic.stop();
}

#[test]
fn an_abort_needs_nothing_else_to_be_well() {
    let Some(shop) = Shop::open_measured("an_abort_needs_nothing_else_to_be_well") else { return };
    shop.controller();
    let traffic = counted_traffic(&shop);
    shop.new_version("v2");
    shop.apply(&judged(&shop, "{weight: 30, hold: 60s, minRequests: 20}", ""));
    until_holding(&shop, 3_000);
    // No metrics, a stable that is far from the replicas that it is asked to have, gateways that say nothing, and somebody who scales all the time.
    shop.cluster.prometheus().freeze(true);
    shop.cluster.freeze_controllers(true);
    shop.cluster.patch(DEPLOYMENTS, "shop", "shop", &json!({"spec": {"replicas": 50}}));
    shop.cluster.mesh().hold(Held { routes: false, status: true });
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            for replicas in (2..4).cycle() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                shop.cluster.patch(DEPLOYMENTS, "shop", "shop-canary", &json!({"spec": {"replicas": replicas}}));
            }
        });
        let asked = jiff::Timestamp::now().to_string();
        shop.command("1", &json!("abort"));
        until_taken_back(&shop);
        let ms = took(&shop, &asked);
        println!("an abort on a bad day: {ms} ms from the command to weight 0");
        assert!(ms < 10_000, "{ms} ms");
    });
    shop.cluster.mesh().hold(Held::default());
    shop.cluster.patch(DEPLOYMENTS, "shop", "shop", &json!({"spec": {"replicas": 2}}));
    shop.cluster.freeze_controllers(false);
    shop.until_phase("RolledBack");
    until_scaled_back(&shop);
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}

#[test]
fn what_turns_bad_at_100_percent_goes_back() {
    let Some(shop) = Shop::open_measured("what_turns_bad_at_100_percent_goes_back") else { return };
    shop.controller();
    let traffic = counted_traffic(&shop);
    shop.new_version("v2");
    shop.apply(&judged(&shop, "{weight: 50, hold: 2s, minRequests: 20}", ", bake: 10m"));
    shop.until_phase("Baking");
    shop.until("everything at the canary", |shop| (shop.canary_weight().0 == 10_000).then_some(()));
    for pod in shop.cluster.pods("shop", "app=shop-canary") {
        http::behave(pod.address, &json!({"error_rate": 1.0}));
    }
    let status = shop.until_phase("RolledBack");
    assert!(told(&status).contains("failures: canary"), "{status:#}");
    let ms = took(&shop, &last_scrape_before(&shop, &decided_at(&shop)));
    println!("bad at 100 %: {ms} ms from the deciding scrape to weight 0");
    until_scaled_back(&shop);
    assert_eq!(image(&shop, "shop"), "v1");
    traffic.forget();
    shop.until("some more requests", |_| (traffic.counts().values().sum::<u64>() > 100).then_some(()));
    assert_answered(&traffic.stop(), &["v1"], &shop);
    Record::of(&shop).assert_rules();
}

#[test]
fn a_template_that_comes_during_promotion_is_not_promoted() {
    let Some(shop) = Shop::open("a_template_that_comes_during_promotion_is_not_promoted") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 50, hold: 1s, maxHold: 1s}", ", retain: 2s");
    shop.until_phase("Retained");
    // The very moment: the old version is being retired, and has not been given the new template yet.
    shop.cluster.freeze_controllers(true);
    shop.until_phase("Retiring");
    shop.new_version("v3");
    shop.cluster.freeze_controllers(false);
    shop.until("the second run", |shop| (shop.status()["run"] == 2 && shop.canary_weight().0 == 5_000).then_some(()));
    assert_eq!(image(&shop, "shop"), "v2");
    let record = Record::of(&shop);
    let promoted = record.promotions();
    let images: Vec<_> = promoted.iter().filter_map(|(_, template)| template["spec"]["containers"][0]["image"].as_str()).collect();
    assert_eq!(images, ["registry.example/sample-app:v2"]);
    record.assert_rules();
    assert_answered(&traffic.stop(), &["v1", "v2", "v3"], &shop);
}

#[test]
fn editing_a_running_release_never_jumps() {
    let Some(shop) = Shop::open("editing_a_running_release_never_jumps") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 1s, maxHold: 1s}, {weight: 40, hold: 60s}", "");
    until_holding(&shop, 4_000);
    // The Service may be edited: that is not the release's affair.
    shop.cluster.patch(("v1", "Service"), "shop", "shop-canary", &json!({"metadata": {"annotations": {"team": "shop"}}}));
    shop.cluster.patch(("v1", "Service"), "shop", "shop", &json!({"spec": {"sessionAffinity": "ClientIP"}}));
    // A shorter list: the release would be past its end.
    shop.release("{weight: 10, hold: 60s}", "");
    shop.until("the second run", |shop| (shop.status()["run"] == 2).then_some(()));
    until_holding(&shop, 1_000);
    // One that cannot be carried out at all takes the traffic back, says why, and begins nothing.
    shop.release("{weight: 50, hold: 1m}, {weight: 20, hold: 1m}", "");
    let status = shop.until_phase("Invalid");
    assert!(status["reason"].as_str().unwrap().contains("stages[1].weight"), "{status:#}");
    let record = Record::of(&shop);
    assert_eq!(record.weights(), [2_000, 4_000, 0, 1_000, 0]);
    record.assert_rules();
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}

#[test]
fn a_version_that_comes_during_a_rollback_is_not_swallowed() {
    let Some(shop) = Shop::open("a_version_that_comes_during_a_rollback_is_not_swallowed") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    until_holding(&shop, 2_000);
    shop.cluster.mesh().hold(Held { routes: false, status: true });
    shop.command("1", &json!("abort"));
    shop.until_phase("RollingBack");
    shop.new_version("v3");
    shop.cluster.mesh().hold(Held::default());
    shop.until("the second run", |shop| (shop.status()["run"] == 2).then_some(()));
    let status = until_holding(&shop, 2_000);
    assert!(!heads(&status).contains(&"rollback".to_owned()), "{status:#}");
    shop.until("requests of the third version", |_| traffic.counts().contains_key("v3").then_some(()));
    Record::of(&shop).assert_rules();
    assert_answered(&traffic.stop(), &["v1", "v2", "v3"], &shop);
}

#[test]
fn what_a_route_cannot_do_is_refused() {
    let Some(shop) = Shop::open("what_a_route_cannot_do_is_refused") else { return };
    shop.controller();
    shop.new_version("v2");
    let before = shop.route()["spec"].clone();
    let with = |traffic: Value, strategy: Value| {
        json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Release", "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {
                "workload": {"kubernetes": {"stable": {"deployment": "shop"}, "canary": {"deployment": "shop-canary"}}},
                "traffic": {"gatewayApi": traffic},
                "strategy": strategy,
            },
        })
    };
    let canary = json!({"canary": {"stages": [{"weight": 20, "hold": "60s"}]}});
    let routed = |extra: Value| {
        let mut traffic = json!({"route": "shop", "stableService": "shop", "canaryService": "shop-canary"});
        traffic.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        traffic
    };
    // By the API server, as soon as it is applied.
    for field in ["sticky", "mirror"] {
        let document = with(routed(json!({field: {"percent": 10}})), canary.clone());
        let refusal = shop.cluster.try_apply(&document).unwrap_err().to_string();
        assert!(refusal.contains(&format!("spec.traffic.gatewayApi.{field}")), "{refusal}");
    }
    // Or by the controller, before anything is touched.
    let cookies = with(routed(json!({"match": [{"cookie": {"canary": "yes"}}]})), canary.clone());
    match shop.cluster.try_apply(&cookies) {
        Err(refusal) => println!("{refusal}"),
        Ok(_) => {
            let status = shop.until_phase("Invalid");
            assert!(status["reason"].as_str().unwrap().contains("cookie"), "{status:#}");
            println!("{}", status["reason"]);
        }
    }
    // A rule whose weights would mean something else.
    let third = json!([{"backendRefs": [{"name": "shop", "port": 80, "weight": 1}, {"name": "legacy", "port": 80, "weight": 1}]}]);
    shop.cluster.patch(ROUTES, "shop", "shop", &json!({"spec": {"rules": third}}));
    shop.cluster.try_apply(&with(routed(json!({})), canary)).unwrap();
    let status = shop.until_phase("Refused");
    assert!(status["reason"].as_str().unwrap().contains("legacy"), "{status:#}");
    shop.cluster.patch(ROUTES, "shop", "shop", &json!({"spec": {"rules": before["rules"]}}));
    let record = Record::of(&shop);
    assert!(record.moves().is_empty() && record.scalings().is_empty(), "{:?} {:?}", record.moves(), record.scalings());
}

#[test]
fn what_others_write_begins_no_release() {
    let Some(shop) = Shop::open("what_others_write_begins_no_release") else { return };
    let first = shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    until_holding(&shop, 2_000);
    shop.command("1", &json!("abort"));
    shop.until_phase("RolledBack");
    until_scaled_back(&shop);
    // Another controller takes over while others write into everything that is not the template.
    shop.terminate(first);
    let annotated = json!({"metadata": {"annotations": {"other": "1"}, "labels": {"other": "1"}}});
    for (kind, name) in
        [(DEPLOYMENTS, "shop"), (DEPLOYMENTS, "shop-canary"), (ROUTES, "shop"), (RELEASES, "shop"), (("v1", "Service"), "shop-canary")]
    {
        shop.cluster.patch(kind, "shop", name, &annotated);
    }
    shop.cluster.patch(DEPLOYMENTS, "shop", "shop", &json!({"spec": {"replicas": 3, "revisionHistoryLimit": 5}}));
    shop.cluster.patch(DEPLOYMENTS, "shop", "shop-canary", &json!({"spec": {"paused": true, "minReadySeconds": 1}}));
    shop.cluster.patch(DEPLOYMENTS, "shop", "shop-canary", &json!({"spec": {"paused": false, "minReadySeconds": 0}}));
    // What the API server fills in, said by hand.
    shop.change_canary(|container| {
        container["imagePullPolicy"] = json!("IfNotPresent");
        container["terminationMessagePath"] = json!("/dev/termination-log");
        container["readinessProbe"]["timeoutSeconds"] = json!(1);
    });
    shop.controller();
    // The next thing that does begin one is the second run, not the third.
    shop.until("the other leader", |shop| shop.logs().matches("leading epoch").count().eq(&2).then_some(()));
    shop.cluster.patch(DEPLOYMENTS, "shop", "shop-canary", &annotated);
    shop.new_version("v3");
    shop.until("a second run", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    assert_eq!(shop.status()["run"], 2);
    let record = Record::of(&shop);
    assert_eq!(record.weights(), [2_000, 0, 2_000]);
    record.assert_rules();
    assert_answered(&traffic.stop(), &["v1", "v2", "v3"], &shop);
}
