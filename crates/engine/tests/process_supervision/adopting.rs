//! Found again by the next control process, and never taken for someone else.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serin_core::traffic::Arm;
use serin_engine::process::{Ledger, Phase, ReplicaRecord, ReplicaSet, kill_leftover, leftover};

use crate::support::{Bench, eventually, runs, script, server_after, until_first};

#[tokio::test]
async fn a_detached_replica_is_adopted_with_its_pid_and_port() {
    let bench = Bench::new();
    let process = server_after(&bench, "");
    let set = bench.start(Arm::Canary, &process);
    let before = until_first(&set, "ready", |one| one.phase == Phase::Ready).await;
    set.detach();
    let records = bench.records();
    assert!(leftover(&records[0]));

    let set = ReplicaSet::start(bench.specs(Arm::Canary, &process), records, bench.ledger.clone());
    let after = until_first(&set, "ready", |one| one.phase == Phase::Ready).await;
    assert_eq!((after.pid, &after.address, after.restarts), (before.pid, &before.address, 0));
    assert_eq!(bench.ledger.seen.lock().unwrap().len(), 1, "nothing was started");

    // Its exit is noticed, and it comes back as any other replica does.
    bench.write("status", "500");
    let down = until_first(&set, "down", |one| one.last_exit.is_some()).await;
    bench.write("status", "200");
    assert!(down.last_exit.is_some());
    let back = until_first(&set, "back", |one| one.phase == Phase::Ready && one.restarts >= 1).await;
    assert_eq!(back.address, before.address);
    assert_ne!(back.pid, before.pid);
    set.stop().await;
    assert!(bench.records().is_empty());
}

#[tokio::test]
async fn a_replica_outlives_a_killed_control_process() {
    let bench = Bench::new();
    let mut control = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "support::control"])
        .env("CONTROL_DIR", bench.path(""))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("running", || bench.path("records.json").exists()).await;
    control.kill().unwrap();
    control.wait().unwrap();
    let records: Vec<ReplicaRecord> = serde_json::from_str(&bench.read("records.json")).unwrap();
    records.iter().for_each(|record| bench.ledger.save(record));

    let set = ReplicaSet::start(bench.specs(Arm::Canary, &server_after(&bench, "")), records.clone(), bench.ledger.clone());
    let status = until_first(&set, "ready", |one| one.phase == Phase::Ready).await;
    assert_eq!((status.pid, status.address), (Some(records[0].pid), format!("127.0.0.1:{}", records[0].port)));
    bench.write("status", "500");
    let down = until_first(&set, "down", |one| one.last_exit.is_some()).await;
    let exit = down.last_exit.unwrap();
    assert!(exit.code.is_none() && exit.text.contains("exit code unknown"), "its parent is gone: {exit}");
    bench.write("status", "200");
    until_first(&set, "back", |one| one.phase == Phase::Ready && one.restarts >= 1).await;
    set.stop().await;
    assert!(bench.records().is_empty());
}

#[tokio::test]
async fn a_replica_whose_starter_died_before_it_was_remembered_is_found() {
    let bench = Bench::new();
    let process = server_after(&bench, "");
    let set = bench.start(Arm::Canary, &process);
    until_first(&set, "ready", |one| one.phase == Phase::Ready).await;
    set.detach();
    let whole = bench.records().remove(0);
    // What the ledger had before the start.
    let before = ReplicaRecord { pid: 0, start_time: 0, ..whole.clone() };
    assert!(!leftover(&before), "nobody is named");
    assert_eq!(before.clone().found(), whole);

    let of_another_start = ReplicaRecord { started_at_ms: before.started_at_ms + 1, ..before.clone() };
    let of_another_port = ReplicaRecord { port: 1, ..before.clone() };
    let of_another_boot = ReplicaRecord { boot_id: "another".to_owned(), ..before.clone() };
    for other in [of_another_start, of_another_port, of_another_boot] {
        assert_eq!(other.clone().found().pid, 0, "{other:?}");
    }
    assert!(kill_leftover(&whole, Duration::from_secs(30)).await);
    assert_eq!(before.found().pid, 0, "it is gone");
}

#[tokio::test]
async fn the_ledger_knows_before_the_start() {
    let bench = Bench::new();
    let mut process = server_after(&bench, "");
    // It never ends by itself, so that the order can be seen.
    let seen = Arc::new(InOrder::default());
    process.command[2] = "sleep 600".to_owned();
    let set = ReplicaSet::start(bench.specs(Arm::Canary, &process), Vec::new(), seen.clone());
    let running = until_first(&set, "running", |one| one.pid.is_some()).await;
    let pids: Vec<_> = seen.0.lock().unwrap().iter().map(|record| record.as_ref().map(|one| one.pid)).collect();
    assert_eq!(pids, [Some(0), running.pid]);
    set.stop().await;
    assert_eq!(*seen.0.lock().unwrap().last().unwrap(), None);
    process.command[0] = "/no/such/program".to_owned();
    let set = ReplicaSet::start(bench.specs(Arm::Canary, &process), Vec::new(), seen.clone());
    until_first(&set, "refused", |one| one.failure.is_some()).await;
    assert_eq!(*seen.0.lock().unwrap().last().unwrap(), None, "what did not start is forgotten");
    set.stop().await;
}

/// What a ledger was told, in its order; `None` is to forget.
#[derive(Default)]
struct InOrder(Mutex<Vec<Option<ReplicaRecord>>>);

impl Ledger for InOrder {
    fn save(&self, record: &ReplicaRecord) {
        self.0.lock().unwrap().push(Some(record.clone()));
    }

    fn forget(&self, _id: &str) {
        self.0.lock().unwrap().push(None);
    }
}

#[tokio::test]
async fn an_adopted_replica_is_stopped_like_any_other() {
    let bench = Bench::new();
    let process = server_after(&bench, "");
    let set = bench.start(Arm::Canary, &process);
    let pid = until_first(&set, "ready", |one| one.phase == Phase::Ready).await.pid.unwrap();
    set.detach();
    let set = ReplicaSet::start(bench.specs(Arm::Canary, &process), bench.records(), bench.ledger.clone());
    until_first(&set, "adopted", |one| one.pid == Some(pid)).await;
    set.stop().await;
    assert!(!runs(pid) && bench.records().is_empty());
}

#[tokio::test]
async fn a_pid_that_belongs_to_someone_else_is_neither_adopted_nor_signalled() {
    let bench = Bench::new();
    let stranger_bench = Bench::new();
    let stranger = stranger_bench.start(Arm::Stable, &server_after(&stranger_bench, ""));
    let stranger_pid = until_first(&stranger, "ready", |one| one.phase == Phase::Ready).await.pid.unwrap();

    // A record whose pid was given to the stranger since: the same number, another start.
    let process = server_after(&bench, "");
    let specs = bench.specs(Arm::Canary, &process);
    let genuine = stranger_bench.records().remove(0);
    let mut record = genuine.clone();
    (record.id, record.arm, record.port) = ("canary-1".to_owned(), Some(Arm::Canary), specs[0].port);
    record.start_time -= 1;
    assert!(!leftover(&record));
    assert!(kill_leftover(&record, Duration::from_millis(1)).await, "nothing of it is left");
    let mut of_another_boot = genuine.clone();
    of_another_boot.boot_id = "another".to_owned();
    assert!(!leftover(&of_another_boot));

    let set = ReplicaSet::start(specs, vec![record], bench.ledger.clone());
    let status = until_first(&set, "ready", |one| one.phase == Phase::Ready).await;
    assert_ne!(status.pid, Some(stranger_pid));
    set.stop().await;
    assert!(runs(stranger_pid) && leftover(&genuine));
    stranger.stop().await;
    assert!(!leftover(&genuine));
}

#[tokio::test]
async fn leftovers_are_ended_even_if_their_leader_is_gone() {
    let bench = Bench::new();
    let text = "sh -c 'trap \"\" TERM; echo $$ > half; mv half orphan; while :; do sleep 0.05; done' & wait";
    let set = bench.start(Arm::Canary, &script(text));
    eventually("a child", || bench.path("orphan").exists()).await;
    let orphan: u32 = bench.read("orphan").trim().parse().unwrap();
    let record = bench.records().remove(0);
    set.detach();
    // The leader dies alone, and is reaped as it would be after a restart of the control process.
    let leader = rustix::process::Pid::from_raw(i32::try_from(record.pid).unwrap());
    rustix::process::kill_process(leader.unwrap(), rustix::process::Signal::KILL).unwrap();
    rustix::process::waitpid(leader, rustix::process::WaitOptions::empty()).unwrap();
    assert!(runs(orphan) && leftover(&record));

    let mut of_another_start = record.clone();
    of_another_start.started_at_ms += 1;
    assert!(!leftover(&of_another_start), "the group's number alone proves nothing");

    assert!(kill_leftover(&record, Duration::from_millis(50)).await);
    assert!(!runs(orphan) && !leftover(&record));
}

#[tokio::test]
async fn what_holds_another_port_is_ended_and_not_adopted() {
    let bench = Bench::new();
    let process = server_after(&bench, "");
    let set = bench.start(Arm::Canary, &process);
    let old = until_first(&set, "ready", |one| one.phase == Phase::Ready).await;
    set.detach();
    let mut specs = bench.specs(Arm::Canary, &process);
    specs[0].port = Bench::new().specs(Arm::Canary, &process)[0].port;
    let set = ReplicaSet::start(specs, bench.records(), bench.ledger.clone());
    let new = until_first(&set, "ready", |one| one.phase == Phase::Ready).await;
    assert_ne!((new.pid, &new.address), (old.pid, &old.address));
    assert!(!runs(old.pid.unwrap()));
    set.stop().await;
}
