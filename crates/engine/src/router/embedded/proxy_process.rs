//! The proxy as a process: our own child, or one that outlived an earlier control process.

use std::{
    fs::OpenOptions,
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::ProxyLaunch;
use crate::process::start_time_of;

const POLL_EVERY: Duration = Duration::from_millis(5);

/// What a proxy is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// To accept connections at once.
    Serve,
    /// To wait until it is told to, because another one still serves.
    Standby,
}

/// A running proxy.
#[derive(Debug)]
pub(super) enum ProxyProcess {
    /// Started by this process.
    Own(Box<Child>),
    /// Started by an earlier one. Named by pid and start time, so that no stranger is ever signalled.
    Adopted { pid: u32, start_time: Option<u64> },
}

impl ProxyProcess {
    pub(super) fn adopted(pid: u32) -> Self {
        Self::Adopted { pid, start_time: start_time_of(pid) }
    }

    /// Starts a proxy with this socket as its standard input, which takes its tables at `control`.
    pub(super) fn spawn(launch: &ProxyLaunch, control: &Path, listener: &TcpListener, role: Role) -> Result<Self, std::io::Error> {
        let log = OpenOptions::new().create(true).append(true).open(&launch.log)?;
        let mut command = Command::new(&launch.serin_exe);
        command
            .arg("proxy")
            .arg("--control")
            .arg(control)
            .arg("--table")
            .arg(&launch.table)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone()?)))
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            // Ctrl-C in the terminal is for the control process; the data path ends when that says so.
            .process_group(0)
            .kill_on_drop(false);
        if role == Role::Standby {
            command.arg("--standby");
        }
        Ok(Self::Own(Box::new(command.spawn()?)))
    }

    /// How it ended, if it has; `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self {
            Self::Own(child) => match child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => Some(status.to_string()),
                Err(error) => Some(error.to_string()),
            },
            Self::Adopted { pid, start_time } => {
                let same = start_time.is_some() && start_time_of(*pid) == *start_time;
                (!same).then(|| "it is gone".to_owned())
            }
        }
    }

    /// Waits until it ended, at most so long, and says whether it has.
    pub(super) async fn wait(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if self.ended().is_some() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Asks it to drain and end.
    pub(super) fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once.
    pub(super) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(2)).await;
    }

    fn signal(&mut self, signal: Signal) {
        // An own child that was not waited for keeps its pid; an adopted one is checked by its start time.
        if self.ended().is_some() {
            return;
        }
        let pid = match self {
            Self::Own(child) => child.id(),
            Self::Adopted { pid, .. } => Some(*pid),
        };
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(%error, "the proxy could not be signalled");
        }
    }
}
