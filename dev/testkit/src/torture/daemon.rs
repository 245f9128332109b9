//! A `serin serve` that may be killed and started again, and what it is asked.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::api;
use crate::{Document, Held, Place, processes, wait};

/// Longest wait for something that a starved machine may hold up for many seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// See the module. Dropping it kills the process; what it started belongs to the place.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    state: PathBuf,
    folder: PathBuf,
}

impl Daemon {
    /// Starts a server in the place with a state folder, which a killed one may have left. What it says on stderr goes
    /// to `serve.log` in the place.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub(super) fn start(place: &Place, state: &Path, config: Option<&Path>) -> Self {
        Self::start_with(place, state, config, None)
    }

    /// The same with sockets that outlive it, if there are any.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub(super) fn start_with(place: &Place, state: &Path, config: Option<&Path>, held: Option<&Held>) -> Self {
        let mut args = vec!["--output", "json", "serve", "--state", state.to_str().unwrap()];
        if let Some(config) = config {
            args.extend(["--config", config.to_str().unwrap()]);
        }
        let mut command = place.command(&args);
        let log = OpenOptions::new().create(true).append(true).open(place.path().join("serve.log")).unwrap();
        if let Some(held) = held {
            command = held.handed_to(&command);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = match held {
            Some(held) => held.spawn(&mut command).unwrap(),
            None => command.spawn().unwrap(),
        };
        Self { child, state: state.to_owned(), folder: place.path().to_owned() }
    }

    /// Its process.
    #[must_use]
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The socket of its API.
    #[must_use]
    pub(super) fn socket(&self) -> PathBuf {
        self.state.join("api.sock")
    }

    /// Kills it at once and waits until it is gone.
    ///
    /// # Panics
    /// If the system does not say.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// How it ended, if it did by itself.
    ///
    /// # Panics
    /// If the system does not say.
    #[must_use]
    pub(super) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().unwrap().map(|status| format!("serin serve ended: {status}\n{}", self.log()))
    }

    /// Ends it with everything that it started.
    ///
    /// # Panics
    /// If it does not end in time.
    pub(super) fn stop(&mut self) {
        processes::signal(self.pid(), Signal::INT);
        wait::until_or("the end of serin serve", PATIENCE, || self.child.try_wait().unwrap(), String::new);
    }

    /// Waits until the API answers.
    ///
    /// # Panics
    /// If it does not in time.
    pub(super) fn wait_for_api(&mut self) {
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
    pub(super) fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.join("serve.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
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
    let mut last = String::new();
    let ask = || {
        last = match api::call(socket, method, path, body) {
            // Too many requests, or a service that is being found again after a restart.
            Ok((status @ (429 | 500..=599), body)) => format!("{status} {body}"),
            Ok((409, body)) if is_passing(&body) => body.to_string(),
            // A server that was just started knows its services from the moment it answers at all.
            Ok(answer) => return Some(answer),
            Err(error) => error.to_string(),
        };
        None
    };
    let answer = wait::paced(LOOK, PATIENCE, ask);
    answer.ok_or_else(|| format!("{method} {path}: no answer in {} s, the last was: {last}", PATIENCE.as_secs()))
}

/// The newest journal of a service, once one of its events fits.
///
/// # Errors
/// If none does in [`PATIENCE`], or the server does not tell.
pub(super) fn journal_until(socket: &Path, service: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Vec<Value>, String> {
    let path = format!("/v1/services/{service}/runs/latest/journal?limit=5000");
    let mut last = Vec::new();
    let look = || {
        let entries = insist(socket, "GET", &path, &Value::Null).map(|(_, body)| body["entries"].as_array().cloned().unwrap_or_default());
        match entries {
            Ok(entries) if entries.iter().any(|entry| fits(&entry["event"])) => Some(Ok(entries)),
            Ok(entries) => {
                last = entries;
                None
            }
            Err(why) => Some(Err(why)),
        }
    };
    wait::paced(LOOK, PATIENCE, look).unwrap_or_else(|| {
        let told: Vec<&str> = last.iter().filter_map(|entry| entry["text"].as_str()).collect();
        Err(format!("waited in vain for {what} of {service}: {told:?}"))
    })
}

fn is_passing(body: &Value) -> bool {
    body["error"]["message"].as_str().is_some_and(|message| message.contains("is being started"))
}
