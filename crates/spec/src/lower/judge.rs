//! Which judge decides, what it is told, and what is expected of the traffic.
//!
//! A field that means something to another judge only is an error with the reason, never ignored: a document must not look as if it had
//! more patience, or looked further back, than it does. An expectation is the exception. It says something about the traffic, not about
//! the judge, so under a judge that does not use it it is a warning.

use std::ops::RangeInclusive;

use serin_core::{
    Unit,
    plan::{Expectation, JudgeKind, KayentaRules, Metric, SequentialRules},
};

use super::{
    Context,
    context::{DAY, HOUR, SECOND},
    limit,
};
use crate::{
    check::named,
    diagnostic::quote,
    format::{self, short_duration},
    raw,
    tree::Path,
};

/// What `alpha` and `beta` may be.
const ALPHA: RangeInclusive<f64> = 0.000_1..=0.2;
const BETA: RangeInclusive<f64> = 0.001..=0.3;

/// The judge of a release and what it may assume.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judging {
    pub(super) kind: JudgeKind,
    pub(super) expect: Expectation,
    /// The document does not name a judge.
    is_default: bool,
}

impl Judging {
    /// Reads the fields of `analysis` that are about judges; `interval` and `window` are read with the rest of it.
    pub(super) fn new(given: Option<&raw::Analysis>, path: &Path, cx: &mut Context<'_>) -> Self {
        let default = raw::Analysis::default();
        let given = given.unwrap_or(&default);
        let kind = match given.judge {
            None | Some(raw::Judge::Sequential) => JudgeKind::Sequential(sequential(given, path, cx)),
            Some(raw::Judge::Threshold) => JudgeKind::Threshold,
            Some(raw::Judge::Kayenta) => JudgeKind::Kayenta(kayenta(given.kayenta.as_ref(), &path.key("kayenta"), cx)),
        };
        let judging = Self { kind, expect: expectation(given.expect.as_ref(), &path.key("expect"), cx), is_default: given.judge.is_none() };
        judging.refuse_settings_of_others(given, path, cx);
        judging
    }

    /// Its name in documents.
    pub(super) fn name(self) -> &'static str {
        match self.kind {
            JudgeKind::Sequential(_) => "sequential",
            JudgeKind::Threshold => "threshold",
            JudgeKind::Kayenta(_) => "kayenta",
        }
    }

    /// Reports a field that is not for this judge. `why` goes on from the judge's name.
    pub(super) fn refuse(self, path: &Path, why: &str, help: &str, cx: &mut Context<'_>) {
        let default = if self.is_default { " (the default)" } else { "" };
        let message = format!("{} is not for `judge: {}`{default}{why}", named(path), self.name());
        cx.push(cx.error_at_key(path, "not-for-this-judge", message).help(help));
    }

    /// Warns about an expectation that nobody reads.
    pub(super) fn warn_of_expectation(self, path: &Path, cx: &mut Context<'_>) {
        if !matches!(self.kind, JudgeKind::Sequential(_)) {
            let message = format!("{} has no effect: `judge: {}` makes no forecasts", named(path), self.name());
            cx.push(cx.warning_at_key(path, "no-effect", message).help("leave it out"));
        }
    }

    fn refuse_settings_of_others(self, given: &raw::Analysis, path: &Path, cx: &mut Context<'_>) {
        let is = |name: &str| self.name() == name;
        for (field, value) in [("alpha", &given.alpha), ("beta", &given.beta)] {
            if value.is_some() && !is("sequential") {
                let why = ", which knows no probabilities";
                self.refuse(&path.key(field), why, "leave it out, or write `judge: sequential`", cx);
            }
        }
        if given.kayenta.is_some() && !is("kayenta") {
            self.refuse(&path.key("kayenta"), "", "leave it out, or write `judge: kayenta`", cx);
        }
        // How often sources are asked is no matter of the judge.
        let is_unread = given.interval.is_some() && given.sources.as_ref().is_none_or(|sources| sources.is_empty());
        if is_unread && is("sequential") {
            let help = "leave it out, or write `judge: threshold`";
            self.refuse(&path.key("interval"), ", which looks at every observation, and there are no `sources` to ask", help, cx);
        }
        if is_unread && is("kayenta") {
            let help = "write `kayenta: {interval: …}` for the time between two scores, or `judge: threshold`";
            self.refuse(&path.key("interval"), "", help, cx);
        }
        if given.window.is_some() && !is("threshold") {
            let since = if is("sequential") { "all evidence of the release" } else { "the whole stage" };
            self.refuse(&path.key("window"), &format!(", which looks at {since}"), "leave it out, or write `judge: threshold`", cx);
        }
        if given.expect.is_some() {
            self.warn_of_expectation(&path.key("expect"), cx);
        }
    }
}

/// A share of requests that is neither nothing nor everything: what a rate may be expected to be.
pub(super) fn usual_share(given: &raw::Percentage, path: &Path, cx: &mut Context<'_>) -> Option<f64> {
    let share = cx.take(path, format::percentage(&given.0.0).map(Some), None)?;
    if share > 0.0 && share < 1.0 {
        return Some(share);
    }
    let message = format!("{} cannot be {}", named(path), quote(&given.0.0));
    let diagnostic = cx.error(path, "out-of-range", message).expected("above `0%` and below `100%`");
    cx.push(if share > 0.0 {
        diagnostic
    } else {
        diagnostic.help("no number of requests shows a rate of zero: write what a usual day has, such as `0.1%`, or leave it out")
    });
    None
}

fn sequential(given: &raw::Analysis, path: &Path, cx: &mut Context<'_>) -> SequentialRules {
    let default = SequentialRules::default();
    SequentialRules {
        alpha: probability(given.alpha.as_ref(), default.alpha, ALPHA, &path.key("alpha"), cx),
        beta: probability(given.beta.as_ref(), default.beta, BETA, &path.key("beta"), cx),
    }
}

fn probability(given: Option<&raw::Percentage>, default: f64, range: RangeInclusive<f64>, path: &Path, cx: &mut Context<'_>) -> f64 {
    let Some(raw::Percentage(raw::NumberOrText(text))) = given else { return default };
    let probability = cx.take(path, format::percentage(text), default);
    if !range.contains(&probability) {
        let word = if probability < *range.start() { "small" } else { "large" };
        let message = format!("{} is too {word}: {}", named(path), quote(text));
        let show = |share: f64| serin_core::format_value(share, Unit::Share).replace(' ', "");
        let expected = format!("{} to {}", quote(&show(*range.start())), quote(&show(*range.end())));
        cx.push(cx.error(path, "out-of-range", message).expected(expected));
    }
    probability
}

fn kayenta(given: Option<&raw::Kayenta>, path: &Path, cx: &mut Context<'_>) -> KayentaRules {
    let default = KayentaRules::default();
    let Some(given) = given else { return default };
    let pass = given.pass.unwrap_or(default.pass);
    let marginal = given.marginal.unwrap_or(default.marginal.min(pass));
    if marginal > pass {
        let message = format!("`marginal` is above `pass`, `{pass}`: a score could pass and fail");
        cx.push(cx.error(&path.key("marginal"), "contradiction", message).expected("at most `pass`"));
    }
    let (at_interval, at_step) = (path.key("interval"), path.key("step"));
    let interval_ms = cx.duration(&at_interval, given.interval.as_ref(), default.interval_ms, SECOND..=DAY);
    let step_ms = cx.duration(&at_step, given.step.as_ref(), default.step_ms.min(interval_ms), SECOND..=HOUR);
    if step_ms > interval_ms {
        let message = format!(
            "`step` is longer than `interval`, {}: a score would be made before there is a value",
            quote(&short_duration(interval_ms))
        );
        cx.push(cx.error(&at_step, "contradiction", message).expected("at most `interval`"));
    }
    KayentaRules { pass, marginal, interval_ms, step_ms }
}

fn expectation(given: Option<&raw::Expectation>, path: &Path, cx: &mut Context<'_>) -> Expectation {
    let Some(given) = given else { return Expectation::default() };
    let at_rps = path.key("rps");
    let rps = given.rps.as_ref().and_then(|text| cx.take(&at_rps, limit::value(Metric::RequestRate, &text.0).map(Some), None));
    if rps.is_some_and(|rps| rps <= 0.0) {
        cx.push(
            cx.error(&at_rps, "out-of-range", "without requests there is nothing to judge").expected("a number above zero, such as `100`"),
        );
    }
    Expectation { rps, error_rate: given.errors.as_ref().and_then(|errors| usual_share(errors, &path.key("errors"), cx)) }
}
