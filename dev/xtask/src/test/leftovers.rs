//! Nothing of ours may be left running after the tests: a forgotten process holds ports, and would mean that Serin forgets them too.
//!
//! Left over is a process that was not there before and either runs `serin` from the target folder, or has the mark of this run in its
//! environment (the servers and applications that tests start). Processes that are just ending get a few seconds. They are named, not
//! killed: how they got there is what somebody now wants to see.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::processes::{self, Process};

/// The variable that marks what a run of the tests has started.
const MARKER: &str = "SERIN_TEST_RUN";

/// How long a process may take to end after the tests.
const GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Remembers what ran before the tests.
pub(super) struct Watch {
    target: PathBuf,
    before: Vec<(u32, u64)>,
    mark: String,
}

impl Watch {
    /// Looks at what runs now.
    pub(super) fn start(target: &Path) -> Self {
        let before = processes::all().iter().map(|process| (process.pid, process.start_ticks)).collect();
        Self { target: target.to_owned(), before, mark: std::process::id().to_string() }
    }

    /// The variable and its value that the tests must run with.
    pub(super) fn marker(&self) -> (&'static str, &str) {
        (MARKER, &self.mark)
    }

    /// Looks again.
    ///
    /// # Errors
    /// If something is left.
    pub(super) fn finish(&self) -> Result<()> {
        let left = self.wait(GRACE);
        if left.is_empty() {
            println!("nothing of ours is left running");
            return Ok(());
        }
        let list: Vec<String> = left.iter().map(|p| format!("    {} {}", p.pid, p.command_line.join(" "))).collect();
        bail!("still running after the tests (a test must end what it starts):\n{}", list.join("\n"))
    }

    fn wait(&self, grace: Duration) -> Vec<Process> {
        let deadline = Instant::now() + grace;
        loop {
            let left: Vec<Process> = processes::all().into_iter().filter(|process| self.is_left(process)).collect();
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            thread::sleep(POLL);
        }
    }

    fn is_left(&self, process: &Process) -> bool {
        let is_new = !self.before.contains(&(process.pid, process.start_ticks));
        is_new && process.is_alive() && (self.is_serin(process) || self.is_marked(process))
    }

    fn is_serin(&self, process: &Process) -> bool {
        let is_built = |path: &Path| path.starts_with(&self.target) && path.file_name().is_some_and(|name| name == "serin");
        let called_as = process.command_line.first().map(Path::new);
        // The link of a program that was built anew since has a note behind its name.
        let runs = process.executable.as_deref().and_then(Path::to_str).map(|path| Path::new(path.trim_end_matches(" (deleted)")));
        called_as.into_iter().chain(runs).any(is_built)
    }

    fn is_marked(&self, process: &Process) -> bool {
        let mark = format!("{MARKER}={}", self.mark);
        process.environment.contains(&mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn process(pid: u32, called_as: &str, executable: &str, environment: &str) -> Process {
        Process {
            pid,
            parent: 1,
            start_ticks: 7,
            state: 'S',
            command_line: vec![called_as.to_owned()],
            executable: Some(executable.into()),
            environment: vec![environment.to_owned()],
        }
    }

    #[test]
    fn serin_of_this_target_folder_or_with_the_mark() {
        let watch = Watch { target: "/r/target".into(), before: vec![(1, 7)], mark: "5".to_owned() };
        let cases = [
            (process(2, "/r/target/debug/serin", "/x", ""), true),
            (process(2, "serin", "/r/target/debug/serin (deleted)", ""), true),
            (process(2, "/usr/sbin/nginx", "/usr/sbin/nginx", "SERIN_TEST_RUN=5"), true),
            (process(1, "/r/target/debug/serin", "/x", ""), false),
            (process(2, "/usr/bin/serin", "/usr/bin/serin", "SERIN_TEST_RUN=55"), false),
            (process(2, "/r/target/debug/xtask", "/r/target/debug/xtask", ""), false),
            (Process { state: 'Z', ..process(2, "/r/target/debug/serin", "/x", "") }, false),
        ];
        for (process, is_left) in cases {
            assert_eq!(watch.is_left(&process), is_left, "{process:?}");
        }
    }

    #[test]
    fn a_marked_process_is_named_until_it_ends() {
        let mut watch = Watch::start(Path::new("/no/such/target"));
        watch.mark = format!("test-{}", std::process::id());
        let (name, value) = watch.marker();
        let mut child = Command::new("sleep").arg("60").env(name, value).spawn().unwrap();
        let left = watch.wait(Duration::ZERO);
        child.kill().unwrap();
        child.wait().unwrap();
        // Between fork and exec it still looks like this test; the mark is there from exec on, which `spawn` waits for.
        assert_eq!(left.iter().map(|p| p.pid).collect::<Vec<_>>(), [child.id()]);
        assert!(watch.wait(GRACE).is_empty());
    }
}
