//! A state folder that cannot be used: said clearly, with exit code 3, before anything is started or overwritten.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serin_testkit::{
    Document, Place, processes,
    prompt::{Finished, clean, finish},
};

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_serin"))
}

fn document() -> Document {
    Document::sample_apps("stored", &[], &[]).stage(50.0, "1s", 20)
}

fn serin(place: &Place, args: &[&str]) -> Finished {
    let mut command = place.command(args);
    clean(&mut command);
    finish(command, None)
}

/// Runs the document and sees that it is refused with this text, in both forms of output, and that nothing was started.
#[track_caller]
fn refused(place: &Place, state: &str, parts: &[&str]) {
    let document = document();
    let file = place.write(&document);
    for output in ["text", "json"] {
        let finished = serin(place, &["run", file.to_str().unwrap(), "--state", state, "--output", output]).expect_code(3);
        let said = match output {
            "text" => {
                assert_eq!(finished.stdout, "");
                finished.stderr.clone()
            }
            _ => finished.json_lines().last().unwrap()["error"].as_str().unwrap().to_owned(),
        };
        for part in parts {
            assert!(said.contains(part), "not said in {output}: {part}\n{said}");
        }
    }
    assert_eq!(processes::mentioning(place.path()), [], "something was started");
}

/// Every file of the folder with its content, but for the lock, whose owner's number is a note only.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.metadata().unwrap().is_file());
    let mut contents: Vec<_> = files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    contents.retain(|(name, _)| name != "lock" && name != ".gitignore");
    contents.sort();
    contents
}

/// A folder in which a release was run to its end.
fn used() -> Place {
    let place = place();
    let ended = place.run(&document(), &[]).end_after_abort(&place);
    assert!(ended.is_some());
    place
}

trait Abort {
    fn end_after_abort(self, place: &Place) -> Option<i32>;
}

impl Abort for serin_testkit::Release {
    fn end_after_abort(self, place: &Place) -> Option<i32> {
        let _ = self.stage(1);
        let _ = serin(place, &["abort"]).expect_code(0);
        self.end().code
    }
}

#[test]
fn a_journal_that_is_no_database() {
    let place = place();
    fs::create_dir(place.state()).unwrap();
    fs::write(place.state().join("serin.db"), "these bytes were a journal once, somebody edited them with great care").unwrap();
    let before = contents(&place.state());
    refused(&place, "state", &["serin.db", "not a database", "keep it for inspection", "--state"]);
    assert_eq!(contents(&place.state()), before);
    for verb in ["status", "history", "run"] {
        let finished = serin(&place, &[verb]);
        assert!(finished.stderr.contains("not a database"), "{verb}: {}", finished.stderr);
        assert_eq!(finished.code, 3, "{verb}: {}", finished.stderr);
    }
    assert_eq!(contents(&place.state()), before);
}

#[test]
fn a_journal_with_a_damaged_page() {
    let place = used();
    let file = place.state().join("serin.db");
    let mut bytes = fs::read(&file).unwrap();
    // The header stays whole, so that it is the content that is found to be wrong.
    bytes[100..].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(place.state().join(format!("serin.db{suffix}")));
    }
    let before = fs::read(&file).unwrap();
    refused(&place, "state", &["serin.db", "malformed", "keep it for inspection", "--state"]);
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_journal_of_a_newer_version() {
    let place = used();
    set_user_version(&place.state().join("serin.db"), 99);
    let before = contents(&place.state());
    refused(&place, "state", &["has schema 99", "knows up to 2", "newer serin"]);
    assert_eq!(contents(&place.state()), before);
    for verb in ["status", "history", "run"] {
        let finished = serin(&place, &[verb]).expect_code(3);
        assert!(finished.stderr.contains("has schema 99"), "{verb}: {}", finished.stderr);
    }
}

/// The version lies at a fixed place of the file's header, and the journal was checkpointed into the file when it was closed.
fn set_user_version(database: &Path, version: u32) {
    let mut bytes = fs::read(database).unwrap();
    bytes[60..64].copy_from_slice(&version.to_be_bytes());
    fs::write(database, bytes).unwrap();
    let wal = database.with_extension("db-wal");
    assert!(!wal.exists() || fs::metadata(wal).unwrap().len() == 0, "the journal was not checkpointed");
}

#[test]
fn a_folder_that_cannot_be_written() {
    let place = place();
    // A file where the folder should be stops even root, whom no permission stops.
    fs::write(place.path().join("plain-file"), "").unwrap();
    refused(&place, "plain-file/state", &["plain-file/state", "Not a directory"]);

    fs::create_dir(place.path().join("read-only")).unwrap();
    fs::set_permissions(place.path().join("read-only"), fs::Permissions::from_mode(0o555)).unwrap();
    if rustix::process::geteuid().is_root() {
        println!("left out: a folder without write permission does not stop root");
    } else {
        refused(&place, "read-only/state", &["read-only/state", "Permission denied"]);
    }
    // A file system that is read-only stops everybody.
    refused(&place, "/proc/serin-test-state", &["/proc/serin-test-state", "cannot create"]);
}

#[test]
fn a_path_that_is_too_long_for_a_socket() {
    let place = place();
    let state = format!("{}/state", "long-".repeat(30));
    refused(&place, &state, &["too long for a socket", "at most 100 bytes", "--state"]);
    assert!(!place.path().join(state).join("serin.db").exists());
}

#[test]
fn two_runs_in_one_folder() {
    let place = place();
    let first = place.run(&document().stage(60.0, "60s", 20), &[]);
    let _ = first.stage(1);
    let pids = place.replicas();
    let (free_of_it, file) = (document(), place.path().join("second.yaml"));
    fs::write(&file, free_of_it.text()).unwrap();
    let finished = serin(&place, &["run", file.to_str().unwrap()]).expect_code(3);
    assert!(finished.stderr.contains("in use by another serin process"), "{}", finished.stderr);
    assert!(finished.stderr.contains(&format!("(pid {})", first.pid())), "{}", finished.stderr);
    assert_eq!(place.replicas(), pids, "the second run touched the first one's processes");
    let _ = serin(&place, &["abort"]).expect_code(0);
    assert_eq!(first.end().code, Some(4));
    processes::assert_none_left(place.path());
}

#[test]
fn a_folder_is_for_its_user_alone() {
    let place = used();
    let mode = fs::metadata(place.state()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    let ignored = Command::new("git").args(["init", "-q"]).current_dir(place.path()).status();
    if ignored.is_ok_and(|status| status.success()) {
        let status =
            Command::new("git").args(["status", "--porcelain", "--untracked-files=all"]).current_dir(place.path()).output().unwrap();
        let listed = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(!listed.contains("state/"), "git would take the state folder: {listed}");
    }
}
