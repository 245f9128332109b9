//! Whether every stage lasts long enough for its criteria to be decided at all.
//!
//! Only what can never be decided is an error, whatever the traffic: a stage that needs more requests than it usually gets is a matter of
//! forecasts. Criteria that only warn keep no stage from passing and may stay undecided. Stages at 100 % have no stable to compare with.

use serin_core::{
    WeightBps,
    judge::{LEAST_VALUES, least_gauge_ms},
    plan::{Analysis, Criterion, JudgeKind, KayentaRules, OnBreach, SequentialRules, Step},
};

use super::{Context, criterion::Taken, strategy::Lowered};
use crate::{diagnostic::quote, format::short_duration, tree::Path};

/// A stage must see the sources asked this often: once to begin with, and for two batches.
const LEAST_POLLS: u64 = 3;

/// Reports criteria that some stage is too short for. `taken`: the places of the criteria of the release.
pub(super) fn check(analysis: &Analysis, taken: &Taken, strategy: &Lowered, cx: &mut Context<'_>) {
    match analysis.judge {
        JudgeKind::Threshold => {}
        JudgeKind::Sequential(rules) => {
            let polls_ms = analysis.poll_ms.map_or(0, |poll_ms| poll_ms.saturating_mul(LEAST_POLLS));
            too_short_for(analysis, |criterion| least_ms(criterion, &rules, analysis.poll_ms, polls_ms), taken, strategy, cx);
        }
        JudgeKind::Kayenta(rules) => scores(analysis, rules, strategy, cx),
    }
}

/// The shortest stage in which a criterion can be decided, in milliseconds; 0 if any can.
fn least_ms(criterion: &Criterion, rules: &SequentialRules, poll_ms: Option<u64>, polls_ms: u64) -> u64 {
    match (criterion.metric.is_gauge(), criterion.metric.external()) {
        (true, None) => least_gauge_ms(rules, 0),
        (true, Some(_)) => least_gauge_ms(rules, poll_ms.unwrap_or(0)),
        (false, Some(_)) => polls_ms,
        (false, None) => 0,
    }
}

fn too_short_for(analysis: &Analysis, least_ms: impl Fn(&Criterion) -> u64, taken: &Taken, strategy: &Lowered, cx: &mut Context<'_>) {
    let is_too_short = |criterion: &Criterion, step: &Step| {
        let is_judged = criterion.max.is_some() || criterion.min.is_some() || has_stable(step);
        is_judged && criterion.on_breach != OnBreach::Warn && step.max_hold_ms < least_ms(criterion)
    };
    for criterion in &analysis.criteria {
        let is_undecided = |step: &Step| !step.is_preview() && is_too_short(criterion, step);
        if let Some((index, step)) = strategy.steps.iter().enumerate().find(|(_, step)| is_undecided(step)) {
            too_short(criterion, index, step, least_ms(criterion), taken, cx);
        }
    }
    for ((index, step), own) in strategy.steps.iter().enumerate().zip(&strategy.own_criteria) {
        for criterion in step.criteria.iter().filter(|criterion| is_too_short(criterion, step)) {
            too_short(criterion, index, step, least_ms(criterion), own, cx);
        }
    }
}

fn too_short(criterion: &Criterion, index: usize, step: &Step, least_ms: u64, places: &Taken, cx: &mut Context<'_>) {
    let Some(place) = places.get(&criterion.name).and_then(Option::as_ref) else { return };
    let message = format!(
        "{} can never be decided in {}, which ends undecided after {}",
        quote(criterion.metric.name()),
        name_of(index, step),
        quote(&short_duration(step.max_hold_ms))
    );
    let least = short_duration(least_ms);
    let why = match (criterion.metric.is_gauge(), criterion.metric.external().is_some()) {
        (true, false) => "CPU and memory are judged by whole minutes after 2 minutes of warm-up",
        (true, true) => "values are judged by means of whole minutes, and of at least five looks, after 2 minutes of warm-up",
        _ => "its source must be asked a few times (`analysis.interval`)",
    };
    cx.push(
        cx.error(&place.key("metric"), "undecidable", message)
            .expected(format!("stages with a `maxHold` of at least `{least}`: {why}"))
            .help("give the stage a longer `maxHold` or `hold`, or write `onBreach: warn` here, or `judge: threshold`"),
    );
}

fn scores(analysis: &Analysis, rules: KayentaRules, strategy: &Lowered, cx: &mut Context<'_>) {
    let intervals = (LEAST_VALUES as u64).saturating_mul(rules.step_ms).div_ceil(rules.interval_ms.max(1)).max(1);
    let first_ms = rules.interval_ms.saturating_mul(intervals);
    let counts = |criterion: &Criterion| criterion.on_breach != OnBreach::Warn;
    let mut reported: Option<&Path> = None;
    for ((index, step), place) in strategy.steps.iter().enumerate().zip(&strategy.holds) {
        let is_scored = has_stable(step) && analysis.criteria.iter().chain(&step.criteria).any(counts);
        // All stages of a preset or line have one place.
        if !is_scored || step.max_hold_ms > first_ms || reported == Some(place) {
            continue;
        }
        reported = Some(place);
        let message = format!(
            "{} ends undecided after {}, and the first score is made after {}",
            name_of(index, step),
            quote(&short_duration(step.max_hold_ms)),
            quote(&short_duration(first_ms))
        );
        cx.push(
            cx.error(place, "undecidable", message)
                .expected(format!("a longer `maxHold`: a score needs {LEAST_VALUES} values, one for each `kayenta.step`, and is made each `kayenta.interval`"))
                .help("give the stage a longer `maxHold` or `hold`, or make `kayenta.interval` and `kayenta.step` shorter"),
        );
    }
}

fn has_stable(step: &Step) -> bool {
    step.weight() < WeightBps::FULL && !step.is_preview()
}

fn name_of(index: usize, step: &Step) -> String {
    format!("stage {} ({})", index + 1, step.title())
}
