//! Secrets of sources in a cluster: the controller reads the one that it was given a Role for, and no other.

mod cluster;

use cluster::Shop;

/// A release whose Prometheus is asked with a token. It is not checked there: what matters is whether it is found.
fn release(shop: &Shop, secret: &str) {
    let url = shop.cluster.prometheus().url();
    shop.cluster.apply(&format!(
        "
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: shop, namespace: shop}}
spec:
  workload: {{kubernetes: {{stable: {{deployment: shop}}, canary: {{deployment: shop-canary}}}}}}
  traffic: {{gatewayApi: {{route: shop, stableService: shop, canaryService: shop-canary}}}}
  strategy: {{canary: {{stages: [{{weight: 20, hold: 60s}}]}}}}
  analysis:
    interval: 1s
    sources: {{prom: {{prometheus: {{url: '{url}', timeout: 3s, auth: {{bearer: {{secretKeyRef: {{name: {secret}, key: token}}}}}}}}}}}}
    arms: {{stable: shop, canary: shop-canary}}
    metrics:
    - name: failures
      prometheus:
        source: prom
        numerator: 'http_requests_total{{app=\"{{{{arm}}}}\",code=\"500\"}}'
        denominator: 'http_requests_total{{app=\"{{{{arm}}}}\"}}'
    criteria: [{{metric: failures, max: 20%}}]
"
    ));
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
    shop.until("scraped counters of stable", |shop| {
        (!shop.cluster.prometheus().query("http_requests_total{app=\"shop\"}").is_empty()).then_some(())
    });
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
