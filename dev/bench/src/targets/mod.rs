//! What the benchmark must reach, and whether it does: one line per target, with the Monte-Carlo error of what was measured.
//!
//! Targets hold for a release with the default document (see [`crate::wiring`]), in `harm` mode, unless a line says otherwise. A target
//! whose cells were not simulated is left out.
//! Error bars are 95 % ranges; a target is short by its mean alone, whatever the bar.

mod errors;
mod others;

use serde::Serialize;

use crate::summary::Cell;
use crate::table::Table;

/// One target and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Target {
    /// Its number in the definition.
    number: u8,
    /// What is measured, over how many cells.
    what: String,
    /// Whether more is better.
    at_least: bool,
    /// The value to reach.
    limit: f64,
    /// The value that was measured.
    measured: f64,
    /// Half of the 95 % range, or the range itself, in words; empty if it is not known.
    error: String,
    /// Unit of the values.
    unit: &'static str,
    /// Whether it is reached.
    pub(crate) ok: bool,
}

impl Target {
    fn at_most(number: u8, what: impl Into<String>, limit: f64, measured: f64) -> Self {
        Self { number, what: what.into(), at_least: false, limit, measured, error: String::new(), unit: "", ok: measured <= limit }
    }

    fn at_least(number: u8, what: impl Into<String>, limit: f64, measured: f64) -> Self {
        Self { at_least: true, ok: measured >= limit, ..Self::at_most(number, what, limit, measured) }
    }

    fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    fn plus_minus(self, standard_error: f64) -> Self {
        Self { error: format!("±{:.2}", 1.96 * standard_error), ..self }
    }

    fn range(self, (low, high): (f64, f64)) -> Self {
        Self { error: format!("{low:.2} to {high:.2}"), ..self }
    }
}

/// Every target whose cells are there.
pub(crate) fn judge(cells: &[Cell]) -> Vec<Target> {
    let mut targets = errors::judge(cells);
    targets.extend(others::judge(cells));
    targets.sort_by_key(|target| target.number);
    targets
}

/// The lines and the count.
pub(crate) fn draw(targets: &[Target]) -> String {
    if targets.is_empty() {
        return String::new();
    }
    let mut table = Table::new("Targets", &["", "no", "target", "measured", "error", "what"]).with_words_last();
    for target in targets {
        let sign = if target.at_least { ">=" } else { "<=" };
        table.row(vec![
            if target.ok { "ok" } else { "short" }.to_owned(),
            target.number.to_string(),
            format!("{sign} {}{}", target.limit, target.unit),
            format!("{:.2}{}", target.measured, target.unit),
            target.error.clone(),
            target.what.clone(),
        ]);
    }
    let short = targets.iter().filter(|target| !target.ok).count();
    format!("{}{} targets ok, {short} short\n", table.draw(), targets.len() - short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_is_short() {
        let targets = [Target::at_most(2, "outage", 5.0, 4.0).plus_minus(0.05), Target::at_least(2, "ratio", 30.0, 29.0).unit("x")];
        let text = draw(&targets);
        assert!(text.contains("1 targets ok, 1 short"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("short") && line.contains(">= 30x") && line.contains("29.00x")), "{text}");
        assert!(text.contains("±0.10"), "{text}");
        assert_eq!(draw(&[]), "");
    }

    #[test]
    fn nothing_simulated_is_nothing_judged() {
        assert_eq!(judge(&[]), []);
    }
}
