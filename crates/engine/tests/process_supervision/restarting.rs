//! What happens after a crash, and to the log of a process that goes on.

use serin_core::traffic::Arm;
use serin_engine::process::{Phase, WorkloadFailure};

use crate::support::{Bench, eventually, runs, script, server_after, until_first};

#[tokio::test]
async fn a_crashed_replica_comes_back_on_its_port_and_is_counted() {
    let bench = Bench::new();
    let set = bench.start(Arm::Canary, &server_after(&bench, "echo up"));
    let first = until_first(&set, "ready", |one| one.phase == Phase::Ready).await;
    // The server dies after it has answered 500, and answers 200 when it is back.
    bench.write("status", "500");
    let down = until_first(&set, "down", |one| one.last_exit.is_some()).await;
    bench.write("status", "200");
    assert_eq!(down.last_exit.as_ref().unwrap().code, Some(7));
    let back = until_first(&set, "back", |one| one.restarts >= 1 && one.phase == Phase::Ready).await;
    assert_eq!(back.address, first.address);
    assert_ne!(back.pid, first.pid);
    assert_eq!(back.recent_restarts, back.restarts);
    assert_eq!(back.failure, None);
    let record = bench.records().remove(0);
    assert_eq!((Some(record.pid), record.restarts), (back.pid, back.restarts));
    set.stop().await;
}

#[tokio::test]
async fn many_crashes_are_a_crash_loop_and_restarts_go_on() {
    let bench = Bench::new();
    let mut process = server_after(&bench, "");
    process.restart.limit = 3;
    let set = bench.start(Arm::Canary, &process);
    until_first(&set, "ready once", |one| one.phase == Phase::Ready).await;
    bench.write("status", "500");
    let status = until_first(&set, "in a crash loop", |one| one.failure.is_some()).await;
    let Some(WorkloadFailure::CrashLoop { restarts, within_ms, exit, .. }) = &status.failure else { panic!("{status:#?}") };
    assert!(*restarts >= 3);
    assert_eq!((*within_ms, exit.code), (600_000, Some(7)));
    let told = status.failure.as_ref().unwrap().to_string();
    let start = format!("canary-1 was restarted {restarts} times within 10m 00s: it exited with code 7");
    assert!(told.starts_with(&start) && told.contains("canary-1.log"), "{told}");
    until_first(&set, "restarted further", |one| one.restarts >= 5).await;

    bench.write("status", "200");
    let ready = until_first(&set, "ready", |one| one.phase == Phase::Ready).await;
    assert!(matches!(ready.failure, Some(WorkloadFailure::CrashLoop { .. })), "ready between two crashes is still a crash loop");
    set.stop().await;
}

#[tokio::test]
async fn what_a_crashed_process_leaves_behind_is_ended_before_the_restart() {
    let bench = Bench::new();
    // The first start has a helper that ignores SIGTERM. It survives the server.
    bench.write("helper.sh", "trap '' TERM; echo $$ > half; mv half helper; while :; do sleep 0.05; done");
    let mut process = server_after(&bench, "[ -e helper ] || { sh helper.sh & while [ ! -e helper ]; do sleep 0.01; done; }");
    process.stop_grace_ms = 300;
    // Only its end is to make it unready: probes that a busy machine lets fail are not meant.
    process.ready.failures = 1_000;
    let set = bench.start(Arm::Canary, &process);
    until_first(&set, "ready", |one| one.phase == Phase::Ready).await;
    let helper: u32 = bench.read("helper").trim().parse().unwrap();
    bench.write("status", "500");
    let crashed = until_first(&set, "not ready at once", |one| one.phase != Phase::Ready).await;
    assert_eq!(crashed.phase, Phase::BackOff { restart_in_ms: 0 });
    bench.write("status", "200");
    let back = until_first(&set, "back", |one| one.phase == Phase::Ready && one.restarts >= 1).await;
    assert_eq!(back.last_exit.unwrap().code, Some(7));
    assert!(!runs(helper));
    set.stop().await;
}

#[tokio::test]
async fn the_log_of_a_running_process_stays_within_its_bounds() {
    let bench = Bench::new();
    let mut process = script("i=0; while :; do i=$((i+1)); echo line $i; [ $((i % 200)) = 0 ] && sleep 0.05; done");
    (process.logs.max_bytes, process.logs.keep) = (5_000, 2);
    let set = bench.start(Arm::Stable, &process);
    eventually("rotated twice", || bench.path("logs/stable-1.log.2").exists()).await;
    assert!(bench.read("logs/stable-1.log.1").len() <= 10_000, "a rotated file is bounded, however fast the writer is");
    assert!(bench.read("logs/stable-1.log.2").lines().last().unwrap_or_default().starts_with("line "));
    eventually("still written to after it was emptied", || !bench.read("logs/stable-1.log").is_empty()).await;
    assert!(!bench.path("logs/stable-1.log.3").exists());
    let log = bench.read("logs/stable-1.log");
    assert!(!log.contains('\0'), "emptied under an appending writer, not a hole");
    set.stop().await;
}
