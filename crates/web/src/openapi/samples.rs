//! Reports for tests, with something in every field.

use serin_core::{
    Timestamp, WeightBps,
    judge::{CriterionAssessment, EvidenceLevel, Verdict},
    plan::{Metric, OnBreach, Quantile, Severity},
    release::{Cause, CauseKind, Check, CheckStatus, Entry, Event, Wait},
    traffic::ArmGauges,
};
use serin_engine::{
    run::{ArmReport, ArmTotals, RunEnd, StageReport, StageState, StatusReport},
    serve::{LastRun, ServerEvent, ServiceState, ServiceStatus},
    workload::ArmStatus,
};

/// A service in the second of two stages, with every field filled.
pub(crate) fn service() -> ServiceStatus {
    ServiceStatus {
        service: "shop".to_owned(),
        state: ServiceState::Releasing,
        fault: Some("the disk is nearly full".to_owned()),
        listen: "127.0.0.1:8080".to_owned(),
        serving: "release.yaml run 1".to_owned(),
        ready: Some(2),
        replicas: 2,
        release: Some(release()),
        queued: Some("release.yaml 5e1f".to_owned()),
        questions_waiting: 2,
        last: Some(LastRun {
            document_hash: "5e1f".to_owned(),
            run: 1,
            number: 4,
            began_at: Timestamp(1),
            ended_at: Timestamp(2),
            end: RunEnd::RolledBack { cause: cause() },
        }),
    }
}

fn release() -> StatusReport {
    let stage =
        |weight, state| StageReport { weight: weight_of(weight), hold_ms: 60_000, held_ms: 1_000, manual: false, preview: false, state };
    StatusReport {
        release: "shop".to_owned(),
        document_hash: "5e1f".to_owned(),
        run: 2,
        phase: "in a stage".to_owned(),
        paused: false,
        stage: Some(2),
        stages: vec![stage(500, StageState::Done), stage(2_500, StageState::Current)],
        weight: weight_of(2_500),
        measured_share: Some(0.249),
        wait: Wait { until: Some(Timestamp(60_000)), why: "holding at 25 %: 612 of 1,000 requests".to_owned(), operator: false },
        elapsed_ms: 61_000,
        left_ms: 59_000,
        arms: [arm(), arm()],
        criteria: vec![CriterionAssessment {
            name: "errors".to_owned(),
            metric: Metric::Latency(Quantile::P99),
            verdict: Verdict::Inconclusive,
            canary: Some(0.01),
            stable: Some(0.01),
            on_breach: OnBreach::Rollback,
            severity: Severity::Critical,
            pressure: Some(0.5),
            evidence: Some(EvidenceLevel {
                harm: 1.8,
                needed: 100.0,
                ratio: Some(1.1),
                ratio_between: Some((0.6, None)),
                requests_to_pass: Some(400.0),
            }),
            text: "1.1 times stable".to_owned(),
        }],
        health: Some(97),
        rescued: 1,
        own_errors: 1,
        store_fault: Some("no space".to_owned()),
        journal_backlog: 3,
        effects_running: 1,
        listen: "127.0.0.1:8080".to_owned(),
        preview: Some("127.0.0.1:8081".to_owned()),
    }
}

fn arm() -> ArmReport {
    ArmReport {
        requests_per_s: 95.1,
        error_share: Some(0.003),
        p50_ms: Some(28.0),
        p99_ms: Some(182.0),
        totals: ArmTotals { by_weight: 14_204, matched: 3, preview: 12, errors: 44, rescues: 1 },
        status: ArmStatus {
            ready: Some(2),
            replicas: 2,
            failure: Some("crash loop".to_owned()),
            gauges: ArmGauges { cpu_percent: Some(38.0), memory_bytes: Some(1e7), restarts: Some(1) },
            notes: vec!["canary-1: not ready".to_owned()],
        },
    }
}

/// A journal entry on its way to clients.
pub(crate) fn event() -> ServerEvent {
    ServerEvent {
        id: "1a2b3c4d-17".to_owned(),
        at: Timestamp(5),
        service: "shop".to_owned(),
        run: Some(4),
        head: "rollback".to_owned(),
        text: "errors".to_owned(),
        entry: Some(Entry { seq: 9, epoch: 1, at: Timestamp(5), event: Event::RollbackDecided { cause: cause() } }),
    }
}

/// A check with a hint.
pub(crate) fn check() -> Check {
    Check { name: "listen address".to_owned(), status: CheckStatus::Fail, detail: "taken".to_owned(), hint: Some("free it".to_owned()) }
}

fn cause() -> Cause {
    Cause { kind: CauseKind::Criterion { name: "errors".to_owned() }, text: "5 % errors".to_owned() }
}

fn weight_of(bps: u16) -> WeightBps {
    WeightBps::new(bps).unwrap()
}
