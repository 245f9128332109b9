//! Stopping: politely, then not, and the whole group each time.

use serin_core::traffic::Arm;
use serin_engine::process::Phase;

use crate::support::{Bench, eventually, runs, script, server_after, until_first};

#[tokio::test]
async fn a_process_gets_sigterm_and_time_to_finish() {
    let bench = Bench::new();
    // Its grace time is far longer than the test may take: the test ends only if SIGTERM is what ends the process.
    let mut process = script("trap 'echo goodbye; exit 4' TERM; echo > trapped; while :; do sleep 0.02; done");
    process.stop_grace_ms = 3_600_000;
    let set = bench.start(Arm::Canary, &process);
    eventually("listening to SIGTERM", || bench.path("trapped").exists()).await;
    tokio::join!(set.stop(), set.stop());
    let status = set.status().borrow().replicas[0].clone();
    assert_eq!((&status.phase, status.pid), (&Phase::Stopped, None));
    let exit = status.last_exit.unwrap();
    assert_eq!((exit.code, exit.log_tail.last().map(String::as_str)), (Some(4), Some("goodbye")));
    assert!(bench.records().is_empty());
    set.stop().await;
}

#[tokio::test]
async fn sigkill_follows_for_the_whole_group() {
    let bench = Bench::new();
    // The leader dies of SIGTERM; its child and grandchild ignore it.
    bench.write("grandchild.sh", "trap '' TERM; echo $$ > g; mv g grandchild; while :; do sleep 0.05; done");
    bench.write("child.sh", "trap '' TERM; sh grandchild.sh & echo $$ > c; mv c child; wait");
    let mut process = script("sh child.sh & wait");
    process.stop_grace_ms = 1_000;
    let set = bench.start(Arm::Canary, &process);
    eventually("a family", || bench.path("child").exists() && bench.path("grandchild").exists()).await;
    let family: Vec<u32> = ["child", "grandchild"].map(|name| bench.read(name).trim().parse().unwrap()).to_vec();
    assert!(family.iter().all(|pid| runs(*pid)));
    set.stop().await;
    assert!(!family.iter().any(|pid| runs(*pid)), "stop returns when the whole group is gone");
    assert_eq!(set.status().borrow().replicas[0].last_exit.as_ref().unwrap().signal, Some(15));
}

#[tokio::test]
async fn a_leader_that_ignores_sigterm_is_killed() {
    let bench = Bench::new();
    let mut process = script("trap '' TERM; echo > trapped; while :; do sleep 0.05; done");
    process.stop_grace_ms = 100;
    let set = bench.start(Arm::Canary, &process);
    eventually("deaf", || bench.path("trapped").exists()).await;
    set.stop().await;
    let exit = set.status().borrow().replicas[0].last_exit.clone().unwrap();
    assert_eq!(exit.signal, Some(9), "{exit}");
    assert!(exit.text.starts_with("was ended by signal 9 (SIGKILL) after "), "{exit}");
}

#[tokio::test]
async fn a_wait_before_a_restart_does_not_delay_the_stop() {
    let bench = Bench::new();
    let mut process = script("exit 1");
    (process.restart.backoff_ms, process.restart.max_backoff_ms) = (3_600_000, 3_600_000);
    let set = bench.start(Arm::Canary, &process);
    let status = until_first(&set, "waiting", |one| matches!(one.phase, Phase::BackOff { .. })).await;
    assert_eq!(status.phase, Phase::BackOff { restart_in_ms: 3_600_000 });
    // While another one comes up, this one waits.
    let other_bench = Bench::new();
    let other = other_bench.start(Arm::Stable, &server_after(&other_bench, ""));
    until_first(&other, "ready", |one| one.phase == Phase::Ready).await;
    other.stop().await;
    assert_eq!(bench.ledger.seen.lock().unwrap().len(), 1, "started once only");
    set.stop().await;
    assert_eq!(set.status().borrow().replicas[0].phase, Phase::Stopped);
}
