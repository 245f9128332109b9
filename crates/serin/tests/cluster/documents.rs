//! The objects of the shop, and the releases that tests apply.

use serde_json::{Value, json};
use serin_testkit::cluster::parse;

use super::Shop;

const PAIR: &str = "stable: {deployment: shop}, canary: {deployment: shop-canary}";
const ROUTE: &str = "{gatewayApi: {route: shop, stableService: shop, canaryService: shop-canary}}";

impl Shop {
    /// Applies a release with these stages; without measurements each passes at the end of its time.
    pub(crate) fn release(&self, stages: &str, more: &str) {
        let route = "{gatewayApi: {route: shop, stableService: shop, canaryService: shop-canary, match: [{header: {x-canary: 'true'}}]}}";
        self.release_by(route, stages, more);
    }

    /// The same with another router: `spec.traffic`.
    pub(crate) fn release_by(&self, traffic: &str, stages: &str, more: &str) {
        self.unjudged(PAIR, traffic, stages, more);
    }

    /// Applies a release of one Deployment, `shop`, which is edited in place.
    pub(crate) fn managed_release(&self, stages: &str, more: &str) {
        self.release_of("deployment: shop", stages, more);
    }

    /// Applies a release of this workload.
    pub(crate) fn release_of(&self, workload: &str, stages: &str, more: &str) {
        self.unjudged(workload, ROUTE, stages, more);
    }

    fn unjudged(&self, workload: &str, traffic: &str, stages: &str, more: &str) {
        self.cluster.apply(&format!(
            "
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: shop, namespace: shop}}
spec:
  workload: {{kubernetes: {{{workload}}}}}
  traffic: {traffic}
  strategy: {{canary: {{stages: [{stages}]{more}}}}}
  analysis: {{onNoData: continue, onInconclusive: advance}}
"
        ));
    }

    /// Applies a release that is judged by what the pods count.
    pub(crate) fn judged_release(&self, stages: &str, more: &str) {
        self.apply(&self.judged(&format!("canary: {{stages: [{stages}]{more}}}")));
    }

    /// A release with this strategy that is judged by errors, which the source `prom` tells; to be changed and applied.
    pub(crate) fn judged(&self, strategy: &str) -> Value {
        let url = self.cluster.prometheus().url();
        let mut documents = parse(&format!(
            "
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: shop, namespace: shop}}
spec:
  workload: {{kubernetes: {{{PAIR}}}}}
  traffic: {ROUTE}
  strategy: {{{strategy}}}
  analysis:
    interval: 1s
    sources: {{prom: {{prometheus: {{url: '{url}', timeout: 3s}}}}}}
    arms: {{stable: shop, canary: shop-canary}}
    metrics: []
    criteria: [{{metric: failures, max: 20%, versusStable: {{ratio: 2, increase: 10pp}}}}]
"
        ));
        let mut document = documents.remove(0);
        document["spec"]["analysis"]["metrics"] = json!([Self::answers("failures", "prom", "500")]);
        document
    }

    /// A metric: the share of answers with this status code, as a source tells it.
    pub(crate) fn answers(name: &str, source: &str, code: &str) -> Value {
        let numerator = format!("http_requests_total{{app=\"{{{{arm}}}}\",code=\"{code}\"}}");
        let denominator = "http_requests_total{app=\"{{arm}}\"}";
        json!({"name": name, "prometheus": {"source": source, "numerator": numerator, "denominator": denominator}})
    }

    /// Applies an object.
    pub(crate) fn apply(&self, object: &Value) {
        self.cluster.try_apply(object).unwrap_or_else(|error| panic!("{error}\n{object:#}"));
    }
}

pub(super) fn image(version: &str) -> String {
    format!("registry.example/sample-app:{version}")
}

/// A Deployment and the Service in front of it.
pub(super) fn app(name: &str, version: &str, replicas: u32) -> String {
    let image = image(version);
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}, team: shop}}, annotations: {{prometheus.io/scrape: 'true'}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: app
        image: {image}
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /ready, port: http}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 2}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
"
    )
}
