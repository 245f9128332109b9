//! What others measure: sources, the questions of metrics with their templates filled in, alerts.
//!
//! A ratio is asked for as plain selectors of counters: only those have samples with their own times, which is what lets both versions be
//! compared over the same span (see `serin_core::traffic::align`). A query in which Prometheus has already made a rate is refused with the way
//! to write it.

mod presets;
mod selector;
mod source;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use serin_core::plan::{Analysis, Criterion, ExternalKind, ExternalMetric, Metric, MetricName};

use self::template::{Names, Variables};
use super::{
    Context,
    context::{HOUR, SECOND},
    criterion::Taken,
};
use crate::{
    check::nearest,
    diagnostic::{list, quote},
    raw,
    tree::Path,
    validated::{AlertRule, Ask, Measures, PerArm, Query},
};

/// Time between two looks, unless the document says otherwise, in milliseconds.
const INTERVAL_MS: u64 = 15 * SECOND;
const MOST_SOURCES: usize = 20;
const MOST_LABELS: usize = 20;

/// What a document says about others who measure.
pub(super) struct Lowered {
    pub(super) measures: Measures,
    /// Metrics by name.
    pub(super) metrics: BTreeMap<String, Metric>,
    /// Those that do not tell the versions apart.
    pub(super) whole: BTreeSet<MetricName>,
}

/// `release`: the document's name, which is what `{{release}}` becomes.
pub(super) fn lower(given: Option<&raw::Analysis>, release: &str, path: &Path, cx: &mut Context<'_>) -> Lowered {
    let default = raw::Analysis::default();
    let given = given.unwrap_or(&default);
    let at_interval = path.key("interval");
    let sources = given.sources.as_ref().filter(|sources| !sources.is_empty());
    // The threshold judge may look at its window more often than anybody is asked.
    let shortest = if matches!(given.judge, Some(raw::Judge::Threshold)) { 1 } else { SECOND };
    let interval_ms = match (&given.interval, sources) {
        (Some(interval), Some(_)) => cx.given_duration(&at_interval, interval, INTERVAL_MS, shortest..=HOUR).max(SECOND),
        _ => INTERVAL_MS,
    };
    let mut lowered =
        Lowered { measures: Measures { interval_ms, ..Measures::default() }, metrics: BTreeMap::new(), whole: BTreeSet::new() };
    let at_sources = path.key("sources");
    for (name, source) in sources.into_iter().flatten() {
        lowered.measures.sources.extend(source::lower(name, source, &at_sources.key(name), cx));
    }
    if lowered.measures.sources.len() > MOST_SOURCES {
        let message = format!("{} sources are too many", lowered.measures.sources.len());
        cx.push(cx.error_at_key(&at_sources, "too-many", message).expected(format!("at most {MOST_SOURCES}")));
    }
    let names = Names::new(given.arms.as_ref(), None, &path.key("arms"), cx);
    let variables = Variables::new(release, interval_ms, names);
    for (index, metric) in given.metrics.iter().flatten().enumerate() {
        let at = path.key("metrics").index(index);
        match (&metric.builtin, &metric.prometheus) {
            (Some(_), None) => {}
            (None, Some(prometheus)) => lowered.metric(&metric.name.0, prometheus, &variables, &at.key("prometheus"), cx),
            (None, None) => {
                let message = format!("nothing says how {} is measured", quote(&metric.name.0));
                cx.push(cx.error(&at, "missing-field", message).expected("`builtin` or `prometheus`"));
            }
            (Some(_), Some(_)) => {
                let message = format!("{} is measured in two ways", quote(&metric.name.0));
                cx.push(cx.error_at_key(&at.key("prometheus"), "contradiction", message).expected("`builtin` or `prometheus`"));
            }
        }
    }
    for (index, alert) in given.alerts.iter().flatten().enumerate() {
        lowered.alert(alert, &variables, &path.key("alerts").index(index), cx);
    }
    lowered
}

/// Warns where those who measure cannot tell apart what Serin keeps apart. `taken`: the places of the criteria of the release. The traffic may be
/// sticky, and some of it matched.
pub(super) fn warn_of_mixtures(analysis: &Analysis, taken: &Taken, (is_sticky, has_matches): (bool, bool), cx: &mut Context<'_>) {
    let compares = |criterion: &&Criterion| {
        criterion.versus_stable.is_some() && criterion.metric.external().is_some_and(|metric| metric.kind == ExternalKind::Ratio)
    };
    let why = match (is_sticky, has_matches) {
        (true, _) => "with `sticky`, what one client sends is not independent, and its source counts requests, not clients",
        (false, true) => "its source counts what `match` sends to the canary with all the rest, and those are other people",
        (false, false) => return,
    };
    for criterion in analysis.criteria.iter().filter(compares) {
        let Some(place) = taken.get(&criterion.name).and_then(Option::as_ref) else { continue };
        let message = format!("{} may be wrong more often than `alpha` and `beta` say: {why}", quote(&criterion.name));
        let help = "count the first request of a client alone, or give what `match` sends a label to leave it out by";
        cx.push(cx.warning(&place.key("metric"), "mixed-traffic", message).help(help));
    }
}

impl Lowered {
    fn metric(&mut self, name: &str, given: &raw::PrometheusMetric, variables: &Variables, path: &Path, cx: &mut Context<'_>) {
        self.known(&given.source.0, &path.key("source"), cx);
        let own = given.arms.as_ref().map(|arms| variables.with(arms, &path.key("arms"), cx));
        let ask = ask(given, own.as_ref().unwrap_or(variables), path, cx);
        // A name fits wherever the format of names was kept.
        let (Some(ask), Ok(metric)) = (ask, MetricName::new(name)) else { return };
        let (kind, is_whole) = match &ask {
            Ask::Ratio { all, part, .. } => {
                if all.stable.is_some() != part.stable.is_some() {
                    let message = "only one of the two counters tells the versions apart by `{{arm}}`";
                    cx.push(cx.error(path, "template", message).expected("`{{arm}}` in both, or in neither"));
                }
                (ExternalKind::Ratio, all.stable.is_none())
            }
            Ask::Value(query) => (ExternalKind::Value, query.stable.is_none()),
        };
        if is_whole {
            self.whole.insert(metric);
        }
        self.metrics.insert(name.to_owned(), Metric::External(ExternalMetric { name: metric, kind }));
        self.measures.queries.push(Query { metric, source: given.source.0.clone(), ask });
    }

    fn alert(&mut self, given: &raw::Alert, variables: &Variables, path: &Path, cx: &mut Context<'_>) {
        self.known(&given.source.0, &path.key("source"), cx);
        let at = path.key("match");
        if !(1..=MOST_LABELS).contains(&given.labels.len()) {
            let message = if given.labels.is_empty() { "this would be every alert that fires" } else { "these are too many labels" };
            cx.push(cx.error(&at, "no-match", message).expected("1 to 20 labels, such as `alertname: CheckoutDown`"));
        }
        let mut labels = BTreeMap::new();
        for (label, value) in &given.labels {
            let at_label = at.key(label);
            presets::check_label(label, &at_label, cx);
            if label == "alertstate" {
                cx.push(cx.error_at_key(&at_label, "meaningless", "only alerts that fire count").help("leave it out"));
            }
            labels.insert(label.clone(), variables.fill(value, &at_label, cx).canary);
        }
        self.measures.alerts.push(AlertRule { source: given.source.0.clone(), labels });
    }

    fn known(&self, source: &str, path: &Path, cx: &mut Context<'_>) {
        let sources = &self.measures.sources;
        if sources.contains_key(source) || cx.has_reported("spec.analysis.sources") {
            return;
        }
        let names = || sources.keys().map(String::as_str);
        let help = match nearest(source, names()) {
            Some(meant) => format!("did you mean {}?", quote(meant)),
            None => "name it in `analysis.sources`".to_owned(),
        };
        let expected = (!sources.is_empty()).then(|| list(names().collect::<Vec<_>>(), "or"));
        cx.push(cx.error(path, "unknown-source", format!("there is no source {}", quote(source))).maybe_expected(expected).help(help));
    }
}

/// The question, if it is one.
fn ask(given: &raw::PrometheusMetric, variables: &Variables, path: &Path, cx: &mut Context<'_>) -> Option<Ask> {
    let mut selector = |field: &str, text: &str| -> PerArm {
        let at = path.key(field);
        selector::check(text, &at, cx);
        variables.fill(text, &at, cx)
    };
    match given {
        raw::PrometheusMetric { numerator: Some(bad), denominator: Some(all), good: None, query: None, requests: None, .. } => {
            let (part, all) = (selector("numerator", bad), selector("denominator", all));
            Some(Ask::Ratio { all, part, part_is_good: false })
        }
        raw::PrometheusMetric { good: Some(good), denominator: Some(all), numerator: None, query: None, requests: None, .. } => {
            let (part, all) = (selector("good", good), selector("denominator", all));
            Some(Ask::Ratio { all, part, part_is_good: true })
        }
        raw::PrometheusMetric { query: Some(query), numerator: None, good: None, denominator: None, requests: None, .. } => {
            Some(Ask::Value(variables.fill(query, &path.key("query"), cx)))
        }
        raw::PrometheusMetric { requests: Some(requests), numerator: None, good: None, denominator: None, query: None, .. } => {
            presets::ask(requests, variables, &path.key("requests"), cx)
        }
        _ => {
            let message = "this is not one question";
            let expected = "`numerator` and `denominator`, `good` and `denominator`, `query`, or `requests`";
            cx.push(cx.error(path, "no-question", message).expected(expected));
            None
        }
    }
}
