//! Previews: what the canary must show before anybody is sent to it.

use std::collections::BTreeMap;

use serin_core::{
    WeightBps,
    plan::{Gate, Preview, PreviewCheck, Step},
};

use super::{
    Basis, Context,
    context::{HOUR, MINUTE, SECOND},
    criterion::{self, Taken},
    strategy::{Lowered, MAX_MS, gate, plain_step},
};
use crate::{diagnostic::quote, raw, tree::Path};

/// Puts a preview before everything else. `taken`: the names of the criteria that hold in every stage.
pub(super) fn lower(given: raw::Preview, basis: &Basis, taken: &Taken, path: &Path, lowered: &mut Lowered, cx: &mut Context<'_>) {
    let hold_ms = cx.duration(&path.key("hold"), given.hold.as_ref(), 10 * SECOND, 1..=MAX_MS);
    let mut taken = taken.clone();
    let at_criteria = path.key("criteria");
    let has_criteria = given.criteria.as_ref().is_some_and(|criteria| !criteria.is_empty());
    refuse_comparisons(given.criteria.as_deref().unwrap_or_default(), &at_criteria, cx);
    let mut step = Step {
        min_hold_ms: hold_ms,
        min_requests: given.min_requests.unwrap_or(0),
        gate: gate(given.gate),
        criteria: criterion::criteria(given.criteria.unwrap_or_default(), &mut taken, basis, &at_criteria, cx),
        preview: Some(Preview { checks: checks(given.checks.unwrap_or_default(), &path.key("checks"), cx) }),
        ..plain_step(WeightBps::ZERO, hold_ms)
    };
    let at_max = path.key("maxHold");
    step.max_hold_ms = cx.duration(&at_max, given.max_hold.as_ref(), step.max_hold_ms, 0..=MAX_MS);
    if given.max_hold.is_some() && step.max_hold_ms < hold_ms {
        cx.push(cx.error(&at_max, "contradiction", "`maxHold` is shorter than `hold`").expected("at least `hold`"));
    }
    let shows_something = step.preview.as_ref().is_some_and(|preview| !preview.checks.is_empty()) || has_criteria;
    if !shows_something && step.min_requests == 0 && step.gate == Gate::Auto {
        cx.push(
            cx.error(path, "empty-preview", "this preview looks at nothing: it would pass whatever the canary does")
                .expected("`checks`, `minRequests`, `criteria` or `gate: manual`")
                .help("`checks: [{http: {path: /}}]` asks for a page"),
        );
    }
    lowered.steps.insert(0, step);
    lowered.holds.insert(0, path.key(if given.max_hold.is_some() { "maxHold" } else { "hold" }));
    lowered.own_criteria.insert(0, taken);
}

/// Nobody else's requests are like those of a preview.
fn refuse_comparisons(given: &[raw::Criterion], path: &Path, cx: &mut Context<'_>) {
    for (index, _) in given.iter().enumerate().filter(|(_, criterion)| criterion.versus_stable.is_some()) {
        let at = path.index(index).key("versusStable");
        let diagnostic =
            cx.error_at_key(&at, "undecidable", "a preview has nothing to compare with: its requests are not those of clients");
        cx.push(diagnostic.expected("`max` or `min`").help("criteria of `analysis` compare with stable once the canary has traffic"));
    }
}

fn checks(given: Vec<raw::Check>, path: &Path, cx: &mut Context<'_>) -> Vec<PreviewCheck> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut checks = Vec::with_capacity(given.len());
    for (index, raw::Check { name, http }) in given.into_iter().enumerate() {
        let at = path.index(index);
        let at_http = at.key("http");
        let is_named = name.is_some();
        let name = name.map_or_else(|| http.path.0.clone(), |name| name.0);
        if let Some(first) = names.insert(name.clone(), index) {
            let place = if is_named { at.key("name") } else { at_http.key("path") };
            let line = cx.line(&path.index(first));
            let diagnostic = cx.error(&place, "duplicate-name", format!("two checks are called {}", quote(&name)));
            cx.push(diagnostic.help(format!("the first one is on line {line}; give this one another `name`")));
        }
        checks.push(PreviewCheck {
            name,
            path: http.path.0,
            status: http.status,
            every_ms: cx.duration(&at_http.key("every"), http.every.as_ref(), SECOND, 10..=HOUR),
            timeout_ms: cx.duration(&at_http.key("timeout"), http.timeout.as_ref(), 2 * SECOND, 10..=MINUTE),
            successes: http.successes.unwrap_or(3),
            failures: http.failures.unwrap_or(3),
        });
    }
    checks
}
