//! Releases while the API server, its store, or the way to it is at fault. Requests flow all the time and none may be lost.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail the test; figures are for whoever reads its output"
)]

mod cluster;
mod faults;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use cluster::Shop;
use faults::{
    DEPLOYMENTS, RELEASES, ROUTES, assert_answered, heads, image,
    record::{Record, ms_between},
    told, until_holding, until_scaled_back, until_taken_back,
    wire::Wire,
};
use serde_json::{Value, json};
use serin_testkit::Over;

const FROZEN: Duration = Duration::from_secs(5);

/// Lets the API server stand still for a while.
fn freeze(shop: &Shop) {
    shop.cluster.freeze_apiserver();
    // The fault itself lasts so long; nothing is waited for.
    std::thread::sleep(FROZEN);
    shop.cluster.thaw_apiserver();
}

#[test]
fn an_api_server_that_stands_still_delays_a_release_and_loses_nothing() {
    let Some(shop) = Shop::open("an_api_server_that_stands_still_delays_a_release_and_loses_nothing") else { return };
    // A lease that outlasts the fault on any machine.
    shop.controller_at(&shop.cluster.service_account("serin", "controller"), "60s");
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 4s, maxHold: 4s}, {weight: 50, hold: 60s}", "");
    until_holding(&shop, 2_000);
    freeze(&shop);
    // The stage's time has passed meanwhile, and it goes on by itself.
    until_holding(&shop, 5_000);
    shop.command("1", &json!("abort"));
    freeze(&shop);
    let thawed = Instant::now();
    until_taken_back(&shop);
    println!("traffic was back {} ms after the API server answered again", thawed.elapsed().as_millis());
    let status = shop.until_phase("RolledBack");
    assert!(!heads(&status).contains(&"taken over".to_owned()), "the leader stayed the leader: {status:#}");
    until_scaled_back(&shop);
    let record = Record::of(&shop);
    record.assert_rules();
    assert_eq!(record.weights(), [2_000, 5_000, 0]);
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}

#[test]
fn servers_that_crash_end_no_release() {
    let Some(shop) = Shop::open("servers_that_crash_end_no_release") else { return };
    shop.controller();
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 2s, maxHold: 2s}, {weight: 50, hold: 2s, maxHold: 2s}, {weight: 80, hold: 1s, maxHold: 1s}", "");
    shop.until("the first stage", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    shop.cluster.restart_apiserver(true);
    shop.until("the second stage", |shop| (shop.canary_weight().0 == 5_000).then_some(()));
    shop.cluster.restart_etcd(true);
    shop.until("the API server to find its store again", |shop| shop.cluster.is_serving().then_some(()));
    let status = shop.until_phase("Succeeded");
    assert_eq!((&status["run"], image(&shop, "shop").as_str()), (&json!(1), "v2"));
    let record = Record::of(&shop);
    record.assert_rules();
    assert_eq!(record.weights(), [2_000, 5_000, 8_000, 10_000, 0]);
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}

#[test]
fn a_way_to_the_api_server_that_breaks_or_hangs_is_found_again() {
    let Some(shop) = Shop::open("a_way_to_the_api_server_that_breaks_or_hangs_is_found_again") else { return };
    let wire = Wire::to(shop.cluster.server());
    let account = wire.kubeconfig(&shop.cluster.service_account("serin", "controller"));
    shop.controller_at(&account, "4s");
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 3s, maxHold: 3s}, {weight: 50, hold: 60s}", "");
    until_holding(&shop, 2_000);
    assert!(wire.cut() > 0, "there was nothing to cut");
    until_holding(&shop, 5_000);
    // Nothing comes through for longer than the lease; nobody else is there to take it.
    wire.hold(true);
    std::thread::sleep(FROZEN);
    shop.command("1", &json!("abort"));
    wire.hold(false);
    let free = Instant::now();
    until_taken_back(&shop);
    println!("traffic was back {} ms after the way was free again", free.elapsed().as_millis());
    shop.until_phase("RolledBack");
    until_scaled_back(&shop);
    Record::of(&shop).assert_rules();
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}

#[test]
fn a_second_writer_of_everything_costs_conflicts_and_nothing_else() {
    let Some(shop) = Shop::open("a_second_writer_of_everything_costs_conflicts_and_nothing_else") else { return };
    shop.controller();
    let traffic = shop.traffic();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                let note = json!({"metadata": {"annotations": {"other": number.to_string()}}});
                shop.cluster.patch(ROUTES, "shop", "shop", &note);
                // Less often: the cluster's own controllers need time between two changes to say how a Deployment is.
                if number % 20 == 0 {
                    shop.cluster.patch(DEPLOYMENTS, "shop", "shop-canary", &note);
                    shop.cluster.patch(DEPLOYMENTS, "shop", "shop", &note);
                }
                if shop.status().is_object() {
                    let verdict = json!({"status": {"verdict": format!("scribble {number}")}});
                    shop.cluster.patch((RELEASES.0, "Release/status"), "shop", "shop", &verdict);
                }
            }
        });
        shop.new_version("v2");
        shop.release("{weight: 20, hold: 2s, maxHold: 2s}, {weight: 50, hold: 2s, maxHold: 2s}", "");
        shop.until_phase("Succeeded");
    });
    let record = Record::of(&shop);
    record.assert_rules();
    assert_eq!((record.weights(), image(&shop, "shop").as_str()), (vec![2_000, 5_000, 10_000, 0], "v2"));
    let conflicts = ["httproutes", "releases/status", "deployments"].map(|resource| record.conflicts(resource));
    println!("conflicts over route, status and Deployments: {conflicts:?}");
    assert!(conflicts[0] > 0 && conflicts[1] > 0, "the storm was none: {conflicts:?}");
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}

/// The role without one permission.
fn role_without(shop: &Shop, resource: &str, verb: &str) {
    let mut role = shop.cluster.get("rbac.authorization.k8s.io/v1", "ClusterRole", "", "serin-controller").unwrap();
    for rule in role["rules"].as_array_mut().unwrap() {
        if rule["resources"].as_array().unwrap().iter().any(|one| one == resource) {
            rule["verbs"].as_array_mut().unwrap().retain(|one| one != verb);
        }
    }
    shop.cluster.patch(("rbac.authorization.k8s.io/v1", "ClusterRole"), "", "serin-controller", &json!({"rules": role["rules"]}));
}

fn role(shop: &Shop) -> Value {
    shop.cluster.get("rbac.authorization.k8s.io/v1", "ClusterRole", "", "serin-controller").unwrap()["rules"].clone()
}

fn role_again(shop: &Shop, rules: &Value) {
    shop.cluster.patch(("rbac.authorization.k8s.io/v1", "ClusterRole"), "", "serin-controller", &json!({"rules": rules}));
}

#[test]
fn what_the_controller_may_not_do_is_said_and_done_as_soon_as_it_may() {
    let Some(shop) = Shop::open("what_the_controller_may_not_do_is_said_and_done_as_soon_as_it_may") else { return };
    shop.controller();
    let rules = role(&shop);
    let traffic = shop.traffic();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 2s, maxHold: 2s}, {weight: 50, hold: 60s}", "");
    until_holding(&shop, 2_000);
    // A raise waits and says for what, and is made once it may be.
    role_without(&shop, "httproutes", "patch");
    let status = shop.until("the missing permission in the status", |shop| {
        let status = shop.status();
        let is_said =
            status["reason"].as_str()?.contains("not allowed") && status["reason"].as_str()?.contains("patch HTTPRoute shop/shop");
        is_said.then_some(status)
    });
    println!("{}", status["reason"]);
    role_again(&shop, &rules);
    until_holding(&shop, 5_000);

    // The whole role goes in the moment of an abort: nobody can be told, but the traffic goes back as soon as it may.
    let binding = ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding");
    shop.cluster.delete(binding.0, binding.1, "", "serin-controller");
    shop.command("1", &json!("abort"));
    let refused =
        |shop: &Shop| Record::of(shop).entries.iter().any(|one| one.resource == "httproutes" && one.verb == "get" && one.code == 403);
    shop.until("a refusal", |shop| refused(shop).then_some(()));
    shop.cluster.controller_account("controller");
    let bound = Instant::now();
    until_taken_back(&shop);
    println!("traffic was back {} ms after the role was bound again", bound.elapsed().as_millis());
    let status = shop.until_phase("RolledBack");
    assert!(told(&status).contains("not allowed"), "{status:#}");

    // The canary is not left running, nor the route taken, because the way back was not allowed at first.
    shop.new_version("v3");
    shop.until("the next run", |shop| (shop.status()["run"] == 2 && shop.canary_weight().0 == 2_000).then_some(()));
    role_without(&shop, "deployments", "patch");
    shop.command("2", &json!("abort"));
    until_taken_back(&shop);
    let status = shop.until("what the canary's end waits for", |shop| {
        let status = shop.status();
        status["reason"].as_str()?.contains("not allowed").then_some(status)
    });
    assert_eq!(status["phase"], "RollingBack", "{status:#}");
    role_again(&shop, &rules);
    shop.until_phase("RolledBack");
    until_scaled_back(&shop);
    let note = shop.route()["metadata"]["annotations"]["serin.dev/decision"].as_str().unwrap().to_owned();
    assert!(note.contains("\"done\":true"), "{note}");
    Record::of(&shop).assert_rules();
    assert_answered(&traffic.stop(), &["v1", "v2", "v3"], &shop);
}

#[test]
fn a_leader_that_stood_still_past_its_lease_writes_no_more() {
    let Some(shop) = Shop::open("a_leader_that_stood_still_past_its_lease_writes_no_more") else { return };
    let traffic = shop.traffic();
    let first = shop.controller();
    shop.new_version("v2");
    shop.release("{weight: 20, hold: 4s, maxHold: 4s}, {weight: 50, hold: 60s}", "");
    until_holding(&shop, 2_000);
    let second = shop.cluster.controller_account("second");
    shop.controller_at(&second, "4s");
    shop.signal(first, rustix::process::Signal::STOP);
    // The next one goes on to the next stage, and takes it back again.
    until_holding(&shop, 5_000);
    shop.command("1", &json!("abort"));
    until_taken_back(&shop);
    shop.signal(first, rustix::process::Signal::CONT);
    let status = shop.until_phase("RolledBack");
    assert!(heads(&status).contains(&"taken over".to_owned()), "{status:#}");
    // It has read the lease since, and stands by.
    shop.until("the first one to look at the lease", |shop| {
        let record = Record::of(shop);
        let taken =
            record.writes().filter(|one| one.resource == "leases" && one.user.ends_with(":second")).map(|one| one.at.clone()).next()?;
        let reads = record.entries.iter().filter(|one| one.resource == "leases" && one.user.ends_with(":controller") && one.at > taken);
        (reads.count() > 3).then_some(())
    });
    let record = Record::of(&shop);
    record.assert_rules();
    let taken = record.writes().find(|one| one.resource == "leases" && one.user.ends_with(":second")).unwrap().at.clone();
    let late: Vec<_> = record.writes().filter(|one| one.user.ends_with(":controller") && one.at > taken).collect();
    assert!(late.is_empty(), "{late:#?}");
    let stood =
        record.entries.iter().rfind(|one| one.user.ends_with(":controller") && one.at < taken).map(|one| ms_between(&one.at, &taken));
    println!("the lease was taken {stood:?} ms after the last sign of life");
    assert_eq!(record.weights(), [2_000, 5_000, 0]);
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}
