//! The journal in words: one line per entry that people care about.

use super::{Effect, Entry, Event};
use crate::{format_count, human_duration, plan::Plan};

/// How the text of an entry ends when a stage or bake was left undecided and the document says to go on all the same.
pub const WITHOUT_VERDICT: &str = "the document says to go on without a verdict";

/// A headline of at most two or three words and the details, or `None` for entries that are mere bookkeeping.
#[must_use]
pub fn narrate(entry: &Entry, plan: &Plan) -> Option<(String, String)> {
    let stage = |step: &usize| format!("stage {}", step + 1);
    let planned = |step: &usize| plan.steps.get(*step);
    let weight = |step: &usize| planned(step).map_or_else(|| "100 %".to_owned(), crate::plan::Step::title);
    let is_preview = |step: &usize| planned(step).is_some_and(crate::plan::Step::is_preview);
    let said =
        |by: &str, reason: &Option<String>| reason.as_ref().map_or_else(|| format!("by {by}"), |reason| format!("by {by}: {reason}"));
    let line = |head: &str, detail: String| Some((head.to_owned(), detail));
    match &entry.event {
        Event::Began { release, by: None, .. } => line("release began", release.clone()),
        Event::Began { release, by: Some(by), reason } => line("release began", format!("{release}, {}", said(by, reason))),
        Event::TakenOver { unobserved_ms } => {
            line("taken over", format!("{} without an owner do not count as held", human_duration(*unobserved_ms)))
        }
        Event::Requested { effect: Effect::Shift { preview: true, .. } } => {
            line("preview asked", "the canary, and nobody is sent to it".to_owned())
        }
        Event::Requested { effect: Effect::Shift { weight, .. } } => line("weight asked", format!("canary {weight}")),
        Event::Requested { .. } | Event::Done { .. } => None,
        Event::Failed { error, attempts, .. } => line("failed", format!("{error} (attempt {attempts}, will try again)")),
        Event::PreflightPassed { checks } => line("preflight passed", format!("{} checks", checks.len())),
        Event::PreflightFailed { checks } => {
            let failed: Vec<_> = checks
                .iter()
                .filter(|check| check.status == super::CheckStatus::Fail)
                .map(|check| format!("{}: {}", check.name, check.detail))
                .collect();
            line("preflight failed", failed.join("; "))
        }
        Event::Deployed => line("canary ready", String::new()),
        Event::StageEntered { step } if is_preview(step) => line(&format!("{} entered", stage(step)), weight(step)),
        Event::StageEntered { step } => line(&format!("{} entered", stage(step)), format!("weight {}", weight(step))),
        Event::WeightProven { weight, .. } => line("weight proven", format!("the router gives the canary {weight}")),
        Event::DriftFound { asked, found, .. } => {
            line("drift found", format!("the router gives the canary {found} instead of {asked}; asking again"))
        }
        Event::StagePassed { step, evidence } => line(&format!("{} passed", stage(step)), evidence.clone()),
        Event::StageWaived { step, reason } => line(&format!("{} waived", stage(step)), format!("{reason}; {WITHOUT_VERDICT}")),
        Event::ApprovalAwaited { step } if is_preview(step) => line("approval needed", format!("to leave {}, the preview", stage(step))),
        Event::ApprovalAwaited { step } => line("approval needed", format!("to leave {} at {}", stage(step), weight(step))),
        Event::Approved { by, reason } => line("approved", said(by, reason)),
        Event::Paused { reason, .. } => line("paused", reason.clone()),
        Event::Resumed { by, reason } => line("resumed", said(by, reason)),
        Event::Overridden { weight, by, reason } => line("weight override", format!("{weight} {}", said(by, reason))),
        Event::PromotedByPerson { by, reason } => line("promoted by hand", said(by, reason)),
        Event::PromotionStarted if plan.is_switch() => line("switch", "all traffic to the canary at once".to_owned()),
        Event::PromotionStarted => line("promotion", "all traffic to the canary".to_owned()),
        Event::BakeStarted => line("bake", human_duration(plan.bake_ms)),
        Event::SwitchSeen { requests } => line("switch seen", format!("new requests reach the canary: {}", format_count(*requests))),
        Event::BakePassed => line("bake passed", String::new()),
        Event::RetainStarted if plan.retain_ms == 0 => None,
        Event::RetainStarted => line("old version kept", format!("for {}", human_duration(plan.retain_ms))),
        Event::RetainEnded { by: None } => None,
        Event::RetainEnded { by: Some(by) } => line("retention ended", format!("the old version is stopped, as {by} asked")),
        Event::Succeeded => line("succeeded", "the new version serves".to_owned()),
        Event::Retreated { cause } => line("retreated", format!("{}; traffic leaves the canary while stable is watched", cause.text)),
        Event::RetreatEnded { reason } => line("retreat ended", reason.clone()),
        Event::RollbackDecided { cause } => line("rollback", cause.text.clone()),
        Event::TrafficReturned => line("traffic returned", "the canary gets no traffic".to_owned()),
        Event::RolledBack => line("rolled back", "stable serves alone".to_owned()),
        Event::OperatorNeeded { cause } => line("operator needed", format!("{}, but stable has no ready replica", cause.text)),
        Event::Warned { text } => line("warning", text.clone()),
    }
}
