//! Guards.

use std::collections::BTreeMap;

use serin_core::plan::{Guard, JudgeKind, Metric, OUTAGE_GUARD};

use super::{
    Basis, Context,
    context::{HOUR, SECOND},
    criterion::MIN_SAMPLE,
    fit,
    judge::Judging,
    limit,
};
use crate::{diagnostic::quote, raw, tree::Path};

/// Length of a guard's window, in milliseconds, unless the document says otherwise.
const WINDOW_MS: u64 = 10 * SECOND;

/// The outage guard: the highest error rate, and the least number of requests of the judges that look at values. They need much room
/// above a usual rate in order not to act by chance; the sequential judge does not.
const OUTAGE_MAX: f64 = 0.5;
const OUTAGE_MIN_SAMPLE: u64 = 10;
const OUTAGE_MAX_BY_EVIDENCE: f64 = 0.05;

/// The guards of a release: its own and the outage guard.
pub(super) fn guards(given: Vec<raw::Guard>, basis: &Basis, path: &Path, cx: &mut Context<'_>) -> Vec<Guard> {
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
        guards.extend(guard(raw, basis, &at, cx));
    }
    if !seen.contains_key(OUTAGE_GUARD) {
        guards.push(outage(basis.judging));
    }
    guards
}

/// The guard that every release has.
fn outage(judging: Judging) -> Guard {
    let is_evidence = matches!(judging.kind, JudgeKind::Sequential(_));
    Guard {
        name: OUTAGE_GUARD.to_owned(),
        metric: Metric::ErrorRate,
        max: if is_evidence { OUTAGE_MAX_BY_EVIDENCE } else { OUTAGE_MAX },
        window_ms: WINDOW_MS,
        min_sample: OUTAGE_MIN_SAMPLE,
    }
}

fn guard(raw: raw::Guard, basis: &Basis, path: &Path, cx: &mut Context<'_>) -> Option<Guard> {
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
    let window_ms = cx.duration(&path.key("window"), raw.window.as_ref(), WINDOW_MS, SECOND..=HOUR);
    let metric = basis.metrics.resolve(metric, &path.key("metric"), cx)?;
    let max = cx.take(&path.key("max"), limit::value(metric, &max.0), f64::INFINITY);
    fit::guard(metric, max, basis.judging, path, cx);
    if matches!(basis.judging.kind, JudgeKind::Sequential(_)) && metric.is_evidence() {
        for (field, is_given) in [("window", raw.window.is_some()), ("minRequests", raw.min_requests.is_some())] {
            if is_given {
                let why = format!(", which acts on {} once the limit is surely broken", quote(metric.name()));
                basis.judging.refuse(&path.key(field), &why, "leave it out, or write `judge: threshold`", cx);
            }
        }
    }
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
