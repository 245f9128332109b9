//! How a process ended, in words.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus};

use serde::{Deserialize, Serialize};
use serin_core::human_duration;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitInfo {
    /// Exit code; `None` if a signal ended it, or if it is unknown because the process was adopted.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `exited with code 3 after 1.2 s`.
    pub text: String,
    /// The last lines of its output: at most 10 of at most 200 characters, control characters escaped.
    pub log_tail: Vec<String>,
}

impl ExitInfo {
    /// `status` is `None` for an adopted process: only its parent is told.
    pub(super) fn new(status: Option<ExitStatus>, ran_for_ms: u64, log_tail: Vec<String>) -> Self {
        let code = status.and_then(|status| status.code());
        let signal = status.and_then(|status| status.signal());
        let after = human_duration(ran_for_ms);
        let text = match (code, signal) {
            (Some(code), _) => format!("exited with code {code} after {after}"),
            (None, Some(signal)) => format!("was ended by {} after {after}", signal_name(signal)),
            (None, None) => format!("ended after {after} (exit code unknown: an earlier serin had started it)"),
        };
        Self { code, signal, text, log_tail }
    }
}

impl fmt::Display for ExitInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `signal 9 (SIGKILL)`; the numbers are the same on Linux and macOS but for SIGBUS.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_told_in_words() {
        for (raw, expected) in [
            (Some(3 << 8), "exited with code 3 after 1.2 s"),
            (Some(0), "exited with code 0 after 1.2 s"),
            (Some(9), "was ended by signal 9 (SIGKILL) after 1.2 s"),
            (Some(40), "was ended by signal 40 after 1.2 s"),
            (None, "ended after 1.2 s (exit code unknown: an earlier serin had started it)"),
        ] {
            assert_eq!(ExitInfo::new(raw.map(ExitStatus::from_raw), 1_234, Vec::new()).to_string(), expected);
        }
    }
}
