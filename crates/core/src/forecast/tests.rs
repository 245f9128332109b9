//! Forecasts against numbers of ANALYSIS and against the tests themselves.

use std::collections::BTreeMap;

use super::*;
use crate::plan::{
    Analysis, Combine, Criterion, Expectation, Gate, Guard, OUTAGE_GUARD, OnInconclusive, OnNoData, Quantile, RatioMode, RetreatEnd,
    RetreatPolicy, VersusStable,
};

const MINUTE: u64 = 60_000;

fn plan(weights: &[u16], criteria: Vec<Criterion>) -> Plan {
    let step = |weight: &u16| Step {
        weights: BTreeMap::from([("main".to_owned(), WeightBps::new(*weight).unwrap())]),
        hold_ms: 10 * MINUTE,
        min_hold_ms: MINUTE,
        max_hold_ms: 30 * MINUTE,
        early: false,
        min_requests: 1_000,
        gate: Gate::Auto,
        criteria: vec![],
        preview: None,
    };
    Plan {
        release: "checkout".to_owned(),
        targets: vec!["main".to_owned()],
        steps: weights.iter().map(step).collect(),
        bake_ms: 0,
        retain_ms: 0,
        analysis: Analysis {
            judge: JudgeKind::Sequential(SequentialRules::default()),
            expect: Expectation { rps: Some(100.0), error_rate: None },
            interval_ms: 1_000,
            window_ms: 30_000,
            poll_ms: None,
            on_no_data: OnNoData::Hold,
            on_inconclusive: OnInconclusive::Hold,
            retreat: RetreatPolicy { recover_within_ms: MINUTE, otherwise: RetreatEnd::Pause },
            criteria,
            guards: vec![],
        },
        deploy_timeout_ms: MINUTE,
        sticky: false,
    }
}

fn criterion(metric: Metric, ratio: Option<f64>, increase: Option<f64>) -> Criterion {
    let versus = VersusStable { ratio, increase, decrease: None, combine: Combine::Both };
    Criterion { versus_stable: (ratio.is_some() || increase.is_some()).then_some(versus), ..Criterion::of(metric) }
}

fn errors() -> Criterion {
    criterion(Metric::ErrorRate, Some(1.5), None)
}

fn needs(test: &TestForecast, times: f64) -> Option<Estimate> {
    test.faults.iter().find(|fault| fault.times == times).unwrap().needs
}

fn seconds(estimate: Option<Estimate>) -> u64 {
    estimate.unwrap().after_ms.unwrap() / 1_000
}

#[test]
fn errors_are_found_about_as_soon_as_the_benchmark_measured() {
    let stages = forecast(&plan(&[500], vec![errors()]));
    let test = &stages[0].tests[0];
    assert_eq!(test.stable_rate, Some(StableRate { rate: 0.005, is_assumed: true }));
    assert!((test.alarm_share - 0.5 / 0.55).abs() < 1e-12, "the rest is for when the canary serves alone");
    // Table 5.2 at 100 rps and 0.5 %: 2x after 561 s, 5x after 63 s; spreading over classes costs ln 4/3 more.
    let (twice, five) = (seconds(needs(test, 2.0)), seconds(needs(test, 5.0)));
    assert!((500..800).contains(&twice) && (60..110).contains(&five), "{twice} {five}");
    assert_eq!(needs(test, 2.0).unwrap().within, Some(Within::MaxHold));
    assert_eq!(needs(test, 5.0).unwrap().within, Some(Within::Hold));
    assert_eq!(needs(test, 1.5).unwrap().within, Some(Within::Neither));
    assert_eq!(test.least_failures, Some(3), "147 instead of 110 because of the classes");
    // An equal canary passes by the ratio after 39/p or by the margin of half a point.
    let pass = test.passes[0].needs;
    assert!((2_000..3_000).contains(&pass.requests), "{pass:?}");
}

#[test]
fn heavier_stages_need_more_requests_but_less_time_and_the_whole_compares_nothing() {
    let mut plan =
        plan(&[500, 5_000, 10_000], vec![errors(), Criterion { max: Some(0.05), ..criterion(Metric::ServerErrorRate, None, None) }]);
    plan.bake_ms = MINUTE;
    let stages = forecast(&plan);
    let (light, heavy) = (needs(&stages[0].tests[0], 5.0).unwrap(), needs(&stages[1].tests[0], 5.0).unwrap());
    assert!(heavy.requests > light.requests && heavy.after_ms < light.after_ms, "{light:?} {heavy:?}");
    for stage in &stages[2..] {
        let names: Vec<_> = stage.tests.iter().map(|test| test.criterion.as_str()).collect();
        assert_eq!(names, ["5xx-rate"], "{:?}", stage.stage);
    }
    assert_eq!((stages.len(), stages[3].stage, stages[3].canary_rps), (4, None, Some(100.0)));
}

#[test]
fn what_the_rule_tolerates_is_never_found() {
    let both = Criterion { expected: Some(0.005), ..criterion(Metric::ErrorRate, Some(1.5), Some(0.005)) };
    let found = |criterion: Criterion| {
        let stages = forecast(&plan(&[500], vec![criterion]));
        let test = &stages[0].tests[0];
        [1.5, 2.0, 5.0].map(|times| needs(test, times).is_some())
    };
    // Half a point more is twice stable's rate.
    assert_eq!(found(both.clone()), [false, true, true]);
    assert_eq!(found(Criterion { expected: Some(0.001), ..both.clone() }), [false, false, false]);
    assert_eq!(found(Criterion { mode: RatioMode::Strict, ..errors() }), [false, true, true]);
    assert_eq!(found(Criterion { mode: RatioMode::Strict, ..both }), [false, false, true]);
    assert_eq!(found(Criterion { mode: RatioMode::Harm, ..errors() }), [true, true, true]);
}

#[test]
fn strict_needs_more_than_harm() {
    let requests = |mode: RatioMode| {
        let stages = forecast(&plan(&[500], vec![Criterion { mode, metric: Metric::ServerErrorRate, ..errors() }]));
        needs(&stages[0].tests[0], 2.0).unwrap().requests
    };
    let factor = requests(RatioMode::Strict) as f64 / requests(RatioMode::Harm) as f64;
    assert!((4.0..6.0).contains(&factor), "ANALYSIS 2.2 says five times: {factor}");
}

#[test]
fn latency_is_found_about_as_soon_as_the_benchmark_measured() {
    let harm = |metric| Criterion { mode: RatioMode::Harm, ..criterion(metric, Some(1.2), None) };
    let p99 = forecast(&plan(&[500], vec![harm(Metric::Latency(Quantile::P99))]));
    let any = forecast(&plan(&[500], vec![harm(Metric::LatencyAny)]));
    // Table 5.4: P99 after 64 s and 16 s, all three after 20 s and 8 s.
    let times = [&p99, &any].map(|stages| [1.5, 2.0].map(|times| seconds(needs(&stages[0].tests[0], times))));
    assert!((40..100).contains(&times[0][0]) && (10..30).contains(&times[0][1]), "{times:?}");
    assert!((10..40).contains(&times[1][0]) && (5..15).contains(&times[1][1]), "{times:?}");
    let limit = forecast(&plan(&[500], vec![criterion(Metric::LatencyAny, Some(1.5), None)]));
    let test = &limit[0].tests[0];
    assert_eq!(needs(test, 1.5), None, "that is the limit");
    assert!((300..1_200).contains(&test.passes[0].needs.requests), "{:?}", test.passes);
    let absolute = forecast(&plan(&[500], vec![criterion(Metric::LatencyAny, None, Some(50.0))]));
    assert!(absolute[0].tests[0].unforeseen.as_ref().unwrap().contains("stable's latency"));
}

#[test]
fn limits_by_the_tests_themselves() {
    let mut plan = plan(&[500], vec![Criterion { max: Some(0.05), ..criterion(Metric::ErrorRate, None, None) }]);
    plan.analysis.guards.push(Guard { name: OUTAGE_GUARD.to_owned(), metric: Metric::ErrorRate, max: 0.05, window_ms: 0, min_sample: 0 });
    let stages = forecast(&plan);
    let [criterion, guard] = stages[0].tests.as_slice() else { panic!("{stages:?}") };
    assert_eq!((criterion.alarm_share, guard.is_guard, guard.passes.len()), (0.5, true, 0));
    // Table 5.6 at threshold 100 and 5 canary rps: 54 s for 10 %, 10 s for 20 %.
    let (twice, four) = (seconds(needs(guard, 2.0)), seconds(needs(guard, 4.0)));
    assert!((55..90).contains(&twice) && (8..20).contains(&four), "{twice} {four}");
    assert_eq!(guard.least_failures, Some(3));
    let clean = criterion.passes.iter().find(|pass| pass.canary == GoodCanary::Clean).unwrap().needs.requests;
    assert!((60..200).contains(&clean), "{clean}");
    let half = criterion.passes.iter().find(|pass| pass.canary == GoodCanary::HalfOfLimit).unwrap().needs.requests;
    assert!(half > clean, "{half}");
}

#[test]
fn shares_are_divided_among_the_tests_of_the_same_consequence() {
    let warn = Criterion { name: "warn".to_owned(), on_breach: OnBreach::Warn, ..errors() };
    let either = VersusStable { ratio: Some(1.5), increase: Some(0.01), decrease: None, combine: Combine::Either };
    let split = Criterion { versus_stable: Some(either), max: Some(0.05), ..errors() };
    let stages = forecast(&plan(&[500], vec![split, criterion(Metric::Cpu, Some(1.2), None), warn]));
    let shares: Vec<_> = stages[0].tests.iter().map(|test| (test.alarm_share * 10_000.0).round()).collect();
    // 0.5 in halves, 0.2 and 0.05 of 0.8, of which the time when the canary serves alone has 0.05 too; the warning has a budget
    // of its own.
    assert_eq!(shares, [3_125.0, 3_125.0, 2_500.0, 625.0, 9_091.0]);
}

#[test]
fn what_processes_use_is_decided_by_whole_minutes_unless_it_is_a_guard() {
    let mut plan = plan(&[500], vec![criterion(Metric::Cpu, Some(1.2), None)]);
    let least_ms = crate::judge::least_gauge_ms(&SequentialRules::default(), 0);
    plan.analysis.guards.push(Guard { name: "greedy".to_owned(), metric: Metric::Memory, max: 1e9, window_ms: 10_000, min_sample: 0 });
    let stages = forecast(&plan);
    let [criterion, guard] = stages[0].tests.as_slice() else { panic!("{stages:?}") };
    assert_eq!((criterion.earliest_ms, guard.earliest_ms), (Some(least_ms), None));
    assert_eq!((criterion.alarm_share, guard.alarm_share), (1.0, 0.0));
    assert!(guard.unforeseen.as_ref().unwrap().contains("as it stands"), "{guard:?}");
    for (max_hold_ms, said) in [(least_ms, 0), (least_ms - 1, 1)] {
        plan.steps[0].max_hold_ms = max_hold_ms;
        let warnings = warnings(&plan);
        assert!(warnings.len() == said && warnings.iter().all(|one| one.text.contains("after 8m 00s")), "{warnings:?}");
    }
}

#[test]
fn without_a_rate_there_are_requests_only_and_sticky_traffic_has_no_times() {
    let mut quiet = plan(&[500], vec![errors()]);
    quiet.analysis.expect.rps = None;
    let mut sticky = plan(&[500], vec![errors()]);
    sticky.sticky = true;
    for plan in [quiet, sticky] {
        let stages = forecast(&plan);
        let estimate = needs(&stages[0].tests[0], 5.0).unwrap();
        assert!(estimate.requests > 100 && estimate.after_ms.is_none() && estimate.within.is_none(), "{estimate:?}");
        assert_eq!(warnings(&plan), []);
    }
    let mut threshold = plan(&[500], vec![errors()]);
    threshold.analysis.judge = JudgeKind::Threshold;
    assert!(forecast(&threshold).is_empty() && refusals(&threshold).is_empty());
}

#[test]
fn traffic_that_cannot_decide_is_warned_of() {
    let mut slow = plan(&[500], vec![errors(), Criterion { on_breach: OnBreach::Warn, name: "w".to_owned(), ..errors() }]);
    slow.analysis.expect = Expectation { rps: Some(1.0), error_rate: Some(0.001) };
    let said = warnings(&slow);
    let of: Vec<_> = said.iter().map(|warning| warning.criterion.as_deref()).collect();
    assert_eq!(of, [None, Some("error-rate"), Some("error-rate")], "{said:?}");
    assert!(said[0].text.contains("waits for 1,000 canary requests"), "{said:?}");
    slow.analysis.expect.rps = Some(100_000.0);
    assert_eq!(warnings(&slow), []);
}

#[test]
fn what_can_never_be_decided_is_refused() {
    let of = |plan: &Plan| refusals(plan).into_iter().map(|refusal| (refusal.criterion, refusal.stage, refusal.why)).collect::<Vec<_>>();
    assert_eq!(of(&plan(&[500, 10_000], vec![errors()])), [], "one stage that compares is enough");
    let whole = of(&plan(&[10_000], vec![errors()]));
    assert!(whole.len() == 1 && whole[0].2.contains("no stage sends traffic to both"), "{whole:?}");
    assert_eq!(of(&plan(&[10_000], vec![Criterion { max: Some(0.05), ..errors() }])), [], "its limit decides");
    let nearly = of(&plan(&[9_999], vec![errors()]));
    assert!(nearly.len() == 1 && nearly[0].2.contains("10,000 failures"), "{nearly:?}");
    let mut own = plan(&[500, 10_000], vec![]);
    own.steps[1].criteria.push(criterion(Metric::LatencyAny, Some(1.5), None));
    let own = of(&own);
    assert!(own.len() == 1 && own[0].1 == Some(1) && own[0].2.contains("everything to one of them"), "{own:?}");
    for (ratio, max) in [(Some(1.0), None), (None, Some(0.0)), (None, Some(0.99))] {
        let bad = Criterion { max, ..criterion(Metric::ErrorRate, ratio, None) };
        assert_eq!(of(&plan(&[500], vec![bad])).len(), 1, "{ratio:?} {max:?}");
    }
}
