//! What came of a campaign: numbers beside what was aimed at, and everything that must not have happened.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{Place, processes};

/// The results of a campaign.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    rows: Vec<Row>,
    broken: Vec<String>,
}

#[derive(Debug, Clone)]
struct Row {
    what: String,
    measured: String,
    target: Option<(String, bool)>,
}

/// Broken rules that are told; more are counted.
const MOST_TOLD: usize = 40;

impl Findings {
    /// A number that people want to know.
    #[expect(clippy::needless_pass_by_value, reason = "numbers are passed as they are")]
    pub fn tell(&mut self, what: &str, measured: impl ToString) {
        self.rows.push(Row { what: what.to_owned(), measured: measured.to_string(), target: None });
    }

    /// A number with a target, and whether it was reached.
    #[expect(clippy::needless_pass_by_value, reason = "numbers are passed as they are")]
    pub fn aim(&mut self, what: &str, measured: impl ToString, target: &str, is_reached: bool) {
        self.rows.push(Row { what: what.to_owned(), measured: measured.to_string(), target: Some((target.to_owned(), is_reached)) });
    }

    /// Something that must not happen has happened.
    pub fn broken(&mut self, what: impl Into<String>) {
        self.broken.push(what.into());
    }

    /// Once everything was stopped: no process of the campaign may be left.
    pub(super) fn nothing_left(&mut self, place: &Place) {
        let left = processes::mentioning(place.path());
        self.aim("processes left at the end", left.len(), "0", left.is_empty());
    }

    /// Whether no rule was broken, and every target reached.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.broken.is_empty() && self.rows.iter().all(|row| row.target.as_ref().is_none_or(|(_, is_reached)| *is_reached))
    }

    /// As a table in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = "| what | measured | target | result |\n|---|---|---|---|\n".to_owned();
        for Row { what, measured, target } in &self.rows {
            let (target, result) = match target {
                None => ("", ""),
                Some((target, true)) => (target.as_str(), "ok"),
                Some((target, false)) => (target.as_str(), "**short**"),
            };
            // Writing into a String cannot fail.
            let _ = writeln!(text, "| {what} | {measured} | {target} | {result} |");
        }
        let _ = writeln!(text, "\n{} broken rules", self.broken.len());
        for broken in self.broken.iter().take(MOST_TOLD) {
            let _ = writeln!(text, "- {broken}");
        }
        text
    }

    /// As data.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|Row { what, measured, target }| {
                let (target, reached) = target.clone().unzip();
                json!({"what": what, "measured": measured, "target": target, "reached": reached})
            })
            .collect();
        json!({"ok": self.is_ok(), "rows": rows, "broken": self.broken})
    }
}

/// The value that a share `q` of all values is not above; `None` without values.
#[must_use]
pub(super) fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // The smallest one that enough of them do not exceed: by counting, which needs no rounding.
    let enough = q * sorted.len() as f64;
    (1_u32..).zip(&sorted).find(|(count, _)| f64::from(*count) >= enough).map(|(_, value)| *value)
}
