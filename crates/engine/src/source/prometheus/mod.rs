//! Prometheus, or what answers like it.
//!
//! Counters are asked for by a range selector in an instant query: the only question that Prometheus answers with the raw samples and their
//! own times.

mod answer;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serin_core::traffic::{Gap, GapKind};
use serin_spec::validated::Prometheus;

use self::answer::Data;
use super::{Counter, FiringAlert, Keyring, MetricSource, http};
use crate::Pending;

const QUERY: &str = "/api/v1/query";
/// The most characters of a label's value that people are shown.
const MOST_SHOWN: usize = 100;

/// See the module.
#[derive(Clone)]
pub struct PrometheusSource {
    server: Prometheus,
    keys: Arc<dyn Keyring>,
}

impl PrometheusSource {
    /// `keys`: where the secrets that it refers to are.
    #[must_use]
    pub fn new(server: Prometheus, keys: Arc<dyn Keyring>) -> Self {
        Self { server, keys }
    }

    async fn query(&self, query: &str) -> Result<Data, Gap> {
        let timeout = format!("{}ms", self.server.timeout_ms);
        let (status, body) = http::post(&self.server, self.keys.as_ref(), QUERY, &[("query", query), ("timeout", &timeout)]).await?;
        answer::read(status, &body)
    }
}

impl MetricSource for PrometheusSource {
    fn counters<'a>(&'a self, selector: &'a str, reach: Duration) -> Pending<'a, Result<Vec<Counter>, Gap>> {
        Box::pin(async move { self.query(&format!("{}[{}s]", selector.trim(), reach.as_secs())).await?.into_counters() })
    }

    fn value<'a>(&'a self, query: &'a str) -> Pending<'a, Result<f64, Gap>> {
        Box::pin(async move { self.query(query).await?.into_value(query) })
    }

    fn firing<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> Pending<'a, Result<Vec<FiringAlert>, Gap>> {
        Box::pin(async move {
            let matchers: Vec<String> = labels.iter().map(|(label, value)| format!(",{label}=\"{}\"", escaped(value))).collect();
            let found = self.query(&format!("ALERTS{{alertstate=\"firing\"{}}}", matchers.concat())).await?;
            Ok(found.into_labels()?.into_iter().map(alert).collect())
        })
    }
}

fn alert(mut labels: BTreeMap<String, String>) -> FiringAlert {
    let name = labels.remove("alertname").unwrap_or_else(|| "an alert without a name".to_owned());
    for internal in ["__name__", "alertstate"] {
        labels.remove(internal);
    }
    let shown: Vec<String> = labels.iter().take(10).map(|(label, value)| format!("{label}={}", short(value))).collect();
    FiringAlert { name: short(&name), labels: if shown.is_empty() { "no further labels".to_owned() } else { shown.join(", ") } }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What a source says, in a length for people and without control characters.
fn short(text: &str) -> String {
    let plain = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    let mut short: String = plain.take(MOST_SHOWN).collect();
    if text.chars().count() > MOST_SHOWN {
        short.push('…');
    }
    short
}

fn malformed(text: impl Into<String>) -> Gap {
    Gap { kind: GapKind::Malformed, text: text.into() }
}
