//! Alertmanager's webhook: a firing alert that names a service with a release takes that release back.
//!
//! Alertmanager repeats what is firing and tries again what failed, so this may come any number of times: a release that is being taken back
//! already is left alone. Alerts without a service, of services that are not here, and resolved ones are ignored and said to be: they belong
//! to others. So are alerts about a release that has succeeded and whose old version is merely kept. Only if a release should be taken back and could not be asked, the answer is an error, so that Alertmanager comes again.

use std::collections::BTreeMap;

use http::StatusCode;
use serin_core::release::Action;
use serin_engine::{
    run::plain,
    serve::{Refused, ServiceStatus},
};

use crate::{
    answer::{Answer, json},
    intake::parse_some,
    model::{Alert, AlertTaken, Alerts, AlertsTaken},
    pipeline::Call,
    problem::Problem,
    routes::is_segment,
};

/// The version of the messages, which Alertmanager has kept since 2017.
const VERSION: &str = "4";
/// The label that names the service.
const LABEL: &str = "service";
/// Words of an alert that are repeated in the journal.
const LONGEST_WORDS: usize = 120;

pub(super) async fn alerts(call: &Call) -> Result<Answer, Problem> {
    let message: Alerts = parse_some(&call.body)?;
    if message.version != VERSION {
        return Err(Problem::invalid(format!("expected version {VERSION} of Alertmanager's webhook messages")));
    }
    let mut taken = AlertsTaken::default();
    let mut wanted: BTreeMap<String, Vec<&Alert>> = BTreeMap::new();
    for alert in &message.alerts {
        match names(alert) {
            Ok(service) => wanted.entry(service).or_default().push(alert),
            Err(why) => taken.ignored.push(AlertTaken { alert: name(alert), service: None, why }),
        }
    }
    let mut unanswered = None;
    for (service, alerts) in wanted {
        let done = take_back(call, &service, &alerts).await;
        let mut first = true;
        for alert in alerts {
            let taken_as = |why: String| AlertTaken { alert: name(alert), service: Some(service.clone()), why };
            match &done {
                Ok(Done::Aborted) if first => taken.aborted.push(taken_as("the release is taken back".to_owned())),
                Ok(Done::Aborted) => taken.ignored.push(taken_as("another alert of this message took the release back".to_owned())),
                Ok(Done::Ignored(why)) => taken.ignored.push(taken_as(why.clone())),
                Err(_) => {}
            }
            first = false;
        }
        if let Err(problem) = done {
            unanswered = Some(problem);
        }
    }
    match unanswered {
        Some(problem) => Err(problem.retry_after_s(5)),
        None => json(&taken),
    }
}

enum Done {
    Aborted,
    Ignored(String),
}

/// The service that a firing alert names, or why it is ignored.
fn names(alert: &Alert) -> Result<String, String> {
    if alert.status != "firing" {
        return Err("it is not firing".to_owned());
    }
    let service = alert.labels.get(LABEL).ok_or_else(|| format!("it has no label {LABEL}"))?;
    if is_segment(service) { Ok(service.clone()) } else { Err(format!("its label {LABEL} is not a service's name")) }
}

/// # Errors
/// If the service could not be asked, so that another try may help.
async fn take_back(call: &Call, service: &str, alerts: &[&Alert]) -> Result<Done, Problem> {
    let status = match call.shared.server.get(service).await {
        Ok(status) => status,
        Err(Refused::Unknown { .. }) => return Ok(Done::Ignored("there is no such service here".to_owned())),
        Err(refused) => return Err(refused.into()),
    };
    if let Some(why) = nothing_to_do(&status) {
        return Ok(Done::Ignored(why));
    }
    let reasons: Vec<String> = alerts.iter().map(|alert| reason(alert)).collect();
    let who = call.who(Some(&reasons.join("; ")))?;
    let (server, name) = (call.shared.server.clone(), service.to_owned());
    match call.shared.on_engine(async move { server.act(&name, Action::Abort, who).await }).await? {
        Ok(()) => Ok(Done::Aborted),
        // It ended in the meantime, or there is nothing to go back to.
        Err(refused @ (Refused::Conflict(_) | Refused::Invalid(_) | Refused::Unknown { .. })) => Ok(Done::Ignored(refused.to_string())),
        Err(refused) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-answer", refused.to_string())),
    }
}

/// Why a service is left alone, if it is. One that does not say what it is doing is asked to abort all the same.
fn nothing_to_do(status: &ServiceStatus) -> Option<String> {
    match status.release.as_ref()?.phase.as_str() {
        "rolling back" => Some("the release is being taken back already".to_owned()),
        // An alert days after a success may have any cause: going back then is for a person to decide.
        "finishing" | "retained" | "retiring" => Some("the release has succeeded; `serin rollback` goes back".to_owned()),
        "rolled back" | "refused" | "succeeded" => Some("the release is over".to_owned()),
        _ => None,
    }
}

fn reason(alert: &Alert) -> String {
    let told = |key: &str| alert.annotations.get(key).map(|text| short(text)).filter(|text| !text.is_empty());
    match told("summary").or_else(|| told("description")) {
        Some(summary) => format!("alert {} firing: {summary}", name(alert)),
        None => format!("alert {} firing", name(alert)),
    }
}

fn name(alert: &Alert) -> String {
    alert.labels.get("alertname").map(|name| short(name)).filter(|name| !name.is_empty()).unwrap_or_else(|| "without a name".to_owned())
}

fn short(text: &str) -> String {
    plain(text).trim().chars().take(LONGEST_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use serin_core::{
        Timestamp,
        release::{Cause, CauseKind, Phase, StageStep},
    };

    use super::*;
    use crate::openapi::samples;

    fn alert(json: &serde_json::Value) -> Alert {
        serde_json::from_value(json.clone()).unwrap()
    }

    #[test]
    fn only_firing_alerts_with_a_service_matter() {
        let names = |json| names(&alert(&json));
        assert_eq!(names(serde_json::json!({"status": "firing", "labels": {"service": "shop"}})), Ok("shop".to_owned()));
        for ignored in [
            serde_json::json!({"status": "resolved", "labels": {"service": "shop"}}),
            serde_json::json!({"status": "firing", "labels": {"job": "shop"}}),
            serde_json::json!({"status": "firing"}),
            serde_json::json!({"status": "firing", "labels": {"service": "../shop"}}),
        ] {
            assert!(names(ignored.clone()).is_err(), "{ignored}");
        }
    }

    #[test]
    fn the_journal_is_told_which_alert_and_why() {
        let json =
            serde_json::json!({"status": "firing", "labels": {"alertname": "High\nErrors"}, "annotations": {"summary": "5 % errors"}});
        assert_eq!(reason(&alert(&json)), "alert High Errors firing: 5 % errors");
        let json = serde_json::json!({"status": "firing", "annotations": {"description": "x".repeat(1_000)}});
        assert_eq!(reason(&alert(&json)), format!("alert without a name firing: {}", "x".repeat(120)));
        assert_eq!(reason(&alert(&serde_json::json!({"status": "firing"}))), "alert without a name firing");
    }

    #[test]
    fn a_release_is_taken_back_once() {
        let mut status = samples::service();
        assert_eq!(nothing_to_do(&status), None);
        let (at, cause) = (Timestamp(1), Cause { kind: CauseKind::Workload, text: String::new() });
        // The words are core's: one that is called otherwise some day must not be taken back unseen.
        for (phase, left_alone) in [
            (Phase::Pending, false),
            (Phase::Preflight, false),
            (Phase::Refused, true),
            (Phase::Deploying { since: at }, false),
            (Phase::Stage { step: 0, at: StageStep::Shifting }, false),
            (Phase::Promoting, false),
            (Phase::Baking { since: at, excluded_ms: 0, extended_ms: 0 }, false),
            (Phase::Finishing, true),
            (Phase::Retained { since: at }, true),
            (Phase::Retiring, true),
            (Phase::Succeeded, true),
            (Phase::Retreated { step: 0, since: at }, false),
            (Phase::RollingBack { traffic_back: false }, true),
            (Phase::RolledBack, true),
            (Phase::NeedsOperator { cause, was: Box::new(Phase::Promoting) }, false),
        ] {
            phase.name().clone_into(&mut status.release.as_mut().unwrap().phase);
            assert_eq!(nothing_to_do(&status).is_some(), left_alone, "{phase:?}");
        }
    }
}
