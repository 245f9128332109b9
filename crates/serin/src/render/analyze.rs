//! What a judge says about recorded data, over time and at the end.

use serde_json::{Value, json};
use serin_core::{
    Timestamp, WeightBps, format_count, human_duration,
    judge::{CriterionAssessment, Verdict},
};

use super::plain;
use crate::{
    analyze::{BadData, Change, Outcome, Replay, Standing},
    output::{self, Output},
};

/// Most entries of each list in JSON; the rest are counted. Text has no lists.
const MAX_ENTRIES: usize = 10_000;

/// Text as it happens, or one JSON object at the end.
pub(crate) struct Report {
    output: Output,
    changes: Entries,
    samples: Entries,
}

/// A list that does not grow without end.
#[derive(Default)]
struct Entries {
    kept: Vec<Value>,
    left_out: u64,
}

impl Report {
    /// A report that says nothing yet.
    pub(crate) fn new(output: Output) -> Self {
        Self { output, changes: Entries::default(), samples: Entries::default() }
    }

    /// The weight that is judged at changed.
    ///
    /// # Errors
    /// If stdout cannot be written, as in all of these.
    pub(crate) fn weight(&mut self, at: Timestamp, since_ms: u64, weight: WeightBps) -> std::io::Result<()> {
        match self.output {
            Output::Json => self.changes.push(|| json!({"at_ms": at, "after_ms": since_ms, "weight_bps": weight})),
            Output::Text => line(since_ms, &format!("canary at {weight}"))?,
        }
        Ok(())
    }

    /// A verdict changed.
    pub(crate) fn change(&mut self, since_ms: u64, change: &Change) -> std::io::Result<()> {
        match self.output {
            Output::Json => self.changes.push(|| entry(since_ms, change)),
            Output::Text => {
                let from = change.from.map_or_else(String::new, |from| format!("{} → ", from.as_str()));
                let verdict = format!("{from}{}", change.now.verdict.as_str());
                line(since_ms, &format!("{:<16} {verdict:<24} {}", name(&change.now, change.is_guard), change.now.text))?;
            }
        }
        Ok(())
    }

    /// All verdicts at a time.
    pub(crate) fn sample(&mut self, at: Timestamp, since_ms: u64, standings: &[Standing]) -> std::io::Result<()> {
        match self.output {
            Output::Json => self.samples.push(|| {
                json!({"at_ms": at, "after_ms": since_ms, "criteria": criteria(standings, false), "broken_guards": criteria(standings, true)})
            }),
            Output::Text => {
                for standing in standings {
                    let now = &standing.now;
                    line(since_ms, &format!("{:<16} {:<24} {}", name(now, standing.is_guard), now.verdict.as_str(), now.text))?;
                }
            }
        }
        Ok(())
    }

    /// The last word.
    pub(crate) fn end(self, replay: &Replay, rows: u64, exit_code: u8) -> std::io::Result<()> {
        let outcome = replay.outcome();
        let standings = replay.standings();
        let [stable, canary] = replay.requests();
        let first = replay.first().unwrap_or_default();
        match self.output {
            Output::Json => output::data(
                &json!({
                    "rows": rows,
                    "first_at_ms": replay.first(),
                    "last_at_ms": replay.first().map(|_| replay.last()),
                    "requests": {"stable": stable, "canary": canary},
                    "changes": self.changes.kept,
                    "changes_left_out": self.changes.left_out,
                    "samples": self.samples.kept,
                    "samples_left_out": self.samples.left_out,
                    "final": {
                        "verdict": verdict(&outcome),
                        "decided_by": decided(&outcome).map(|change| entry(change.at.ms_since(first), change)),
                        "criteria": criteria(&standings, false),
                        "broken_guards": criteria(&standings, true),
                        "exit_code": exit_code,
                    },
                })
                .to_string(),
            ),
            Output::Text => {
                let mut lines = vec![String::new(), format!("verdict: {}", headline(&outcome, first))];
                let standing = |standing: &Standing| {
                    let now = &standing.now;
                    format!("  {:<16} {:<13} {}", name(now, standing.is_guard), now.verdict.as_str(), now.text)
                };
                lines.extend(standings.iter().map(standing));
                lines.push(format!(
                    "  {} rows over {}: {} requests on stable, {} on the canary",
                    format_count(rows),
                    human_duration(replay.last().ms_since(first)),
                    format_count(stable),
                    format_count(canary)
                ));
                output::data(&lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

impl Entries {
    fn push(&mut self, entry: impl FnOnce() -> Value) {
        if self.kept.len() < MAX_ENTRIES {
            self.kept.push(entry());
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

/// Why there is no report.
pub(crate) fn error(text: &str, bad: Option<&BadData>, exit_code: u8) -> Value {
    let line = bad.map(|bad| bad.line);
    json!({"type": "error", "exit_code": exit_code, "error": text, "line": line})
}

fn line(since_ms: u64, text: &str) -> std::io::Result<()> {
    output::data(&plain(&format!("{:>9}  {text}", human_duration(since_ms))))
}

fn name(now: &CriterionAssessment, is_guard: bool) -> String {
    format!("{}{}", now.name, if is_guard { " (guard)" } else { "" })
}

fn entry(since_ms: u64, change: &Change) -> Value {
    json!({
        "at_ms": change.at,
        "after_ms": since_ms,
        "criterion": change.now.name,
        "guard": change.is_guard,
        "from": change.from,
        "to": change.now.verdict,
        "canary": change.now.canary,
        "stable": change.now.stable,
        "text": change.now.text,
    })
}

fn criteria(standings: &[Standing], guards: bool) -> Vec<&CriterionAssessment> {
    standings.iter().filter(|standing| standing.is_guard == guards).map(|standing| &standing.now).collect()
}

fn decided(outcome: &Outcome) -> Option<&Change> {
    match outcome {
        Outcome::RolledBack(change) | Outcome::Paused(change) | Outcome::Shared(change) => Some(change),
        _ => None,
    }
}

fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Pass => Verdict::Pass,
        Outcome::RolledBack(_) | Outcome::Paused(_) => Verdict::Fail,
        Outcome::Shared(_) => Verdict::Environment,
        Outcome::Undecided => Verdict::Inconclusive,
        Outcome::NoData => Verdict::Unknown,
    }
}

fn headline(outcome: &Outcome, first: Timestamp) -> String {
    let when = |change: &Change| format!("after {} by {}", human_duration(change.at.ms_since(first)), name(&change.now, change.is_guard));
    match outcome {
        Outcome::Pass => "pass: every criterion is kept".to_owned(),
        Outcome::RolledBack(change) => format!("fail: a release would have been rolled back {}", when(change)),
        Outcome::Paused(change) => format!("fail: a release would have been paused {}", when(change)),
        Outcome::Shared(change) => {
            format!("environment: both versions broke a limit, {}: a release would have taken traffic from the canary", when(change))
        }
        Outcome::Undecided => "inconclusive: the data does not decide every criterion".to_owned(),
        Outcome::NoData => "unknown: nothing to judge the canary by".to_owned(),
    }
}
