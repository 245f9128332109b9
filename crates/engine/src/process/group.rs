//! A process group: who is in it, how to signal it without ever hitting a stranger, and when it is gone.
//!
//! A pid is given to another process only after the first one was reaped. The leader of a group that this process started is
//! not reaped before the group is gone, so its number is safe. An adopted leader is reaped by someone else: it is
//! recognised by its start time, and what it leaves behind by the marker in the environment.

use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpgid};
use tokio::{
    signal::unix::{Signal as Signals, SignalKind, signal},
    time::{sleep, timeout},
};

use super::{ReplicaRecord, proc_stat, proc_stat::ProcStat};

/// How long to wait for killed processes to be gone: only one stuck in the kernel takes longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which SIGKILL is sent again.
const KILL_AGAIN: Duration = Duration::from_millis(500);
/// How often an exit is looked for. That of an own child is told by SIGCHLD, at once; only its parent is told of another's. (A pidfd
/// would tell, but the runtime's safe way to wait for one is deprecated.)
const EXIT_POLL: Duration = Duration::from_millis(100);
/// Shortest and longest pause between two looks at a group that lost its leader.
const MEMBER_POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// The process group of a replica.
#[derive(Debug)]
pub(super) struct Group {
    leader: Pid,
    record: ReplicaRecord,
    /// Whether the leader is an unreaped child of this process.
    held: bool,
}

impl Group {
    /// The group of a child that was just started. The child must not be reaped while this value lives.
    pub(super) fn of_child(record: &ReplicaRecord) -> Option<Self> {
        Some(Self { leader: raw_pid(record.pid)?, record: record.clone(), held: true })
    }

    /// The group of an earlier process, if its leader still runs.
    pub(super) fn adopt(record: &ReplicaRecord) -> Option<Self> {
        Self::recorded(record).filter(Self::leader_runs)
    }

    /// What a record names, whether it exists or not. `None` if it can name nothing of this boot.
    pub(super) fn recorded(record: &ReplicaRecord) -> Option<Self> {
        let group = Self { leader: raw_pid(record.pid)?, record: record.clone(), held: false };
        record.is_of_this_boot().then_some(group)
    }

    /// Resolves when the leader has exited.
    pub(super) async fn leader_exited(&self) {
        // Listen first, look then: an exit in between is not missed.
        let mut child_exits = if self.held { signal(SignalKind::child()).ok() } else { None };
        while self.leader_runs() {
            tokio::select! {
                () = next(&mut child_exits) => {}
                () = sleep(EXIT_POLL) => {}
            }
        }
    }

    /// The processes of the group that run, the leader among them.
    pub(super) fn members(&self) -> Vec<ProcStat> {
        let in_group = |stat: &ProcStat| stat.group == self.record.pid && stat.running;
        if self.held || self.record.names_leader() {
            return proc_stat::all().into_iter().filter(in_group).collect();
        }
        if proc_stat::read(self.record.pid).is_some() {
            // The pid has a new owner, which it gets only after the old group is empty.
            return Vec::new();
        }
        let marker = self.record.marker();
        proc_stat::all().into_iter().filter(|stat| in_group(stat) && proc_stat::has_env(stat.pid, &marker)).collect()
    }

    /// Signals every process of the group, and no other.
    pub(super) fn signal(&self, signal: Signal) {
        if self.held || self.record.names_leader() {
            // An error means that nobody is left to signal: what is wanted.
            let _gone = kill_process_group(self.leader, signal);
            return;
        }
        for member in self.members() {
            self.signal_member(&member, signal);
        }
    }

    /// SIGTERM; after `grace` SIGKILL. Returns whether the whole group is gone.
    pub(super) async fn terminate(&self, grace: Duration) -> bool {
        self.signal(Signal::TERM);
        // A stopped process does not get the first signal before it continues.
        self.signal(Signal::CONT);
        let mut gone = timeout(grace, self.gone()).await.is_ok();
        if !gone {
            let killed = async {
                loop {
                    self.signal(Signal::KILL);
                    if timeout(KILL_AGAIN, self.gone()).await.is_ok() {
                        return;
                    }
                }
            };
            gone = timeout(KILL_TIMEOUT, killed).await.is_ok();
        }
        if gone && !self.held {
            self.reap_orphans();
        }
        gone
    }

    /// Takes the exit states of group members that became children of this process, as they do if it is the first of a container.
    pub(super) fn reap_orphans(&self) {
        while let Ok(Some(_)) = waitpgid(self.leader, WaitOptions::NOHANG) {}
    }

    /// Resolves when no process of the group runs any more.
    async fn gone(&self) {
        self.leader_exited().await;
        let (mut pause, longest) = MEMBER_POLL;
        while !self.members().is_empty() {
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    fn leader_runs(&self) -> bool {
        if self.held {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            return matches!(waitid(WaitId::Pid(self.leader), options), Ok(None));
        }
        proc_stat::read(self.record.pid).is_some_and(|stat| stat.start_time == self.record.start_time && stat.running)
    }

    #[cfg(target_os = "linux")]
    fn signal_member(&self, member: &ProcStat, signal: Signal) {
        use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
        // Open first, check then: the descriptor stays with the process that was checked.
        let Some(Ok(fd)) = raw_pid(member.pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
        let same = |now: &ProcStat| now.start_time == member.start_time && now.group == member.group;
        if proc_stat::read(member.pid).as_ref().is_some_and(same) {
            let _gone = pidfd_send_signal(fd, signal);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn signal_member(&self, _member: &ProcStat, _signal: Signal) {}
}

fn raw_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// The next signal; never, if they cannot be listened to.
async fn next(signals: &mut Option<Signals>) {
    match signals {
        Some(signals) => {
            signals.recv().await;
        }
        None => std::future::pending().await,
    }
}
