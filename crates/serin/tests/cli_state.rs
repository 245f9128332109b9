//! The verbs that look into a state folder: `store check`, `store export`, `store vacuum`, `replay` and `eject`; while a release runs,
//! after it has ended, and with damage.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::{Value, json};
use serin_core::{
    Timestamp,
    release::{Entry, Event},
};
use serin_engine::store::{MOST_ENTRIES, NewRelease, StateFolder, Store};
use serin_testkit::{
    Document, Place, Site, processes,
    prompt::{Finished, clean, finish},
    wait,
};

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_serin"))
}

fn document() -> Document {
    Document::sample_apps("looked-at", &[], &[]).stage(50.0, "1s", 20)
}

#[track_caller]
fn serin(place: &Place, args: &[&str]) -> Finished {
    let mut command = place.command(args);
    clean(&mut command);
    finish(command, None)
}

#[track_caller]
fn json(place: &Place, args: &[&str], code: i32) -> Vec<Value> {
    serin(place, &[args, &["--output", "json"]].concat()).expect_code(code).json_lines()
}

/// A store with one run of so many warnings, made without running anything.
fn written(state: &Path, name: &str, length: u64, outcome: Option<&str>) {
    let folder = StateFolder::create(state).unwrap();
    let mut store = Store::open(&folder).unwrap();
    let new = NewRelease { name, document_hash: "hash", document_name: "release.yaml", document: "no document" };
    let row = store.begin(new, Timestamp(1_000)).unwrap();
    let event = |seq| match seq {
        1 => Event::Began { release: name.to_owned(), by: None, reason: None },
        seq => Event::Warned { text: format!("warning {seq}") },
    };
    let entries: Vec<Entry> = (1..=length).map(|seq| Entry { seq, epoch: 1, at: Timestamp(1_000 + seq), event: event(seq) }).collect();
    for some in entries.chunks(100) {
        store.append(row.id, some).unwrap();
    }
    if let Some(outcome) = outcome {
        store.end(row.id, outcome, Timestamp(2_000), Some(r#"{"why":"because"}"#)).unwrap();
    }
}

#[test]
fn a_release_is_looked_at_while_it_runs_and_after_everything_died() {
    let place = place();
    let document = document();
    let release = place.run(&document, &[]);
    let _ = release.stage(1);
    let pid = release.pid();

    let checked = json(&place, &["store", "check"], 0);
    assert_eq!((checked.len(), &checked[0]["ok"], &checked[0]["problems"]), (1, &json!(true), &json!([])), "{checked:?}");
    let exported = json(&place, &["store", "export"], 0);
    assert_eq!((&exported[0]["type"], &exported[0]["name"]), (&json!("release"), &json!("looked-at")));
    assert!(exported.iter().any(|line| line["event"]["type"] == "weight-proven"), "{exported:?}");

    let refused = serin(&place, &["store", "vacuum"]).expect_code(3);
    assert!(refused.stderr.contains(&format!("(pid {pid})")), "{}", refused.stderr);

    let entries = json(&place, &["replay"], 0);
    for (seq, entry) in (1..).zip(&entries) {
        assert_eq!((&entry["seq"], &entry["state"]["seq"]), (&json!(seq), &json!(seq)));
        assert!(!entry["wait"]["why"].as_str().unwrap().is_empty());
    }
    let asked = entries.iter().find(|entry| entry["event"]["effect"]["shift"]["weight"] == 5_000).unwrap();
    let changed = asked["changed"].as_array().unwrap();
    assert!(changed.iter().any(|change| change["path"] == "targets.embedded.asked" && change["to"] == 5_000), "{asked}");
    assert!(asked["wait"]["why"].as_str().unwrap().contains("the router to take 50 %"), "{asked}");
    let text = serin(&place, &["replay"]).expect_code(0).stdout;
    for part in [
        "release 1: looked-at run 1",
        "effect asked: give the canary 50 % of embedded",
        "effect done: #",
        "embedded: 50 % asked, 50 % proven",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }

    // Nothing above or here disturbs it.
    let ejected = |proxy: Option<u32>, control: Option<u32>| {
        let said = json(&place, &["eject"], 0).remove(0);
        assert_eq!((&said["control_pid"], &said["proxy_pid"]), (&json!(control), &json!(proxy)), "{said}");
        said
    };
    let proxy = processes::proxy(place.path());
    assert!(proxy.is_some());
    let said = ejected(proxy, Some(pid));
    assert_eq!(json!(document.url()), json!(format!("http://{}/", said["listen"].as_str().unwrap())));
    for (arm, name) in [(0, "stable-1"), (1, "canary-1")] {
        assert_eq!(said["arms"][arm]["share"], 0.5, "{said}");
        assert_eq!(said["arms"][arm]["servers"][0]["address"], json!(processes::address(place.path(), name).unwrap()));
    }
    let running: Vec<(&str, u64)> = said["processes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|process| process["runs"] == true)
        .map(|process| (process["id"].as_str().unwrap(), process["pid"].as_u64().unwrap()))
        .collect();
    let replicas: Vec<(String, u32)> = place.replicas().into_iter().collect();
    assert_eq!(running, replicas.iter().map(|(id, pid)| (id.as_str(), u64::from(*pid))).collect::<Vec<_>>());
    assert_eq!(processes::proxy(place.path()), proxy);
    assert_eq!(place.status()["status"]["weight"], 5_000);

    processes::signal(pid, Signal::KILL);
    let gone = |pid: u32| wait::until(&format!("the end of {pid}"), || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    drop(release);
    gone(pid);
    let said = ejected(proxy, None);
    assert!(said["steps"].as_array().unwrap().iter().any(|step| step.as_str().unwrap().contains("kill -TERM -- -")), "{said}");
    // Nobody owns it now, and what is under way stays.
    let _ = json(&place, &["store", "vacuum", "--keep-runs", "0", "--keep-days", "0"], 0);
    assert_eq!(json(&place, &["replay"], 0), entries);

    fs::write(place.state().join("serin.db"), "damaged").unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(place.state().join(format!("serin.db{suffix}")));
    }
    let said = ejected(proxy, None);
    assert_eq!(said["arms"][0]["share"], 0.5);
    assert!(said["trouble"][0].as_str().unwrap().contains("not a database"), "{said}");
    let text = serin(&place, &["eject"]).expect_code(0).stdout;
    assert!(text.contains(&format!("`kill -TERM {}`", proxy.unwrap())), "{text}");
    let _ = serin(&place, &["replay"]).expect_code(3);
    assert_eq!(json(&place, &["store", "check"], 3)[0]["ok"], false);
    fs::write(place.state().join("route-table.json"), "{").unwrap();
    assert_eq!(ejected(proxy, None)["trouble"].as_array().unwrap().len(), 2);
}

#[test]
fn vacuum_forgets_what_is_old_and_says_how_much_it_was() {
    let place = place();
    written(&place.state(), "old", 3_000, Some("succeeded"));
    written(&place.state(), "new", 20, Some("rolled-back"));
    fs::write(place.state().join("latch-1"), "serin:retreated ").unwrap();
    let done = json(&place, &["store", "vacuum", "--keep-runs", "1", "--keep-days", "36500"], 0).remove(0);
    assert_eq!(done["deleted_journals"], 1);
    assert!(done["bytes_before"].as_u64() > done["bytes_after"].as_u64(), "{done}");
    assert!(!place.state().join("latch-1").exists());
    let lines = json(&place, &["store", "export"], 0);
    let releases: Vec<_> = lines.iter().filter(|line| line["type"] == "release").collect();
    assert_eq!((&releases[0]["outcome"], &releases[0]["end"]["why"]), (&json!("succeeded"), &json!("because")));
    assert!(releases[0]["journal_deleted_at_ms"].is_u64() && releases[1]["journal_deleted_at_ms"].is_null());
    assert_eq!(lines.len(), 22);
    let _ = json(&place, &["store", "check"], 0);
    let said = serin(&place, &["replay", "--run", "1"]).expect_code(2).stderr;
    assert!(said.contains("deleted because of its age") && said.contains("succeeded"), "{said}");
    let said = serin(&place, &["replay", "--run", "7"]).expect_code(2).stderr;
    assert!(said.contains("there is no release 7") && said.contains("2 (new run 1)"), "{said}");
}

#[test]
fn a_journal_that_was_cut_is_replayed_from_the_archive() {
    let place = place();
    let length = MOST_ENTRIES + 700;
    written(&place.state(), "long", length, None);
    let at = |seq: u64, code| serin(&place, &["replay", "--at", &seq.to_string(), "--output", "json"]).expect_code(code);
    for seq in [1, 2, 500, 501, 1_000, length] {
        assert_eq!(at(seq, 0).json()["state"]["seq"], seq);
    }
    assert!(at(length + 1, 2).stderr.contains(&format!("it has 1 to {length}")));
    assert!(serin(&place, &["replay", "--at", "2"]).expect_code(0).stdout.contains("\"seq\": 2"));
    let _ = json(&place, &["store", "check"], 0);
    // Stepping needs a terminal; without one it is the list.
    let list = serin(&place, &["replay", "--step"]).expect_code(0).stdout;
    assert_eq!(list.lines().filter(|line| line.starts_with('#')).count() as u64, length);

    let told = json(&place, &["history"], 0);
    assert_eq!((told.len() as u64, &told[1]["seq"]), (length + 1, &json!(1)), "a release, then its whole journal");

    fs::remove_dir_all(place.state().join("journal-archive")).unwrap();
    assert!(at(1, 2).stderr.contains("it has "));
    assert_eq!(at(length, 0).json()["state"]["seq"], length);
    let exported = json(&place, &["store", "export"], 0);
    assert_eq!((&exported[1]["type"], &exported[2]["seq"]), (&json!("snapshot"), &json!(exported[1]["seq"].as_u64().unwrap() + 1)));
    assert!(json(&place, &["store", "check"], 0)[0]["remarks"][0].as_str().unwrap().contains("cannot be compared"));
}

#[test]
fn the_history_of_a_service_has_the_beginning_that_was_cut() {
    let site = Site::new(env!("CARGO_BIN_EXE_serin"));
    let length = MOST_ENTRIES + 700;
    written(&site.service_dir("shop"), "shop", length, Some("succeeded"));
    let _server = site.serve();
    let history = || site.say(&["--output", "json", "history", "shop"]).expect_code(0);
    let seqs = |said: &Finished| said.json_lines().iter().filter_map(|line| line["seq"].as_u64()).collect::<Vec<_>>();
    let said = history();
    assert_eq!(seqs(&said), (1..=length).collect::<Vec<_>>(), "{}", said.stderr);
    fs::remove_file(site.service_dir("shop").join("journal-archive/1/000000000500.ndjson")).unwrap();
    let said = history();
    assert_eq!((seqs(&said).first(), said.stderr.contains("entries 1 to 500 are no longer kept")), (Some(&501), true), "{}", said.stderr);
}

#[test]
fn all_services_of_a_server_are_looked_at() {
    let place = place();
    for (name, length) in [("one", 5), ("two", 6)] {
        written(&place.state().join("services").join(name), name, length, None);
    }
    let checked = json(&place, &["store", "check"], 0);
    assert_eq!(checked.iter().map(|store| store["entries"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 6]);
    let said = serin(&place, &["replay"]).expect_code(2).stderr;
    assert!(said.contains("holds services") && said.contains("services/two"), "{said}");
    assert_eq!(json(&place, &["replay", "--state", "state/services/two"], 0).len(), 6);
    assert_eq!(json(&place, &["eject"], 0).len(), 2);
    assert_eq!(json(&place, &["store", "vacuum"], 0).len(), 2);

    // One that is damaged hides no other.
    fs::write(place.state().join("services/one/serin.db"), "damaged").unwrap();
    let checked = json(&place, &["store", "check"], 3);
    assert_eq!((&checked[0]["ok"], &checked[1]["ok"]), (&json!(false), &json!(true)));
    assert_eq!(json(&place, &["store", "export"], 3).len(), 7);
    assert_eq!(json(&place, &["eject"], 0).len(), 2);

    // The server may open any of them at any time.
    let server = StateFolder::at(&place.state()).unwrap();
    let _lock = serin_engine::store::Lock::take(&server).unwrap();
    let refused = serin(&place, &["store", "vacuum"]).expect_code(3).stderr;
    assert!(refused.contains(&format!("(pid {})", std::process::id())), "{refused}");
}

#[test]
fn damage_is_named_and_a_lock_is_not_taken_for_damage() {
    let place = place();
    written(&place.state(), "shop", 300, Some("succeeded"));
    let file = place.state().join("serin.db");
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    let middle = good.len() / 2;
    flipped[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0xff);
    let cases = [
        (&b"no database at all, but long enough to be looked at as one"[..], "not a database"),
        (b"", "no tables"),
        (&good[..good.len() / 2], "damaged"),
        (&flipped, ""),
    ];
    for (bytes, said) in cases {
        fs::write(&file, bytes).unwrap();
        let finished = serin(&place, &["store", "check"]).expect_code(3);
        assert!(finished.stdout.contains("wrong") && finished.stdout.contains(said), "{said}: {}", finished.stdout);
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    }
    fs::write(&file, &good).unwrap();
    let _ = json(&place, &["store", "check"], 0);
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE owner SET epoch = epoch").unwrap();
    let finished = serin(&place, &["store", "check"]).expect_code(3);
    assert!(finished.stdout.contains("locked") && !finished.stdout.contains("damaged"), "{}", finished.stdout);
    drop(other);
    let _ = json(&place, &["store", "check"], 0);

    for verb in [&["store", "check"][..], &["store", "export"], &["store", "vacuum"], &["replay"], &["eject"]] {
        let said = serin(&place, &[verb, &["--state", "nowhere"]].concat()).expect_code(2).stderr;
        assert!(said.contains("nowhere holds no"), "{verb:?}: {said}");
    }
}
