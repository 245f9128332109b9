//! One server of the cluster: started with its output in a file, ended with SIGTERM and, after a while, SIGKILL.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use crate::{processes, wait};

/// How long a server may take to end in order.
const GRACE: Duration = Duration::from_secs(5);
const TAIL_BYTES: usize = 3000;

/// See the module. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program; output goes to `NAME.log` in the folder, which also is the marker of the process.
    pub(super) fn start(folder: &Path, name: &str, program: &Path, args: &[String]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(folder)
            .env(processes::MARKER, folder)
            // Signals from a terminal are for the test, which ends its servers in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(File::try_clone(&output).unwrap())
            .stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self { child, log }
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it said.
    pub(super) fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]).into_owned()
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// If it ends instead, or takes too long.
    pub(super) fn wait_ready(&mut self, what: &str, mut is_ready: impl FnMut() -> bool) {
        let ready = wait::paced(Duration::from_millis(25), wait::PATIENCE, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(Err(format!("ended with {status}")));
            }
            is_ready().then_some(Ok(()))
        });
        match ready {
            Some(Ok(())) => {}
            Some(Err(how)) => panic!("{what} {how}\n{}", self.tail()),
            None => panic!("{what} is not ready in time\n{}", self.tail()),
        }
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal);
    }

    /// Ends it at once, as a crash would.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it in order if it does so in time.
    pub(super) fn stop(&mut self) {
        self.signal(Signal::TERM);
        // A stopped process notices nothing else.
        self.signal(Signal::CONT);
        let ended = wait::paced(Duration::from_millis(10), GRACE, || self.child.try_wait().ok().flatten());
        if ended.is_none() {
            self.kill();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}
