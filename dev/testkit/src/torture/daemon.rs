//! A `serin serve` that may be killed and started again, and what it is asked.

use std::{
    fs::{self, OpenOptions},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{api, usage};
use crate::{Document, Held, Place, processes, wait};

/// Longest wait for something that a starved machine may hold up for many seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// See the module. Dropping it kills the process; what it started belongs to the place.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    state: PathBuf,
    folder: PathBuf,
}

impl Daemon {
    /// Starts a server in the place with a state folder, which a killed one may have left. Events go to `events.ndjson` in the place,
    /// messages to `serve.log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(place: &Place, state: &Path, config: Option<&Path>) -> Self {
        Self::start_with(place, state, config, None)
    }

    /// The same with sockets that outlive it, if there are any.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_with(place: &Place, state: &Path, config: Option<&Path>, held: Option<&Held>) -> Self {
        let mut args = vec!["--output", "json", "serve", "--state", state.to_str().unwrap()];
        if let Some(config) = config {
            args.extend(["--config", config.to_str().unwrap()]);
        }
        let mut command = place.command(&args);
        let append = |name| OpenOptions::new().create(true).append(true).open(place.path().join(name)).unwrap();
        if let Some(held) = held {
            command = held.handed_to(&command);
        }
        command.stdin(Stdio::null()).stdout(append("events.ndjson")).stderr(append("serve.log"));
        let child = match held {
            Some(held) => held.spawn(&mut command).unwrap(),
            None => command.spawn().unwrap(),
        };
        Self { child, state: state.to_owned(), folder: place.path().to_owned() }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The socket of its API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.state.join("api.sock")
    }

    /// Kills it at once and waits until it is gone.
    ///
    /// # Panics
    /// If the system does not say.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// How it ended, if it did by itself.
    ///
    /// # Panics
    /// If the system does not say.
    #[must_use]
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().unwrap().map(|status| format!("serin serve ended: {status}\n{}", self.log()))
    }

    /// Ends it with everything that it started.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn stop(&mut self) {
        processes::signal(self.pid(), Signal::INT);
        wait::until_or("the end of serin serve", PATIENCE, || self.child.try_wait().unwrap(), String::new);
    }

    /// Waits until the API answers.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn wait_for_api(&mut self) {
        let socket = self.socket();
        wait::until_or(
            "the API",
            PATIENCE,
            || api::call(&socket, "GET", "/healthz", &Value::Null).ok().filter(|(status, _)| *status == 200).map(drop),
            || self.log(),
        );
    }

    /// The end of what it said on stderr.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.join("serve.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Every event that it and its predecessors in the place told so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.join("events.ndjson")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Applies a document until the daemon has said yes or no: one that is killed or overwhelmed has said neither.
///
/// # Errors
/// What it said instead of yes.
pub(super) fn apply(socket: &Path, dir: &Path, document: &Document) -> Result<String, String> {
    let body = json!({"document": document.text(), "name": "release.yaml", "dir": dir.to_str()});
    let answer = insist(socket, "POST", "/v1/releases", &body)?;
    match answer {
        (200..=299, body) => Ok(body["result"].as_str().unwrap_or_default().to_owned()),
        (status, body) => Err(format!("apply: {status} {body}")),
    }
}

/// Asks until there is an answer that means something.
///
/// # Errors
/// If there is none in [`PATIENCE`].
pub(super) fn insist(socket: &Path, method: &str, path: &str, body: &Value) -> Result<(u16, Value), String> {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let last = match api::call(socket, method, path, body) {
            // Too many requests, or a service that is being found again after a restart.
            Ok((status @ (429 | 500..=599), body)) => format!("{status} {body}"),
            Ok((409, body)) if is_passing(&body) => body.to_string(),
            // A server that was just started knows its services from the moment it answers at all.
            Ok(answer) => return Ok(answer),
            Err(error) => error.to_string(),
        };
        if std::time::Instant::now() >= end {
            return Err(format!("{method} {path}: no answer in {} s, the last was: {last}", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The pid of a service's proxy.
pub(super) fn proxy(folder: &Path, service: &str) -> Option<u32> {
    let name = format!("/services/{service}/");
    let is_proxy = |command: &str| command.split(' ').nth(1) == Some("proxy") && command.contains(&name);
    processes::mentioning(folder).into_iter().find(|process| is_proxy(&process.command)).map(|process| process.pid)
}

/// Whether a process holds the socket that listens on an address.
pub(super) fn holds(pid: u32, listen: SocketAddr) -> io::Result<bool> {
    Ok(usage::listening_inode(listen)?.is_some_and(|inode| usage::holds_socket(pid, inode)))
}

fn is_passing(body: &Value) -> bool {
    body["error"]["message"].as_str().is_some_and(|message| message.contains("is being started"))
}
