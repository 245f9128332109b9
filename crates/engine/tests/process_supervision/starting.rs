//! From the start to ready, or to a failure that says why.

use std::net::TcpStream;

use serin_core::traffic::{Arm, by_arm};
use serin_engine::process::{LaunchContext, Phase, ReplicaSet, WorkloadFailure, load_spec};
use serin_spec::validated::{EnvValue, LoadCommand};

use crate::support::{Bench, script, server_after, until, until_first};

#[tokio::test]
async fn replicas_become_ready_unready_and_ready_again() {
    let bench = Bench::new();
    bench.write("status", "503");
    let mut process = server_after(&bench, "");
    process.replicas = 2;
    let set = bench.start(Arm::Canary, &process);
    let starting = until(&set, "started", |status| status.replicas.iter().all(|one| one.pid.is_some())).await;
    assert!(!starting.all_ready() && starting.ready_count() == 0);
    assert_eq!(bench.records().len(), 2, "what has a pid is in the ledger");

    bench.write("status", "200");
    let ready = until(&set, "ready", |status| status.all_ready()).await;
    assert_eq!(ready.failure(), None);
    assert_ne!(ready.replicas[0].address, ready.replicas[1].address);
    TcpStream::connect(&ready.replicas[1].address).unwrap();

    bench.write("status", "503");
    let unready = until_first(&set, "unready", |one| matches!(one.phase, Phase::Unready { .. })).await;
    assert_eq!(unready.phase, Phase::Unready { reason: "GET /ready answered 503".to_owned() });
    assert!(unready.ever_ready && unready.failure.is_none());
    bench.write("status", "200");
    until(&set, "ready again", |status| status.all_ready()).await;
    let measured = until_first(&set, "measured", |one| one.cpu_percent.is_some()).await;
    assert!(measured.memory_bytes.unwrap() > 100_000);
    set.stop().await;
}

#[tokio::test]
async fn never_ready_is_told_with_the_last_probe_and_ends_when_it_is_ready_after_all() {
    let bench = Bench::new();
    bench.write("status", "503");
    let mut process = server_after(&bench, "");
    process.ready.within_ms = 50;
    let set = bench.start(Arm::Canary, &process);
    let is_503 = |failure: &WorkloadFailure| failure.to_string().contains("503");
    // A slow machine may meet the limit before the server listens; then the failure tells of a refused connection.
    let status = until(&set, "a failure", |status| status.failure().is_some()).await;
    let failure = status.failure().unwrap();
    let WorkloadFailure::NeverReady { replica, waited_ms, .. } = &failure else { panic!("{failure:?}") };
    assert!(replica == "canary-1" && *waited_ms >= 50);
    assert!(failure.to_string().contains("canary-1.log") && (is_503(&failure) || failure.to_string().contains("refused")), "{failure}");
    assert!(!status.replicas[0].ever_ready);

    bench.write("status", "200");
    let status = until(&set, "ready after all", |status| status.all_ready()).await;
    assert_eq!(status.failure(), None);
    set.stop().await;
}

#[tokio::test]
async fn a_canary_that_exits_at_start_is_tried_twice_and_then_left_with_its_last_words() {
    let bench = Bench::new();
    let text = r"echo start >> starts; printf 'loading\n\033[31mno database\n'; exit 3";
    let set = bench.start(Arm::Canary, &script(text));
    let failed = until_first(&set, "failed", |one| one.phase == Phase::Failed).await;
    let Some(WorkloadFailure::ExitedAtStart { replica, exit, .. }) = &failed.failure else { panic!("{failed:#?}") };
    assert_eq!((replica.as_str(), exit.code, exit.signal), ("canary-1", Some(3), None));
    assert_eq!(exit.log_tail, ["loading", r"\u{1b}[31mno database"], "of the last start only");
    let told = failed.failure.as_ref().unwrap().to_string();
    for part in ["canary-1 exited with code 3 after ", r"\u{1b}[31mno database", "canary-1.log"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!((failed.pid, failed.restarts, failed.ever_ready), (None, 1, false));
    assert_eq!(bench.read("starts"), "start\nstart\n");
    assert!(bench.records().is_empty(), "nothing runs, so nothing is remembered");
    set.stop().await;
    assert_eq!(set.status().borrow().replicas[0].phase, Phase::Stopped);
}

#[tokio::test]
async fn stable_that_exits_at_start_is_reported_and_tried_until_it_comes_up() {
    let bench = Bench::new();
    let set = bench.start(Arm::Stable, &server_after(&bench, "[ -e database ] || exit 1"));
    let status = until(&set, "tried a few times", |status| status.replicas[0].restarts >= 4).await;
    assert!(matches!(status.failure(), Some(WorkloadFailure::ExitedAtStart { .. })), "{status:#?}");
    bench.write("database", "");
    let status = until(&set, "ready", |status| status.all_ready()).await;
    assert_eq!(status.failure(), None);
    set.stop().await;
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named_with_the_reason() {
    let bench = Bench::new();
    bench.write("plain.txt", "not a program");
    bench.write("lost-interpreter", "#!/nowhere/sh\n");
    std::process::Command::new("chmod").args(["+x", "lost-interpreter"]).current_dir(bench.path("")).status().unwrap();
    for (program, expected) in [
        ("./absent", "there is no such file"),
        ("serin-test-no-such-program", "it is in no directory of PATH"),
        ("./plain.txt", "it is not executable"),
        ("./lost-interpreter", "the file is there, but not the interpreter"),
    ] {
        let mut process = script("");
        process.command = vec![program.to_owned()];
        let set = bench.start(Arm::Canary, &process);
        let failed = until_first(&set, "failed", |one| one.phase == Phase::Failed).await;
        let told = failed.failure.unwrap().to_string();
        assert!(told.contains(expected) && told.contains(program.trim_start_matches("./")), "{told}");
        set.stop().await;
    }
    let mut process = script("");
    process.working_dir = Some("no-such-dir".into());
    let set = bench.start(Arm::Canary, &process);
    let told = until(&set, "failed", |status| status.failure().is_some()).await.failure().unwrap().to_string();
    assert!(told.contains("working directory") && told.contains("no-such-dir"), "{told}");
    set.stop().await;
    assert!(bench.ledger.seen.lock().unwrap().is_empty(), "nothing was started");
}

#[tokio::test]
async fn the_process_gets_its_environment_and_no_input() {
    let bench = Bench::new();
    bench.write("token", "s3cret\n");
    let text = r#"if read line; then echo input; fi; echo "$TOKEN $COPY $PORT $SERIN_REPLICA" > seen; mv seen env; sleep 1000"#;
    let mut process = script(text);
    process.env.insert("TOKEN".into(), EnvValue::File("token".into()));
    process.env.insert("COPY".into(), EnvValue::Env("PATH".into()));
    let specs = bench.specs(Arm::Canary, &process);
    assert!(!format!("{specs:?}").contains("s3cret"));
    let port = specs[0].port;
    let set = ReplicaSet::start(specs, Vec::new(), bench.ledger.clone());
    crate::support::eventually("written", || bench.path("env").exists()).await;
    let started_at_ms = bench.records()[0].started_at_ms;
    let path = std::env::var("PATH").unwrap();
    assert_eq!(bench.read("env"), format!("s3cret {path} {port} canary-1@{started_at_ms}\n"));
    assert_eq!(bench.read("logs/canary-1.log"), "");
    assert!(!format!("{:?} {:?}", set.status().borrow(), bench.records()).contains("s3cret"));
    set.stop().await;
}

#[tokio::test]
async fn the_load_command_counts_as_ready_when_it_runs_and_is_restarted() {
    let bench = Bench::new();
    let command = ["/bin/sh", "-c", "echo {{url}} >> urls; [ $(wc -l < urls) -gt 1 ] && sleep 1000"].map(str::to_owned).to_vec();
    let dir = bench.path("");
    let names = by_arm(|arm| arm.to_string());
    let ctx = LaunchContext { state_dir: &dir, document_dir: &dir, serin_exe: "/serin".as_ref(), previous: &[], names: &names };
    let mut spec = load_spec(&LoadCommand { command, env: Default::default() }, "http://127.0.0.1:1", &ctx).unwrap();
    spec.restart.backoff_ms = 10;
    let set = ReplicaSet::start(vec![spec], Vec::new(), bench.ledger.clone());
    let status = until_first(&set, "restarted and ready", |one| one.restarts == 1 && one.phase == Phase::Ready).await;
    assert_eq!((status.id.as_str(), status.arm, status.failure), ("load", None, None));
    crate::support::eventually("run twice", || bench.read("urls") == "http://127.0.0.1:1\nhttp://127.0.0.1:1\n").await;
    set.stop().await;
}
