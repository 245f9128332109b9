//! The forecast in `serin plan`: what the expected traffic can decide.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use serde_json::json;
use serin_testkit::prompt::Prompt;

fn prompt() -> Prompt {
    Prompt::new(env!("CARGO_BIN_EXE_serin"))
}

/// A document with this analysis and as many servers of stable.
fn document(analysis: &str, servers: usize) -> String {
    let urls: Vec<_> = (1..=servers).map(|port| format!("\"http://127.0.0.1:{port}\"")).collect();
    format!(
        "apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: planned}}
spec:
  workload:
    external:
      stable: {{urls: [{}]}}
      canary: {{urls: [\"http://127.0.0.1:9\"]}}
  traffic: {{embedded: {{listen: \"127.0.0.1:10\"}}}}
  strategy: {{canary: {{stages: [{{weight: 5, hold: 10m}}, {{weight: 50, hold: 10m}}], bake: 10m}}}}
  analysis: {analysis}
",
        urls.join(", ")
    )
}

/// The lines of the forecast.
#[track_caller]
fn forecast(analysis: &str, servers: usize) -> String {
    let prompt = prompt();
    prompt.write("release.yaml", &document(analysis, servers));
    let finished = prompt.run(&["plan", "release.yaml"]).expect_code(0);
    finished.stdout.split_once("what the expected traffic can decide").map(|(_, forecast)| forecast.to_owned()).unwrap_or_default()
}

#[test]
fn faults_and_passes_have_times_if_the_rate_is_known() {
    let text = forecast("{expect: {rps: 100, errors: 0.5%}, criteria: [{metric: error-rate, versusStable: {ratio: 1.5}}]}", 3);
    let expected = [
        "stage at 5 %, 100 req/s × 5 %, held 10m 00s and at most 30m 00s:",
        "error-rate: 2× errors at 0.5 % about 14 min, beyond the hold; 5× errors at 0.5 % about 80 s; an outage 4 failures; an equal canary passes: about 9 min",
        "1.5× errors at 0.5 % (about 81 min) cannot be decided within this stage; make it longer or heavier",
        "stage at 50 %, 100 req/s × 50 %, held 10m 00s and at most 30m 00s:",
        "bake at 100 %, 100 req/s × 100 %, held 10m 00s and at most 30m 00s:",
    ];
    for line in expected {
        assert!(text.contains(line), "no '{line}' in\n{text}");
    }
    assert!(!text.contains("assumes") && !text.contains("replicas") && !text.contains("analysis.expect"), "{text}");
}

#[test]
fn what_is_assumed_or_missing_is_said() {
    let text =
        forecast("{criteria: [{metric: error-rate, versusStable: {ratio: 1.5}}, {metric: latency-any, versusStable: {ratio: 1.5}}]}", 1);
    let expected = [
        "add analysis.expect.rps to see times",
        "assumes stable's error-rate to be 0.5 %; say what it is with `expect`",
        "stable has fewer than 3 replicas",
        "1.5× slower is within the limit: no rollback",
        " requests; an outage ",
    ];
    for line in expected {
        assert!(text.contains(line), "no '{line}' in\n{text}");
    }
    let enough = forecast("{criteria: [{metric: latency-any, versusStable: {ratio: 1.5}}]}", 3);
    assert!(enough.contains("latency-any") && !enough.contains("replicas"), "{enough}");
}

#[test]
fn data_has_the_forecast_of_every_stage_and_other_judges_have_none() {
    let prompt = prompt();
    prompt.write("release.yaml", &document("{expect: {rps: 100}}", 3));
    let data = prompt.run(&["plan", "release.yaml", "--output", "json"]).expect_code(0).json();
    let stages = data["forecast"].as_array().unwrap();
    let weights: Vec<_> = stages.iter().map(|stage| (stage["stage"].clone(), stage["weight"].clone())).collect();
    assert_eq!(weights, [(json!(0), json!(500)), (json!(1), json!(5_000)), (json!(null), json!(10_000))]);
    let errors = &stages[0]["tests"][0];
    assert_eq!((&errors["criterion"], &errors["against"]), (&json!("error-rate"), &json!("stable")));
    let five = errors["faults"].as_array().unwrap().iter().find(|fault| fault["times"] == 5.0).unwrap();
    assert_eq!(five["needs"]["within"], "hold", "{errors}");
    assert!(five["needs"]["requests"].as_u64().unwrap() * 200 <= five["needs"]["after_ms"].as_u64().unwrap() + 200, "{five}");
    prompt.write("release.yaml", &document("{judge: threshold}", 3));
    let finished = prompt.run(&["plan", "release.yaml"]).expect_code(0);
    assert!(!finished.stdout.contains("expected traffic"), "{}", finished.stdout);
}
