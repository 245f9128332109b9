//! One state folder over several runs: what was interrupted comes first, what ended can be run again, what was left is cleaned up.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::fs;

use serde_json::{Value, json};
use serin_testkit::{Document, Place, Release, processes, prompt, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn document(name: &str) -> Document {
    Document::sample_apps(name, &[], &[]).stage(50.0, "500ms", 20).bake("500ms")
}

#[track_caller]
fn say(place: &Place, args: &[&str]) -> prompt::Finished {
    let mut command = place.command(args);
    prompt::clean(&mut command);
    prompt::finish(command, None)
}

fn notes(release: &[Value]) -> Vec<String> {
    let notes = release.iter().filter(|line| line["type"] == "note");
    notes.map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn another_document_waits_for_the_interrupted_one() {
    let place = Place::new(SERIN);
    let first = document("first").stage(60.0, "60s", 20);
    let release = place.run(&first, &[]);
    let _ = release.stage(1);
    let pids = place.replicas();
    drop(release.kill());

    let other = place.path().join("other.yaml");
    fs::write(&other, document("second").text()).unwrap();
    let refused = say(&place, &["run", other.to_str().unwrap()]).expect_code(3);
    for part in ["holds an interrupted release: first", "begun from", "release.yaml", "run that document again", "--state"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert_eq!(place.replicas(), pids, "the refused run touched the interrupted one's processes");
    // The same name with another meaning is another document as well.
    fs::write(&other, document("first").text()).unwrap();
    let _ = say(&place, &["run", other.to_str().unwrap()]).expect_code(3);

    let release = Release::start(place.command(&["--output", "json", "run"]));
    let _ = release.event("taken-over");
    let _ = say(&place, &["abort"]).expect_code(0);
    assert_eq!(release.end().code, Some(4));
    processes::assert_none_left(place.path());
    // Nothing is interrupted any more.
    let _ = say(&place, &["run"]).expect_code(2);
}

#[test]
fn a_layout_change_is_the_same_document() {
    let place = Place::new(SERIN);
    let document = document("layout").stage(60.0, "60s", 20);
    let release = place.run(&document, &[]);
    let _ = release.stage(1);
    drop(release.kill());
    let file = place.write(&document);
    fs::write(&file, format!("# a comment that changes nothing\n{}\n", document.value)).unwrap();
    let release = Release::start(place.command(&["--output", "json", "run", file.to_str().unwrap()]));
    let _ = release.event("taken-over");
    let _ = say(&place, &["abort"]).expect_code(0);
    assert_eq!(release.end().code, Some(4));
    processes::assert_none_left(place.path());
}

#[test]
fn a_finished_document_is_run_again() {
    let place = Place::new(SERIN);
    let document = document("twice");
    for run in [1, 2] {
        let load = place.load(&document, 200, &[]);
        let release = place.run(&document, &["--keep-serving"]);
        let ended = release.end_under(load);
        assert_eq!((ended.code, &ended.last["report"]["run"]), (Some(0), &json!(run)), "{}", ended.story());
        let message = notes(&ended.lines).contains(&"this document was run before: this is run 2".to_owned());
        assert_eq!(message, run == 2, "{}", ended.story());
    }
    let listed = say(&place, &["history", "--list", "--output", "json"]).json_lines();
    assert_eq!(listed.iter().map(|line| line["run"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 1]);
    let journal = say(&place, &["history", "--output", "json"]).json_lines();
    assert_eq!(journal[1]["event"]["type"], "began", "each run has a journal of its own");
    processes::assert_none_left(place.path());
}

#[test]
fn leftovers_of_a_run_that_was_killed_after_its_end() {
    let place = Place::new(SERIN);
    let document = document("leftovers");
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.wait_for("serving on", |line| line["text"].as_str().is_some_and(|text| text.contains("serving on")));
    load.stop().assert_nothing_lost();
    let left = processes::mentioning(place.path()).into_iter().filter(|process| process.pid != release.pid()).collect::<Vec<_>>();
    assert!(left.len() >= 2, "the proxy and a replica serve on: {left:#?}");
    drop(release.kill());
    let text = say(&place, &["status"]).expect_code(0);
    assert!(text.stdout.contains("leftovers run 1 · succeeded"), "{}", text.stdout);

    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.event("began");
    let said = notes(&release.lines());
    assert!(said.iter().any(|note| note.starts_with("stopping the proxy")), "{said:?}");
    assert!(said.iter().any(|note| note.starts_with("stopping canary-1 (pid ")), "{said:?}");
    let now: Vec<_> = processes::mentioning(place.path()).into_iter().map(|process| process.pid).collect();
    assert!(left.iter().all(|old| !now.contains(&old.pid)), "still there: {left:#?}");
    let ended = release.end_under(place.load(&document, 200, &[]));
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    processes::assert_none_left(place.path());
}

#[test]
fn a_run_that_was_killed_between_its_end_and_the_record_of_it() {
    let place = Place::new(SERIN);
    let document = document("unrecorded");
    let load = place.load(&document, 200, &[]);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.wait_for("serving on", |line| line["text"].as_str().is_some_and(|text| text.contains("serving on")));
    load.stop().assert_nothing_lost();
    drop(release.kill());
    let store = rusqlite::Connection::open(place.state().join("serin.db")).unwrap();
    store.execute("UPDATE release SET ended_at = NULL, outcome = NULL", []).unwrap();
    drop(store);

    let _ = say(&place, &["status"]).expect_code(0);
    let nothing = say(&place, &["run"]).expect_code(2);
    assert!(nothing.stderr.contains("nothing was interrupted"), "{}", nothing.stderr);
    let release = place.run(&document, &["--keep-serving"]);
    let _ = release.event("began");
    let ended = release.end_under(place.load(&document, 200, &[]));
    assert_eq!((ended.code, &ended.last["report"]["run"]), (Some(0), &json!(2)), "{}", ended.story());
    let listed = say(&place, &["history", "--list", "--output", "json"]).json_lines();
    assert!(listed.iter().all(|line| line["outcome"] == "succeeded"), "{listed:?}");
    processes::assert_none_left(place.path());
}

#[test]
fn leftovers_of_a_run_that_was_killed_while_putting_things_away() {
    let place = Place::new(SERIN);
    // A stable that does not end when it is asked to, so that there is a moment to be killed in.
    let stubborn = "trap '' TERM; \"$0\" sample-app --version=v1 & while :; do sleep 1; done";
    let document = document("away").set("workload.processes.stable.command", json!(["sh", "-c", stubborn, "{{serin}}"]));
    let document = document.set("workload.processes.stable.stopGrace", json!("60s"));
    let shells = || {
        let shell = |process: &processes::Process| process.command.starts_with("sh -c trap");
        processes::mentioning(place.path()).into_iter().filter(shell).map(|process| process.pid).collect::<Vec<_>>()
    };
    let release = place.run(&document, &[]);
    let _ = release.stage(1);
    let _ = say(&place, &["abort"]).expect_code(0);
    let _ = release.wait_for("the end of it", |line| line["text"] == "stopping what was started");
    wait::until("the proxy to be gone", || processes::proxy(place.path()).is_none().then_some(()));
    let stubborn = shells();
    drop(release.kill());
    assert_eq!((shells(), stubborn.len()), (stubborn.clone(), 1));

    let release = place.run(&document, &[]);
    let _ = release.event("began");
    let said = notes(&release.lines());
    assert!(said.contains(&format!("stopping stable-1 (pid {}) of an earlier release", stubborn[0])), "{said:?}");
    assert!(shells().len() == 1 && shells() != stubborn, "the new run took over a process that was being stopped");
    let _ = say(&place, &["abort"]).expect_code(0);
    release.interrupt();
    release.interrupt();
}
