//! The metrics that a document may name.

use std::collections::{BTreeMap, BTreeSet};

use serin_core::plan::{Metric, MetricName, MetricSource};

use super::Context;
use crate::{
    check::nearest,
    diagnostic::{list, quote},
    raw,
    tree::Path,
};

/// Declared and built-in metrics by name.
pub(super) struct Metrics {
    declared: BTreeMap<String, Metric>,
    processes_measured: bool,
    /// Metrics of others that do not tell the versions apart.
    whole: BTreeSet<MetricName>,
}

impl Metrics {
    /// `processes_measured`: Serin runs the processes itself and sees what they use. `external`: metrics of others, by name, and those of them that
    /// do not tell the versions apart.
    pub(super) fn new(
        analysis: Option<&raw::Analysis>,
        processes_measured: bool,
        external: (BTreeMap<String, Metric>, BTreeSet<MetricName>),
        at_analysis: &Path,
        cx: &mut Context<'_>,
    ) -> Self {
        let (external, whole) = external;
        let mut declared = BTreeMap::new();
        let given = analysis.and_then(|analysis| analysis.metrics.as_deref()).unwrap_or_default();
        for (index, raw::DeclaredMetric { name, builtin, .. }) in given.iter().enumerate() {
            let at = at_analysis.key("metrics").index(index);
            // The schema has the same list.
            let named = builtin.as_deref().and_then(Metric::from_name);
            let Some(metric) = named.or_else(|| external.get(&name.0).copied()) else { continue };
            if Metric::from_name(&name.0).is_some_and(|shadowed| shadowed != metric) {
                let message = format!("{} is the name of another built-in metric", quote(&name.0));
                cx.push(cx.error(&at.key("name"), "shadowed-metric", message).expected("a name of your own"));
            }
            if declared.insert(name.0.clone(), metric).is_some() {
                cx.push(cx.error(&at.key("name"), "duplicate-name", format!("the metric {} is declared twice", quote(&name.0))));
            }
        }
        Self { declared, processes_measured, whole }
    }

    /// Whether a metric is about both versions together.
    pub(super) fn is_whole(&self, metric: Metric) -> bool {
        metric.external().is_some_and(|external| self.whole.contains(&external.name))
    }

    /// The metric that a criterion or guard names.
    pub(super) fn resolve(&self, name: &str, path: &Path, cx: &mut Context<'_>) -> Option<Metric> {
        let Some(metric) = self.declared.get(name).copied().or_else(|| Metric::from_name(name)) else {
            let builtin = Metric::builtin_names();
            let known = self.declared.keys().map(String::as_str).chain(builtin);
            let help = nearest(name, known.clone()).map(|meant| format!("did you mean {}?", quote(meant)));
            let mut names: Vec<&str> = known.collect();
            names.dedup();
            cx.push(
                cx.error(path, "unknown-metric", format!("there is no metric {}", quote(name)))
                    .expected(list(names, "or"))
                    .maybe_help(help.or_else(|| same_word(name))),
            );
            return None;
        };
        if metric.source() == MetricSource::Processes && !self.processes_measured {
            cx.push(
                cx.error(path, "not-measured", format!("{} is not measured for `workload.external`", quote(metric.name())))
                    .expected("a metric of the traffic, such as `error-rate` or `latency-p99`")
                    .help("Serin sees what processes use only if it runs them itself (`workload.processes`)"),
            );
            return None;
        }
        Some(metric)
    }
}

/// What metrics are called elsewhere.
fn same_word(name: &str) -> Option<String> {
    let meant = match name.to_ascii_lowercase().as_str() {
        "errors" | "error" | "failures" => Metric::ErrorRate.name(),
        "latency" | "duration" | "response-time" => Metric::LatencyAny.name(),
        "p99" => "latency-p99",
        "p95" => "latency-p95",
        "p90" => "latency-p90",
        "p50" | "median" => "latency-p50",
        "5xx" => Metric::ServerErrorRate.name(),
        "4xx" => Metric::ClientErrorRate.name(),
        "rps" | "requests" | "throughput" => Metric::RequestRate.name(),
        "rss" | "ram" => Metric::Memory.name(),
        _ => return None,
    };
    Some(format!("did you mean {}? A name of your own can be declared in `analysis.metrics`", quote(meant)))
}
