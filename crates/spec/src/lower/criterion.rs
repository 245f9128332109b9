//! Criteria.

use std::collections::BTreeMap;

use serin_core::{
    Unit,
    plan::{Combine, Criterion, JudgeKind, Metric, OnBreach, Quantile, RatioMode, Severity, VersusStable},
};

use super::{Basis, Context, context::HOUR, fit, judge, judge::Judging, limit};
use crate::{check::named, diagnostic::quote, raw, tree::Path};

/// The least number of requests that a criterion or guard of the threshold judge looks at, unless the document says otherwise.
pub(super) const MIN_SAMPLE: u64 = 20;

/// The criteria of a release that names none.
pub(super) fn defaults(judging: Judging) -> Vec<Criterion> {
    let plain = |metric: Metric, ratio, increase| Criterion {
        versus_stable: Some(VersusStable { ratio: Some(ratio), increase, decrease: None, combine: Combine::Both }),
        expected: (metric == Metric::ErrorRate).then_some(judging.expect.error_rate).flatten(),
        min_sample: MIN_SAMPLE,
        ..Criterion::of(metric)
    };
    let p99 = Metric::Latency(Quantile::P99);
    match judging.kind {
        JudgeKind::Sequential(_) => vec![plain(Metric::ErrorRate, 1.5, Some(0.005)), plain(Metric::LatencyAny, 1.5, None)],
        JudgeKind::Threshold => {
            let thrice = |criterion| Criterion { consecutive: 3, ..criterion };
            let errors = Criterion { max: Some(0.05), ..plain(Metric::ErrorRate, 1.5, Some(0.005)) };
            vec![thrice(errors), thrice(plain(p99, 1.5, None))]
        }
        // Any increase: Kayenta's own limit of the effect.
        JudgeKind::Kayenta(_) => vec![plain(Metric::ErrorRate, 1.0, None), plain(p99, 1.0, None)],
    }
}

/// Names that are taken in a scope, with the place of their first use; `None` for default criteria.
pub(super) type Taken = BTreeMap<String, Option<Path>>;

/// A scope's criteria. Their names are taken afterwards.
pub(super) fn criteria(given: Vec<raw::Criterion>, taken: &mut Taken, basis: &Basis, path: &Path, cx: &mut Context<'_>) -> Vec<Criterion> {
    let mut criteria = Vec::with_capacity(given.len());
    for (index, raw) in given.into_iter().enumerate() {
        let at = path.index(index);
        let metric = basis.metrics.resolve(&raw.metric, &at.key("metric"), cx);
        let name = raw.name.as_ref().map_or(&raw.metric, |name| &name.0).clone();
        refuse_taken(&name, raw.name.is_some(), taken, &at, cx);
        taken.entry(name.clone()).or_insert_with(|| Some(at.clone()));
        let patience = Patience::new(&raw, basis.judging, &at, cx);
        if let Some(metric) = metric.filter(|metric| basis.metrics.is_whole(*metric))
            && raw.versus_stable.is_some()
        {
            let message = format!("{} is about both versions together, so there is nothing to compare", quote(metric.name()));
            let diagnostic = cx.error_at_key(&at.key("versusStable"), "undecidable", message);
            cx.push(diagnostic.expected("`max` or `min`").help("or tell the versions apart in its queries by `{{arm}}`"));
        }
        criteria.extend(metric.map(|metric| criterion(raw, name, metric, patience, basis.judging, &at, cx)));
    }
    criteria
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

fn criterion(
    raw: raw::Criterion,
    name: String,
    metric: Metric,
    patience: Patience,
    judging: Judging,
    path: &Path,
    cx: &mut Context<'_>,
) -> Criterion {
    if raw.max.is_none() && raw.min.is_none() && raw.versus_stable.is_none() {
        let message = format!("the criterion {} has no limit", quote(&name));
        let expected = if matches!(judging.kind, JudgeKind::Kayenta(_)) {
            "`versusStable`"
        } else {
            "at least one of `max`, `min` and `versusStable`"
        };
        cx.push(cx.error(path, "no-limit", message).expected(expected));
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
    let versus_stable = raw.versus_stable.map(|versus| versus_stable(versus, metric, judging, &path.key("versusStable"), cx));
    let criterion = Criterion {
        name,
        metric,
        max,
        min,
        versus_stable,
        on_breach: match raw.on_breach {
            None | Some(raw::OnBreach::Rollback) => OnBreach::Rollback,
            Some(raw::OnBreach::Pause) => OnBreach::Pause,
            Some(raw::OnBreach::Warn) => OnBreach::Warn,
        },
        severity: match raw.severity {
            None | Some(raw::Severity::Critical) => Severity::Critical,
            Some(raw::Severity::Warning) => Severity::Warning,
        },
        mode: mode(raw.mode, metric, versus_stable.is_some(), judging, &path.key("mode"), cx),
        expected: expected(raw.expect.as_ref(), metric, judging, &path.key("expect"), cx),
        for_ms: patience.for_ms,
        consecutive: patience.consecutive,
        cumulative: patience.cumulative,
        min_sample: patience.min_sample,
    };
    fit::limits(&criterion, judging, path, cx);
    criterion
}

/// How long the threshold judge bears with a breach. The other judges have no use for it.
#[derive(Clone, Copy)]
struct Patience {
    for_ms: u64,
    consecutive: u32,
    cumulative: Option<u32>,
    min_sample: u64,
}

impl Patience {
    fn new(raw: &raw::Criterion, judging: Judging, path: &Path, cx: &mut Context<'_>) -> Self {
        let patience = Self {
            for_ms: cx.duration(&path.key("for"), raw.for_.as_ref(), 0, 0..=HOUR),
            consecutive: raw.consecutive.unwrap_or(1),
            cumulative: raw.cumulative,
            min_sample: raw.min_sample.unwrap_or(MIN_SAMPLE),
        };
        let why = match judging.kind {
            JudgeKind::Threshold => {
                patience.refuse_both_ways(&path.key("cumulative"), cx);
                return patience;
            }
            JudgeKind::Sequential(_) => ", which weighs every request as evidence: chance is what `alpha` guards against",
            JudgeKind::Kayenta(_) => ", which scores whole time series",
        };
        for (field, is_given) in [
            ("for", raw.for_.is_some()),
            ("consecutive", raw.consecutive.is_some()),
            ("cumulative", raw.cumulative.is_some()),
            ("minSample", raw.min_sample.is_some()),
        ] {
            if is_given {
                judging.refuse(&path.key(field), why, "leave it out, or write `judge: threshold`", cx);
            }
        }
        patience
    }

    fn refuse_both_ways(self, at_cumulative: &Path, cx: &mut Context<'_>) {
        if self.cumulative.is_some() && (self.consecutive > 1 || self.for_ms > 0) {
            let other = if self.consecutive > 1 { "consecutive" } else { "for" };
            let message = format!("`cumulative` counts breaches in a row or not, `{other}` only those in a row");
            cx.push(cx.error_at_key(at_cumulative, "contradiction", message).expected("one of them"));
        }
    }
}

fn mode(given: Option<raw::Mode>, metric: Metric, is_compared: bool, judging: Judging, path: &Path, cx: &mut Context<'_>) -> RatioMode {
    let mode = match given {
        None => return RatioMode::Limit,
        Some(raw::Mode::Limit) => RatioMode::Limit,
        Some(raw::Mode::Harm) => RatioMode::Harm,
        Some(raw::Mode::Strict) => RatioMode::Strict,
    };
    if !matches!(judging.kind, JudgeKind::Sequential(_)) {
        judging.refuse(path, ", which takes limits as they stand", "leave it out, or write `judge: sequential`", cx);
    } else if !metric.is_evidence() {
        let message = format!("`mode` is for rates and latencies, and {} is none", quote(metric.name()));
        cx.push(cx.error_at_key(path, "meaningless", message).help("leave it out"));
    } else if !is_compared {
        let message = "`mode` says when `versusStable` counts as broken, which is not given";
        cx.push(cx.error_at_key(path, "meaningless", message).help("leave it out, or give `versusStable`"));
    }
    mode
}

fn expected(given: Option<&raw::Percentage>, metric: Metric, judging: Judging, path: &Path, cx: &mut Context<'_>) -> Option<f64> {
    let Some(given) = given else {
        return (metric == Metric::ErrorRate).then_some(judging.expect.error_rate).flatten();
    };
    if metric.unit() != Unit::Share {
        let message = format!("{} is the usual share of a rate, and {} is none", named(path), quote(metric.name()));
        cx.push(cx.error_at_key(path, "meaningless", message).help("leave it out"));
        return None;
    }
    judging.warn_of_expectation(path, cx);
    judge::usual_share(given, path, cx)
}

fn versus_stable(raw: raw::VersusStable, metric: Metric, judging: Judging, path: &Path, cx: &mut Context<'_>) -> VersusStable {
    if metric == Metric::RequestRate {
        cx.push(
            cx.error_at_key(path, "not-comparable", "`request-rate` cannot be compared with stable: it follows the weight")
                .help("at 5 % the canary has a nineteenth of stable's requests whatever its health; use `min` or `max`"),
        );
    }
    if raw.ratio.is_none() && raw.increase.is_none() && raw.decrease.is_none() {
        let is_scored = matches!(judging.kind, JudgeKind::Kayenta(_));
        let expected = if is_scored {
            "`ratio`, of which `1` is any increase, or `decrease`"
        } else {
            "at least one of `ratio`, `increase` and `decrease`"
        };
        cx.push(cx.error_at_key(path, "no-limit", "`versusStable` has no limit").expected(expected));
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
    let increase = raw.increase.map(|text| cx.take(&at_increase, limit::difference(metric, &text.0), 0.5));
    if increase.is_some_and(|increase| increase <= 0.0) {
        let message = "an increase of nothing makes any difference a breach, and no two samples are equal";
        cx.push(cx.error(&at_increase, "out-of-range", message).expected("an increase above zero"));
    }
    if metric.unit() == Unit::Share && increase.is_some_and(|increase| increase >= 1.0) {
        let message = "no rate can be more than `100pp` above another";
        cx.push(cx.error(&at_increase, "out-of-range", message).expected("an increase below `100pp`"));
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
