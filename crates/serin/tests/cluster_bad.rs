//! Bad releases, and how soon they have no traffic: from the scrape or the event that decides to the write of the route, by the API server's audit log.
//! Each test prints its figure; what it demands leaves room for a busy machine.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail the test; figures are for whoever reads its output"
)]

mod cluster;
mod faults;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cluster::Shop;
use faults::{
    measured::{counted_traffic, decided_at, judged, last_scrape_before, took},
    record::{Record, ms_between},
    told, until_scaled_back,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use serin_testkit::{Over, processes};

/// What may be on any machine; the aim is 2,000.
const MOST_MS: i64 = 10_000;

/// A measured canary that is bad from its first request on, until its release has ended.
fn is_rolled_back(shop: &Shop, what: &str, args: &Value, reason: &str) {
    shop.controller();
    let traffic = counted_traffic(shop);
    shop.change_canary(|container| {
        container["image"] = json!("registry.example/sample-app:v2");
        container["args"] = args.clone();
    });
    shop.apply(&judged(shop, "{weight: 30, hold: 60s, minRequests: 50}", ""));
    let status = shop.until_phase("RolledBack");
    // At once, or after stable was watched without it: few requests may leave it open which of both is to blame.
    assert!(told(&status).contains(&format!("{reason}: canary")) || status["reason"].to_string().contains(reason), "{status:#}");
    let decided = decided_at(shop);
    let scrape = last_scrape_before(shop, &decided);
    let (from_scrape, from_decision) = (took(shop, &scrape), took(shop, &decided));
    println!("{what}: {from_scrape} ms from the deciding scrape to weight 0, of which {from_decision} ms from the decision");
    assert!((-1_000..MOST_MS).contains(&from_scrape), "{from_scrape} ms");
    until_scaled_back(shop);
    Record::of(shop).assert_rules();
    traffic.stop();
}

#[test]
fn a_canary_that_fails_is_out_soon_after_the_scrape_that_shows_it() {
    let Some(shop) = Shop::open_measured("a_canary_that_fails_is_out_soon_after_the_scrape_that_shows_it") else { return };
    is_rolled_back(&shop, "a third of the answers are errors", &json!(["--error-rate=33%"]), "failures");
}

#[test]
fn a_canary_that_is_slow_is_out_soon_after_the_scrape_that_shows_it() {
    let Some(shop) = Shop::open_measured("a_canary_that_is_slow_is_out_soon_after_the_scrape_that_shows_it") else { return };
    is_rolled_back(&shop, "answers take 300 ms", &json!(["--latency=300ms"]), "slow");
}

/// When a container of the canary was first seen after its second restart, from the test's own copy of the pods.
fn second_restart(shop: &Shop, is_over: &AtomicBool, seen: &Mutex<Option<String>>) {
    while !is_over.load(Ordering::Relaxed) {
        let pods = shop.cluster.pods("shop", "app=shop-canary");
        let restarts = pods.iter().filter_map(|pod| pod.object["status"]["containerStatuses"][0]["restartCount"].as_u64()).max();
        if restarts >= Some(2) {
            *seen.lock().unwrap() = Some(jiff::Timestamp::now().to_string());
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Until the release has ended; returns its status, and how long after the second restart the canary had nothing.
fn after_second_restart(shop: &Shop, meanwhile: impl FnOnce() + Send) -> (Value, i64) {
    let (is_over, seen) = (AtomicBool::new(false), Mutex::new(None));
    let status = std::thread::scope(|scope| {
        scope.spawn(|| second_restart(shop, &is_over, &seen));
        let _over = Over(&is_over);
        meanwhile();
        shop.until_phase("RolledBack")
    });
    let seen = seen.into_inner().unwrap().unwrap_or_else(|| panic!("no second restart\n{status:#}"));
    (status, took(shop, &seen))
}

#[test]
fn a_crash_loop_is_out_soon_after_the_second_restart() {
    let Some(shop) = Shop::open("a_crash_loop_is_out_soon_after_the_second_restart") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.change_canary(|container| container["args"] = json!(["--crash-after=4s"]));
    // Whatever is measured or not: there is nothing that could say how the canary does.
    shop.release("{weight: 20, hold: 60s}", "");
    let (status, ms) = after_second_restart(&shop, || {});
    println!("crash loop: {ms} ms from the second restart to weight 0");
    assert!(status["reason"].as_str().unwrap().contains("crash loop"), "{status:#}");
    assert!(ms < MOST_MS, "{ms} ms");
    assert!(Record::of(&shop).weights().contains(&2_000), "it had traffic first");
    until_scaled_back(&shop);
    Record::of(&shop).assert_rules();
    traffic.stop();
}

#[test]
fn what_ends_like_one_without_memory_is_out_soon_after_the_second_restart() {
    let Some(shop) = Shop::open("what_ends_like_one_without_memory_is_out_soon_after_the_second_restart") else { return };
    shop.controller();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 60s}", "");
    faults::until_holding(&shop, 2_000);
    let kill = || {
        // As the kernel does it, again and again, as soon as there is something to kill.
        shop.until("the end of the release", |shop| {
            for process in processes::mentioning(shop.cluster.path()) {
                if process.command.contains("--version=v2") {
                    processes::signal(process.pid, Signal::KILL);
                }
            }
            (shop.canary_weight().0 == 0).then_some(())
        });
    };
    let (status, ms) = after_second_restart(&shop, kill);
    println!("killed for lack of memory: {ms} ms from the second restart to weight 0");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("crash loop") && reason.contains("137 (OOMKilled)"), "{status:#}");
    assert!(ms < MOST_MS, "{ms} ms");
    until_scaled_back(&shop);
    Record::of(&shop).assert_rules();
}

#[test]
fn a_canary_that_never_is_ready_never_gets_a_request() {
    let Some(shop) = Shop::open("a_canary_that_never_is_ready_never_gets_a_request") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.change_canary(|container| container["args"] = json!(["--never-ready"]));
    // The Deployment's own deadline says nothing here: it had completed its rollout, of no replicas, before it was scaled.
    shop.cluster.apply(
        "
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: shop, namespace: shop}
spec:
  workload: {kubernetes: {stable: {deployment: shop}, canary: {deployment: shop-canary}, readyWithin: 4s}}
  traffic: {gatewayApi: {route: shop, stableService: shop, canaryService: shop-canary, match: [{header: {x-canary: 'true'}}]}}
  strategy: {canary: {stages: [{weight: 20, hold: 60s}]}}
",
    );
    let status = shop.until_phase("RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("not ready within 4 s"), "{status:#}");
    let record = Record::of(&shop);
    record.assert_rules();
    assert!(record.moves().iter().all(|one| one.weight == 0 && one.note["matches"] == false), "{:?}", record.moves());
    until_scaled_back(&shop);
    let begun = &record.scalings()[0].0;
    println!("never ready: given up {} ms after it was started, with a deadline of 4 s", ms_between(begun, &record.scalings()[1].0));
    faults::assert_answered(&traffic.stop(), &["v1"], &shop);
}
