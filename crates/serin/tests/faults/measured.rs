//! Releases that a Prometheus judges, and how soon what it counted leads to a write.

use serde_json::{Value, json};

use super::record::{Record, ms_between};
use crate::cluster::{Shop, Traffic};

/// Traffic, once it is counted.
pub(crate) fn counted_traffic(shop: &Shop) -> Traffic {
    let traffic = shop.traffic();
    shop.until_scraped();
    traffic
}

/// A release that is judged by errors and by answers within 100 ms; to be changed and applied.
pub(crate) fn judged(shop: &Shop, stages: &str, more: &str) -> Value {
    let mut document = shop.judged(&format!("canary: {{stages: [{stages}]{more}}}"));
    let analysis = &mut document["spec"]["analysis"];
    let good = "http_request_duration_seconds_bucket{app=\"{{arm}}\",le=\"0.1\"}";
    let all = "http_request_duration_seconds_count{app=\"{{arm}}\"}";
    let slow = json!({"name": "slow", "prometheus": {"source": "prom", "good": good, "denominator": all}});
    analysis["metrics"].as_array_mut().unwrap().push(slow);
    let criterion = json!({"metric": "slow", "max": "20%", "versusStable": {"ratio": 2, "increase": "10pp"}});
    analysis["criteria"].as_array_mut().unwrap().push(criterion);
    document
}

/// How long it took from something to the write of the route that gives the canary nothing, in milliseconds.
pub(crate) fn took(shop: &Shop, from: &str) -> i64 {
    let back = Record::of(shop).moves().into_iter().find(|one| one.note["retreated"] == json!(true));
    let back = back.unwrap_or_else(|| panic!("traffic was not taken back\n{}", shop.logs()));
    ms_between(from, &back.at)
}

/// When the controller decided to take the traffic back, by its log: for good, or first to see whether stable is to blame as well.
pub(crate) fn decided_at(shop: &Shop) -> String {
    let logs = shop.logs();
    let is_decision = |line: &&str| line.contains("head=\"rollback\"") || line.contains("head=\"retreated\"");
    let line = logs.lines().find(is_decision).unwrap_or_else(|| panic!("no rollback\n{logs}"));
    line.split_whitespace().next().unwrap().to_owned()
}

/// The last scrape of the canary before a time: no later one can have led to a decision at that time.
pub(crate) fn last_scrape_before(shop: &Shop, at: &str) -> String {
    let at = at.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let series = shop.cluster.prometheus().query("http_requests_total{app=\"shop-canary\"}[5m]");
    let times = series.iter().flat_map(|series| series["values"].as_array().into_iter().flatten().filter_map(|value| value[0].as_f64()));
    #[allow(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
    let last = times.map(|seconds| (seconds * 1_000.0).round() as i64).filter(|ms| *ms <= at).max();
    jiff::Timestamp::from_millisecond(last.unwrap_or_else(|| panic!("no scrape before {at}: {series:?}"))).unwrap().to_string()
}
