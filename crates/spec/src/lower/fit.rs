//! Whether the judge can decide what a criterion or guard says.
//!
//! The sequential judge proves things: a limit that no amount of traffic can prove kept or broken is an error here, where it can still
//! be changed, and not a release that ends undecided. Kayenta's judge compares with stable only and knows no absolute difference. The
//! threshold judge takes every limit as it stands.

use serin_core::{
    Unit,
    judge::HIGHEST_RATE,
    plan::{Criterion, JudgeKind, Metric, VersusStable},
};

use super::{Context, judge::Judging};
use crate::{diagnostic::quote, tree::Path};

/// What of a criterion's limits its judge cannot decide. What is out of range whatever the judge was reported before and is left alone.
pub(super) fn limits(criterion: &Criterion, judging: Judging, path: &Path, cx: &mut Context<'_>) {
    if !metric(criterion.metric, judging, &path.key("metric"), cx) {
        return;
    }
    if criterion.metric == Metric::LatencyAny {
        for (field, value) in [("max", criterion.max), ("min", criterion.min)] {
            if value.is_some() {
                whole_latency(&path.key(field), cx);
            }
        }
    }
    let at_versus = path.key("versusStable");
    match judging.kind {
        JudgeKind::Threshold => {}
        JudgeKind::Sequential(_) => {
            if let Some(max) = criterion.max {
                rate_limit(criterion.metric, max, &path.key("max"), cx);
            }
            if criterion.min.is_some() && criterion.metric.is_evidence() && criterion.metric != Metric::LatencyAny {
                let message = format!("`min` of {} cannot be decided: less of it is better", quote(criterion.metric.name()));
                let diagnostic = cx.error_at_key(&path.key("min"), "undecidable", message);
                cx.push(diagnostic.expected("`max` or `versusStable`").help(less_is_better(criterion.metric)));
            }
            if let Some(versus) = criterion.versus_stable {
                proof(versus, criterion.metric, &at_versus, cx);
            }
        }
        JudgeKind::Kayenta(_) => {
            for (field, value) in [("max", criterion.max), ("min", criterion.min)] {
                if value.is_some() {
                    judging.refuse(
                        &path.key(field),
                        ", which only compares with stable",
                        "for a limit of the canary alone, write a guard",
                        cx,
                    );
                }
            }
            if criterion.versus_stable.is_some_and(|versus| versus.increase.is_some()) {
                let why = ", which only sees whether the canary's values are higher or lower, and how many times";
                judging.refuse(&at_versus.key("increase"), why, "write `ratio`, of which `1` is any increase", cx);
            }
        }
    }
}

/// What of a guard its judge cannot decide.
pub(super) fn guard(of: Metric, max: f64, judging: Judging, path: &Path, cx: &mut Context<'_>) {
    if !metric(of, judging, &path.key("metric"), cx) {
        return;
    }
    if of == Metric::LatencyAny {
        whole_latency(&path.key("max"), cx);
    }
    if matches!(judging.kind, JudgeKind::Sequential(_)) {
        rate_limit(of, max, &path.key("max"), cx);
    }
}

/// Whether the judge knows the metric.
fn metric(metric: Metric, judging: Judging, path: &Path, cx: &mut Context<'_>) -> bool {
    if metric.external().is_some() && matches!(judging.kind, JudgeKind::Kayenta(_)) {
        let message = format!("{} is not for `judge: kayenta`, which scores what Serin measures itself", quote(metric.name()));
        cx.push(cx.error(path, "not-for-this-judge", message).expected("a built-in metric").help("or write `judge: sequential`"));
        return false;
    }
    let known = metric != Metric::LatencyAny || matches!(judging.kind, JudgeKind::Sequential(_));
    if !known {
        let message = format!("{} is not for `judge: {}`, which needs a single value", quote(metric.name()), judging.name());
        let expected = "a quantile: `latency-p50`, `latency-p90`, `latency-p95` or `latency-p99`";
        cx.push(cx.error(path, "not-for-this-judge", message).expected(expected));
    }
    known
}

fn whole_latency(path: &Path, cx: &mut Context<'_>) {
    let message = "`latency-any` has no value of its own: it is the median, p90 and p99 together";
    let diagnostic = cx.error_at_key(path, "meaningless", message);
    cx.push(diagnostic.expected("`versusStable`").help("for a limit of the canary alone, name a quantile: `metric: latency-p99`"));
}

/// A limit of a rate must leave room on both sides for evidence.
fn rate_limit(metric: Metric, max: f64, path: &Path, cx: &mut Context<'_>) {
    if metric.unit() != Unit::Share || !max.is_finite() {
        return;
    }
    if max <= 0.0 {
        let message =
            "a limit of nothing cannot be decided: even one error would break it, and no number of requests shows that none will follow";
        cx.push(cx.error(path, "undecidable", message).expected("the smallest share that you accept, such as `0.1%`"));
    } else if max > HIGHEST_RATE {
        let message = "a limit this high cannot be decided: hardly anything is above it";
        cx.push(cx.error(path, "undecidable", message).expected("above `0%` and at most `98%`"));
    }
}

/// A comparison needs a tolerance above zero, and the worse side.
fn proof(versus: VersusStable, metric: Metric, path: &Path, cx: &mut Context<'_>) {
    if versus.ratio == Some(1.0) {
        let message = "a ratio of `1` has no tolerance: not even a canary that equals stable could be shown to keep it";
        cx.push(cx.error(&path.key("ratio"), "undecidable", message).expected("a number above 1, such as `1.5`"));
    }
    if versus.decrease.is_some() && (metric.is_evidence() || metric.is_gauge()) {
        let (why, help) = if metric.is_gauge() {
            (
                "what is shown is only that the canary uses more than it may",
                "for a limit of the canary alone, write `min`; or write `judge: threshold`",
            )
        } else if metric.external().is_some() {
            ("less of it is better, as of every ratio", less_is_better(metric))
        } else {
            ("less of it is better, as of every built-in rate and latency", less_is_better(metric))
        };
        let message = format!("`decrease` of {} cannot be decided: {why}", quote(metric.name()));
        let diagnostic = cx.error_at_key(&path.key("decrease"), "undecidable", message);
        cx.push(diagnostic.expected("`ratio` or `increase`").help(help));
    }
}

fn less_is_better(metric: Metric) -> &'static str {
    match metric.external() {
        Some(_) => "if more of it is better, name what counts as `good` in its metric instead of `numerator`: what is not good is bad",
        None => "leave it out, or write `judge: threshold`",
    }
}
