//! A `VirtualService` with a route for each region, as the documents of several clouds have it: one release drives the regions that it names.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod cluster;

use std::collections::BTreeSet;

use cluster::Shop;
use serde_json::{Value, json};
use serin_testkit::cluster::{Door, mesh::SOURCE_LABELS};

const REGIONS: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.example]
  http:
  - {name: eu, match: [{sourceLabels: {region: eu}}], route: [{destination: {host: shop}}]}
  - {name: us, match: [{sourceLabels: {region: us}}], route: [{destination: {host: shop}}]}
  - {name: rest, route: [{destination: {host: shop}}]}
";

/// The versions that answer a region's clients.
fn versions(shop: &Shop, region: &str) -> BTreeSet<String> {
    let labels = format!("app=client,region={region}");
    (0..60).map(|_| shop.ask_at(Door::Mesh, "web.example", &[(SOURCE_LABELS, &labels)]).unwrap_or_else(|error| error)).collect()
}

fn route(shop: &Shop, name: &str) -> Value {
    let object = shop.get("networking.istio.io/v1", "VirtualService", "web");
    object["spec"]["http"].as_array().unwrap().iter().find(|rule| rule["name"] == name).cloned().unwrap()
}

#[test]
fn regions_that_are_not_named_are_left_alone() {
    let Some(shop) = Shop::open("regions_that_are_not_named_are_left_alone") else { return };
    shop.cluster.apply(REGIONS);
    shop.until("the router to serve", |shop| (versions(shop, "eu") == ["v1".to_owned()].into()).then_some(()));
    shop.controller();
    let before = ["us", "rest"].map(|name| route(&shop, name));
    shop.new_version("v2");
    let traffic = |routes: &str| {
        format!("{{istio: {{virtualService: web, stable: {{host: shop}}, canary: {{host: shop-canary}}, routes: [{routes}]}}}}")
    };
    let stage = "{weight: 50, hold: 1s, maxHold: 1s, gate: manual}";
    // A region that is not there would go on without its share: that is said before anything is touched.
    shop.release_by(&traffic("eu, asia"), stage, "");
    let status = shop.until_phase("Refused");
    assert!(status["reason"].as_str().unwrap().contains("no route asia"), "{status:#}");
    shop.release_by(&traffic("eu"), stage, "");
    shop.until("the stage to wait for approval", |shop| {
        let status = shop.status();
        (status["phase"] == "AwaitingApproval" && status["run"] == 2).then_some(())
    });
    let both: BTreeSet<String> = ["v1".to_owned(), "v2".to_owned()].into();
    shop.until("both versions in eu", |shop| (versions(shop, "eu") == both).then_some(()));
    for region in ["us", "asia"] {
        assert_eq!(versions(&shop, region), ["v1".to_owned()].into(), "{region}");
    }
    assert_eq!(["us", "rest"].map(|name| route(&shop, name)), before);
    let approve = json!({"id": "1", "action": "approve", "by": "ann"}).to_string();
    let patch = json!({"metadata": {"annotations": {"serin.dev/command": approve}}});
    shop.cluster.patch(("serin.dev/v1alpha1", "Release"), "shop", "shop", &patch);
    shop.until_phase("Succeeded");
    // All regions have what was judged, because stable is that now.
    for region in ["eu", "us", "asia"] {
        assert_eq!(versions(&shop, region), ["v2".to_owned()].into(), "{region}");
    }
    assert_eq!(["us", "rest"].map(|name| route(&shop, name)), before);
}
