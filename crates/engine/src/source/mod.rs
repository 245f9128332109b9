//! The port to whoever measures what Serin does not see itself. One adapter per kind of source.
//!
//! Sources are asked by tasks of their own ([`Polls`]), every interval, and what they say comes to the release through a channel: a source
//! that hangs delays nothing, least of all an abort; what others say neither. Everything is bounded: the time of a question, the size of an
//! answer, the number of questions to a source at once.

mod http;
mod looks;
mod poll;
mod prometheus;
mod secret;

pub use poll::{News, Polls};
pub use prometheus::PrometheusSource;
pub use secret::{Keyring, MachineKeys};

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serin_core::{
    release::Check,
    traffic::{Gap, align::Sample},
};
use serin_spec::validated::{Ask, Measures};

use self::looks::{Question, questions};
use crate::{Pending, preflight};

/// Someone who measures.
pub trait MetricSource: Send + Sync {
    /// The counters that a plain selector picks, with the samples of the last `reach`.
    fn counters<'a>(&'a self, selector: &'a str, reach: Duration) -> Pending<'a, Result<Vec<Counter>, Gap>>;

    /// The single number that a query gives at present.
    fn value<'a>(&'a self, query: &'a str) -> Pending<'a, Result<f64, Gap>>;

    /// The alerts with these labels that fire at present.
    fn firing<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> Pending<'a, Result<Vec<FiringAlert>, Gap>>;
}

/// A counter with its newest samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Counter {
    /// What tells it from every other of the same source.
    pub id: String,
    /// The process that has it.
    pub target: String,
    /// Oldest first, by the source's clock.
    pub samples: Vec<Sample>,
}

/// An alert that fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiringAlert {
    /// What it is called.
    pub name: String,
    /// Its labels, for people.
    pub labels: String,
}

/// What a release asks, and whom.
#[derive(Clone)]
pub struct Sources {
    measures: Arc<Measures>,
    adapters: BTreeMap<String, Arc<dyn MetricSource>>,
}

impl Sources {
    /// The sources of a document. Nothing is asked yet, and no secret is read. `keys`: where its secrets are.
    #[must_use]
    pub fn new(measures: &Measures, keys: &Arc<dyn Keyring>) -> Self {
        let adapter = |(name, source): (&String, &serin_spec::validated::Prometheus)| {
            let adapter: Arc<dyn MetricSource> = Arc::new(PrometheusSource::new(source.clone(), Arc::clone(keys)));
            (name.clone(), adapter)
        };
        Self { adapters: measures.sources.iter().map(adapter).collect(), measures: Arc::new(measures.clone()) }
    }

    /// Before a release: whether every source that is asked answers, has what is asked for of stable, and no alert fires that would take the
    /// traffic back.
    pub async fn preflight(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for (name, adapter) in &self.adapters {
            let answer = adapter.value("vector(1)").await.map(drop).map_err(|gap| gap.to_string());
            let is_silent = answer.is_err();
            let hint = "see whether its address in `analysis.sources` is right and whether it may be reached from here";
            checks.push(preflight::outcome(&format!("source {name}"), "it answers", answer, hint));
            if is_silent {
                continue;
            }
            for question in questions(&self.measures).filter(|question| question.source == *name) {
                checks.push(metric_check(&question, adapter.as_ref()).await);
            }
            for rule in self.measures.alerts.iter().filter(|rule| rule.source == *name) {
                checks.push(alert_check(name, &rule.labels, adapter.as_ref()).await);
            }
        }
        checks
    }
}

async fn metric_check(question: &Question, source: &dyn MetricSource) -> Check {
    let name = format!("metric {}", question.metric);
    let arm = |query: &serin_spec::validated::PerArm| query.stable.clone().unwrap_or_else(|| query.canary.clone());
    let found = match &question.ask {
        Ask::Ratio { all, part, part_is_good } => {
            let mut found = Ok(String::new());
            // What is bad may never have happened.
            for selectors in [Some(all), Some(part).filter(|_| *part_is_good)].into_iter().flatten() {
                let selector = arm(selectors);
                found = match source.counters(&selector, looks::REACH).await {
                    Ok(counters) if counters.is_empty() => Err(format!("no such series: {selector}")),
                    Ok(counters) => found.map(|_| format!("{} series of stable", counters.len())),
                    Err(gap) => Err(gap.to_string()),
                };
                if found.is_err() {
                    break;
                }
            }
            found
        }
        Ask::Value(query) => source.value(&arm(query)).await.map(|value| format!("{value} at stable")).map_err(|gap| gap.to_string()),
    };
    let hint = "ask its source for it by hand; `analysis.arms` says what `{{arm}}` becomes";
    match found {
        Ok(found) => preflight::outcome(&name, found, Ok(()), hint),
        Err(reason) => preflight::outcome(&name, "", Err(reason), hint),
    }
}

async fn alert_check(source: &str, labels: &BTreeMap<String, String>, adapter: &dyn MetricSource) -> Check {
    let name = format!("alerts of {source}");
    let quiet = match adapter.firing(labels).await {
        Ok(firing) => match firing.first() {
            None => Ok(()),
            Some(alert) => Err(format!("{} fires already: {}", alert.name, alert.labels)),
        },
        Err(gap) => Err(gap.to_string()),
    };
    preflight::outcome(&name, "none fires", quiet, "wait until it is dealt with: it would take the traffic from the canary at once")
}
