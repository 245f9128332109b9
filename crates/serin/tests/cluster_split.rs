//! A good release as its users see it: at every stage the split of real requests is the weight, what is promoted is exactly what was judged, and the
//! canary goes only after its last request.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail the test; figures are for whoever reads its output"
)]

mod cluster;
mod faults;

use std::collections::BTreeMap;

use cluster::Shop;
use faults::{assert_answered, record::Record, until_scaled_back};
use serde_json::{Value, json};

const REQUESTS: u64 = 300;

/// Whether the canary's share of the requests is the weight, by five standard deviations.
fn assert_share(counts: &BTreeMap<String, u64>, weight_bps: u32) {
    let of = |version: &str| f64::from(u32::try_from(counts.get(version).copied().unwrap_or(0)).unwrap());
    let (total, share) = (of("v1") + of("v2"), f64::from(weight_bps) / 10_000.0);
    let (got, error) = (of("v2") / total, (share * (1.0 - share) / total).sqrt());
    println!("{:.1} % asked, {:.1} % of {total} requests measured", share * 100.0, got * 100.0);
    assert!((got - share).abs() <= 5.0 * error, "{got} of {total}, expected {share}: {counts:?}");
}

#[test]
fn the_split_is_the_weight_at_every_stage_and_what_was_judged_is_promoted() {
    let Some(shop) = Shop::open("the_split_is_the_weight_at_every_stage_and_what_was_judged_is_promoted") else { return };
    shop.controller();
    let traffic = shop.traffic();
    // More than an image: whatever a template can hold is judged and promoted.
    shop.change_canary(|container| {
        container["image"] = json!("registry.example/sample-app:v2");
        container["env"] = json!([{"name": "FLAVOUR", "value": "sweet"}]);
        container["resources"] = json!({"requests": {"memory": "16Mi"}});
    });
    let gated = |weight: &str| format!("{{weight: {weight}, hold: 1s, maxHold: 1s, gate: manual}}");
    shop.release(&["0.5%", "5", "20", "50"].map(gated).join(", "), ", retain: 1s");
    let mut seen = BTreeMap::new();
    for (number, weight_bps) in [50_u32, 500, 2_000, 5_000].into_iter().enumerate() {
        // The weight was proven before this.
        shop.until(&format!("approval of stage {}", number + 1), |shop| {
            let status = shop.status();
            let is_here = status["stage"] == format!("{}/4", number + 1) && status["phase"] == "AwaitingApproval";
            is_here.then_some(())
        });
        assert_eq!(shop.canary_weight().0, u64::from(weight_bps));
        traffic.forget();
        shop.until("requests", |_| (traffic.counts().values().sum::<u64>() >= REQUESTS).then_some(()));
        let counts = traffic.counts();
        assert_share(&counts, weight_bps);
        for (what, count) in counts {
            *seen.entry(what).or_insert(0) += count;
        }
        shop.command(&number.to_string(), &json!("approve"));
    }
    let judged = shop.get("apps/v1", "Deployment", "shop-canary")["spec"]["template"].clone();
    shop.until_phase("Succeeded");
    until_scaled_back(&shop);
    let without_labels = |mut template: Value| {
        template["metadata"]["labels"]["app"] = Value::Null;
        template
    };
    let stable = shop.get("apps/v1", "Deployment", "shop")["spec"]["template"].clone();
    assert_eq!(without_labels(stable), without_labels(judged));
    let record = Record::of(&shop);
    record.assert_rules();
    assert_eq!(record.weights(), [50, 500, 2_000, 5_000, 10_000, 0]);
    // Everything went to the new stable before the canary was scaled back.
    let (scaled_at, replicas) = record.scalings().pop().unwrap();
    let back = record.moves().into_iter().find(|one| one.note["handedOver"] == json!(true)).unwrap();
    assert!(replicas == 0 && back.at < scaled_at, "{back:?} {scaled_at}");
    assert_answered(&seen, &["v1", "v2"], &shop);
    assert_answered(&traffic.stop(), &["v1", "v2"], &shop);
}
