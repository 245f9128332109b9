//! A shell prompt in a temporary folder: runs one verb to its end and keeps everything it said.

use std::{
    fs,
    io::{Read, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::Value;

use crate::{Place, processes, wait::PATIENCE};

/// A verb that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

impl Finished {
    /// The same, after looking at the exit code.
    ///
    /// # Panics
    /// If it is another one.
    #[must_use]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Stdout as one JSON value.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr))
    }

    /// Stdout as one JSON value per line.
    ///
    /// # Panics
    /// If a line is not JSON.
    #[must_use]
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }
}

/// A temporary folder to work in, and the binary to run there. Nothing names a state folder unless the test does.
#[derive(Debug)]
pub struct Prompt {
    place: Place,
}

impl Prompt {
    /// A prompt in a new, empty folder.
    #[must_use]
    pub fn new(serin: &str) -> Self {
        Self { place: Place::new(serin) }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.place.path()
    }

    /// Writes a file in the folder.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.folder().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A command in the folder.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        clean(&mut command);
        command.env_remove("SERIN_STATE");
        command
    }

    /// Runs a verb to its end.
    #[must_use]
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Finished {
        finish(self.command(args), None)
    }

    /// Runs a verb to its end with something to read.
    #[must_use]
    #[track_caller]
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Finished {
        finish(self.command(args), Some(input))
    }
}

/// Takes away what the environment of the tests may say to the binary, and gives it a user and a terminal.
pub fn clean(command: &mut Command) {
    for name in ["SERIN_LOG", "NO_COLOR", "LOGNAME", "COLUMNS", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.env("USER", "tester").env("TERM", "xterm-256color").env("TZ", "UTC");
}

/// Runs a command to its end.
///
/// # Panics
/// If it does not end in time; it is killed then.
#[must_use]
#[track_caller]
pub fn finish(mut command: Command, input: Option<&str>) -> Finished {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(input) = input {
        // A verb that does not read to the end is free to do so.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    }
    let (stdout, stderr) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
    let pid = child.id();
    let (ended_out, ended) = mpsc::channel();
    let waiting = thread::spawn(move || ended_out.send(child.wait().unwrap()));
    let ended = ended.recv_timeout(PATIENCE);
    if ended.is_err() {
        processes::signal(pid, rustix::process::Signal::KILL);
    }
    let _ = waiting.join();
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let status = ended.unwrap_or_else(|_| panic!("{command:?} did not end\n--- stdout\n{stdout}\n--- stderr\n{stderr}"));
    Finished { code: status.code().unwrap_or(-1), stdout, stderr }
}

/// Who the journal says sent a command: the system's name for this user, or else what the command calls itself.
#[must_use]
pub fn me(otherwise: &str) -> String {
    let named = Command::new("id").arg("-un").output().ok().filter(|id| id.status.success());
    let name = named.map_or_else(|| otherwise.to_owned(), |id| String::from_utf8_lossy(&id.stdout).trim().to_owned());
    format!("{name} (uid {})", rustix::process::getuid().as_raw())
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
