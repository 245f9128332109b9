//! Criteria and guards.

use std::collections::BTreeMap;

use serin_core::{
    Unit,
    plan::{Combine, Criterion, Guard, Metric, OUTAGE_GUARD, OnBreach, Quantile, Severity, VersusStable},
};

use super::{
    Context,
    context::{HOUR, SECOND},
    limit,
    metrics::Metrics,
};
use crate::{diagnostic::quote, raw, tree::Path};

/// The least number of requests that a criterion or guard looks at, unless the document says otherwise.
const MIN_SAMPLE: u64 = 20;

/// Length of the outage guard's window, in milliseconds, and the least number of requests before it acts.
const OUTAGE_WINDOW_MS: u64 = 10 * SECOND;
const OUTAGE_MIN_SAMPLE: u64 = 10;
const OUTAGE_MAX: f64 = 0.5;

/// The criteria of a release that names none.
pub(super) fn defaults() -> Vec<Criterion> {
    let versus = |increase| VersusStable { ratio: Some(1.5), increase, decrease: None, combine: Combine::Both };
    let criterion = |metric: Metric, max, increase| Criterion {
        name: metric.name().to_owned(),
        metric,
        max,
        min: None,
        versus_stable: Some(versus(increase)),
        on_breach: OnBreach::Rollback,
        severity: Severity::Critical,
        for_ms: 0,
        consecutive: 3,
        min_sample: MIN_SAMPLE,
    };
    vec![criterion(Metric::ErrorRate, Some(0.05), Some(0.005)), criterion(Metric::Latency(Quantile::P99), None, None)]
}

/// Names that are taken in a scope, with the place of their first use; `None` for default criteria.
pub(super) type Taken = BTreeMap<String, Option<Path>>;

/// A scope's criteria. Their names are taken afterwards.
pub(super) fn criteria(
    given: Vec<raw::Criterion>,
    taken: &mut Taken,
    metrics: &Metrics,
    path: &Path,
    cx: &mut Context<'_>,
) -> Vec<Criterion> {
    let mut criteria = Vec::with_capacity(given.len());
    for (index, raw) in given.into_iter().enumerate() {
        let at = path.index(index);
        let metric = metrics.resolve(&raw.metric, &at.key("metric"), cx);
        let name = raw.name.as_ref().map_or(&raw.metric, |name| &name.0).clone();
        refuse_taken(&name, raw.name.is_some(), taken, &at, cx);
        taken.entry(name.clone()).or_insert_with(|| Some(at.clone()));
        match metric {
            Some(metric) => criteria.push(criterion(raw, name, metric, &at, cx)),
            None => duration_only(&raw, &at, cx),
        }
    }
    criteria
}

/// The guards of a release: its own and the outage guard.
pub(super) fn guards(given: Vec<raw::Guard>, metrics: &Metrics, path: &Path, cx: &mut Context<'_>) -> Vec<Guard> {
    let mut guards: Vec<Guard> = Vec::new();
    let mut seen: BTreeMap<String, Path> = BTreeMap::new();
    for (index, raw) in given.into_iter().enumerate() {
        let at = path.index(index);
        let at_name = at.key("name");
        if let Some(first) = seen.get(&raw.name.0) {
            let message = format!("two guards are called {}", quote(&raw.name.0));
            cx.push(cx.error(&at_name, "duplicate-name", message).help(format!("the first one is on line {}", cx.line(first))));
        }
        seen.insert(raw.name.0.clone(), at_name);
        guards.extend(guard(raw, metrics, &at, cx));
    }
    if !seen.contains_key(OUTAGE_GUARD) {
        guards.push(Guard {
            name: OUTAGE_GUARD.to_owned(),
            metric: Metric::ErrorRate,
            max: OUTAGE_MAX,
            window_ms: OUTAGE_WINDOW_MS,
            min_sample: OUTAGE_MIN_SAMPLE,
        });
    }
    guards
}

fn refuse_taken(name: &str, named: bool, taken: &Taken, path: &Path, cx: &mut Context<'_>) {
    let Some(first) = taken.get(name) else { return };
    let message = format!("two criteria are called {}", quote(name));
    let place = if named { path.key("name") } else { path.key("metric") };
    let other = match first {
        Some(first) => format!("the first one is on line {}", cx.line(&first.key("metric"))),
        None => "the other one is a default criterion, which holds in every stage because `analysis.criteria` is not given".to_owned(),
    };
    cx.push(cx.error(&place, "duplicate-name", message).help(format!("{other}; give this one another `name`")));
}

fn criterion(raw: raw::Criterion, name: String, metric: Metric, path: &Path, cx: &mut Context<'_>) -> Criterion {
    if raw.max.is_none() && raw.min.is_none() && raw.versus_stable.is_none() {
        let message = format!("the criterion {} has no limit", quote(&name));
        cx.push(cx.error(path, "no-limit", message).expected("at least one of `max`, `min` and `versusStable`"));
    }
    let max = raw.max.map(|text| cx.take(&path.key("max"), limit::value(metric, &text.0), f64::INFINITY));
    let min = raw.min.map(|text| cx.take(&path.key("min"), limit::value(metric, &text.0), f64::NEG_INFINITY));
    if let (Some(max), Some(min)) = (max, min)
        && min > max
    {
        cx.push(cx.error(&path.key("min"), "contradiction", "`min` is above `max`: no value could be right"));
    }
    if let Some(max) = max
        && max <= 0.0
        && metric.unit() == Unit::Milliseconds
    {
        cx.push(cx.error(&path.key("max"), "out-of-range", "no answer takes no time").expected("a duration above zero"));
    }
    let for_ms = cx.duration(&path.key("for"), raw.for_.as_ref(), 0, 0..=HOUR);
    Criterion {
        name,
        metric,
        max,
        min,
        versus_stable: raw.versus_stable.map(|versus| versus_stable(versus, metric, &path.key("versusStable"), cx)),
        on_breach: match raw.on_breach {
            None | Some(raw::OnBreach::Rollback) => OnBreach::Rollback,
            Some(raw::OnBreach::Pause) => OnBreach::Pause,
            Some(raw::OnBreach::Warn) => OnBreach::Warn,
        },
        severity: match raw.severity {
            None | Some(raw::Severity::Critical) => Severity::Critical,
            Some(raw::Severity::Warning) => Severity::Warning,
        },
        for_ms,
        consecutive: raw.consecutive.unwrap_or(1),
        min_sample: raw.min_sample.unwrap_or(MIN_SAMPLE),
    }
}

/// What can be checked of a criterion whose metric is not known.
fn duration_only(raw: &raw::Criterion, path: &Path, cx: &mut Context<'_>) {
    cx.duration(&path.key("for"), raw.for_.as_ref(), 0, 0..=HOUR);
}

fn versus_stable(raw: raw::VersusStable, metric: Metric, path: &Path, cx: &mut Context<'_>) -> VersusStable {
    if metric == Metric::RequestRate {
        cx.push(
            cx.error_at_key(path, "not-comparable", "`request-rate` cannot be compared with stable: it follows the weight")
                .help("at 5 % the canary has a nineteenth of stable's requests whatever its health; use `min` or `max`"),
        );
    }
    if raw.ratio.is_none() && raw.increase.is_none() && raw.decrease.is_none() {
        cx.push(
            cx.error_at_key(path, "no-limit", "`versusStable` has no limit").expected("at least one of `ratio`, `increase` and `decrease`"),
        );
    }
    if let Some(ratio) = raw.ratio
        && ratio < 1.0
    {
        cx.push(
            cx.error(
                &path.key("ratio"),
                "out-of-range",
                format!("a ratio of {} would demand that the canary is better than stable", quote(&ratio.to_string())),
            )
            .expected("a number from 1: `1.5` allows the canary one and a half times stable's value")
            .help("for a value that may not fall, use `decrease`"),
        );
    }
    if raw.combine.is_some() && (raw.ratio.is_none() || raw.increase.is_none()) {
        cx.push(
            cx.error_at_key(
                &path.key("combine"),
                "meaningless",
                "`combine` says how `ratio` and `increase` work together, but only one of them is given",
            )
            .help("leave it out, or give both"),
        );
    }
    let at_increase = path.key("increase");
    let increase = raw.increase.map(|text| cx.take(&at_increase, limit::difference(metric, &text.0), 1.0));
    if increase.is_some_and(|increase| increase <= 0.0) {
        let message = "an increase of nothing makes any difference a breach, and no two samples are equal";
        cx.push(cx.error(&at_increase, "out-of-range", message).expected("an increase above zero"));
    }
    VersusStable {
        ratio: raw.ratio,
        increase,
        decrease: raw.decrease.map(|text| cx.take(&path.key("decrease"), limit::fall(&text.0), 1.0)),
        combine: match raw.combine {
            None | Some(raw::Combine::Both) => Combine::Both,
            Some(raw::Combine::Either) => Combine::Either,
        },
    }
}

fn guard(raw: raw::Guard, metrics: &Metrics, path: &Path, cx: &mut Context<'_>) -> Option<Guard> {
    if let Some(off) = raw.off {
        switch_off(&raw, off, path, cx);
        return None;
    }
    let (Some(metric), Some(max)) = (&raw.metric, &raw.max) else {
        let missing = if raw.metric.is_none() { "metric" } else { "max" };
        let message = format!("the guard {} has no `{missing}`", quote(&raw.name.0));
        let help = (raw.name.0 == OUTAGE_GUARD).then(|| "to switch it off, write `{name: outage, off: true}`".to_owned());
        cx.push(cx.error(path, "missing-field", message).expected("`metric` and `max`").maybe_help(help));
        return None;
    };
    let window_ms = cx.duration(&path.key("window"), raw.window.as_ref(), OUTAGE_WINDOW_MS, SECOND..=HOUR);
    let metric = metrics.resolve(metric, &path.key("metric"), cx)?;
    let max = cx.take(&path.key("max"), limit::value(metric, &max.0), f64::INFINITY);
    Some(Guard { name: raw.name.0, metric, max, window_ms, min_sample: raw.min_requests.unwrap_or(MIN_SAMPLE) })
}

fn switch_off(raw: &raw::Guard, off: bool, path: &Path, cx: &mut Context<'_>) {
    let at = path.key("off");
    if !off {
        cx.push(cx.error(&at, "meaningless", "`off: false` says nothing").help("leave it out"));
    } else if raw.name.0 != OUTAGE_GUARD {
        let message = format!("there is no built-in guard {} to switch off", quote(&raw.name.0));
        cx.push(cx.error(&path.key("name"), "unknown-guard", message).expected("`outage`"));
    } else if raw.metric.is_some() || raw.max.is_some() || raw.window.is_some() || raw.min_requests.is_some() {
        let message = "a guard that is switched off has nothing else to say";
        cx.push(cx.error(&at, "contradiction", message).expected("`{name: outage, off: true}`, or the guard without `off`"));
    }
}
