//! A release as a service: the daemon's words for how something is, so that people and programs have one form for both.
//!
//! What only a daemon knows is left empty: requests per second and latencies are with the sources that measure them in a cluster.

use jiff::Timestamp as Instant;
use serde_json::Value;
use serin_core::{
    Timestamp,
    judge::{CriterionAssessment, Verdict},
    plan::{OnBreach, Plan, Severity},
    release::{Phase, State, Wait},
};
use serin_engine::{
    run::{ArmReport, RunEnd, StageReport, StatusReport, left_ms},
    serve::{LastRun, ServiceState, ServiceStatus},
};

use super::Look;
use crate::{
    api::{CriterionStatus, Engine, Release, ReleaseStatus},
    route::lens_of,
};

/// A release as a service is shown. `look`: what its objects say.
#[must_use]
pub fn service(release: &Release, look: &Look, now: Timestamp) -> ServiceStatus {
    let status = release.status.clone().unwrap_or_default();
    let engine = status.engine.clone().unwrap_or_default();
    let state = serde_json::from_str::<State>(&engine.state).ok();
    let is_under_way = state.as_ref().is_some_and(|state| !state.is_final());
    let is_invalid = status.phase == "Invalid";
    // Something was edited and cannot be looked at yet: what the last run came to is not about that.
    let is_waiting = status.phase == "Waiting" && !is_under_way;
    let of_service = if release.metadata.deletion_timestamp.is_some() {
        ServiceState::Deleting
    } else if is_under_way {
        ServiceState::Releasing
    } else if !look.is_current || is_waiting {
        ServiceState::Starting
    } else if is_invalid {
        ServiceState::Failed
    } else {
        ServiceState::Serving
    };
    let last = state.as_ref().filter(|state| state.is_final()).map(|state| last_run(&status, &engine, state));
    ServiceStatus {
        service: release.name().to_owned(),
        state: of_service,
        fault: (is_invalid || (is_waiting && look.is_current)).then(|| status.reason.clone()),
        listen: router(release),
        serving: workload(&release.spec),
        ready: look.arms[0].ready,
        replicas: look.arms[0].replicas,
        release: state.filter(|_| is_under_way).map(|state| report(release, &status, &engine, &state, look, now)),
        queued: None,
        last,
        questions_waiting: 0,
    }
}

/// The run that a status is about: number, document and times, as far as they are known. `None`: there was none.
#[must_use]
pub fn run_row(release: &Release) -> Option<LastRun> {
    let status = release.status.as_ref()?;
    let engine = status.engine.as_ref()?;
    let state = serde_json::from_str::<State>(&engine.state).ok()?;
    Some(last_run(status, engine, &state))
}

fn last_run(status: &ReleaseStatus, engine: &Engine, state: &State) -> LastRun {
    let end = match (RunEnd::of(state), &state.phase) {
        // Why is in the status alone.
        (RunEnd::Unexpected { .. }, Phase::NeedsOperator { .. }) => RunEnd::OperatorNeeded { why: status.reason.clone() },
        (end, _) => end,
    };
    LastRun {
        document_hash: engine.document_hash.clone(),
        run: u32::try_from(status.run).unwrap_or(u32::MAX),
        number: i64::try_from(status.run).unwrap_or(i64::MAX),
        began_at: state.began_at,
        ended_at: state.ended_at.unwrap_or(Timestamp(engine.seen_ms)),
        end,
    }
}

fn report(release: &Release, status: &ReleaseStatus, engine: &Engine, state: &State, look: &Look, now: Timestamp) -> StatusReport {
    let now = now.max(state.at);
    // A document that was changed is no plan of this run.
    let plan = release.load().ok().map(|loaded| loaded.release).filter(|loaded| loaded.document_hash == engine.document_hash);
    let plan = plan.map(|loaded| loaded.plan);
    let is_stalled = status.conditions.iter().any(|one| one.kind == "Stalled" && one.status == "True");
    let [stable, canary] = look.arms.clone();
    StatusReport {
        release: release.name().to_owned(),
        document_hash: engine.document_hash.clone(),
        run: u32::try_from(status.run).unwrap_or(u32::MAX),
        phase: state.phase.name().to_owned(),
        paused: state.paused.is_some(),
        stage: state.step().map(|step| step + 1),
        stages: plan.as_ref().map(|plan| StageReport::all(plan, state, now)).unwrap_or_default(),
        weight: state.asked_weight(),
        measured_share: None,
        wait: Wait { until: None, why: status.reason.clone(), operator: is_stalled },
        elapsed_ms: state.ended_at.unwrap_or(now).ms_since(state.began_at),
        left_ms: plan.as_ref().map_or(0, |plan| left_ms(plan, state, now)),
        arms: [stable, canary].map(|status| ArmReport { status, ..ArmReport::default() }),
        criteria: status.criteria.iter().filter_map(|one| criterion(one, plan.as_ref()?)).collect(),
        health: None,
        rescued: 0,
        own_errors: 0,
        store_fault: None,
        journal_backlog: 0,
        effects_running: 0,
        listen: router(release),
        preview: None,
    }
}

/// A criterion of the status with what the plan says of it; `None` if the plan does not know it.
fn criterion(one: &CriterionStatus, plan: &Plan) -> Option<CriterionAssessment> {
    let criteria = plan.analysis.criteria.iter().chain(plan.steps.iter().flat_map(|step| &step.criteria));
    let found = criteria.map(|found| (&found.name, &found.metric, found.on_breach, found.severity));
    let guards = plan.analysis.guards.iter().map(|guard| (&guard.name, &guard.metric, OnBreach::Rollback, Severity::Critical));
    let (_, metric, on_breach, severity) = found.chain(guards).find(|(name, ..)| **name == one.name)?;
    Some(CriterionAssessment {
        name: one.name.clone(),
        metric: *metric,
        verdict: serde_json::from_value(one.verdict.clone().into()).unwrap_or(Verdict::Unknown),
        canary: None,
        stable: None,
        on_breach,
        severity,
        pressure: None,
        evidence: None,
        text: one.text.clone(),
    })
}

/// Who splits the traffic, as people call it; a dash for a document that is wrong.
fn router(release: &Release) -> String {
    let Ok(loaded) = release.load() else { return "–".to_owned() };
    let traffic = &loaded.release.traffic;
    let namespace = traffic.namespace.as_deref().unwrap_or_else(|| release.namespace());
    let lens = lens_of(traffic, namespace);
    format!("{} {namespace}/{}", lens.resource().kind, lens.name())
}

/// What runs, as people call it. Read without validation: it is shown for documents that are wrong as well.
fn workload(spec: &Value) -> String {
    let text = |at: &str| spec.pointer(at).and_then(Value::as_str);
    let name = text("/workload/kubernetes/stable/deployment").or_else(|| text("/workload/kubernetes/deployment"));
    name.map_or_else(|| "–".to_owned(), |name| format!("Deployment {name}"))
}

/// A time in a status; 0 if it cannot be read.
#[must_use]
pub fn time(at: &str) -> Timestamp {
    let parsed: Option<Instant> = at.parse().ok();
    Timestamp(parsed.and_then(|at| u64::try_from(at.as_millisecond()).ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serin_core::release::Release as Core;

    use super::*;

    const DOCUMENT: &str = r#"{"apiVersion": "serin.dev/v1alpha1", "kind": "Release", "metadata": {"name": "shop"}, "spec": {
        "workload": {"kubernetes": {"deployment": "shop"}},
        "traffic": {"gatewayApi": {"route": "shop", "stableService": "shop", "canaryService": "shop-canary"}},
        "strategy": {"canary": {"stages": [{"weight": 50, "hold": "1m"}]}}}}"#;

    /// After a run that has succeeded.
    fn released(phase: &str) -> Release {
        let plan = serin_spec::load_cluster("shop", DOCUMENT).unwrap().release.plan;
        let state = State { phase: Phase::Succeeded, ..Core::new(plan, 1, Timestamp(1)).state().clone() };
        let mut release: Release = serde_json::from_str(DOCUMENT).unwrap();
        release.status = Some(ReleaseStatus {
            phase: phase.to_owned(),
            reason: "said by the controller".to_owned(),
            engine: Some(Engine { state: serde_json::to_string(&state).unwrap(), ..Engine::default() }),
            ..ReleaseStatus::default()
        });
        release
    }

    #[test]
    fn what_is_waited_for_is_not_what_the_last_run_came_to() {
        for (phase, is_current, state, is_told) in [
            ("Succeeded", true, ServiceState::Serving, false),
            ("Succeeded", false, ServiceState::Starting, false),
            ("Waiting", true, ServiceState::Starting, true),
            // Nobody may be there who would say something else by now.
            ("Waiting", false, ServiceState::Starting, false),
            ("Invalid", true, ServiceState::Failed, true),
        ] {
            let look = Look { is_current, ..Look::default() };
            let shown = service(&released(phase), &look, Timestamp(2));
            assert_eq!((shown.state, shown.fault.is_some()), (state, is_told), "{phase} {is_current}");
        }
    }
}
