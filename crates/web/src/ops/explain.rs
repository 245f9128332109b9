//! Why a service is as it is, and which command comes next. Everything is said from the status alone, so that it can be tried on paper.

use serin_engine::{
    run::{RunEnd, StatusReport},
    serve::{ServiceState, ServiceStatus},
};

use crate::{
    answer::{Answer, json},
    model::{CriterionWords, Explanation, NextCommand},
    pipeline::Call,
    problem::Problem,
};

pub(super) async fn explain(call: &Call) -> Result<Answer, Problem> {
    json(&explanation(&call.shared.server.get(call.service()?).await?))
}

/// Why a service is as it is, and which command comes next.
#[must_use]
pub fn explanation(status: &ServiceStatus) -> Explanation {
    let release = status.release.as_ref();
    let mut faults: Vec<String> = status.fault.iter().cloned().collect();
    if let Some(release) = release {
        faults.extend(release.store_fault.iter().map(|fault| format!("the journal cannot be written: {fault}")));
        for (name, arm) in ["stable", "canary"].iter().zip(&release.arms) {
            faults.extend(arm.status.failure.iter().map(|failure| format!("{name}: {failure}")));
        }
    }
    let criteria = release.into_iter().flat_map(|release| &release.criteria);
    Explanation {
        service: status.service.clone(),
        state: status.state,
        why: why(status),
        operator: release.is_some_and(|release| release.wait.operator) || status.state == ServiceState::Failed,
        faults,
        criteria: criteria.map(|one| CriterionWords { name: one.name.clone(), verdict: one.verdict, text: one.text.clone() }).collect(),
        next: next(status),
    }
}

fn why(status: &ServiceStatus) -> String {
    let queued = status.queued.as_ref().map_or_else(String::new, |queued| format!("; then {queued} begins"));
    match (status.state, &status.release) {
        (_, Some(release)) => format!("{}{queued}", release.wait.why),
        (ServiceState::Starting, None) => status.fault.clone().unwrap_or_else(|| "its version is being started or found again".to_owned()),
        (ServiceState::Serving, None) => match &status.last {
            None => format!("{} serves; nothing was released yet", status.serving),
            Some(last) => format!("{} serves; the last release {}", status.serving, ended(&last.end)),
        },
        (ServiceState::Releasing, None) => format!("a release is beginning{queued}"),
        (ServiceState::Failed, None) => {
            status.fault.clone().unwrap_or_else(|| "it failed without saying why; the daemon's log may tell".to_owned())
        }
        (ServiceState::Deleting, None) => "it is being stopped for good; clients' requests may still end".to_owned(),
    }
}

fn ended(end: &RunEnd) -> String {
    match end {
        RunEnd::RolledBack { cause } => format!("was rolled back: {}", cause.text),
        RunEnd::OperatorNeeded { why } => format!("needs an operator: {why}"),
        RunEnd::Unexpected { phase } => format!("ended while {phase}"),
        RunEnd::Succeeded => "succeeded".to_owned(),
        RunEnd::Refused => "was refused by preflight".to_owned(),
        RunEnd::Interrupted => "was interrupted".to_owned(),
        RunEnd::Forced => "was stopped at once".to_owned(),
    }
}

fn next(status: &ServiceStatus) -> Vec<NextCommand> {
    let name = &status.service;
    let mut next = Vec::new();
    let mut add = |verb: &str, does: &str| {
        next.push(NextCommand { command: format!("serin {verb} {name}"), does: does.to_owned() });
    };
    match (&status.release, status.state) {
        (Some(release), _) => during(release, &mut add),
        (None, ServiceState::Serving) => {
            match status.last.as_ref().map(|last| &last.end) {
                Some(RunEnd::RolledBack { .. } | RunEnd::Interrupted | RunEnd::Forced) => {
                    add("history", "tells what happened");
                    add("retry", "releases the same document once more");
                }
                Some(_) => add("history", "tells what happened"),
                None => {}
            }
            next.push(NextCommand { command: "serin apply release.yaml".to_owned(), does: "begins a release".to_owned() });
        }
        (None, ServiceState::Failed) => add("history", "tells what happened before it failed"),
        (None, ServiceState::Starting | ServiceState::Releasing | ServiceState::Deleting) => {
            add("get -w", "shows how it goes on");
        }
    }
    next
}

fn during(release: &StatusReport, add: &mut impl FnMut(&str, &str)) {
    const ABORT: &str = "takes all traffic back to stable and ends the release";
    match release.phase.as_str() {
        "awaiting approval" => {
            if release.paused {
                add("resume", "ends the pause; then it can be approved");
            } else {
                add("approve", "lets the release go on");
            }
            add("reject", "rolls back");
        }
        "needs an operator" => add("abort", "takes the traffic back although stable has no ready replica; repair stable first if you can"),
        "in a stage" => {
            if release.paused {
                add("resume", "goes on at the plan's weight");
            } else {
                add("pause", "stands still at this weight; judging goes on");
            }
            add("promote", "skips the remaining stages");
            add("abort", ABORT);
        }
        "retained" => add("rollback", "goes back to the version before, which is kept until then"),
        "rolling back" | "retiring" | "succeeded" | "rolled back" | "refused" => add("get -w", "shows how it goes on"),
        _ => {
            if release.paused {
                add("resume", "goes on");
            }
            add("abort", ABORT);
        }
    }
}

#[cfg(test)]
mod tests {
    use serin_core::{
        Timestamp,
        release::{Cause, CauseKind, Phase, StageStep},
    };
    use serin_engine::serve::LastRun;

    use super::*;
    use crate::openapi::samples;

    fn commands(status: &ServiceStatus) -> Vec<String> {
        explanation(status).next.into_iter().map(|next| next.command).collect()
    }

    /// The words are core's: one that is called otherwise some day must not lose its commands unseen.
    fn during(phase: &Phase, paused: bool) -> ServiceStatus {
        let mut status = samples::service();
        let release = status.release.as_mut().unwrap();
        phase.name().clone_into(&mut release.phase);
        release.paused = paused;
        status
    }

    #[test]
    fn a_release_says_what_it_waits_for_and_what_can_be_done() {
        let at = Timestamp(1);
        let stage = |at| Phase::Stage { step: 0, at };
        let status = during(&stage(StageStep::Shifting), false);
        let told = explanation(&status);
        assert_eq!(told.why, format!("{}; then {} begins", status.release.as_ref().unwrap().wait.why, status.queued.as_ref().unwrap()));
        assert_eq!(told.criteria.len(), 1);
        assert_eq!(commands(&status), ["serin pause shop", "serin promote shop", "serin abort shop"]);
        assert_eq!(commands(&during(&stage(StageStep::Shifting), true)).first().unwrap(), "serin resume shop");
        assert_eq!(
            commands(&during(&stage(StageStep::AwaitingApproval { since: at }), false)),
            ["serin approve shop", "serin reject shop"]
        );
        let cause = Cause { kind: CauseKind::Workload, text: "the canary crashed".to_owned() };
        let operator = Phase::NeedsOperator { cause, was: Box::new(Phase::Promoting) };
        assert_eq!(commands(&during(&operator, false)), ["serin abort shop"]);
        assert_eq!(commands(&during(&Phase::Retained { since: at }, false)), ["serin rollback shop"]);
        let baking = Phase::Baking { since: at, excluded_ms: 0, extended_ms: 0 };
        assert_eq!(commands(&during(&baking, true)), ["serin resume shop", "serin abort shop"]);
        for over in [Phase::RollingBack { traffic_back: false }, Phase::Retiring, Phase::Succeeded, Phase::RolledBack, Phase::Refused] {
            assert_eq!(commands(&during(&over, false)), ["serin get -w shop"], "{over:?}");
        }
    }

    #[test]
    fn a_service_without_release_says_how_the_last_one_ended() {
        let cause = Cause { kind: CauseKind::Workload, text: "the canary crashed".to_owned() };
        let last = LastRun {
            document_hash: String::new(),
            run: 1,
            number: 1,
            began_at: Timestamp(1),
            ended_at: Timestamp(2),
            end: RunEnd::RolledBack { cause },
        };
        let mut status =
            ServiceStatus { release: None, queued: None, state: ServiceState::Serving, last: Some(last), ..samples::service() };
        assert!(explanation(&status).why.ends_with("the last release was rolled back: the canary crashed"));
        assert_eq!(commands(&status), ["serin history shop", "serin retry shop", "serin apply release.yaml"]);
        status.last = None;
        assert_eq!(commands(&status), ["serin apply release.yaml"]);
        status.state = ServiceState::Failed;
        status.fault = Some("no disk".to_owned());
        let told = explanation(&status);
        assert_eq!((told.why.as_str(), told.operator, told.faults.len()), ("no disk", true, 1));
    }
}
