//! The store as a whole. Files of its own hold their own tests where one file is enough.

use std::{fs, path::Path};

use rusqlite::Connection;
use serin_core::{
    Timestamp, WeightBps,
    release::{Effect, EffectId, Entry, Event, State},
    traffic::Arm,
};

use super::{
    CheckReport, Journal, MOST_ENTRIES, NewRelease, Reader, ReleaseId, Serving, StateFolder, Store, StoreError, archive, check,
    compaction::PIECE, migrations,
};
use crate::process::ReplicaRecord;

/// Schema 1 as it was released. Never changed: stores out there have it.
const SCHEMA_1: &str = "
    CREATE TABLE release (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        document_hash TEXT NOT NULL,
        run INTEGER NOT NULL,
        document_name TEXT NOT NULL,
        document TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        ended_at INTEGER,
        outcome TEXT,
        UNIQUE (name, document_hash, run)
    ) STRICT;
    CREATE TABLE journal (
        release_id INTEGER NOT NULL REFERENCES release (id),
        seq INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        at INTEGER NOT NULL,
        event TEXT NOT NULL,
        PRIMARY KEY (release_id, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE process (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE owner (epoch INTEGER NOT NULL) STRICT;
    INSERT INTO owner VALUES (0);
    PRAGMA user_version = 1;
";

const NOW: Timestamp = Timestamp(1_000_000);

struct Place {
    _dir: tempfile::TempDir,
    folder: StateFolder,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let folder = StateFolder::create(&dir.path().join("state")).unwrap();
    Place { _dir: dir, folder }
}

fn new(name: &str) -> NewRelease<'_> {
    NewRelease { name, document_hash: "hash", document_name: "release.yaml", document: "text" }
}

fn entry(seq: u64, event: Event) -> Entry {
    Entry { seq, epoch: 1, at: Timestamp(NOW.0 + seq), event }
}

/// A beginning, and then a router that drifts for ever: every entry changes the state.
fn drifting(seqs: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    let weight = |bps| WeightBps::new(bps).unwrap();
    let event = |seq| match seq {
        1 => Event::Began { release: "shop".to_owned(), by: None, reason: None },
        2 => Event::PreflightPassed { checks: vec![] },
        3 => Event::StageEntered { step: 0 },
        seq => match seq % 4 {
            0 => {
                Event::Requested { effect: Effect::Shift { target: "main".to_owned(), weight: weight(500), matches: true, preview: true } }
            }
            1 => Event::Done { id: EffectId(seq - 1) },
            2 => Event::WeightProven { target: "main".to_owned(), weight: weight(500) },
            _ => Event::DriftFound { target: "main".to_owned(), asked: weight(500), found: weight(0) },
        },
    };
    seqs.into_iter().map(|seq| entry(seq, event(seq))).collect()
}

fn serving(release: Option<ReleaseId>) -> Serving {
    Serving { release, arm: Arm::Canary, document_name: "release.yaml".to_owned(), document: "text".to_owned(), version: 2 }
}

fn sql(folder: &StateFolder, text: &str) {
    let text = format!("PRAGMA foreign_keys = OFF; {text}");
    Connection::open(folder.database()).unwrap().execute_batch(&text).unwrap();
}

#[test]
fn a_store_of_schema_1_is_brought_on_and_kept_as_a_copy() {
    let place = place();
    sql(&place.folder, SCHEMA_1);
    sql(
        &place.folder,
        r#"INSERT INTO release VALUES (1, 'shop', 'hash', 1, 'a.yaml', 'text', 5, 9, 'succeeded'), (2, 'shop', 'other', 1, 'b.yaml', 'text', 10, NULL, NULL);
        INSERT INTO journal VALUES (1, 1, 1, 5, '{"type":"began","release":"shop"}'), (2, 1, 2, 10, '{"type":"began","release":"shop"}'), (2, 2, 2, 11, '{"type":"deployed"}');
        INSERT INTO process VALUES ('stable-1', '{"id":"stable-1","arm":"stable","pid":7,"start_time":8,"port":9,"started_at_ms":10,"restarts":0}');
        UPDATE owner SET epoch = 7;"#,
    );
    let seen_by_reader = |folder| {
        let reader = Reader::open(folder).unwrap();
        let rows = reader.releases(10).unwrap();
        let journals: Vec<Journal> = rows.iter().map(|row| reader.journal(row.id).unwrap()).collect();
        (rows, journals, reader.processes().unwrap(), reader.serving().unwrap())
    };
    // Who only reads does not wait for the owner to bring it on.
    let before = seen_by_reader(&place.folder);
    assert_eq!(Reader::open(&place.folder).unwrap().schema(), 1);

    let store = Store::open(&place.folder).unwrap();
    assert_eq!(store.epoch(), 8);
    assert_eq!(store.unfinished().unwrap().unwrap().id, ReleaseId(2));
    assert_eq!(store.journal(ReleaseId(2)).unwrap().state(), before.1[0].state());
    assert!(store.journal(ReleaseId(2)).unwrap().state().ready);
    let records: Vec<ReplicaRecord> = store.processes().unwrap();
    assert_eq!((records.len(), records[0].pid), (1, 7));
    assert_eq!(store.serving().unwrap(), None);
    drop(store);
    assert_eq!(Reader::open(&place.folder).unwrap().schema(), migrations::VERSION);
    assert_eq!(seen_by_reader(&place.folder), before);
    assert_eq!(check(&place.folder).problems, Vec::<String>::new());

    // An older binary goes on with the copy where this one began.
    let copy = place.folder.path().join("serin.db.v1");
    let schema_of = |path: &Path| -> (i64, i64, i64) {
        let connection = Connection::open(path).unwrap();
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get(0)).unwrap();
        (number("PRAGMA user_version"), number("SELECT count(*) FROM journal"), number("SELECT epoch FROM owner"))
    };
    assert_eq!(schema_of(&copy), (1, 3, 7));
    // Put back, it is brought on once more, and copied as it is then.
    fs::copy(&copy, place.folder.database()).unwrap();
    sql(&place.folder, "UPDATE owner SET epoch = 20");
    drop(Store::open(&place.folder).unwrap());
    assert_eq!(schema_of(&copy), (1, 3, 20));
    assert!(!place.folder.path().join("serin.db.v1.v0").exists());
}

#[test]
fn a_new_store_has_the_newest_schema_and_no_copy() {
    let place = place();
    drop(Store::open(&place.folder).unwrap());
    drop(Store::open(&place.folder).unwrap());
    assert_eq!(Reader::open(&place.folder).unwrap().schema(), 2);
    let files: Vec<String> =
        fs::read_dir(place.folder.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!files.iter().any(|name| name.contains(".v")), "{files:?}");
}

#[test]
fn a_step_that_fails_leaves_the_store_as_it_was() {
    let place = place();
    sql(&place.folder, SCHEMA_1);
    // Something in the way of the second step's second table.
    sql(&place.folder, "CREATE TABLE snapshot (stray TEXT); INSERT INTO owner VALUES (1)");
    let error = Store::open(&place.folder).unwrap_err();
    assert!(matches!(error, StoreError::Migration { to: 2, .. }), "{error}");
    let reader = Reader::open(&place.folder).unwrap();
    assert_eq!(reader.schema(), 1);
    let service: i64 =
        reader.connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'service'", [], |row| row.get(0)).unwrap();
    assert_eq!(service, 0);
}

#[test]
fn what_serves_changes_with_the_end_of_a_run_or_not_at_all() {
    let place = place();
    let mut store = Store::open(&place.folder).unwrap();
    assert_eq!(store.serving().unwrap(), None);
    let declared = Serving { arm: Arm::Stable, version: 1, ..serving(None) };
    store.set_serving(&declared).unwrap();
    let row = store.begin(new("shop"), NOW).unwrap();
    store.end_with(row.id, "rolled-back", NOW, Some(r#"{"why":1}"#), None).unwrap();
    assert_eq!(store.serving().unwrap(), Some(declared.clone()));
    let row = store.begin(new("shop"), NOW).unwrap();
    store.end_with(row.id, "succeeded", NOW, None, Some(&serving(Some(row.id)))).unwrap();
    assert_eq!(Reader::open(&place.folder).unwrap().serving().unwrap(), Some(serving(Some(row.id))));
    let rows = Reader::open(&place.folder).unwrap().releases(9).unwrap();
    let ends: Vec<_> = rows.iter().map(|row| (row.outcome.as_deref(), row.end.as_deref())).collect();
    assert_eq!(ends, [(Some("succeeded"), None), (Some("rolled-back"), Some(r#"{"why":1}"#))]);

    // The second half fails: the first must not stay.
    store.connection.execute_batch("CREATE TRIGGER no BEFORE UPDATE ON service BEGIN SELECT raise(ABORT, 'no'); END").unwrap();
    let row = store.begin(new("shop"), NOW).unwrap();
    assert!(store.end_with(row.id, "succeeded", NOW, None, Some(&declared)).is_err());
    assert_eq!(store.unfinished().unwrap().map(|row| row.id), Some(row.id));
    assert_eq!(store.serving().unwrap(), Some(serving(Some(ReleaseId(2)))));
}

#[test]
fn epochs_only_grow() {
    let place = place();
    let mut store = Store::open(&place.folder).unwrap();
    assert_eq!((store.epoch(), store.next_epoch().unwrap(), store.epoch()), (1, 2, 2));
    drop(store);
    assert_eq!(Store::open(&place.folder).unwrap().epoch(), 3);
}

/// Keeps a journal of this length. Returns all that was ever written to it.
fn long_run(store: &mut Store, length: u64) -> (ReleaseId, Vec<Entry>) {
    let row = store.begin(new("shop"), NOW).unwrap();
    let entries = drifting(1..=length);
    for some in entries.chunks(100) {
        store.append(row.id, some).unwrap();
    }
    (row.id, entries)
}

#[test]
fn a_long_journal_is_cut_and_stays_what_it_was() {
    let place = place();
    let mut store = Store::open(&place.folder).unwrap();
    let (id, entries) = long_run(&mut store, MOST_ENTRIES + 2 * PIECE + 50);
    let journal = store.journal(id).unwrap();
    assert!(journal.entries.len() as u64 <= MOST_ENTRIES, "{}", journal.entries.len());
    assert!(journal.base.seq >= 2 * PIECE, "{}", journal.base.seq);
    assert_eq!(journal.state(), State::fold(&entries));
    assert_eq!(Reader::open(&place.folder).unwrap().journal(id).unwrap(), journal);
    // Nothing is lost.
    assert_eq!(archive::complete(&place.folder, id, journal), (Journal { base: State::default(), entries: entries.clone() }, None));
    let reader = Reader::open(&place.folder).unwrap();
    for (after, most) in [(0, usize::MAX), (0, 10), (PIECE, 10), (PIECE + 7, 3), (2 * PIECE - 5, 20), (MOST_ENTRIES, 2_000), (u64::MAX, 5)]
    {
        let page: Vec<Entry> = entries.iter().filter(|entry| entry.seq > after).take(most).cloned().collect();
        assert_eq!(reader.entries_after(&place.folder, id, after, most).unwrap(), page, "{most} after {after}");
    }
    let report = check(&place.folder);
    assert_eq!((report.problems, report.remarks), (vec![], vec![]));
    assert_eq!(report.entries + report.archived, entries.len() as u64);

    // The next owner goes on cutting where this one stopped.
    drop(store);
    let mut store = Store::open(&place.folder).unwrap();
    let last = entries.len() as u64;
    for some in drifting(last + 1..=last + 2 * PIECE).chunks(100) {
        store.append(id, some).unwrap();
    }
    let journal = store.journal(id).unwrap();
    assert!(journal.entries.len() as u64 <= MOST_ENTRIES);
    assert_eq!(journal.state(), State::fold(&drifting(1..=last + 2 * PIECE)));
}

#[test]
fn a_crash_between_archive_and_snapshot_changes_nothing() {
    let place = place();
    let mut store = Store::open(&place.folder).unwrap();
    let (id, entries) = long_run(&mut store, 1_000);
    // A piece was written, its entries are still in the database.
    let piece = Journal { base: State::default(), entries: entries[..700].to_vec() };
    archive::write(&place.folder, id, &piece).unwrap();
    let journal = store.journal(id).unwrap();
    assert_eq!(archive::complete(&place.folder, id, journal.clone()), (journal, None));
    assert_eq!(Reader::open(&place.folder).unwrap().entries_after(&place.folder, id, 0, usize::MAX).unwrap(), entries);
    assert_eq!(check(&place.folder).problems, Vec::<String>::new());
}

#[test]
fn an_archive_that_cannot_be_written_keeps_every_entry_where_it_is() {
    let place = place();
    fs::write(place.folder.archives(), "in the way").unwrap();
    let mut store = Store::open(&place.folder).unwrap();
    let (id, entries) = long_run(&mut store, MOST_ENTRIES + PIECE);
    assert_eq!(store.journal(id).unwrap(), Journal { base: State::default(), entries: entries.clone() });
    assert_eq!(Reader::open(&place.folder).unwrap().entries_after(&place.folder, id, 0, usize::MAX).unwrap(), entries);
    // And makes up for it when it can.
    fs::remove_file(place.folder.archives()).unwrap();
    let last = entries.len() as u64;
    for some in drifting(last + 1..=last + 1_000).chunks(50) {
        store.append(id, some).unwrap();
    }
    let journal = store.journal(id).unwrap();
    assert!(journal.entries.len() as u64 <= MOST_ENTRIES);
    assert_eq!(journal.state(), State::fold(&drifting(1..=last + 1_000)));
}

/// Runs that ended at these times, oldest first.
fn ended_runs(store: &mut Store, ended_at: &[u64]) -> Vec<ReleaseId> {
    let run = |at: &u64| {
        let row = store.begin(new("shop"), NOW).unwrap();
        store.append(row.id, &drifting(1..=3)).unwrap();
        store.end(row.id, "succeeded", Timestamp(*at), None).unwrap();
        row.id
    };
    ended_at.iter().map(run).collect()
}

#[test]
fn journals_are_kept_by_number_and_age_and_outcomes_ten_times_longer() {
    let place = place();
    let mut store = Store::open(&place.folder).unwrap();
    let ids = ended_runs(&mut store, &[100; 25]);
    for id in &ids {
        archive::write(&place.folder, *id, &Journal { base: State::default(), entries: drifting(1..=3) }).unwrap();
    }
    store.set_serving(&serving(Some(ids[3]))).unwrap();
    let unfinished = store.begin(new("shop"), NOW).unwrap().id;
    store.append(unfinished, &drifting(1..=3)).unwrap();

    let deleted = store.retain(2, 1_000, Timestamp(200)).unwrap();
    let expected: Vec<ReleaseId> = ids[..23].iter().rev().copied().filter(|id| *id != ids[3]).collect();
    assert_eq!(deleted, expected);
    let rows = Reader::open(&place.folder).unwrap().releases(99).unwrap();
    let with_journal: Vec<ReleaseId> = rows.iter().filter(|row| !store.journal(row.id).unwrap().is_empty()).map(|row| row.id).collect();
    assert_eq!(with_journal, [unfinished, ids[24], ids[23], ids[3]]);
    // Twenty outcomes, the one that serves, and the run under way.
    assert_eq!(rows.len(), 22);
    assert!(rows.iter().all(|row| row.id == unfinished || row.outcome.as_deref() == Some("succeeded")));
    let mut archived: Vec<String> =
        fs::read_dir(place.folder.archives()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    archived.sort();
    assert_eq!(archived, [ids[23].0.to_string(), ids[24].0.to_string(), ids[3].0.to_string()]);
    assert_eq!(store.retain(2, 1_000, Timestamp(200)).unwrap(), []);
    assert_eq!(check(&place.folder).problems, Vec::<String>::new());

    // Age alone is enough, not for what serves or runs though.
    assert_eq!(store.retain(100, 1_000, Timestamp(1_101)).unwrap(), [ids[24], ids[23]]);
    assert!(!store.journal(unfinished).unwrap().is_empty() && !store.journal(ids[3]).unwrap().is_empty());
}

#[test]
fn numbers_of_runs_are_never_given_twice_and_space_comes_back() {
    let place = place();
    let mut store = Store::open(&place.folder).unwrap();
    let ids = ended_runs(&mut store, &[100; 3]);
    assert_eq!(store.retain(0, 0, NOW).unwrap().len(), 3);
    assert_eq!(Reader::open(&place.folder).unwrap().releases(9).unwrap().len(), 1);
    assert!(store.begin(new("shop"), NOW).unwrap().id > ids[2]);

    let (id, _) = long_run(&mut store, 5_000);
    store.end(id, "rolled-back", Timestamp(100), None).unwrap();
    store.retain(0, 0, NOW).unwrap();
    let before = place.folder.bytes();
    store.vacuum().unwrap();
    assert!(place.folder.bytes() * 2 < before, "{before} {}", place.folder.bytes());
}

#[test]
fn nothing_is_deleted_while_what_serves_is_unknown() {
    let place = place();
    let mut store = Store::open(&place.folder).unwrap();
    let ids = ended_runs(&mut store, &[100; 3]);
    sql(&place.folder, "INSERT INTO service VALUES (1, 'nonsense')");
    assert!(matches!(store.retain(0, 0, NOW), Err(StoreError::Damaged { .. })));
    assert!(!store.journal(ids[0]).unwrap().is_empty());
}

/// What the check says about a store with a run of this length, after something was done to it.
fn checked_after(length: u64, harm: impl FnOnce(&StateFolder)) -> CheckReport {
    let place = place();
    let mut store = Store::open(&place.folder).unwrap();
    let (id, _) = long_run(&mut store, length);
    store.end(id, "succeeded", NOW, None).unwrap();
    drop(store);
    harm(&place.folder);
    check(&place.folder)
}

#[test]
fn the_check_names_what_is_wrong() {
    let with_sql = |length: u64, text: &'static str| checked_after(length, |folder| sql(folder, text)).problems.join("\n");
    let cases = [
        ("UPDATE release SET outcome = outcome", ""),
        ("DELETE FROM journal WHERE seq = 5", "entry 5 of release 1 is missing"),
        ("UPDATE journal SET event = '{' WHERE seq = 7", "journal entry 7 of release 1"),
        ("UPDATE journal SET epoch = 0 WHERE seq = 9", "entry 9 of release 1 was written by owner 0 after one by owner 1"),
        ("DELETE FROM journal WHERE seq > 0", "release 1 has ended and has no journal"),
        ("DELETE FROM journal WHERE seq = 1; UPDATE journal SET seq = seq - 1", "does not begin with its beginning"),
        ("INSERT INTO journal SELECT 77, seq, epoch, at, event FROM journal", "belong to no release"),
        ("INSERT INTO service VALUES (1, '7')", "what serves"),
        ("UPDATE release SET journal_deleted_at = 5", "has a journal that was deleted"),
    ];
    for (harm, expected) in cases {
        let said = with_sql(40, harm);
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{harm}: {said}");
    }
    let said =
        with_sql(MOST_ENTRIES + PIECE, "UPDATE snapshot SET state = replace(state, '\"drifts\":', '\"drifts\":1') WHERE release_id = 1");
    assert!(said.contains("is not what its journal folds to"), "{said}");
    let report = checked_after(MOST_ENTRIES + PIECE, |folder| fs::remove_dir_all(folder.archives()).unwrap());
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(report.remarks[0].contains("cannot be compared"), "{report:?}");
}

#[test]
fn no_damaged_file_makes_the_check_panic() {
    let place = place();
    let mut store = Store::open(&place.folder).unwrap();
    let (id, _) = long_run(&mut store, 300);
    store.end(id, "succeeded", NOW, None).unwrap();
    drop(store);
    let good = fs::read(place.folder.database()).unwrap();
    let said = |bytes: &[u8]| {
        fs::write(place.folder.database(), bytes).unwrap();
        check(&place.folder).problems.join("\n")
    };
    assert_eq!(said(&good), "");
    assert!(said(b"these bytes were a journal once, and now they are nothing of the kind").contains("not a database"));
    assert!(said(b"").contains("holds no tables"));
    for length in [1, 99, 100, 512, 4_096, good.len() / 2, good.len() - 4_096, good.len() - 1] {
        assert_ne!(said(&good[..length]), "", "cut at {length} of {}", good.len());
    }
    // Every page, at a place that differs: not every flip can be seen, but none may do more than be reported.
    let mut found = 0;
    for (page, start) in (0..good.len()).step_by(4_096).enumerate() {
        for offset in [0, 5, 8 + page * 37 % 4_000] {
            let mut bytes = good.clone();
            bytes[start + offset..(start + offset + 16).min(good.len())].iter_mut().for_each(|byte| *byte ^= 0xff);
            found += usize::from(!said(&bytes).is_empty());
        }
    }
    assert!(found > good.len() / 4_096, "{found}");
}
