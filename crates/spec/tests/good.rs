//! Good documents become the releases that they say. The whole result is kept beside each document; what matters most is asserted here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use serin_core::plan::{
    Combine, Criterion, Gate, JudgeKind, KayentaRules, Metric, OUTAGE_GUARD, OnInconclusive, OnNoData, Quantile, RatioMode, RetreatEnd,
    SequentialRules,
};
use serin_spec::{
    Loaded, load, render,
    validated::{EnvValue, Sticky, Workload},
};

const BASE: &str = r#"apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: checkout}
spec:
  workload:
    processes:
      stable: {command: [./a]}
      canary: {command: [./b]}
  traffic: {embedded: {listen: "127.0.0.1:8080"}}
"#;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good")
}

fn good(name: &str) -> Loaded {
    loaded(&std::fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap())
}

fn loaded(text: &str) -> Loaded {
    load("good.yaml", text).unwrap_or_else(|diagnostics| panic!("{}", render(&diagnostics, "good.yaml", text, false)))
}

fn with(strategy: &str, analysis: &str) -> Loaded {
    loaded(&format!("{BASE}  strategy: {{canary: {strategy}}}\n  analysis: {analysis}\n"))
}

fn warnings(loaded: &Loaded) -> Vec<&'static str> {
    loaded.warnings.iter().map(|warning| warning.code).collect()
}

fn stages(loaded: &Loaded) -> Vec<(u16, u64)> {
    loaded.release.plan.steps.iter().map(|step| (step.weight().canary_bps(), step.hold_ms)).collect()
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

#[test]
fn whole_releases_are_as_reviewed() {
    for name in ["everything", "minimal", "linear", "sequential", "kayenta", "prometheus", "blue-green"] {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("good");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let release = serde_json::to_string_pretty(&good(name).release).unwrap();
        settings.bind(|| insta::assert_snapshot!(name, release));
    }
}

#[test]
fn everything_is_read() {
    let loaded = good("everything");
    assert_eq!(warnings(&loaded), Vec::<&str>::new());
    let plan = &loaded.release.plan;
    assert_eq!(stages(&loaded), [(50, 10 * MINUTE), (500, 30 * MINUTE), (5_000, HOUR), (10_000, 90_000)]);
    assert_eq!((plan.steps[1].min_hold_ms, plan.steps[1].max_hold_ms, plan.steps[1].early), (5 * MINUTE, 2 * HOUR, true));
    assert_eq!(plan.steps[2].gate, Gate::Manual);
    assert_eq!((plan.bake_ms, plan.retain_ms), (24 * HOUR, 7 * 24 * HOUR));
    assert_eq!(plan.deploy_timeout_ms, MINUTE + 5_000);
    assert_eq!(plan.targets, ["embedded"]);
    assert!(plan.sticky);
    let analysis = &plan.analysis;
    assert_eq!((analysis.on_no_data, analysis.on_inconclusive), (OnNoData::Rollback, OnInconclusive::Advance));
    assert_eq!((analysis.retreat.recover_within_ms, analysis.retreat.otherwise), (2 * MINUTE, RetreatEnd::Resume));
    let errors = &analysis.criteria[0];
    assert_eq!((errors.name.as_str(), errors.metric, errors.max), ("errors", Metric::ErrorRate, Some(0.05)));
    let versus = errors.versus_stable.unwrap();
    assert_eq!((versus.ratio, versus.increase, versus.combine), (Some(1.5), Some(0.005), Combine::Both));
    assert_eq!((errors.for_ms, errors.consecutive, errors.cumulative, errors.min_sample), (10_000, 2, None, 50));
    assert_eq!(analysis.guards.len(), 2);
    assert_eq!((analysis.guards[0].max, analysis.guards[0].window_ms, analysis.guards[0].min_sample), (0.3, 5_000, 5));
    let Workload::Processes(processes) = &loaded.release.workload else { panic!("not processes") };
    assert_eq!(processes.stable.command[2], "--port={{port}}");
    assert_eq!(processes.canary.env["TOKEN"], EnvValue::Env("CHECKOUT_TOKEN".to_owned()));
    assert_eq!(processes.canary.replicas, 2);
    assert_eq!(loaded.release.traffic.matches[0].headers[0].name, "x-canary");
    assert!(matches!(&loaded.release.traffic.sticky, Some(Sticky::Cookie(cookie)) if cookie.max_age_s == 7 * 86_400));
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let loaded = good("minimal");
    assert_eq!(warnings(&loaded), ["no-bake"]);
    let plan = &loaded.release.plan;
    let [short, long] = plan.steps.as_slice() else { panic!("two stages") };
    assert_eq!((short.min_hold_ms, short.max_hold_ms), (20_000, 20_000 + 10 * MINUTE));
    assert_eq!((long.min_hold_ms, long.max_hold_ms), (MINUTE, 90 * MINUTE));
    assert_eq!((long.early, long.min_requests, long.gate), (false, 1_000, Gate::Auto));
    let Workload::External(external) = &loaded.release.workload else { panic!("not external") };
    assert_eq!(external.canary.endpoints, ["app.internal:80", "[::1]:9000"]);
    assert_eq!(plan.deploy_timeout_ms, 2_000 * 3 + 10_000);
    assert_eq!(loaded.release.traffic.sticky, Some(Sticky::Header("x-user-id".to_owned())));
}

fn metrics(criteria: &[Criterion]) -> Vec<Metric> {
    criteria.iter().map(|criterion| criterion.metric).collect()
}

/// Name, highest value, window and least number of requests of the only guard.
fn only_guard(loaded: &Loaded) -> (&str, f64, u64, u64) {
    let [guard] = loaded.release.plan.analysis.guards.as_slice() else { panic!("one guard") };
    (&guard.name, guard.max, guard.window_ms, guard.min_sample)
}

#[test]
fn the_sequential_judge_is_the_default() {
    let loaded = good("minimal");
    let analysis = &loaded.release.plan.analysis;
    assert_eq!(analysis.judge, JudgeKind::Sequential(SequentialRules { alpha: 0.01, beta: 0.05 }));
    assert_eq!(metrics(&analysis.criteria), [Metric::ErrorRate, Metric::LatencyAny]);
    let [errors, latency] = [&analysis.criteria[0], &analysis.criteria[1]].map(|criterion| {
        assert_eq!((criterion.max, criterion.min, criterion.mode, criterion.consecutive), (None, None, RatioMode::Limit, 1));
        criterion.versus_stable.unwrap()
    });
    assert_eq!((errors.ratio, errors.increase, errors.combine), (Some(1.5), Some(0.005), Combine::Both));
    assert_eq!((latency.ratio, latency.increase), (Some(1.5), None));
    let (name, max, ..) = only_guard(&loaded);
    assert_eq!((name, max), (OUTAGE_GUARD, 0.05));
    assert!(with("{preset: progressive}", "{guards: [{name: outage, off: true}]}").release.plan.analysis.guards.is_empty());
}

#[test]
fn the_threshold_judge_has_patience() {
    let loaded = with("{preset: progressive}", "{judge: threshold}");
    let analysis = &loaded.release.plan.analysis;
    assert_eq!(analysis.judge, JudgeKind::Threshold);
    assert_eq!((analysis.interval_ms, analysis.window_ms), (1_000, 30_000));
    assert_eq!(metrics(&analysis.criteria), [Metric::ErrorRate, Metric::Latency(Quantile::P99)]);
    assert_eq!(analysis.criteria[0].max, Some(0.05));
    assert!(analysis.criteria.iter().all(|criterion| criterion.consecutive == 3));
    assert_eq!(only_guard(&loaded), (OUTAGE_GUARD, 0.5, 10_000, 10));
    let loaded = with(
        "{preset: progressive}",
        "{judge: threshold, criteria: [{metric: error-rate, max: 1%, cumulative: 5}, {metric: cpu, max: 90%}]}",
    );
    let [counted, plain] = loaded.release.plan.analysis.criteria.as_slice() else { panic!("two criteria") };
    assert_eq!((counted.cumulative, counted.consecutive), (Some(5), 1));
    assert_eq!((plain.cumulative, plain.consecutive, plain.for_ms, plain.min_sample), (None, 1, 0, 20));
    let loaded = with("{preset: progressive}", "{judge: threshold, guards: [{name: outage, metric: error-rate, max: 9%}]}");
    assert_eq!(only_guard(&loaded), (OUTAGE_GUARD, 0.09, 10_000, 20));
}

#[test]
fn the_kayenta_judge_compares_with_stable() {
    let loaded = with("{preset: progressive}", "{judge: kayenta}");
    let analysis = &loaded.release.plan.analysis;
    let JudgeKind::Kayenta(rules) = analysis.judge else { panic!("not kayenta") };
    assert_eq!(rules, KayentaRules { pass: 95.0, marginal: 75.0, interval_ms: 300_000, step_ms: 60_000 });
    assert_eq!(metrics(&analysis.criteria), [Metric::ErrorRate, Metric::Latency(Quantile::P99)]);
    assert!(analysis.criteria.iter().all(|criterion| criterion.max.is_none() && criterion.versus_stable.unwrap().ratio == Some(1.0)));
    assert_eq!(only_guard(&loaded), (OUTAGE_GUARD, 0.5, 10_000, 10));
    // What is left out follows what is given.
    let loaded = with("{preset: progressive}", "{judge: kayenta, kayenta: {pass: 60, interval: 30s}}");
    let expected = KayentaRules { pass: 60.0, marginal: 60.0, interval_ms: 30_000, step_ms: 30_000 };
    assert_eq!(loaded.release.plan.analysis.judge, JudgeKind::Kayenta(expected));
}

#[test]
fn what_is_expected_of_errors_reaches_their_criteria() {
    let loaded = good("sequential");
    assert_eq!(warnings(&loaded), Vec::<&str>::new());
    let analysis = &loaded.release.plan.analysis;
    assert_eq!(analysis.judge, JudgeKind::Sequential(SequentialRules { alpha: 0.000_1, beta: 0.3 }));
    assert_eq!((analysis.expect.rps, analysis.expect.error_rate), (Some(100.0), Some(0.005)));
    let expected: Vec<Option<f64>> = analysis.criteria.iter().take(4).map(|criterion| criterion.expected).collect();
    assert_eq!(expected, [Some(0.005), Some(0.001), Some(0.02), None]);
    let modes: Vec<RatioMode> = analysis.criteria.iter().take(4).map(|criterion| criterion.mode).collect();
    assert_eq!(modes, [RatioMode::Harm, RatioMode::Strict, RatioMode::Limit, RatioMode::Strict]);
    let defaults = with("{preset: progressive}", "{expect: {errors: 0.2%}}").release.plan.analysis.criteria;
    assert_eq!((defaults[0].expected, defaults[1].expected), (Some(0.002), None));
    let own = "{judge: threshold, expect: {rps: 9}, criteria: [{metric: error-rate, max: 5%, expect: 1%}]}";
    assert_eq!(warnings(&with("{preset: progressive}", own)), ["no-effect", "no-effect"]);
}

#[test]
fn presets_are_lists_of_stages() {
    let conservative = with("{preset: conservative}", "{}");
    assert_eq!(stages(&conservative), [(500, 12 * HOUR), (2_500, 6 * HOUR), (5_000, 6 * HOUR)]);
    assert_eq!((conservative.release.plan.bake_ms, warnings(&conservative)), (24 * HOUR, vec![]));
    let progressive = with("{preset: progressive, bake: 1h}", "{}");
    assert_eq!(stages(&progressive), [(500, HOUR / 2), (2_000, HOUR), (5_000, 2 * HOUR), (8_000, HOUR)]);
    assert_eq!(progressive.release.plan.bake_ms, HOUR);
    let linear = with("{preset: linear}", "{}");
    let expected: Vec<(u16, u64)> = (1..=10).map(|step| (step * 500, 5 * MINUTE)).collect();
    assert_eq!((stages(&linear), warnings(&linear)), (expected, vec!["no-bake"]));
}

#[test]
fn a_line_ends_exactly_where_it_says() {
    let weights = |text: &str| {
        stages(&with(&format!("{{linear: {text}, bake: 1h}}"), "{}")).into_iter().map(|(weight, _)| weight).collect::<Vec<_>>()
    };
    assert_eq!(weights("{from: 10, step: 20, to: 75, every: 5m}"), [1_000, 3_000, 5_000, 7_000, 7_500]);
    assert_eq!(weights("{from: 10, step: 20, to: 50, every: 5m}"), [1_000, 3_000, 5_000]);
    assert_eq!(weights("{from: 5, step: 50, to: 5, every: 5m}"), [500]);
    assert_eq!(weights("{from: 1, step: 100, to: 100, every: 5m}"), [100, 10_000]);
    assert_eq!(weights("{from: 1, step: 1, to: 100, every: 5m}").len(), 100);
}

#[test]
fn what_is_odd_is_warned_about() {
    let strategy = "{bake: 1h, stages: [{weight: 5, hold: 1m, minHold: 10s}]}";
    assert_eq!(warnings(&with(strategy, "{criteria: []}")), ["no-effect", "no-criteria"]);
    let text = BASE.replace("8080", "0").replace("[./b]", "[\"./b --fast\", x]").replace("[./a]", "[\"node app.js\"]");
    assert_eq!(warnings(&loaded(&format!("{text}  strategy: {{canary: {{preset: progressive}}}}\n"))), ["shell-command", "any-port"]);
}

#[test]
fn the_hash_follows_the_meaning_alone() {
    let plain = with("{preset: progressive}", "{}").release.document_hash;
    let commented = loaded(&format!(
        "# comment\r\n{}",
        format!("{BASE}  strategy:\n    canary:\n      preset: 'progressive'\n  analysis: {{}}\n")
            .replace("name: checkout", "labels: {a: b}, name: checkout")
            .replace('\n', "\r\n")
    ));
    assert_eq!(commented.release.document_hash, plain);
    assert_ne!(with("{preset: conservative}", "{}").release.document_hash, plain);
    assert_eq!(plain.len(), 12);
}

/// Every field that is missing and has a default in the schema.
fn fill(value: &mut Value, schema: &Value, root: &Value) -> usize {
    let schema = schema["$ref"].as_str().and_then(|reference| root.pointer(&reference[1..])).unwrap_or(schema);
    match value {
        Value::Object(fields) => {
            let mut filled = 0;
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                match (fields.get_mut(name), field.get("default")) {
                    (Some(given), _) => filled += fill(given, field, root),
                    (None, Some(default)) => {
                        fields.insert(name.clone(), default.clone());
                        filled += 1;
                    }
                    (None, None) => {}
                }
            }
            filled
        }
        Value::Array(items) => items.iter_mut().map(|item| fill(item, &schema["items"], root)).sum(),
        _ => 0,
    }
}

#[test]
fn defaults_in_the_schema_are_those_that_apply() {
    let arm = json!({"command": ["./a"], "ready": {}, "restart": {}, "logs": {}});
    let health = json!({"urls": ["http://10.0.0.1"], "health": {}});
    let criterion = json!({"metric": "error-rate", "versusStable": {"ratio": 1.5, "increase": "0.5pp"}});
    let document = |workload: Value, strategy: Value| {
        json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Release", "metadata": {"name": "a"},
            "spec": {
                "workload": workload,
                "traffic": {"embedded": {
                    "listen": "127.0.0.1:8080", "timeouts": {}, "sticky": {"cookie": {"name": "serin"}}, "accessLog": {"path": "a.log"},
                }},
                "strategy": {"canary": strategy},
                "analysis": {"criteria": [criterion], "guards": [{"name": "slow", "metric": "latency-p99", "max": "1s"}], "retreat": {}, "expect": {}},
            },
        })
    };
    let mut total = 0;
    let mut scored = document(json!({"processes": {"stable": arm, "canary": arm}}), json!({"stages": [{"weight": 5, "hold": "1h"}]}));
    scored["spec"]["analysis"] = json!({"judge": "kayenta", "kayenta": {}});
    for short in [
        scored,
        document(json!({"processes": {"stable": arm, "canary": arm}}), json!({"stages": [{"weight": 5, "hold": "1m"}]})),
        document(
            json!({"external": {"stable": health, "canary": {"urls": ["http://10.0.0.2"], "health": {}}}}),
            json!({"linear": {"from": 5, "step": 5, "to": 50, "every": "1m"}}),
        ),
    ] {
        let schema = serin_spec::schema();
        let mut long = short.clone();
        total += fill(&mut long, &schema, &schema);
        let (short, mut long) = (loaded(&short.to_string()).release, loaded(&long.to_string()).release);
        assert_ne!(short.document_hash, long.document_hash);
        long.document_hash.clone_from(&short.document_hash);
        assert_eq!(short, long);
    }
    assert!(total > 50, "only {total} defaults were tried");
}

#[test]
fn a_byte_order_mark_is_no_content() {
    let text = std::fs::read_to_string(folder().join("minimal.yaml")).unwrap();
    assert_eq!(loaded(&format!("\u{feff}{text}")).release, loaded(&text).release);
}

#[test]
fn the_schema_is_as_reviewed() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("good");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let schema = serde_json::to_string_pretty(&serin_spec::schema()).unwrap();
    settings.bind(|| insta::assert_snapshot!("schema", schema));
}

fn blue_green(traffic: &str, strategy: &str) -> Loaded {
    let base = BASE.replace(r#"listen: "127.0.0.1:8080""#, &format!(r#"listen: "127.0.0.1:8080"{traffic}"#));
    loaded(&format!("{base}  strategy: {strategy}\n"))
}

#[test]
fn blue_green_is_a_preview_and_everything_at_once() {
    let preview = r#", preview: "127.0.0.1:8081""#;
    let switch = blue_green(preview, "{blueGreen: {preview: {checks: [{http: {path: /}}]}}}");
    let plan = &switch.release.plan;
    assert!(plan.is_switch() && warnings(&switch).is_empty());
    assert_eq!((stages(&switch), plan.bake_ms, plan.retain_ms), (vec![(0, 10_000)], 10 * MINUTE, 0));
    let check = &plan.steps[0].preview.as_ref().unwrap().checks[0];
    assert_eq!((check.name.as_str(), check.status, check.every_ms, check.successes, check.failures), ("/", None, 1_000, 3, 3));
    assert_eq!(plan.steps[0].min_requests, 0);

    // A person who looks is enough; rules that nobody could meet and an address for all are worth a word.
    let open = blue_green(r#", preview: "0.0.0.0:8081", match: [{header: {x-canary: "1"}}]"#, "{blueGreen: {preview: {gate: manual}}}");
    assert_eq!(warnings(&open), ["open-preview", "no-effect"]);

    let before = blue_green(preview, "{canary: {preview: {minRequests: 10, hold: 20s}, stages: [{weight: 5, hold: 10m}], bake: 10m}}");
    assert_eq!(stages(&before), [(0, 20_000), (500, 10 * MINUTE)]);
    assert!(!before.release.plan.is_switch());
    let needless = blue_green(preview, "{canary: {stages: [{weight: 5, hold: 10m}], bake: 10m}}");
    assert_eq!(warnings(&needless), ["no-effect"]);
}
