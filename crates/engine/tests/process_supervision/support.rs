//! A bench for one test: a directory, a ledger in memory, and no process left at the end.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serin_core::traffic::{Arm, by_arm};
use serin_engine::process::{
    LaunchContext, Ledger, ReplicaRecord, ReplicaSet, ReplicaSetStatus, ReplicaSpec, ReplicaStatus, leftover, replica_specs,
};
use serin_spec::validated::{EnvValue, LogPolicy, ProcessArm, ReadyProbe, RestartPolicy};

/// Far above what anything here takes, so that only something that never happens meets it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Keeps records in memory, and of every process the one that it had.
#[derive(Default)]
pub(crate) struct MemoryLedger {
    pub(crate) current: Mutex<BTreeMap<String, ReplicaRecord>>,
    pub(crate) seen: Mutex<Vec<ReplicaRecord>>,
}

impl Ledger for MemoryLedger {
    fn save(&self, record: &ReplicaRecord) {
        if record.pid != 0 {
            self.seen.lock().unwrap().push(record.clone());
        }
        self.current.lock().unwrap().insert(record.id.clone(), record.clone());
    }

    fn forget(&self, id: &str) {
        self.current.lock().unwrap().remove(id);
    }
}

pub(crate) struct Bench {
    dir: tempfile::TempDir,
    pub(crate) ledger: Arc<MemoryLedger>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), ledger: Arc::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        // Renamed into place: a reader sees the old text or the new one, never half of it.
        std::fs::write(self.path("half-written"), text).unwrap();
        std::fs::rename(self.path("half-written"), self.path(name)).unwrap();
    }

    pub(crate) fn specs(&self, arm: Arm, process: &ProcessArm) -> Vec<ReplicaSpec> {
        let records = self.records();
        let names = by_arm(|arm| arm.to_string());
        let (state_dir, serin_exe) = (self.dir.path(), Path::new("/serin"));
        let ctx = LaunchContext { state_dir, document_dir: state_dir, serin_exe, previous: &records, names: &names };
        replica_specs(arm, process, &ctx).unwrap()
    }

    pub(crate) fn start(&self, arm: Arm, process: &ProcessArm) -> ReplicaSet {
        ReplicaSet::start(self.specs(arm, process), Vec::new(), self.ledger.clone())
    }

    pub(crate) fn records(&self) -> Vec<ReplicaRecord> {
        self.ledger.current.lock().unwrap().values().cloned().collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for record in self.ledger.seen.lock().unwrap().iter().filter(|record| leftover(record)) {
            if let Some(group) = i32::try_from(record.pid).ok().and_then(Pid::from_raw) {
                let _gone = kill_process_group(group, Signal::KILL);
            }
        }
    }
}

/// A shell script as a workload. It needs no port: its probe is set by the test that needs one.
pub(crate) fn script(text: &str) -> ProcessArm {
    ProcessArm {
        command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        working_dir: None,
        replicas: 1,
        ready: ReadyProbe { path: Some("/ready".to_owned()), interval_ms: 20, timeout_ms: 2_000, failures: 2, within_ms: 60_000 },
        restart: RestartPolicy { backoff_ms: 10, max_backoff_ms: 40, limit: 1_000, window_ms: 600_000 },
        stop_grace_ms: 30_000,
        logs: LogPolicy { max_bytes: 1_000_000, keep: 1 },
    }
}

/// Shell words that replace the shell by the server below. `$STATUS_FILE` and `$PORT` tell it what to do.
pub(crate) fn serve() -> String {
    format!("exec '{}' --ignored --exact support::server --nocapture", std::env::current_exe().unwrap().display())
}

/// A workload that runs `before` in a shell and then serves the status in the file `status` (200 if there is none).
pub(crate) fn server_after(bench: &Bench, before: &str) -> ProcessArm {
    let mut process = script(&format!("{before}\n{}", serve()));
    let file = bench.path("status").to_str().unwrap().to_owned();
    process.env.insert("STATUS_FILE".to_owned(), EnvValue::Literal(file));
    process
}

/// Not a test: the server that workloads run. Without its variables it does nothing.
#[test]
#[ignore = "the server that other tests start"]
fn server() {
    let (Ok(file), Ok(port)) = (std::env::var("STATUS_FILE"), std::env::var("PORT")) else { return };
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let _read = stream.read(&mut [0; 4096]);
        let status = std::fs::read_to_string(&file).unwrap_or_else(|_| "200".to_owned());
        let _sent = stream.write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes());
        if status == "500" {
            std::process::exit(7);
        }
    }
}

/// Not a test: a control process that starts a server in `$CONTROL_DIR`, writes its record there, and goes on until it is killed.
#[tokio::test]
#[ignore = "the control process that another test starts and kills"]
async fn control() {
    let Ok(dir) = std::env::var("CONTROL_DIR") else { return };
    let bench = Bench::new();
    let mut process = server_after(&bench, "echo up");
    process.env.insert("STATUS_FILE".to_owned(), EnvValue::Literal(format!("{dir}/status")));
    let set = bench.start(Arm::Canary, &process);
    until(&set, "ready", ReplicaSetStatus::all_ready).await;
    let half = Path::new(&dir).join("half-written");
    std::fs::write(&half, serde_json::to_string(&bench.records()).unwrap()).unwrap();
    std::fs::rename(&half, Path::new(&dir).join("records.json")).unwrap();
    std::future::pending::<()>().await;
}

/// Waits until the set's status is as described, and returns it.
pub(crate) async fn until(set: &ReplicaSet, what: &str, condition: impl FnMut(&ReplicaSetStatus) -> bool) -> ReplicaSetStatus {
    let mut status = set.status();
    if let Ok(Ok(reached)) = tokio::time::timeout(DEADLINE, status.wait_for(condition)).await {
        return reached.clone();
    }
    panic!("never {what}: {:#?}", set.status().borrow())
}

/// Like [`until`], for the first replica.
pub(crate) async fn until_first(set: &ReplicaSet, what: &str, mut condition: impl FnMut(&ReplicaStatus) -> bool) -> ReplicaStatus {
    until(set, what, |status| condition(&status.replicas[0])).await.replicas.remove(0)
}

/// Waits until something outside of the status is so.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "never {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process runs (zombies do not).
pub(crate) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with('Z'))
}
