//! Who waits for whom where one source hangs.

use std::{collections::BTreeSet, future::pending};

use serin_core::plan::MetricName;
use serin_spec::validated::{Ask, Measures, PerArm, Query};

use super::*;
use crate::{
    Pending,
    source::{Counter, FiringAlert},
};

/// More than are asked at once.
const METRICS: usize = AT_ONCE + 1;

/// Knows all alerts, and either no metric for ever or all.
struct MadeUp {
    hangs: bool,
}

impl MetricSource for MadeUp {
    fn counters<'a>(&'a self, _: &'a str, _: Duration) -> Pending<'a, Result<Vec<Counter>, Gap>> {
        Box::pin(pending())
    }

    fn value<'a>(&'a self, _: &'a str) -> Pending<'a, Result<f64, Gap>> {
        if self.hangs { Box::pin(pending()) } else { Box::pin(async { Ok(1.0) }) }
    }

    fn firing<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> Pending<'a, Result<Vec<FiringAlert>, Gap>> {
        let alert = FiringAlert { name: labels["alertname"].clone(), labels: String::new() };
        Box::pin(async move { Ok(vec![alert]) })
    }
}

/// `hanging` with more metrics than it is asked for at once, `healthy` with one, and an alert at each.
fn sources() -> Sources {
    let query = |source: &str, number: usize| Query {
        metric: MetricName::new(&format!("{source}-{number}")).unwrap(),
        source: source.to_owned(),
        ask: Ask::Value(PerArm { stable: None, canary: "x".to_owned() }),
    };
    let alert = |source: &str| AlertRule {
        source: source.to_owned(),
        labels: [("alertname".to_owned(), format!("{source}-down"))].into_iter().collect(),
    };
    let queries = (0..METRICS).map(|number| query("hanging", number)).chain([query("healthy", 0)]).collect();
    let measures = Measures { interval_ms: 10, sources: BTreeMap::new(), queries, alerts: vec![alert("hanging"), alert("healthy")] };
    let adapter = |name: &str, hangs: bool| (name.to_owned(), Arc::new(MadeUp { hangs }) as Arc<dyn MetricSource>);
    Sources { measures: Arc::new(measures), adapters: [adapter("hanging", true), adapter("healthy", false)].into_iter().collect() }
}

#[tokio::test]
async fn a_source_that_hangs_holds_up_neither_another_one_nor_its_own_alerts() {
    let mut polls = Polls::start(&sources());
    let mut missing = BTreeSet::from(["healthy-0", "healthy-down", "hanging-down"]);
    let all = async {
        while !missing.is_empty() {
            match polls.next().await {
                News::Measured(measured) => missing.remove(measured[0].metric.as_str()),
                News::Fires { name, .. } => missing.remove(name.as_str()),
                News::AlertsSeen(seen) => panic!("{seen:?}"),
            };
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), all).await;
    assert!(in_time.is_ok(), "nothing came of {missing:?}");
}
