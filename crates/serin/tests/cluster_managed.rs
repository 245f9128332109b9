//! One Deployment that people go on editing, released in place in a real cluster, with requests that are counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod cluster;

use std::process::Command;

use cluster::{SERIN, Shop};
use serde_json::{Value, json};
use serin_testkit::cluster::access;

const STAGES: &str = "{weight: 20, hold: 2s, maxHold: 2s}, {weight: 50, hold: 2s, maxHold: 2s}";

fn image_of(deployment: &Value) -> &str {
    deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

fn only(counts: &std::collections::BTreeMap<String, u64>, expected: &[&str], shop: &Shop) {
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{counts:?}\n{}", shop.logs());
}

fn adopted(shop: &Shop) {
    shop.until("the adoption", |shop| (shop.deployment("shop")["spec"]["paused"] == true).then_some(()));
    shop.until_phase("Idle");
}

/// What a verb of `kubectl serin` says of the shop, as JSON; its exit code must be 0.
fn outside(shop: &Shop, args: &[&str]) -> Vec<Value> {
    let mut command = Command::new(SERIN);
    command.args(["--output", "json", "kubectl", "-n", "shop"]).args(args).env("KUBECONFIG", shop.cluster.kubeconfig(access::ADMIN));
    let said = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.status.code(), Some(0), "{args:?}\n{out}\n{err}\n{}", shop.logs());
    serde_json::Deserializer::from_str(&out).into_iter().map(Result::unwrap).collect()
}

/// The fields that a planned step changes, by object.
fn planned(plan: &Value, step: usize) -> Vec<(String, Vec<String>)> {
    let of = |change: &Value| {
        let paths = change["fields"].as_array().unwrap().iter().map(|field| field["path"].as_str().unwrap().to_owned());
        assert_eq!(change["server"], "accepts", "{change:#}");
        (change["object"].as_str().unwrap().to_owned(), paths.collect())
    };
    plan["steps"][step]["changes"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn it_is_planned_and_waited_for_from_outside() {
    let Some(shop) = Shop::open_alone("it_is_planned_and_waited_for_from_outside") else { return };
    let file = shop.cluster.path().join("release.yaml");
    let document = "
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: shop, namespace: shop}
spec:
  workload: {kubernetes: {deployment: shop}}
  traffic: {gatewayApi: {route: shop, stableService: shop, canaryService: shop-canary}}
  strategy: {canary: {stages: [{weight: 50, hold: 2s, maxHold: 2s}]}}
  analysis: {onNoData: continue, onInconclusive: advance}
";
    std::fs::write(&file, document).unwrap();
    let file = file.to_str().unwrap();
    // Before anything is there: all that will be made is tried, and nothing is made.
    let plan = outside(&shop, &["plan", "-f", file]).remove(0);
    assert_eq!(plan["possible"], true, "{plan:#}");
    let objects: Vec<String> = planned(&plan, 0).into_iter().map(|(object, _)| object).collect();
    assert_eq!(objects, ["Deployment shop/shop", "Service shop/shop-canary (new)", "Deployment shop/shop-canary (new)"], "{plan:#}");
    let none = [("apps/v1", "Deployment"), ("v1", "Service")].map(|(version, kind)| shop.get(version, kind, "shop-canary"));
    assert!(none.iter().all(Value::is_null) && shop.deployment("shop")["spec"]["paused"].is_null(), "{none:#?}");

    let controller = shop.controller();
    shop.cluster.apply(document);
    adopted(&shop);
    shop.edit("v2");
    // At once: what the status says is still about the version before.
    let waited = outside(&shop, &["status", "shop", "--wait"]);
    assert!(!waited.is_empty());
    assert_eq!(shop.status()["phase"], "Succeeded", "{:#}", shop.status());
    assert_eq!(image_of(&shop.deployment("shop")), "registry.example/sample-app:v2");

    // What is there already is changed and not made again.
    shop.terminate(controller);
    shop.edit("v3");
    let plan = outside(&shop, &["plan", "-f", file]).remove(0);
    let last = plan["steps"].as_array().unwrap().len() - 1;
    let resumed: Vec<_> = planned(&plan, last).into_iter().filter(|(object, _)| object == "Deployment shop/shop").collect();
    assert_eq!(resumed.iter().map(|(_, paths)| paths.join(" ")).collect::<Vec<_>>(), ["spec.paused", "spec.paused"], "{plan:#}");
}

/// The run of this number has ended so.
fn run_ended(shop: &Shop, run: u64, phase: &str) -> Value {
    shop.until(&format!("run {run} to be {phase}"), |shop| {
        let status = shop.status();
        (status["run"] == run && status["phase"] == phase).then_some(status)
    })
}

#[test]
fn an_edit_is_released_in_place_and_no_request_is_lost() {
    let Some(shop) = Shop::open_alone("an_edit_is_released_in_place_and_no_request_is_lost") else { return };
    let before = shop.cluster.pods("shop", "app=shop").into_iter().map(|pod| pod.name).collect::<Vec<_>>();
    let traffic = shop.traffic();
    shop.controller();
    shop.managed_release(STAGES, "");
    adopted(&shop);
    let after = shop.cluster.pods("shop", "app=shop").into_iter().map(|pod| pod.name).collect::<Vec<_>>();
    assert_eq!(before, after, "adoption restarts nothing");

    shop.edit("v2");
    shop.until("the first stage", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    assert_eq!(shop.versions_of("app=shop"), ["v1", "v1"], "an edit rolls nothing out by itself");
    let canary = shop.deployment("shop-canary");
    assert_eq!(canary["spec"]["template"]["metadata"]["labels"], json!({"app": "shop-canary", "team": "shop"}));
    assert_eq!(shop.get("v1", "Service", "shop-canary")["spec"]["selector"], json!({"app": "shop-canary"}));
    let status = run_ended(&shop, 1, "Succeeded");
    let stable = shop.deployment("shop");
    assert_eq!(image_of(&stable), "registry.example/sample-app:v2", "{status:#}");
    assert_eq!(stable["spec"]["template"]["metadata"]["labels"], json!({"app": "shop", "team": "shop"}));
    assert_eq!(stable["spec"]["paused"], true, "the next edit is to begin a release as well");
    assert_eq!((shop.canary_weight().0, shop.deployment("shop-canary")["spec"]["replicas"].clone()), (0, json!(0)));
    traffic.forget();
    shop.until("some more requests", |_| (traffic.counts().values().sum::<u64>() > 50).then_some(()));
    only(&traffic.counts(), &["v2"], &shop);

    // A Deployment that is scaled meanwhile is scaled, and the next edit is the next run.
    shop.cluster.patch(("apps/v1", "Deployment"), "shop", "shop", &json!({"spec": {"replicas": 3}}));
    shop.until("three replicas", |shop| (shop.versions_of("app=shop").len() == 3).then_some(()));
    shop.edit("v3");
    run_ended(&shop, 2, "Succeeded");
    shop.until("v3 alone", |shop| (shop.versions_of("app=shop") == ["v3", "v3", "v3"]).then_some(()));
    only(&traffic.stop(), &["v2", "v3"], &shop);
}

#[test]
fn a_bad_edit_never_reaches_the_deployment_and_is_left_in_it() {
    let Some(shop) = Shop::open_alone("a_bad_edit_never_reaches_the_deployment_and_is_left_in_it") else { return };
    let traffic = shop.traffic();
    shop.controller();
    shop.managed_release(STAGES, "");
    adopted(&shop);
    shop.change("shop", |container| container["args"] = json!(["--crash-after=300ms"]));
    let status = run_ended(&shop, 1, "RolledBack");
    assert!(status["reason"].as_str().unwrap().contains("crash loop"), "{status:#}");
    let told = status["timeline"].as_array().unwrap().iter().any(|line| line["detail"].as_str().unwrap_or_default().contains("stays in"));
    assert!(told, "{status:#}");
    let stable = shop.deployment("shop");
    assert_eq!(stable["spec"]["template"]["spec"]["containers"][0]["args"], json!(["--crash-after=300ms"]), "nobody's edit is taken away");
    assert_eq!((shop.versions_of("app=shop").len(), &stable["spec"]["paused"]), (2, &json!(true)));
    only(&traffic.counts(), &["v1"], &shop);

    // Taken back, there is nothing to do; made again, it is tried again.
    shop.change("shop", |container| drop(container.as_object_mut().unwrap().remove("args")));
    shop.until_phase("Idle");
    shop.change("shop", |container| container["args"] = json!(["--crash-after=300ms"]));
    run_ended(&shop, 2, "RolledBack");

    // With the release goes everything that it brought, and the edit that was never proven is not rolled out by it.
    shop.cluster.delete("serin.dev/v1alpha1", "Release", "shop", "shop");
    shop.until("the release to go", |shop| shop.status().is_null().then_some(()));
    let stable = shop.cluster.wait_available("shop", "shop");
    assert_eq!(stable["spec"]["template"]["spec"]["containers"][0]["args"], Value::Null);
    assert!(stable["spec"]["paused"].is_null() || stable["spec"]["paused"] == false, "{stable:#}");
    assert_eq!(stable["metadata"]["annotations"]["serin.dev/adopted"], Value::Null);
    let is_told = |event: &Value| event["message"].as_str().unwrap_or_default().contains("its last edit was not");
    shop.until("an event that says so", |shop| shop.cluster.list("v1", "Event", "shop").iter().any(is_told).then_some(()));
    shop.until("the canary to be collected", |shop| shop.deployment("shop-canary").is_null().then_some(()));
    shop.until("its service as well", |shop| shop.get("v1", "Service", "shop-canary").is_null().then_some(()));
    let backends = shop.route()["spec"]["rules"][0]["backendRefs"].clone();
    let names: Vec<&str> = backends.as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["shop"], "nothing in the route leads to a service that is not there");
    only(&traffic.stop(), &["v1"], &shop);
    // Edits are its own affair again.
    shop.edit("v4");
    shop.until("v4 alone", |shop| (shop.versions_of("app=shop") == ["v4", "v4"]).then_some(()));
}

#[test]
fn edits_in_the_middle_are_neither_lost_nor_rolled_out_unjudged() {
    let Some(shop) = Shop::open_alone("edits_in_the_middle_are_neither_lost_nor_rolled_out_unjudged") else { return };
    let traffic = shop.traffic();
    let first = shop.controller();
    shop.managed_release("{weight: 20, hold: 4s, maxHold: 4s}", "");
    adopted(&shop);
    shop.edit("v2");
    shop.until("the first stage", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    shop.until("requests to v2", |_| traffic.counts().contains_key("v2").then_some(()));
    // In a stage: what is on trial ends, and what is there now begins.
    shop.edit("v3");
    shop.until("the second run in its stage", |shop| (shop.status()["run"] == 2 && shop.canary_weight().0 == 2_000).then_some(()));
    assert_eq!(shop.versions_of("app=shop"), ["v1", "v1"]);

    // While the judged version is rolled out, and the controller is killed in the midst of it.
    let unpaused = |shop: &Shop| shop.status()["phase"] == "Retiring" && shop.deployment("shop")["spec"]["paused"] != true;
    shop.until("the rollout", |shop| unpaused(shop).then_some(()));
    shop.edit("v4");
    shop.kill(first);
    shop.controller();
    shop.until("what was judged to be promoted, and the edit to be the next", |shop| (shop.status()["run"] == 3).then_some(()));
    assert_eq!(image_of(&shop.deployment("shop")), "registry.example/sample-app:v4");
    assert_eq!(shop.versions_of("app=shop"), ["v3", "v3"], "{:#}", shop.status());
    // Nobody led for seconds after the edit, so that it came up in pods of the Deployment: they got nothing.
    only(&traffic.counts(), &["v1", "v2", "v3"], &shop);
    run_ended(&shop, 3, "Succeeded");
    shop.until("v4 alone", |shop| (shop.versions_of("app=shop") == ["v4", "v4"]).then_some(()));
    assert_eq!(shop.deployment("shop")["metadata"]["annotations"]["serin.dev/next-template"], Value::Null);
    let counts = traffic.stop();
    // v2 and v3 were on trial, v4 after that: all that is missing here was lost.
    only(&counts, &["v1", "v2", "v3", "v4"], &shop);
}

#[test]
fn a_new_content_of_a_config_map_is_a_release() {
    let Some(shop) = Shop::open_alone("a_new_content_of_a_config_map_is_a_release") else { return };
    shop.cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: shop}, data: {colour: blue}}");
    shop.change("shop", |container| container["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]));
    shop.cluster.wait_available("shop", "shop");
    let traffic = shop.traffic();
    shop.controller();
    shop.managed_release(STAGES, "");
    adopted(&shop);
    let names = |shop: &Shop| shop.cluster.pods("shop", "app=shop").into_iter().map(|pod| pod.name).collect::<Vec<_>>();
    let before = names(&shop);
    let content = |colour: &str| json!({"data": {"colour": colour}});
    shop.cluster.patch(("v1", "ConfigMap"), "shop", "settings", &content("green"));
    run_ended(&shop, 1, "Succeeded");
    let template = shop.deployment("shop")["spec"]["template"].clone();
    assert!(template["metadata"]["annotations"]["serin.dev/config"].is_string(), "{template:#}");
    shop.until("other pods, which read it", |shop| (!names(shop).iter().any(|name| before.contains(name))).then_some(()));

    // Not tracked, it is none; the next edit of the template is the next run.
    let untracked = json!({"metadata": {"labels": {"serin.dev/track": "disabled"}}, "data": {"colour": "red"}});
    shop.cluster.patch(("v1", "ConfigMap"), "shop", "settings", &untracked);
    shop.until_phase("Idle");
    shop.cluster.patch(("v1", "ConfigMap"), "shop", "settings", &content("black"));
    shop.edit("v2");
    run_ended(&shop, 2, "Succeeded");
    shop.until("v2 alone", |shop| (shop.versions_of("app=shop") == ["v2", "v2"]).then_some(()));
    only(&traffic.stop(), &["v1", "v2"], &shop);
}

#[test]
fn what_cannot_be_adopted_says_why() {
    let Some(shop) = Shop::open_alone("what_cannot_be_adopted_says_why") else { return };
    shop.cluster.patch(("apps/v1", "Deployment"), "shop", "shop", &json!({"spec": {"paused": true}}));
    shop.controller();
    shop.managed_release(STAGES, "");
    let status = shop.until_phase("Invalid");
    assert!(status["reason"].as_str().unwrap().contains("kubectl rollout resume"), "{status:#}");
    // In the middle of a rollout of its own it is waited for.
    let never = json!({"spec": {"paused": false, "template": {"metadata": {"labels": {"team": "other"}}}, "minReadySeconds": 3}});
    shop.cluster.patch(("apps/v1", "Deployment"), "shop", "shop", &never);
    let status = shop.until_phase("Waiting");
    assert!(status["reason"].as_str().unwrap().contains("rollout of its own"), "{status:#}");
    // Whoever waits for the release waits until that is over.
    outside(&shop, &["status", "shop", "--wait"]);
    assert_eq!(shop.deployment("shop")["spec"]["paused"], true, "{:#}", shop.status());
    adopted(&shop);
    assert_eq!(shop.deployment("shop")["spec"]["template"]["metadata"]["labels"]["team"], "other");
    // Somebody who resumes it rolls out what is there, and that is what counts then.
    shop.cluster.patch(("apps/v1", "Deployment"), "shop", "shop", &json!({"spec": {"paused": false}}));
    adopted(&shop);
    // A canary of that name that somebody else has made is not touched.
    shop.cluster.apply(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-canary, namespace: shop}
spec:
  replicas: 0
  selector: {matchLabels: {app: shop-canary}}
  template:
    metadata: {labels: {app: shop-canary}}
    spec: {containers: [{name: app, image: 'registry.example/sample-app:v9'}]}
",
    );
    shop.edit("v2");
    let status = shop.until("the end", |shop| {
        let status = shop.status();
        matches!(status["phase"].as_str(), Some("Refused" | "RolledBack")).then_some(status)
    });
    assert!(status["reason"].as_str().unwrap().contains("was not made by Serin"), "{status:#}");
    assert_eq!(image_of(&shop.deployment("shop-canary")), "registry.example/sample-app:v9");
}
