//! `serin analyze`: recorded data before the judge of live releases.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::fmt::Write as _;

use serde_json::{Value, json};
use serin_testkit::prompt::Prompt;

fn prompt() -> Prompt {
    Prompt::new(env!("CARGO_BIN_EXE_serin"))
}

/// Traffic of 100 requests a second, one row per arm every ten seconds; errors come as evenly as their rate lets them.
struct Recording {
    weight: u64,
    rows: u64,
    /// Errors of stable and of the canary per 10,000 requests.
    errors: [u64; 2],
    /// When the canary begins to take three times as long, in rows.
    slow_from: u64,
}

const STEP_S: u64 = 10;
const REQUESTS: u64 = 1_000;

impl Recording {
    fn equal() -> Self {
        Self { weight: 5, rows: 240, errors: [50, 50], slow_from: u64::MAX }
    }

    fn faulty() -> Self {
        Self { errors: [50, 500], ..Self::equal() }
    }

    /// Time, arm, requests, errors and latencies in milliseconds of each row.
    fn rows(&self) -> Vec<(u64, &'static str, u64, u64, Vec<u64>)> {
        let mut rows = Vec::new();
        let mut sums = [[0_u64; 2]; 2];
        for row in 1..=self.rows {
            let canary = REQUESTS * self.weight / 100;
            for (index, (arm, requests)) in [("stable", REQUESTS - canary), ("canary", canary)].into_iter().enumerate() {
                let [sum, failed] = &mut sums[index];
                // Some errors come before the first whole one is due.
                *sum += requests * self.errors[index];
                let errors = (*sum + 5_000) / 10_000 - *failed;
                *failed += errors;
                let factor = if index == 1 && row >= self.slow_from { 3 } else { 1 };
                // 20 ms to 120 ms, the same for both arms.
                let latencies = (0..requests - errors).map(|n| factor * (20 + (n * 37 + row * 11) % 101)).collect();
                rows.push((row * STEP_S, arm, requests, errors, latencies));
            }
        }
        rows
    }

    fn ndjson(&self) -> String {
        let mut text = String::new();
        for (at, arm, requests, errors, latencies) in self.rows() {
            let row = json!({"at": at, "arm": arm, "weight": self.weight, "requests": requests, "errors": errors, "latencyMs": latencies});
            let _ = writeln!(text, "{row}");
        }
        text
    }

    /// Without latencies, which CSV has for single requests only.
    fn csv(&self) -> String {
        let mut text = "at,arm,weight,requests,errors\n".to_owned();
        for (at, arm, requests, errors, _) in self.rows() {
            let _ = writeln!(text, "{at},{arm},{},{requests},{errors}", self.weight);
        }
        text
    }
}

/// Two recordings as one, in CSV.
fn one_after_the_other(first: &Recording, second: &Recording) -> String {
    let mut text = first.csv();
    for line in second.csv().lines().skip(1) {
        let (at, rest) = line.split_once(',').unwrap();
        let _ = writeln!(text, "{},{rest}", at.parse::<u64>().unwrap() + first.rows * STEP_S);
    }
    text
}

/// A document with this analysis, in YAML.
fn document(analysis: &str) -> String {
    format!(
        "apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: recorded}}
spec:
  workload:
    external:
      stable: {{urls: [\"http://127.0.0.1:1\"]}}
      canary: {{urls: [\"http://127.0.0.1:2\"]}}
  traffic: {{embedded: {{listen: \"127.0.0.1:3\"}}}}
  strategy: {{canary: {{stages: [{{weight: 5, hold: 10m}}, {{weight: 25, hold: 10m}}], bake: 10m}}}}
  analysis: {analysis}
"
    )
}

/// Both judges with one rule about errors.
const JUDGES: [&str; 2] = [
    "{judge: sequential, criteria: [{metric: error-rate, versusStable: {ratio: 1.5, increase: 0.5pp}}]}",
    "{judge: threshold, interval: 10s, window: 60s, criteria: [{metric: error-rate, versusStable: {ratio: 1.5, increase: 0.5pp}, consecutive: 3}]}",
];

#[track_caller]
fn analyze(prompt: &Prompt, args: &[&str], code: i32) -> Value {
    let args: Vec<&str> = ["analyze", "--output", "json"].into_iter().chain(args.iter().copied()).collect();
    let finished = prompt.run(&args).expect_code(code);
    assert_eq!(finished.stderr, "");
    finished.json()
}

#[test]
fn equal_arms_pass_and_a_fault_is_found_early_by_both_judges() {
    let prompt = prompt();
    prompt.write("equal.ndjson", &Recording::equal().ndjson());
    prompt.write("faulty.ndjson", &Recording::faulty().ndjson());
    for analysis in JUDGES {
        prompt.write("release.yaml", &document(analysis));
        let equal = analyze(&prompt, &["equal.ndjson", "--release", "release.yaml"], 0);
        assert_eq!(equal["final"]["verdict"], "pass", "{analysis}: {equal}");
        assert_eq!(equal["final"]["criteria"][0]["verdict"], "pass", "{analysis}");
        assert_eq!((&equal["rows"], &equal["requests"]["canary"]), (&json!(480), &json!(12_000)));

        let faulty = analyze(&prompt, &["faulty.ndjson", "--release", "release.yaml"], 4);
        let decided = &faulty["final"]["decided_by"];
        assert_eq!(
            (&faulty["final"]["verdict"], &decided["criterion"], &decided["to"]),
            (&json!("fail"), &json!("error-rate"), &json!("fail"))
        );
        assert!(decided["after_ms"].as_u64().unwrap() <= 180_000, "{analysis}: {decided}");
        assert!(faulty["changes"].as_array().unwrap().contains(decided), "{analysis}: {faulty}");
    }
}

#[test]
fn without_a_document_the_default_criteria_are_used() {
    let prompt = prompt();
    prompt.write("equal.ndjson", &Recording::equal().ndjson());
    prompt.write("slow.ndjson", &Recording { slow_from: 120, ..Recording::equal() }.ndjson());
    let equal = analyze(&prompt, &["equal.ndjson"], 0);
    let names: Vec<_> = equal["final"]["criteria"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.len() == 2 && names[0] == "error-rate" && names[1].starts_with("latency-"), "{names:?}");
    let slow = analyze(&prompt, &["slow.ndjson"], 4);
    let decided = &slow["final"]["decided_by"];
    assert_eq!(decided["criterion"], names[1], "{decided}");
    let after_ms = decided["after_ms"].as_u64().unwrap();
    assert!((1_190_000..=1_290_000).contains(&after_ms), "found at {after_ms}, slow from 1,190,000");
}

#[test]
fn csv_and_ndjson_of_the_same_data_have_the_same_verdicts() {
    let prompt = prompt();
    for recording in [Recording::equal(), Recording::faulty()] {
        let ndjson: String = recording
            .ndjson()
            .lines()
            .map(|line| {
                let mut row: Value = serde_json::from_str(line).unwrap();
                let _ = row.as_object_mut().unwrap().remove("latencyMs");
                format!("{row}\n")
            })
            .collect();
        prompt.write("data.ndjson", &ndjson);
        prompt.write("data.csv", &recording.csv());
        // Told apart by the first byte.
        prompt.write("data", &ndjson);
        prompt.write("release.yaml", &document(JUDGES[0]));
        let judged = |file: &str| {
            let finished = prompt.run(&["analyze", file, "--release", "release.yaml", "--output", "json"]);
            let data = finished.json();
            assert!(data["final"]["verdict"].is_string(), "{data}");
            (finished.code, data)
        };
        assert_eq!(judged("data.ndjson"), judged("data.csv"));
        assert_eq!(judged("data"), judged("data.csv"));
    }
}

#[test]
fn the_weight_may_be_left_to_the_data() {
    let prompt = prompt();
    prompt.write("release.yaml", &document(JUDGES[0]));
    let bare = Recording::faulty()
        .csv()
        .lines()
        .map(|line| {
            let cells: Vec<_> = line.split(',').collect();
            format!("{},{},{},{}\n", cells[0], cells[1], cells[3], cells[4])
        })
        .collect::<String>();
    prompt.write("bare.csv", &bare);
    prompt.write("whole.csv", &Recording::faulty().csv());
    let decided = |file: &str| analyze(&prompt, &[file, "--release", "release.yaml"], 4)["final"]["decided_by"]["after_ms"].clone();
    assert_eq!(decided("bare.csv"), decided("whole.csv"));

    // Rows that never share a time compare nothing without a weight.
    let apart: String = bare
        .lines()
        .map(|line| if line.contains(",canary,") { format!("{}\n", line.replacen(',', ".5,", 1)) } else { format!("{line}\n") })
        .collect();
    prompt.write("apart.csv", &apart);
    let finished = prompt.run(&["analyze", "apart.csv", "--release", "release.yaml"]);
    assert!(finished.stderr.contains("nothing was compared; give `weight`"), "{}", finished.stderr);
    assert_ne!(finished.code, 0);
}

#[test]
fn a_change_of_weight_begins_a_stage_of_the_same_trial() {
    let prompt = prompt();
    prompt.write("release.yaml", &document(JUDGES[0]));
    let light = Recording { rows: 60, ..Recording::equal() };
    let heavy = Recording { weight: 25, rows: 120, ..Recording::equal() };
    prompt.write("data.csv", &one_after_the_other(&light, &heavy));
    let judged = analyze(&prompt, &["data.csv", "--release", "release.yaml"], 0);
    let weights: Vec<_> = judged["changes"].as_array().unwrap().iter().filter_map(|change| change["weight_bps"].as_u64()).collect();
    assert_eq!(weights, [500, 2_500]);
    let finished = prompt.run(&["analyze", "data.csv", "--release", "release.yaml"]).expect_code(0);
    assert!(finished.stdout.contains("10m 00s  canary at 25 %"), "{}", finished.stdout);
    assert!(finished.stdout.contains("verdict: pass: every criterion is kept"), "{}", finished.stdout);
}

#[test]
fn a_limit_that_both_arms_broke_is_no_pass_although_it_is_kept_again() {
    let prompt = prompt();
    let trouble = Recording { rows: 30, errors: [2_000, 2_000], ..Recording::equal() };
    let calm = Recording { rows: 240, errors: [0, 0], ..Recording::equal() };
    prompt.write("data.csv", &one_after_the_other(&trouble, &calm));
    for (analysis, name) in [
        ("{judge: sequential, criteria: [{metric: error-rate, max: 5%}]}", "error-rate"),
        ("{judge: threshold, interval: 10s, window: 60s, criteria: [{metric: error-rate, max: 5%}]}", "error-rate"),
        ("{judge: sequential, criteria: [{metric: error-rate, max: 5%, onBreach: warn}]}", "outage"),
    ] {
        prompt.write("release.yaml", &document(analysis));
        let judged = analyze(&prompt, &["data.csv", "--release", "release.yaml"], 5);
        let end = &judged["final"];
        assert_eq!(end["criteria"][0]["verdict"], "pass", "{analysis}: what counts is that it was not always: {end}");
        assert_eq!((&end["verdict"], &end["decided_by"]["criterion"]), (&json!("environment"), &json!(name)), "{analysis}: {end}");
    }
    let finished = prompt.run(&["analyze", "data.csv", "--release", "release.yaml"]).expect_code(5);
    assert!(finished.stdout.contains("verdict: environment: both versions broke a limit, after "), "{}", finished.stdout);

    // A failure is the graver word, and limits that only warn stop nothing.
    let faulty = Recording { rows: 240, errors: [0, 1_000], ..Recording::equal() };
    prompt.write("faulty.csv", &one_after_the_other(&trouble, &faulty));
    assert_eq!(analyze(&prompt, &["faulty.csv", "--release", "release.yaml"], 4)["final"]["verdict"], "fail");
    let warns = "{judge: sequential, criteria: [{metric: error-rate, max: 5%, onBreach: warn}], guards: [{name: outage, off: true}]}";
    prompt.write("release.yaml", &document(warns));
    assert_eq!(analyze(&prompt, &["data.csv", "--release", "release.yaml"], 0)["final"]["verdict"], "pass");
}

#[test]
fn verdicts_are_shown_when_they_change_and_as_often_as_asked() {
    let prompt = prompt();
    prompt.write("release.yaml", &document(JUDGES[0]));
    prompt.write("faulty.csv", &Recording { rows: 60, ..Recording::faulty() }.csv());
    let changes = prompt.run(&["analyze", "faulty.csv", "--release", "release.yaml"]).expect_code(4);
    let lines: Vec<_> = changes.stdout.lines().collect();
    assert!(lines[0].ends_with("0 ms  canary at 5 %"), "{}", changes.stdout);
    assert!(lines.iter().any(|line| line.contains("error-rate") && line.contains("→ fail")), "{}", changes.stdout);
    assert!(changes.stdout.contains("verdict: fail: a release would have been rolled back after "), "{}", changes.stdout);
    assert!(changes.stdout.contains("120 rows over 9m 50s: 57,000 requests on stable, 3,000 on the canary"), "{}", changes.stdout);
    let often = prompt.run(&["analyze", "faulty.csv", "--release", "release.yaml", "--every", "1m"]).expect_code(4);
    assert!(often.stdout.lines().count() >= lines.len() + 9, "{}", often.stdout);
    let data = analyze(&prompt, &["faulty.csv", "--release", "release.yaml", "--every", "1m"], 4);
    assert_eq!(data["samples"].as_array().unwrap().len(), 9);
    let _ = prompt.run(&["analyze", "faulty.csv", "--every", "60"]).expect_code(2);
}

#[test]
fn data_that_does_not_decide_is_nobodys_pass() {
    let prompt = prompt();
    prompt.write("release.yaml", &document(JUDGES[0]));
    prompt.write("short.csv", &Recording { rows: 2, ..Recording::equal() }.csv());
    assert_eq!(analyze(&prompt, &["short.csv", "--release", "release.yaml"], 5)["final"]["verdict"], "inconclusive");
    prompt.write("stable.csv", "at,arm,requests,errors\n1,stable,100,0\n2,stable,100,0\n");
    assert_eq!(analyze(&prompt, &["stable.csv"], 5)["final"]["verdict"], "unknown");
    prompt.write("empty.ndjson", "");
    assert_eq!(analyze(&prompt, &["empty.ndjson"], 5)["final"]["verdict"], "unknown");
}

#[test]
fn broken_data_is_refused_at_its_line() {
    let prompt = prompt();
    let good = r#"{"at": 10, "arm": "stable", "requests": 95, "errors": 0}"#;
    for (line, expected) in [
        (r#"{"at": 9, "arm": "canary", "requests": 5, "errors": 0}"#, "`at` is earlier than in the row before"),
        (r#"{"at": 10, "arm": "canary", "requests": 5, "errors": 6}"#, "6 errors of 5 requests; expected at most as many"),
        (r#"{"at": 10, "arm": "canary", "reqests": 5, "errors": 0}"#, "unknown field `reqests`; expected at, arm"),
        (r#"{"at": 10, "arm": "canary", "requests": NaN, "errors": 0}"#, "not JSON"),
        (r#"{"at": 10, "arm": "canary", "requests": -5, "errors": 0}"#, "`requests` is -5; expected a whole number from 0"),
    ] {
        prompt.write("data.ndjson", &format!("{good}\n\n{line}\n"));
        let finished = prompt.run(&["analyze", "data.ndjson"]).expect_code(2);
        assert!(finished.stderr.starts_with("error: data.ndjson:3: ") && finished.stderr.contains(expected), "{}", finished.stderr);
        let data = analyze(&prompt, &["data.ndjson"], 2);
        assert_eq!((&data["type"], &data["line"]), (&json!("error"), &json!(3)), "{data}");
    }
    prompt.write("data.csv", "at,arm,requests,errors\n10,stable,95,0\n10,canary,x,0\n");
    let finished = prompt.run(&["analyze", "data.csv"]).expect_code(2);
    assert!(finished.stderr.contains("data.csv:3: `requests` is 'x'; expected a number"), "{}", finished.stderr);
    prompt.write("long.ndjson", &"x".repeat(2 << 20));
    let finished = prompt.run(&["analyze", "long.ndjson"]).expect_code(2);
    assert!(finished.stderr.contains("long.ndjson:1: the line is longer than 1 MiB"), "{}", finished.stderr);
    let missing = prompt.run(&["analyze", "no-such-file.ndjson"]).expect_code(2);
    assert!(missing.stderr.contains("cannot read no-such-file.ndjson"), "{}", missing.stderr);
}

#[test]
fn criteria_about_client_errors_need_them_in_the_data() {
    let prompt = prompt();
    prompt.write("release.yaml", &document("{judge: threshold, criteria: [{metric: 4xx-rate, max: 5%}]}"));
    prompt.write("data.csv", &Recording::equal().csv());
    let finished = prompt.run(&["analyze", "data.csv", "--release", "release.yaml"]).expect_code(2);
    assert!(finished.stderr.contains("data.csv:2: `clientErrors` is missing; the criterion `4xx-rate` looks at"), "{}", finished.stderr);
    prompt.write("data.csv", "at,arm,weight,requests,errors,client_errors\n10,canary,5,100,0,50\n20,canary,5,100,0,50\n");
    assert_eq!(analyze(&prompt, &["data.csv", "--release", "release.yaml"], 4)["final"]["decided_by"]["criterion"], "4xx-rate");
}

#[test]
fn data_from_standard_input() {
    let prompt = prompt();
    let finished = prompt.run_with_input(&["analyze", "-"], &Recording { rows: 60, ..Recording::faulty() }.csv()).expect_code(4);
    assert!(finished.stdout.contains("rolled back"), "{}", finished.stdout);
    let refused = prompt.run_with_input(&["analyze", "-"], "at,arm\n").expect_code(2);
    assert!(refused.stderr.contains("<stdin>:1: there is no column `requests`"), "{}", refused.stderr);
}
