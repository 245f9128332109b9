//! What tests of faults share: a relay that can be cut, the record of what the controller wrote, and rules that must hold in it whatever happened.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared by tests, each of which uses a part; helpers of tests may fail the test"
)]

pub(crate) mod measured;
pub(crate) mod record;
pub(crate) mod wire;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::Shop;

pub(crate) const RELEASES: (&str, &str) = ("serin.dev/v1alpha1", "Release");
pub(crate) const ROUTES: (&str, &str) = ("gateway.networking.k8s.io/v1", "HTTPRoute");
pub(crate) const DEPLOYMENTS: (&str, &str) = ("apps/v1", "Deployment");

/// Heads of the timeline.
pub(crate) fn heads(status: &Value) -> Vec<String> {
    status["timeline"].as_array().into_iter().flatten().map(|line| line["head"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The timeline in one text.
pub(crate) fn told(status: &Value) -> String {
    let lines = status["timeline"].as_array().into_iter().flatten();
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    lines.map(|line| format!("{}: {}\n", text(line, "head"), text(line, "detail"))).collect()
}

pub(crate) fn image(shop: &Shop, deployment: &str) -> String {
    let found = shop.get("apps/v1", "Deployment", deployment);
    found["spec"]["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap_or_default()
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Waits until the canary's weight is this, and the release says that it observes.
pub(crate) fn until_holding(shop: &Shop, weight: u64) -> Value {
    shop.until(&format!("a stage at {weight}"), |shop| {
        let status = shop.status();
        let reason = status["reason"].as_str()?;
        let is_proven = reason.starts_with("holding") || reason.starts_with("approval");
        (shop.canary_weight().0 == weight && is_proven).then_some(status)
    })
}

/// Waits until the canary gets nothing, by weight or by a rule.
pub(crate) fn until_taken_back(shop: &Shop) {
    shop.until("nothing for the canary", |shop| (shop.canary_weight() == (0, 1)).then_some(()));
}

/// Waits until the canary has no replicas.
pub(crate) fn until_scaled_back(shop: &Shop) {
    shop.until("no replicas", |shop| (shop.get("apps/v1", "Deployment", "shop-canary")["spec"]["replicas"] == 0).then_some(()));
}

/// Every request was answered, by one of these versions. How many each has answered depends on how fast the machine is.
pub(crate) fn assert_answered(counts: &BTreeMap<String, u64>, versions: &[&str], shop: &Shop) {
    let is_all_answered = !counts.is_empty() && counts.keys().all(|what| versions.contains(&what.as_str()));
    assert!(is_all_answered, "{counts:?}, expected only {versions:?}\n{}", shop.logs());
}
