//! What can go wrong: before anything is started ([`ProcessError`]) and with what was started ([`WorkloadFailure`]).

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};
use serin_core::human_duration;

use super::ExitInfo;

/// A launch that cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A variable refers to one that Serin itself does not have.
    #[error("environment variable {variable}: it refers to {reference}, which is not set; set {reference} for serin and start again")]
    EnvNotSet {
        /// The variable of the workload.
        variable: String,
        /// The variable it refers to.
        reference: String,
    },
    /// A variable refers to a file that cannot be read.
    #[error("environment variable {variable}: cannot read {}: {source}", path.display())]
    EnvFileUnreadable {
        /// The variable of the workload.
        variable: String,
        /// The file it refers to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A variable refers to a file that is too large to be a value.
    #[error("environment variable {variable}: {} is larger than {max_bytes} bytes; is it the right file?", path.display())]
    EnvFileTooLarge {
        /// The variable of the workload.
        variable: String,
        /// The file it refers to.
        path: PathBuf,
        /// The largest size.
        max_bytes: u64,
    },
    /// A value that no environment can hold.
    #[error("environment variable {variable}: its value contains a NUL byte, which no environment variable can; is it the right file?")]
    EnvNul {
        /// The variable of the workload.
        variable: String,
    },
    /// The command has no program.
    #[error("{replica}: the command is empty; expected a program and its arguments")]
    EmptyCommand {
        /// The replica.
        replica: String,
    },
    /// `{{serin}}` cannot be filled in.
    #[error("the path of the serin binary is not valid UTF-8 ({}); install it under another path", path.display())]
    ExeNotUtf8 {
        /// The path of the running binary.
        path: PathBuf,
    },
    /// No port can be had.
    #[error("no free port found on 127.0.0.1 (looked at {tried} between {low} and {high}); see `ss -ltn` for what holds them")]
    NoFreePort {
        /// Ports tried.
        tried: u32,
        /// The lowest port considered.
        low: u16,
        /// The highest port considered.
        high: u16,
    },
    /// A program relative to a directory that cannot be written in a command.
    #[error("the working directory is not valid UTF-8 ({}); use another one, or give the program as an absolute path", path.display())]
    DirectoryNotUtf8 {
        /// The directory.
        path: PathBuf,
    },
}

/// A version that does not run as it should. Its text names the cause and where to look next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadFailure {
    /// The program cannot be started at all.
    #[error("cannot start {program}: {reason}")]
    NotFound {
        /// The program as it was looked for.
        program: String,
        /// Why it cannot be started, and how to see for oneself.
        reason: String,
    },
    /// It exited twice without ever having been ready.
    #[error("{replica} {exit} and was never ready{}; see {}", last_words(exit), log.display())]
    ExitedAtStart {
        /// The replica.
        replica: String,
        /// Its last exit.
        exit: ExitInfo,
        /// Its log file.
        log: PathBuf,
    },
    /// It runs, and was not ready in time.
    #[error("{replica} was not ready within {} ({last_probe}); see {}", human_duration(*waited_ms), log.display())]
    NeverReady {
        /// The replica.
        replica: String,
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
        /// What the last probe said.
        last_probe: String,
        /// Its log file.
        log: PathBuf,
    },
    /// It starts and crashes, again and again.
    #[error("{replica} was restarted {restarts} times within {}: it {exit}{}; see {}", human_duration(*within_ms), last_words(exit), log.display())]
    CrashLoop {
        /// The replica.
        replica: String,
        /// Restarts within the window.
        restarts: u32,
        /// The window, in milliseconds.
        within_ms: u64,
        /// Its last exit.
        exit: ExitInfo,
        /// Its log file.
        log: PathBuf,
    },
}

/// `: "last line of the log"`, if there is one.
fn last_words(exit: &ExitInfo) -> String {
    exit.log_tail.iter().rev().find(|line| !line.trim().is_empty()).map(|line| format!(" (last output: {line})")).unwrap_or_default()
}
