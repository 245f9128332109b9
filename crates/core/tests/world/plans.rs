//! Plans that the tests vary.

use std::collections::BTreeMap;

use serin_core::{
    WeightBps,
    plan::{
        Analysis, Combine, Criterion, Expectation, Gate, Guard, JudgeKind, Metric, OUTAGE_GUARD, OnInconclusive, OnNoData, Plan, Preview,
        PreviewCheck, RetreatEnd, RetreatPolicy, Step, VersusStable,
    },
};

pub fn bps(weight: u16) -> WeightBps {
    WeightBps::new(weight).unwrap()
}

/// One target, stages of 5, 25 and 50 % held 20 s each, then a bake and a retention of 30 s.
pub fn plan() -> Plan {
    Plan {
        release: "checkout".to_owned(),
        targets: vec!["main".to_owned()],
        steps: [500, 2_500, 5_000].into_iter().map(|weight| step(&[("main", weight)])).collect(),
        bake_ms: 30_000,
        retain_ms: 30_000,
        analysis: Analysis {
            judge: JudgeKind::Threshold,
            expect: Expectation::default(),
            interval_ms: 1_000,
            window_ms: 10_000,
            poll_ms: None,
            on_no_data: OnNoData::Hold,
            on_inconclusive: OnInconclusive::Hold,
            retreat: RetreatPolicy { recover_within_ms: 15_000, otherwise: RetreatEnd::Pause },
            criteria: vec![criterion("errors")],
            guards: vec![],
        },
        deploy_timeout_ms: 60_000,
        sticky: false,
    }
}

pub fn step(weights: &[(&str, u16)]) -> Step {
    Step {
        weights: weights.iter().map(|(target, weight)| ((*target).to_owned(), bps(*weight))).collect::<BTreeMap<_, _>>(),
        hold_ms: 20_000,
        min_hold_ms: 5_000,
        max_hold_ms: 40_000,
        early: false,
        min_requests: 50,
        gate: Gate::Auto,
        criteria: vec![],
        preview: None,
    }
}

/// Nobody is sent to the canary: it answers one check, three times in a row, at most two failures in a row are tolerated.
pub fn preview(targets: &[&str]) -> Step {
    let weights: Vec<_> = targets.iter().map(|target| (*target, 0)).collect();
    let check = PreviewCheck {
        name: "home".to_owned(),
        path: "/".to_owned(),
        status: None,
        every_ms: 1_000,
        timeout_ms: 1_000,
        successes: 3,
        failures: 3,
    };
    Step { min_requests: 0, preview: Some(Preview { checks: vec![check] }), ..step(&weights) }
}

/// Everything at once after a preview, measured for a while, and a way back for longer.
pub fn switch() -> Plan {
    Plan { steps: vec![preview(&["main"])], bake_ms: 20_000, retain_ms: 60_000, ..plan() }
}

/// At most this share of errors.
pub fn limit(name: &str, max: f64) -> Criterion {
    Criterion { max: Some(max), versus_stable: None, ..criterion(name) }
}

/// At most 5 % errors, and not both 1.5 times and one percentage point more than stable.
pub fn criterion(name: &str) -> Criterion {
    let versus = VersusStable { ratio: Some(1.5), increase: Some(0.01), decrease: None, combine: Combine::Both };
    Criterion {
        name: name.to_owned(),
        max: Some(0.05),
        versus_stable: Some(versus),
        consecutive: 2,
        min_sample: 20,
        ..Criterion::of(Metric::ErrorRate)
    }
}

pub fn outage_guard() -> Guard {
    Guard { name: OUTAGE_GUARD.to_owned(), metric: Metric::ErrorRate, max: 0.5, window_ms: 3_000, min_sample: 10 }
}
