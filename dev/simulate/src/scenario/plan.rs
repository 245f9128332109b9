//! Random plans: stages, times and policies of every kind, from no time at all to hours, with criteria and guards about error
//! rates under the threshold and the sequential judge.
//!
//! What else a document may ask for is left out: latency, CPU, memory, restarts and request rates, lower limits, other modes
//! than limit, and the kayenta judge. Some of the plans are none that a document gives, such as equal weights in a row: the
//! state machine has to bear more than the documents that lead to it.

use serin_core::{
    WeightBps,
    plan::{
        Analysis, Combine, Criterion, Expectation, Gate, Guard, JudgeKind, Metric, OUTAGE_GUARD, OnBreach, OnInconclusive, OnNoData, Plan,
        Preview, PreviewCheck, RatioMode, RetreatEnd, RetreatPolicy, SequentialRules, Severity, Step, VersusStable,
    },
};

use crate::random::Random;

/// A plan and the time between two looks at the world that suits it, in milliseconds.
pub(crate) fn plan(seed: u64) -> (Plan, u64) {
    let mut random = Random::new(seed, 1);
    let tick_ms = random.pick(&[250, 1_000, 1_000, 1_000, 5_000, 60_000, 300_000]);
    let targets: Vec<String> = ["east", "west"][..if random.chance(0.3) { 2 } else { 1 }].iter().map(|name| (*name).to_owned()).collect();
    let mut steps = steps(&mut random, &targets, tick_ms);
    previews(&mut Random::new(seed, 3), &targets, tick_ms, &mut steps);
    let plan = Plan {
        release: "checkout".to_owned(),
        targets,
        steps,
        bake_ms: ticks(&mut random, 5) * tick_ms,
        retain_ms: ticks(&mut random, 3) * tick_ms,
        analysis: analysis(&mut random, tick_ms),
        deploy_timeout_ms: random.pick(&[5_000, 20_000, 60_000]).max(tick_ms * random.range(1, 5)),
        sticky: random.chance(0.15),
    };
    (plan, tick_ms)
}

fn ticks(random: &mut Random, most: u64) -> u64 {
    if random.chance(0.2) { 0 } else { random.range(1, most) }
}

fn steps(random: &mut Random, targets: &[String], tick_ms: u64) -> Vec<Step> {
    let count = random.range(1, 4);
    let mut last = vec![0_u64; targets.len()];
    let mut steps = Vec::new();
    for _ in 0..count {
        for weight in &mut last {
            let more = random.pick(&[0, 1, 100, 500, 1_000, 2_500, 5_000]) + random.below(50);
            *weight = if random.chance(0.08) { 10_000 } else { (*weight + more).min(10_000) };
        }
        let hold_ms = ticks(random, 10) * tick_ms;
        steps.push(Step {
            weights: targets.iter().cloned().zip(last.iter().map(|weight| bps(*weight))).collect(),
            hold_ms,
            min_hold_ms: random.range(0, hold_ms),
            max_hold_ms: hold_ms + ticks(random, 10) * tick_ms,
            early: random.chance(0.3),
            min_requests: random.pick(&[0, 1, 20, 50, 200]),
            gate: if random.chance(0.2) { Gate::Manual } else { Gate::Auto },
            criteria: if random.chance(0.15) { vec![criterion(random, "own", tick_ms)] } else { Vec::new() },
            preview: None,
        });
    }
    steps
}

/// Some plans have a preview before their stages, and some nothing else: everything at once. Of random numbers of its own, so that the other plans
/// stay what they are.
fn previews(random: &mut Random, targets: &[String], tick_ms: u64, steps: &mut Vec<Step>) {
    if !random.chance(0.3) {
        return;
    }
    if random.chance(0.7) {
        steps.clear();
    }
    let hold_ms = ticks(random, 6) * tick_ms;
    let checks = ["home", "orders"].into_iter().take(random.index(3)).map(|name| PreviewCheck {
        name: name.to_owned(),
        path: "/".to_owned(),
        status: None,
        every_ms: tick_ms,
        timeout_ms: 1_000,
        successes: u32::from(random.pick(&[1_u8, 3])),
        failures: u32::from(random.pick(&[1_u8, 2, 3])),
    });
    let checks: Vec<_> = checks.collect();
    let preview = Step {
        weights: targets.iter().map(|target| (target.clone(), WeightBps::ZERO)).collect(),
        hold_ms,
        min_hold_ms: random.range(0, hold_ms),
        max_hold_ms: hold_ms + ticks(random, 10) * tick_ms,
        early: false,
        min_requests: random.pick(&[0, 0, 1, 5]),
        gate: if random.chance(0.2) { Gate::Manual } else { Gate::Auto },
        criteria: Vec::new(),
        preview: Some(Preview { checks }),
    };
    steps.insert(0, preview);
}

fn analysis(random: &mut Random, tick_ms: u64) -> Analysis {
    let judge = if random.chance(0.2) { JudgeKind::Sequential(SequentialRules::default()) } else { JudgeKind::Threshold };
    let names = ["errors", "more-errors"];
    let criteria = random.range(0, 2).min(names.len() as u64);
    let guard = Guard {
        name: OUTAGE_GUARD.to_owned(),
        metric: Metric::ErrorRate,
        max: 0.5,
        window_ms: tick_ms * random.range(1, 4),
        min_sample: random.pick(&[1, 10, 50]),
    };
    Analysis {
        judge,
        expect: Expectation::default(),
        interval_ms: tick_ms * random.pick(&[1, 1, 2]),
        window_ms: tick_ms * random.pick(&[2, 5, 10]),
        poll_ms: None,
        on_no_data: random.pick(&[OnNoData::Hold, OnNoData::Rollback, OnNoData::Continue]),
        on_inconclusive: random.pick(&[OnInconclusive::Hold, OnInconclusive::Hold, OnInconclusive::Advance, OnInconclusive::Rollback]),
        retreat: RetreatPolicy {
            recover_within_ms: tick_ms * random.below(5),
            otherwise: random.pick(&[RetreatEnd::Pause, RetreatEnd::Resume, RetreatEnd::Rollback]),
        },
        criteria: (0..criteria).zip(names).map(|(_, name)| criterion(random, name, tick_ms)).collect(),
        guards: if random.chance(0.5) { vec![guard] } else { Vec::new() },
    }
}

fn criterion(random: &mut Random, name: &str, tick_ms: u64) -> Criterion {
    let combine = random.pick(&[Combine::Both, Combine::Either]);
    let versus = VersusStable { ratio: Some(1.5), increase: Some(0.01), decrease: None, combine };
    let has_max = random.chance(0.75);
    Criterion {
        name: name.to_owned(),
        metric: random.pick(&[Metric::ErrorRate, Metric::ErrorRate, Metric::ServerErrorRate]),
        max: has_max.then_some(0.05),
        min: None,
        versus_stable: (!has_max || random.chance(0.5)).then_some(versus),
        on_breach: random.pick(&[OnBreach::Rollback, OnBreach::Rollback, OnBreach::Pause, OnBreach::Warn]),
        severity: Severity::Critical,
        mode: RatioMode::Limit,
        expected: None,
        for_ms: random.pick(&[0, 0, tick_ms, tick_ms * 2]),
        consecutive: u32::from(random.pick(&[1_u8, 2, 3])),
        cumulative: random.chance(0.2).then_some(3),
        min_sample: random.pick(&[1, 20, 50]),
    }
}

/// A share of at most 10,000 basis points.
pub(crate) fn bps(weight: u64) -> WeightBps {
    u16::try_from(weight).ok().and_then(|weight| WeightBps::new(weight).ok()).unwrap_or(WeightBps::FULL)
}
