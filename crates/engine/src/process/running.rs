//! One process of a replica, from its start (or adoption) to the end of its group.

use std::{
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use super::{Ledger, ReplicaRecord, ReplicaSpec, group::Group, now, proc_stat, record};

/// A process that runs, or has exited and is not buried yet.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) record: ReplicaRecord,
    /// Length of the log file at the start; 0 for an adopted process.
    pub(super) log_start: u64,
    group: Group,
    /// `None` for an adopted process.
    child: Option<Child>,
}

/// A start that failed.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) program: String,
    pub(super) reason: String,
    /// Trying again cannot help before someone changes something.
    pub(super) lasting: bool,
}

/// What is left of a process.
#[derive(Debug)]
pub(super) struct Remains {
    /// `None` if it is unknown: only the parent is told.
    pub(super) status: Option<ExitStatus>,
    pub(super) ran_for_ms: u64,
    /// Whether the whole group is gone. If not, the kernel holds on to one of its processes.
    pub(super) gone: bool,
}

impl Running {
    /// Starts the replica's process in a group of its own. The ledger is told before, and again with the pid: one that is started and
    /// not remembered would be nobody's if this process died in between.
    pub(super) fn start(spec: &ReplicaSpec, restarts: u32, ledger: &dyn Ledger) -> Result<Self, Refusal> {
        let refused =
            |reason: String, lasting: bool| Refusal { program: spec.command.first().cloned().unwrap_or_default(), reason, lasting };
        let Some((program, arguments)) = spec.command.split_first() else { return Err(refused("the command is empty".to_owned(), true)) };
        // Without this the missing directory would be told as a missing program.
        if !spec.working_dir.is_dir() {
            return Err(refused(format!("its working directory {} does not exist", spec.working_dir.display()), true));
        }
        let log_error = |error: io::Error| refused(format!("cannot write its log file {}: {error}", spec.log.path.display()), false);
        let (stdout, log_start) = spec.log.open().map_err(log_error)?;
        let stderr = stdout.try_clone().map_err(log_error)?;

        let started_at = now();
        let mut record = ReplicaRecord {
            id: spec.id.clone(),
            arm: spec.arm,
            pid: 0,
            start_time: 0,
            boot_id: proc_stat::boot_id(),
            port: spec.port,
            started_at_ms: started_at.0,
            restarts,
        };
        ledger.save(&record);
        let spawned = Command::new(program)
            .args(arguments)
            .envs(spec.environment(&record::marker_value(&spec.id, started_at)))
            .current_dir(&spec.working_dir)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn();
        let child = spawned.map_err(|error| {
            ledger.forget(&spec.id);
            refused(explain(program, &error), is_lasting(&error))
        })?;
        record.pid = child.id();
        record.start_time = proc_stat::read(record.pid).map_or(0, |stat| stat.start_time);
        ledger.save(&record);
        match Group::of_child(&record) {
            Some(group) => Ok(Self { record, log_start, group, child: Some(child) }),
            None => Err(refused(format!("the system gave it the impossible pid {}", record.pid), false)),
        }
    }

    /// Takes over a process that an earlier control process started, if it still runs.
    pub(super) fn adopt(record: &ReplicaRecord) -> Option<Self> {
        Some(Self { record: record.clone(), log_start: 0, group: Group::adopt(record)?, child: None })
    }

    /// Whether this process was started by an earlier control process.
    pub(super) fn is_adopted(&self) -> bool {
        self.child.is_none()
    }

    /// Resolves when the first process of the group has exited.
    pub(super) async fn exited(&self) {
        self.group.leader_exited().await;
    }

    /// Ends what still runs of the group, and takes the exit state.
    pub(super) async fn bury(mut self, grace: Duration) -> Remains {
        let gone = self.group.terminate(grace).await;
        // Only now may the child be reaped: until then it keeps its number from being given away.
        let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        self.group.reap_orphans();
        Remains { status, ran_for_ms: proc_stat::age_ms(self.record.start_time), gone }
    }
}

/// Why a program could not be started, and how to see for oneself.
fn explain(program: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound if Path::new(program).exists() => {
            format!("the file is there, but not the interpreter or loader that it names; see `head -n 1 {program}` and `file {program}`")
        }
        io::ErrorKind::NotFound if program.contains('/') => format!("there is no such file; see `ls -l {program}`"),
        io::ErrorKind::NotFound => format!("it is in no directory of PATH; see `command -v {program}`, or give its path"),
        io::ErrorKind::PermissionDenied => format!("it is not executable for this user; see `ls -l {program}`, and `chmod +x {program}`"),
        _ => error.to_string(),
    }
}

fn is_lasting(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
}
