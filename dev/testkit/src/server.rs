//! A running `serin serve --output json` on a temporary state folder, what it says and what it is asked.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    Document, Place, http, processes,
    prompt::{self, Finished},
    said::{Said, hold, story},
    wait,
};

/// Between two looks at the API: far below what it lets one user ask.
const LOOK: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_secs(20);

/// A folder with a server's state and documents, whether the server runs or not. Dropping it kills what still runs of it.
#[derive(Debug)]
pub struct Site {
    place: Place,
}

/// A running server. Dropping it kills the process, and nothing that it started: that is the site's part.
#[derive(Debug)]
pub struct Server {
    child: Child,
    said: Arc<Mutex<Said>>,
}

/// How a server ended.
#[derive(Debug)]
pub struct ServerEnd {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Every event of stdout.
    pub events: Vec<Value>,
    /// Standard error.
    pub stderr: String,
}

impl Site {
    /// A new folder; `serin` is the binary to test.
    #[must_use]
    pub fn new(serin: &str) -> Self {
        Self { place: Place::new(serin) }
    }

    /// The folder.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The state folder of a service.
    #[must_use]
    pub fn service_dir(&self, service: &str) -> PathBuf {
        self.place.state().join("services").join(service)
    }

    /// Writes a file and gives its path.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> String {
        let file = self.place.path().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// A verb of the binary in this folder, with the environment cleaned.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        prompt::clean(&mut command);
        for name in ["SERIN_SERVER", "SERIN_TOKEN", "SERIN_TOKEN_FILE", "SERIN_CA"] {
            command.env_remove(name);
        }
        command
    }

    /// The same with another program.
    #[must_use]
    pub fn command_of(&self, binary: &Path, args: &[&str]) -> Command {
        let like = self.command(args);
        let mut command = Command::new(binary);
        command.args(args).current_dir(self.place.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Starts a server without a configuration and waits until it answers.
    #[must_use]
    pub fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    /// The same with further arguments: `--config`.
    #[must_use]
    pub fn serve_with(&self, args: &[&str]) -> Server {
        let mut all = vec!["--output", "json", "serve"];
        all.extend_from_slice(args);
        self.serve_by(self.command(&all))
    }

    /// The same with any command that ends up as a server on this site's state folder.
    ///
    /// # Panics
    /// If it ends, or does not answer.
    #[must_use]
    pub fn serve_by(&self, command: Command) -> Server {
        let mut server = Server::start(command);
        let answers = wait::paced(LOOK, wait::PATIENCE, || {
            assert!(server.child.try_wait().unwrap().is_none(), "the server ended at once: {}", server.said_at_end());
            self.ask("GET", "/healthz", "").ok().filter(|answer| answer.status == 200)
        });
        assert!(answers.is_some(), "the server does not answer: {}", server.story());
        server
    }

    /// Asks a server to stop everything and end, and looks that it does.
    ///
    /// # Panics
    /// If it ends with another code than 0, or if anything of it still runs after a while.
    #[track_caller]
    pub fn stopped(&self, server: Server) {
        let ended = server.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        processes::assert_none_left(self.place.path());
    }

    /// Runs a verb to its end.
    #[must_use]
    #[track_caller]
    pub fn say(&self, args: &[&str]) -> Finished {
        prompt::finish(self.command(args), None)
    }

    /// Writes a document as `NAME.yaml` and applies it. The answer of the API is on stdout.
    #[must_use]
    #[track_caller]
    pub fn apply(&self, document: &Document) -> Finished {
        self.apply_with(document, &[])
    }

    /// The same with further arguments.
    #[must_use]
    #[track_caller]
    pub fn apply_with(&self, document: &Document, args: &[&str]) -> Finished {
        let name = document.value["metadata"]["name"].as_str().unwrap();
        let file = self.write(&format!("{name}.yaml"), &document.text());
        let mut all = vec!["--output", "json", "apply", &file];
        all.extend_from_slice(args);
        self.say(&all)
    }

    /// A request to the API over the unix socket.
    ///
    /// # Errors
    /// If there is no complete answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<http::Answer> {
        let stream = UnixStream::connect(self.place.state().join("api.sock"))?;
        stream.set_read_timeout(Some(ANSWER))?;
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
        http::exchange(stream, "localhost", method, path, headers, body.as_bytes())
    }

    /// A part of the API as JSON; `None` if it says no or does not answer right now.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Value> {
        let answer = self.ask("GET", path, "").ok().filter(|answer| answer.status == 200)?;
        serde_json::from_slice(&answer.body).ok()
    }

    /// How a service is.
    #[must_use]
    pub fn status(&self, service: &str) -> Value {
        self.until(service, "an answer", |_| true)
    }

    /// Waits until a service is in some way, and gives how it is then.
    ///
    /// # Panics
    /// If it is not for a long time.
    #[track_caller]
    pub fn until(&self, service: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let looked = wait::paced(LOOK, wait::PATIENCE, || {
            last = self.read(&format!("/v1/services/{service}"))?;
            fits(&last).then(|| last.clone())
        });
        looked.unwrap_or_else(|| panic!("waited in vain for {what} of {service}: {last:#}\n{:#?}", self.journal(service)))
    }

    /// Waits until a service serves without a release, no other one waits, and gives how it is then.
    #[track_caller]
    pub fn serving(&self, service: &str) -> Value {
        self.until(service, "serving", |status| status["state"] == "serving" && status["queued"].is_null())
    }

    /// Waits until a run of a service is over and gives how the service is then.
    #[track_caller]
    pub fn over(&self, service: &str, run: i64) -> Value {
        self.until(service, &format!("the end of run {run}"), |status| status["last"]["number"].as_i64() >= Some(run))
    }

    /// The newest journal of a service as far as it is written; empty if there is none.
    #[must_use]
    pub fn journal(&self, service: &str) -> Vec<Value> {
        let journal = self.read(&format!("/v1/services/{service}/runs/latest/journal?limit=5000"));
        journal.and_then(|journal| journal["entries"].as_array().cloned()).unwrap_or_default()
    }

    /// The events of a type in the newest journal.
    #[must_use]
    pub fn journaled(&self, service: &str, kind: &str) -> Vec<Value> {
        self.journal(service).into_iter().map(|entry| entry["event"].clone()).filter(|event| event["type"] == kind).collect()
    }

    /// Waits until the newest journal has an entry that fits.
    ///
    /// # Panics
    /// If there is none for a long time.
    #[track_caller]
    pub fn entry(&self, service: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = wait::paced(LOOK, wait::PATIENCE, || self.journal(service).into_iter().find(&fits));
        found.unwrap_or_else(|| panic!("waited in vain for {what} of {service}: {:#}\n{:#?}", self.status(service), self.journal(service)))
    }

    /// Waits until the newest run has entered the stage with this number, from 1, and its weight is proven.
    #[track_caller]
    pub fn stage(&self, service: &str, number: u64) {
        self.until(service, &format!("stage {number}"), |status| {
            let release = &status["release"];
            release["stage"] == number && release["phase"] == "in a stage"
        });
        let entered = self.entry(service, &format!("stage {number}"), |entry| {
            entry["event"]["type"] == "stage-entered" && entry["event"]["step"] == number - 1
        });
        let after = entered["seq"].as_u64();
        self.entry(service, &format!("proof of stage {number}"), |entry| {
            entry["event"]["type"] == "weight-proven" && entry["seq"].as_u64() > after
        });
    }
}

impl Server {
    /// Starts a prepared `serin serve`, and does not wait for it.
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

    /// What it said so far, for messages.
    #[must_use]
    pub fn story(&self) -> String {
        let said = hold(&self.said);
        story(&said.lines, &said.stderr)
    }

    /// What it wrote to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        hold(&self.said).stderr.clone()
    }

    /// Every event so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        hold(&self.said).lines.clone()
    }

    /// Waits until it has said something about a service with this in its text.
    #[track_caller]
    pub fn note(&self, service: &str, text: &str) -> Value {
        let said = || {
            let events = self.events();
            events.into_iter().find(|event| event["service"] == service && event["text"].as_str().is_some_and(|told| told.contains(text)))
        };
        wait::until_or(&format!("{service}: '{text}'"), wait::PATIENCE, said, || self.story())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal);
    }

    /// Kills it at once and waits until it is gone.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to leave everything running and end.
    #[must_use]
    pub fn leave(self) -> ServerEnd {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Asks it to stop everything and end.
    #[must_use]
    pub fn stop(self) -> ServerEnd {
        self.signal(Signal::INT);
        self.end()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    #[must_use]
    pub fn end(mut self) -> ServerEnd {
        let status = wait::until_or("the end of the server", wait::PATIENCE, || self.child.try_wait().unwrap(), String::new);
        // Processes that were left running do not hold these pipes open, so both end with the server.
        wait::until_or("the end of its output", wait::PATIENCE, || hold(&self.said).is_all().then_some(()), || self.story());
        let said = hold(&self.said);
        ServerEnd { code: status.code(), events: said.lines.clone(), stderr: said.stderr.clone() }
    }

    /// What it said until its end, which has come.
    fn said_at_end(&self) -> String {
        wait::until_or("the end of its output", wait::PATIENCE, || hold(&self.said).is_all().then_some(()), || self.story());
        self.story()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
