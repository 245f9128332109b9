//! A running `serin run --output json` and what it says.

use std::{
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    Load, processes,
    said::{Said, hold, story},
    wait,
};

/// See the module. Dropping it kills the process, and nothing that it started: that is the place's part.
#[derive(Debug)]
pub struct Release {
    child: Child,
    said: Arc<Mutex<Said>>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// The last line of stdout: the object `end` or `error`; null if there was none.
    pub last: Value,
    /// Every line of stdout.
    pub lines: Vec<Value>,
    /// Standard error.
    pub stderr: String,
}

impl Release {
    /// Starts a prepared `serin run`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let said = Said::listen(&mut child);
        Self { child, said }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        hold(&self.said).lines.clone()
    }

    /// The journal entries of a type so far.
    #[must_use]
    pub fn events(&self, kind: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| is(line, kind)).collect()
    }

    /// Waits for the first journal entry of a type.
    pub fn event(&self, kind: &str) -> Value {
        self.wait_for(kind, |line| is(line, kind))
    }

    /// Waits until the stage with this number, from 1, is entered and its weight proven.
    pub fn stage(&self, number: usize) -> Value {
        let entered = self.wait_for(&format!("stage {number}"), |line| is(line, "stage-entered") && line["event"]["step"] == number - 1);
        let after = entered["seq"].as_u64();
        self.wait_for(&format!("proof of stage {number}"), |line| is(line, "weight-proven") && line["seq"].as_u64() > after)
    }

    /// Waits for the first line of any kind that fits.
    ///
    /// # Panics
    /// If stdout ends without one, or after a while.
    pub fn wait_for(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = wait::until_or(
            what,
            wait::PATIENCE,
            || {
                let said = hold(&self.said);
                let is_all = said.is_all();
                said.lines.iter().find(|line| fits(line)).map(|line| Some(line.clone())).or_else(|| is_all.then_some(None))
            },
            || self.story(),
        );
        found.unwrap_or_else(|| panic!("the run ended without {what}\n{}", self.story()))
    }

    /// Waits until the release is over and gives its last journal entry; `None` if it is not in this time, or ended without.
    #[must_use]
    pub fn over_within(&self, patience: Duration) -> Option<Value> {
        let end = Instant::now() + patience;
        wait::until_or(
            "the end of the release",
            patience + wait::PATIENCE,
            || {
                let said = hold(&self.said);
                let gave_up = said.is_all() || Instant::now() >= end;
                said.lines.iter().find(|line| is_over(line)).map(|line| Some(line.clone())).or_else(|| gave_up.then_some(None))
            },
            String::new,
        )
    }

    /// Waits until the stage with this number, from 1, has passed.
    pub fn stage_passed(&self, number: usize) -> Value {
        self.wait_for(&format!("the pass of stage {number}"), |line| is(line, "stage-passed") && line["event"]["step"] == number - 1)
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// If the system does not say.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal);
    }

    /// Asks it to end, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Kills it at once, waits until it is gone, and gives what it had said.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill(mut self) -> Vec<Value> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.lines()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    #[must_use]
    pub fn end(mut self) -> Ended {
        let status = wait::until_or("the end of the run", wait::PATIENCE, || self.child.try_wait().unwrap(), String::new);
        // Processes that were left running do not hold these pipes open, so both end with the run.
        wait::until_or("the end of its output", wait::PATIENCE, || hold(&self.said).is_all().then_some(()), || self.story());
        let said = hold(&self.said);
        let last = said.lines.last().cloned().unwrap_or_default();
        Ended { code: status.code(), last, lines: said.lines.clone(), stderr: said.stderr.clone() }
    }

    /// Waits until the release is over, stops the load, none of whose requests may be lost, and then the release, which must
    /// have been started with `--keep-serving`.
    ///
    /// # Panics
    /// If it does not end in time, or if a request was lost.
    #[must_use]
    pub fn end_under(self, load: Load) -> Ended {
        let _ = self.wait_for("the end of the release", is_over);
        load.stop().assert_nothing_lost();
        self.interrupt();
        self.end()
    }

    /// What it said, for messages.
    #[must_use]
    pub fn story(&self) -> String {
        let said = hold(&self.said);
        story(&said.lines, &said.stderr)
    }
}

impl Ended {
    /// The journal entries of a type.
    #[must_use]
    pub fn events(&self, kind: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| is(line, kind)).collect()
    }

    /// The text of the cause of a rollback.
    ///
    /// # Panics
    /// If it was not rolled back.
    #[must_use]
    pub fn cause(&self) -> String {
        let text = self.last["report"]["end"]["cause"]["text"].as_str();
        text.unwrap_or_else(|| panic!("no cause\n{}", self.story())).to_owned()
    }

    /// What decided on a rollback: the name of a criterion, guard or check, or the kind of another cause.
    ///
    /// # Panics
    /// If it was not rolled back.
    #[must_use]
    pub fn decided_by(&self) -> String {
        let kind = &self.last["report"]["end"]["cause"]["kind"];
        let name = ["criterion", "guard", "check"].iter().find_map(|what| kind[what]["name"].as_str()).or_else(|| kind.as_str());
        name.unwrap_or_else(|| panic!("no cause\n{}", self.story())).to_owned()
    }

    /// Requests of the canary that failed, seen by clients or not.
    ///
    /// # Panics
    /// If there is no report.
    #[must_use]
    pub fn canary_errors(&self) -> u64 {
        self.last["report"]["totals"][1]["errors"].as_u64().unwrap_or_else(|| panic!("no report\n{}", self.story()))
    }

    /// From the first proof that the canary has traffic to the decision to roll back, in milliseconds.
    ///
    /// # Panics
    /// If either is missing.
    #[must_use]
    pub fn decided_in_ms(&self) -> u64 {
        let at = |fits: &dyn Fn(&Value) -> bool| {
            let line = self.lines.iter().find(|line| fits(line)).unwrap_or_else(|| panic!("{}", self.story()));
            line["at_ms"].as_u64().unwrap()
        };
        let decided = at(&|line| is(line, "rollback-decided"));
        decided - at(&|line| is(line, "weight-proven") && line["event"]["weight"] != 0)
    }

    /// From the decision that took the traffic back, for good or to see how stable does alone, to the proof that the canary has none, in
    /// milliseconds.
    ///
    /// # Panics
    /// If either is missing.
    #[must_use]
    pub fn took_back_in_ms(&self) -> u64 {
        let takes_back = |line: &Value| is(line, "rollback-decided") || is(line, "retreated");
        let decided = self.lines.iter().position(takes_back).unwrap_or_else(|| panic!("{}", self.story()));
        let proven = self.lines[decided..].iter().find(|line| is(line, "weight-proven") && line["event"]["weight"] == 0);
        let at = |line: &Value| line["at_ms"].as_u64().unwrap();
        at(proven.unwrap_or_else(|| panic!("{}", self.story()))) - at(&self.lines[decided])
    }

    /// What it said, for messages.
    #[must_use]
    pub fn story(&self) -> String {
        story(&self.lines, &self.stderr)
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_over(line: &Value) -> bool {
    is(line, "succeeded") || is(line, "rolled-back")
}

fn is(line: &Value, kind: &str) -> bool {
    line["type"] == "event" && line["event"]["type"] == kind
}
