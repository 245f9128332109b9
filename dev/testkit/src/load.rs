//! A running `serin load --output json` and its report.

use std::{
    io::Read,
    process::{Child, Command},
    thread::{self, JoinHandle},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{processes, wait};

/// See the module. Dropping it kills the process.
#[derive(Debug)]
pub struct Load {
    child: Child,
    output: Option<JoinHandle<(String, String)>>,
}

/// What a load counted.
#[derive(Debug, Clone)]
pub struct LoadReport {
    /// Exit code.
    pub code: Option<i32>,
    /// The report.
    pub value: Value,
}

impl Load {
    /// Starts a prepared `serin load`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let output = thread::spawn(move || {
            let (mut stdout, mut stderr) = (String::new(), String::new());
            let _ = out.read_to_string(&mut stdout);
            let _ = err.read_to_string(&mut stderr);
            (stdout, stderr)
        });
        Self { child, output: Some(output) }
    }

    /// Stops it; it waits for the answers to what it has sent.
    #[must_use]
    pub fn stop(self) -> LoadReport {
        processes::signal(self.child.id(), Signal::TERM);
        self.end()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time, or without a report.
    #[must_use]
    pub fn end(mut self) -> LoadReport {
        let status = wait::until("the end of the load", || self.child.try_wait().unwrap());
        let (stdout, stderr) = self.output.take().unwrap().join().unwrap();
        let value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"));
        LoadReport { code: status.code(), value }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl LoadReport {
    /// A count of the report, or of its part: `sent`, `by_version.v2`. Absent ones are 0.
    #[must_use]
    pub fn count(&self, path: &str) -> u64 {
        path.split('.').fold(&self.value, |at, key| &at[key]).as_u64().unwrap_or(0)
    }

    /// Checks that every request was sent and answered, with any status but one that the proxy made up.
    ///
    /// # Panics
    /// If one was lost.
    pub fn assert_nothing_lost(&self) {
        for field in ["lost_total", "timeout", "not_sent", "unfinished"] {
            assert_eq!(self.count(field), 0, "{field} of {:#}", self.value);
        }
        assert!(self.count("sent") > 0, "{:#}", self.value);
        assert_eq!(self.count("answered"), self.count("sent"), "{:#}", self.value);
    }
}
