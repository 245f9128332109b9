//! Where words go: stdout is data, a pipe gets lines, a terminal a panel that is redrawn in place.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::{Value, json};
use serin_testkit::{Document, Place, Release, prompt, terminal::Terminal, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// A release with traffic of its own, that ends by itself.
fn document(name: &str) -> Document {
    Document::sample_apps(name, &[], &[])
        .stage(50.0, "700ms", 20)
        .bake("500ms")
        .set("workload.processes.load", json!({"command": ["{{serin}}", "load", "{{url}}", "--rps=100"]}))
}

fn command(place: &Place, args: &[&str]) -> Command {
    let mut command = place.command(args);
    prompt::clean(&mut command);
    command
}

#[track_caller]
fn say(place: &Place, args: &[&str]) -> prompt::Finished {
    prompt::finish(command(place, args), None)
}

#[test]
fn a_pipe_gets_one_line_for_each_event() {
    let place = Place::new(SERIN);
    let _ = place.write(&document("piped"));
    let finished = say(&place, &["run", "release.yaml"]).expect_code(0);
    assert_eq!(finished.stderr, "", "words on stderr in a good run");
    assert!(!finished.stdout.chars().any(|c| c.is_control() && c != '\n'), "{:?}", finished.stdout);
    let (events, report) = finished.stdout.split_once("\n\n").unwrap();
    let heads = [
        "release began",
        "preflight passed",
        "canary ready",
        "stage 1 entered",
        "weight asked",
        "weight proven",
        "stage 1 passed",
        "promotion",
        "weight asked",
        "weight proven",
        "bake",
        "bake passed",
        "succeeded",
    ];
    let lines: Vec<_> = events.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(lines.len(), heads.len(), "{events}");
    for (line, head) in lines.iter().zip(heads) {
        let (time, rest) = line.split_at(8);
        assert!(time.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'), "no time: {line}");
        assert_eq!(&rest[..2 + head.len()], format!("  {head}"), "{line}");
    }
    assert!(report.starts_with("piped run 1 · succeeded: the new version serves after "), "{report}");
    for field in ["stable", "canary", "proxy", "journal"] {
        assert!(report.lines().any(|line| line.starts_with(&format!("  {field}"))), "no {field}: {report}");
    }
}

#[test]
fn every_line_of_json_is_an_object_with_a_type() {
    let place = Place::new(SERIN);
    let _ = place.write(&document("json"));
    let finished = say(&place, &["run", "release.yaml", "--output", "json"]).expect_code(0);
    assert_eq!(finished.stderr, "");
    let lines = finished.json_lines();
    let types: BTreeSet<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, BTreeSet::from(["event", "note", "end"]));
    let journal = |lines: &[Value]| {
        let events = lines.iter().filter(|line| line["type"] == "event");
        events.map(|line| (line["seq"].clone(), line["at_ms"].clone(), line["event"].clone())).collect::<Vec<_>>()
    };
    let history = say(&place, &["history", "--output", "json"]).json_lines();
    assert_eq!(journal(&lines), journal(&history), "what is said is not what is journaled");
    let end = lines.last().unwrap();
    assert_eq!((&end["type"], &end["exit_code"]), (&json!("end"), &json!(0)));

    let refused = say(&place, &["run", "release.yaml", "--output", "json", "--state", "release.yaml"]).expect_code(3);
    let line = refused.json();
    assert_eq!((&line["type"], &line["exit_code"]), (&json!("error"), &json!(3)), "{line}");
}

#[test]
fn a_reader_that_goes_away_does_no_harm() {
    let place = Place::new(SERIN);
    let _ = place.write(&document("headless"));
    let mut child = command(&place, &["run", "release.yaml"]).spawn().unwrap();
    drop(child.stdout.take());
    let status = wait::until("the end of the run", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_terminal_gets_a_panel_that_is_redrawn_in_place() {
    let place = Place::new(SERIN);
    let document = document("panel").stage(60.0, "60s", 20);
    let _ = place.write(&document);
    for columns in [60, 140] {
        let terminal = Terminal::start(command(&place, &["run", "release.yaml"]), columns);
        terminal.wait_for("stage 2 entered");
        terminal.wait_for("p99");
        wait::until("some redrawing", || (terminal.seen().moves_up > 8).then_some(()));
        let seen = terminal.seen();
        let with = |part: &str| seen.lines.iter().filter(|line| line.contains(part)).count();
        assert!(with("req/s") <= 1 && with("waiting: ") <= 1, "more than one panel, so a line was too wide:\n{}", seen.lines.join("\n"));
        assert!(with("release began") == 1 && with("stage 1 passed") == 1, "{}", seen.lines.join("\n"));
        let _ = say(&place, &["pause", "--reason", "\u{1b}[2J\u{7}evil\u{9b}2J\r\nreason"]).expect_code(0);
        terminal.wait_for("evil");
        let _ = say(&place, &["abort", "--reason", "\u{1b}]0;title\u{7}"]).expect_code(0);
        let (status, text, seen) = terminal.end();
        assert_eq!(status.code(), Some(4), "{text}");
        assert_eq!(seen.strange, Vec::<String>::new(), "what people say reached the terminal");
        assert!(!seen.styles.is_empty(), "no colours");
        let last = seen.lines.join("\n");
        assert!(!last.contains("req/s") && !last.contains("waiting: "), "the panel, or what wrapped of it, stays behind:\n{last}");
        for part in ["release began", "rolled back", "panel run", "by a person"] {
            assert!(last.contains(part), "no {part}:\n{last}");
        }
    }
}

#[test]
fn no_colours_where_they_are_not_wanted() {
    let place = Place::new(SERIN);
    let _ = place.write(&document("plain"));
    let mut without = command(&place, &["run", "release.yaml"]);
    without.env("NO_COLOR", "1");
    let (status, text, seen) = Terminal::start(without, 100).end();
    assert_eq!(status.code(), Some(0), "{text}");
    assert_eq!((seen.styles, seen.strange), (vec![], vec![]));
    assert!(seen.moves_up > 0, "no panel without colours");
}

#[test]
fn a_dumb_terminal_gets_lines() {
    let place = Place::new(SERIN);
    let _ = place.write(&document("dumb"));
    let mut dumb = command(&place, &["run", "release.yaml"]);
    dumb.env("TERM", "dumb");
    let (status, text, seen) = Terminal::start(dumb, 100).end();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(seen.lines.iter().any(|line| line.contains("  succeeded  ")), "{text}");
}

#[test]
fn json_on_a_terminal_is_json() {
    let place = Place::new(SERIN);
    let _ = place.write(&document("json-there"));
    let (status, text, _) = Terminal::start(command(&place, &["run", "release.yaml", "--output", "json"]), 100).end();
    assert_eq!(status.code(), Some(0), "{text}");
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["type"].is_string(), "{line}");
    }
}

#[test]
fn names_that_come_from_outside_are_inert_everywhere() {
    let place = Place::new(SERIN);
    let evil = "\u{1b}[31mevil\u{7}.yaml";
    let document = document("inert").set("workload.processes.canary.command", json!(["\u{1b}[2Jno-such-program"]));
    fs::write(place.path().join(evil), document.text()).unwrap();
    let clean = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
    for verb in ["check", "plan", "run"] {
        let finished = say(&place, &[verb, evil]);
        assert_eq!(finished.code, if verb == "plan" { 0 } else { 3 });
        assert!(clean(&finished.stdout) && clean(&finished.stderr), "{verb}: {:?}\n{:?}", finished.stdout, finished.stderr);
    }
    let good = document.set("workload.processes.canary.command", json!(["{{serin}}", "sample-app", "--version=v2"]));
    fs::write(place.path().join(evil), good.text()).unwrap();
    let release = Release::start(command(&place, &["--output", "json", "run", evil]));
    let _ = release.event("succeeded");
    assert_eq!(release.end().code, Some(0));
    for verb in ["status", "history"] {
        let finished = say(&place, &[verb]).expect_code(0);
        assert!(clean(&finished.stdout), "{verb}: {:?}", finished.stdout);
    }
    let missing = say(&place, &["check", "\u{1b}[31mmissing"]).expect_code(2);
    assert!(clean(&missing.stderr), "{:?}", missing.stderr);
}
