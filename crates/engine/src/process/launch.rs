//! From the document to what is started: ports picked, templates filled in, secrets looked up.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serin_core::traffic::Arm;
use serin_spec::validated::{LoadCommand, LogPolicy, ProcessArm, ReadyProbe, RestartPolicy};

use super::{ProcessError, ReplicaRecord, ResolvedEnv, port, record, template::fill};

/// The id of the load command's replica.
pub const LOAD_ID: &str = "load";

/// How the load command is restarted; the document does not say.
const LOAD_RESTART: RestartPolicy = RestartPolicy { backoff_ms: 1_000, max_backoff_ms: 30_000, limit: 5, window_ms: 300_000 };
/// Time that the load command gets to end, in milliseconds.
const LOAD_STOP_GRACE_MS: u64 = 2_000;
/// How much of the load command's output is kept.
const LOAD_LOGS: LogPolicy = LogPolicy { max_bytes: 1024 * 1024, keep: 1 };

/// One process to run, complete. Its `Debug` output shows no value of the environment.
#[derive(Debug, Clone)]
pub struct ReplicaSpec {
    /// `canary-1`; [`LOAD_ID`] for the load command.
    pub id: String,
    /// Which version it runs; `None` for the load command.
    pub arm: Option<Arm>,
    /// Program and arguments, templates filled in. Not empty. A program with a slash is an absolute path.
    pub command: Vec<String>,
    /// Environment beside that of this process, `PORT` and `SERIN_REPLICA`.
    pub env: ResolvedEnv,
    /// Working directory.
    pub working_dir: PathBuf,
    /// Port on 127.0.0.1, also given as `PORT`. The same over all restarts.
    pub port: u16,
    /// When it may get traffic; `None`: as soon as it is started.
    pub ready: Option<ReadyProbe>,
    /// What happens after a crash.
    pub restart: RestartPolicy,
    /// Time between SIGTERM and SIGKILL, in milliseconds.
    pub stop_grace_ms: u64,
    /// Where its output goes.
    pub log: LogFile,
}

/// Where output goes and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The current file; rotated ones have `.1`, `.2` … behind its name.
    pub path: PathBuf,
    /// Size at which it is rotated, in bytes.
    pub max_bytes: u64,
    /// Rotated files to keep.
    pub keep: u32,
}

/// Where a release runs.
#[derive(Debug, Clone, Copy)]
pub struct LaunchContext<'a> {
    /// The release's own directory: logs go to `logs/` in it. An absolute path.
    pub state_dir: &'a Path,
    /// The document's directory: relative paths in the document start here. An absolute path.
    pub document_dir: &'a Path,
    /// The running binary, for `{{serin}}`.
    pub serin_exe: &'a Path,
    /// What an earlier control process left: replicas keep their ports if they can.
    pub previous: &'a [ReplicaRecord],
    /// What the versions are called, by [`Arm::index`]: replicas are called `NAME-1`, `NAME-2` and so on.
    pub names: &'a [String; 2],
}

/// The replicas of one version.
///
/// # Errors
/// If a reference of the environment cannot be resolved, or there is no free port. Nothing was started then.
pub fn replica_specs(arm: Arm, process: &ProcessArm, ctx: &LaunchContext<'_>) -> Result<Vec<ReplicaSpec>, ProcessError> {
    let env = ResolvedEnv::resolve(&process.env, ctx.document_dir)?;
    let serin = ctx.serin_utf8()?;
    let working_dir = process.working_dir.as_ref().map_or_else(|| ctx.document_dir.to_owned(), |dir| ctx.document_dir.join(dir));
    let replica = |number: u32| {
        let id = format!("{}-{number}", ctx.names[arm.index()]);
        let port = ctx.port(&id)?;
        let values = [("port", &*port.to_string()), ("serin", serin), ("arm", arm.as_str())];
        Ok(ReplicaSpec {
            command: command(&id, &process.command, &values, &working_dir)?,
            arm: Some(arm),
            env: env.clone(),
            working_dir: working_dir.clone(),
            port,
            ready: Some(process.ready.clone()),
            restart: process.restart,
            stop_grace_ms: process.stop_grace_ms,
            log: ctx.log(&id, process.logs),
            id,
        })
    };
    (1..=process.replicas).map(replica).collect()
}

/// The load command, as a replica without a probe. `url` is the proxy's address, for `{{url}}`.
///
/// # Errors
/// As [`replica_specs`].
pub fn load_spec(load: &LoadCommand, url: &str, ctx: &LaunchContext<'_>) -> Result<ReplicaSpec, ProcessError> {
    let values = [("url", url), ("serin", ctx.serin_utf8()?)];
    Ok(ReplicaSpec {
        id: LOAD_ID.to_owned(),
        arm: None,
        command: command(LOAD_ID, &load.command, &values, ctx.document_dir)?,
        env: ResolvedEnv::resolve(&load.env, ctx.document_dir)?,
        working_dir: ctx.document_dir.to_owned(),
        port: ctx.port(LOAD_ID)?,
        ready: None,
        restart: LOAD_RESTART,
        stop_grace_ms: LOAD_STOP_GRACE_MS,
        log: ctx.log(LOAD_ID, LOAD_LOGS),
    })
}

impl LaunchContext<'_> {
    fn serin_utf8(&self) -> Result<&str, ProcessError> {
        self.serin_exe.to_str().ok_or_else(|| ProcessError::ExeNotUtf8 { path: self.serin_exe.to_owned() })
    }

    /// The port that the replica had, if it still runs there or nobody took it in the meantime; else a free one.
    fn port(&self, id: &str) -> Result<u16, ProcessError> {
        let kept = self.previous.iter().find(|record| record.id == id);
        if let Some(record) = kept.filter(|record| record::leftover(record) || port::is_free(record.port)) {
            return Ok(record.port);
        }
        let taken: Vec<u16> = self.previous.iter().map(|record| record.port).collect();
        port::free_port(&taken)
    }

    fn log(&self, id: &str, policy: LogPolicy) -> LogFile {
        let path = self.state_dir.join("logs").join(format!("{id}.log"));
        LogFile { path, max_bytes: policy.max_bytes, keep: policy.keep }
    }
}

impl ReplicaSpec {
    /// Everything that the process gets beside this process' own environment.
    pub(super) fn environment(&self, marker: &str) -> Vec<(String, OsString)> {
        let own = [(record::PORT_VARIABLE.to_owned(), self.port.to_string().into()), (record::MARKER_VARIABLE.to_owned(), marker.into())];
        self.env.iter().map(|(name, value)| (name.clone(), value.clone())).chain(own).collect()
    }
}

/// Fills in the templates and makes a program with a slash absolute: whether `./checkout` is looked up before or after the change
/// to the working directory would otherwise depend on the platform. A bare name is looked up in `PATH`.
fn command(replica: &str, command: &[String], values: &[(&str, &str)], working_dir: &Path) -> Result<Vec<String>, ProcessError> {
    let mut filled: Vec<String> = command.iter().map(|part| fill(part, values)).collect();
    let Some(program) = filled.first_mut().filter(|program| !program.is_empty()) else {
        return Err(ProcessError::EmptyCommand { replica: replica.to_owned() });
    };
    if program.contains('/') && !program.starts_with('/') {
        let relative = program.strip_prefix("./").unwrap_or(program);
        match working_dir.join(relative).to_str() {
            Some(absolute) => *program = absolute.to_owned(),
            None => return Err(ProcessError::DirectoryNotUtf8 { path: working_dir.to_owned() }),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::TcpListener, sync::LazyLock};

    use serin_spec::validated::EnvValue;

    use super::*;

    static NAMES: LazyLock<[String; 2]> = LazyLock::new(|| serin_core::traffic::by_arm(|arm| arm.to_string()));

    fn process(command: &[&str], replicas: u32) -> ProcessArm {
        ProcessArm {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            env: BTreeMap::from([("TOKEN".to_owned(), EnvValue::Literal("s3cret".to_owned()))]),
            working_dir: None,
            replicas,
            ready: ReadyProbe { path: None, interval_ms: 100, timeout_ms: 100, failures: 1, within_ms: 100 },
            restart: LOAD_RESTART,
            stop_grace_ms: 100,
            logs: LOAD_LOGS,
        }
    }

    fn context<'a>(previous: &'a [ReplicaRecord]) -> LaunchContext<'a> {
        let (state_dir, document_dir, serin_exe) = (Path::new("/state"), Path::new("/doc"), Path::new("/bin/serin"));
        LaunchContext { state_dir, document_dir, serin_exe, previous, names: &NAMES }
    }

    fn record(id: &str, port: u16) -> ReplicaRecord {
        let (arm, boot_id) = (Some(Arm::Canary), String::new());
        ReplicaRecord { id: id.to_owned(), arm, pid: 1, start_time: 1, boot_id, port, started_at_ms: 1, restarts: 0 }
    }

    #[test]
    fn templates_paths_and_ports_are_filled_in() {
        let specs = replica_specs(Arm::Canary, &process(&["./app", "--port={{port}}", "{{arm}}", "{{serin}}"], 2), &context(&[])).unwrap();
        assert_eq!(specs.iter().map(|spec| &*spec.id).collect::<Vec<_>>(), ["canary-1", "canary-2"]);
        assert_ne!(specs[0].port, specs[1].port);
        let port = specs[1].port;
        assert_eq!(specs[1].command, ["/doc/app", &format!("--port={port}"), "canary", "/bin/serin"]);
        assert_eq!((&*specs[1].working_dir, &*specs[1].log.path), (Path::new("/doc"), Path::new("/state/logs/canary-2.log")));

        let mut elsewhere = process(&["bin/app"], 1);
        elsewhere.working_dir = Some("sub".into());
        assert_eq!(replica_specs(Arm::Stable, &elsewhere, &context(&[])).unwrap()[0].command, ["/doc/sub/bin/app"]);
        assert_eq!(replica_specs(Arm::Stable, &process(&["app"], 1), &context(&[])).unwrap()[0].command, ["app"], "for PATH");
        assert!(matches!(replica_specs(Arm::Stable, &process(&[], 1), &context(&[])), Err(ProcessError::EmptyCommand { .. })));
    }

    #[test]
    fn no_value_of_the_environment_is_shown() {
        let specs = replica_specs(Arm::Canary, &process(&["app"], 1), &context(&[])).unwrap();
        let debug = format!("{specs:#?}");
        assert!(debug.contains("TOKEN") && !debug.contains("s3cret"), "{debug}");
        assert_eq!(specs[0].env.get("TOKEN").unwrap(), "s3cret");
    }

    #[test]
    fn a_replica_keeps_its_port_unless_someone_took_it() {
        let free = port::free_port(&[]).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let busy = listener.local_addr().unwrap().port();
        let previous = [record("canary-1", free), record("canary-2", busy)];
        let specs = replica_specs(Arm::Canary, &process(&["app"], 3), &context(&previous)).unwrap();
        assert_eq!(specs[0].port, free);
        assert!(![free, busy].contains(&specs[1].port) && ![free, busy].contains(&specs[2].port));
    }

    #[test]
    fn the_load_command_knows_where_to_send() {
        let load = LoadCommand { command: vec!["{{serin}}".into(), "load".into(), "{{url}}".into()], env: BTreeMap::new() };
        let spec = load_spec(&load, "http://127.0.0.1:8080", &context(&[])).unwrap();
        assert_eq!(spec.command, ["/bin/serin", "load", "http://127.0.0.1:8080"]);
        assert_eq!((&*spec.id, spec.arm, spec.ready), ("load", None, None));
    }
}
