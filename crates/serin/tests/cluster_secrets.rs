//! Secrets of sources in a cluster: the controller reads the one that it was given a Role for, and no other.

mod cluster;

use cluster::Shop;
use serde_json::json;

/// A release whose Prometheus is asked with a token. It is not checked there: what matters is whether it is found.
fn release(shop: &Shop, secret: &str) {
    let mut document = shop.judged("canary: {stages: [{weight: 20, hold: 60s}]}");
    let auth = json!({"bearer": {"secretKeyRef": {"name": secret, "key": "token"}}});
    document["spec"]["analysis"]["sources"]["prom"]["prometheus"]["auth"] = auth;
    shop.apply(&document);
}

#[test]
fn a_token_is_read_from_the_secret_that_a_role_names() {
    let Some(shop) = Shop::open_measured("a_token_is_read_from_the_secret_that_a_role_names") else { return };
    shop.cluster.apply(
        "
{apiVersion: v1, kind: Secret, metadata: {name: prom, namespace: shop}, stringData: {token: open-sesame}}
---
{apiVersion: v1, kind: Secret, metadata: {name: other, namespace: shop}, stringData: {token: not-yours}}
",
    );
    let _traffic = shop.traffic();
    shop.until_scraped();
    shop.controller();
    shop.new_version("v2");
    release(&shop, "prom");
    let status = shop.until_phase("Refused");
    assert!(status["reason"].as_str().unwrap().contains("may not get the Secret shop/prom"), "{status:#}");

    shop.cluster.apply(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: serin-prom, namespace: shop}
rules: [{apiGroups: [''], resources: [secrets], resourceNames: [prom], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: serin-prom, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: serin-prom}
subjects: [{kind: ServiceAccount, name: controller, namespace: serin}]
",
    );
    release(&shop, "other");
    let status = shop.until("the other to be refused", |shop| {
        let status = shop.status();
        status["reason"].as_str()?.contains("shop/other").then_some(status)
    });
    assert_eq!(status["phase"], "Refused", "{status:#}");
    release(&shop, "prom");
    shop.until("the first stage", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    let told = format!("{:#}\n{}", shop.status(), shop.logs());
    assert!(!told.contains("open-sesame") && !told.contains("not-yours"), "{told}");
}
