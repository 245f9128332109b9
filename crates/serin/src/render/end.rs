//! The end-of-run report in words.

use serin_core::{format_count, human_duration, release::Check, release::CheckStatus};
use serin_engine::run::{RunEnd, RunReport};

use super::{clock_time, plain};

/// The report's lines.
pub(crate) fn report(report: &RunReport) -> Vec<String> {
    let took = human_duration(report.ended_at.ms_since(report.began_at));
    let mut lines = vec![String::new(), format!("{} run {} · {} after {took}", report.release, report.run, headline(&report.end))];
    let mut field = |name: &str, text: String| lines.push(plain(&format!("  {name:<9} {text}")));
    match &report.end {
        RunEnd::RolledBack { cause } => {
            field("why", cause.text.clone());
            field("decided", if cause.kind.is_person() { "by a person".to_owned() } else { "by the release itself".to_owned() });
            if let Some(entry) = report.timeline.iter().find(|entry| entry.head == "rollback") {
                field("when", clock_time(entry.at));
            }
        }
        RunEnd::OperatorNeeded { why } => field("why", why.clone()),
        RunEnd::Refused => {
            if let Some(entry) = report.timeline.iter().find(|entry| entry.head == "preflight failed") {
                field("why", entry.detail.clone());
            }
        }
        _ => {}
    }
    for (name, totals) in ["stable", "canary"].into_iter().zip(&report.totals) {
        let matched = if totals.matched > 0 { format!(", {} by matches", format_count(totals.matched)) } else { String::new() };
        let preview = if totals.preview > 0 { format!(", {} by preview", format_count(totals.preview)) } else { String::new() };
        field(
            name,
            format!("{} requests by weight{matched}{preview}, {} errors", format_count(totals.by_weight), format_count(totals.errors)),
        );
    }
    if report.rescued > 0 {
        field("rescued", format!("{} requests failed on the canary and were answered by stable", format_count(report.rescued)));
    }
    field("proxy", format!("{} error answers of its own", format_count(report.own_errors)));
    field("journal", format!("`serin history --state {}`; logs in its folder `logs`", report.state_folder));
    lines
}

/// Checks that did not pass, with what to do.
pub(crate) fn checks(checks: &[Check], all: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for check in checks.iter().filter(|check| all || check.status != CheckStatus::Pass) {
        let word = match check.status {
            CheckStatus::Pass => "ok  ",
            CheckStatus::Warn => "warn",
            CheckStatus::Fail => "FAIL",
        };
        lines.push(plain(&format!("  {word} {:<20} {}", check.name, check.detail)));
        if let Some(hint) = check.hint.as_ref().filter(|hint| check.status != CheckStatus::Pass && !hint.is_empty()) {
            lines.push(plain(&format!("       {:<20} hint: {hint}", "")));
        }
    }
    lines
}

fn headline(end: &RunEnd) -> String {
    match end {
        RunEnd::Succeeded => "succeeded: the new version serves".to_owned(),
        RunEnd::Refused => "refused: preflight failed, nothing was changed".to_owned(),
        RunEnd::RolledBack { .. } => "rolled back: stable serves alone".to_owned(),
        RunEnd::OperatorNeeded { .. } => "needs an operator".to_owned(),
        RunEnd::Interrupted => "interrupted: traffic went back to stable before everything was stopped".to_owned(),
        RunEnd::Forced => "stopped at once by a second interrupt".to_owned(),
        RunEnd::Unexpected { phase } => format!("ended unexpectedly while {phase}; please report this"),
    }
}
