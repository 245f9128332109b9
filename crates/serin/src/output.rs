//! Where words go: stdout carries data only, stderr everything that is said to people.

use std::io::{self, Write};

/// The form of results on stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Writes a result and a line end to stdout. A reader that has gone away (`| head`) is no error.
///
/// # Errors
/// If stdout cannot be written for another reason, such as a full disk.
pub(crate) fn data(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Says on stderr what went wrong, whatever the words are made of.
pub(crate) fn error(text: &str) {
    note(&format!("error: {}", crate::render::plain(text)));
}

/// Says a line on stderr. There is nowhere to complain if that fails.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks for a line on stderr.
pub(crate) fn prompt(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
}

/// Rewrites the current line of a terminal on stderr.
pub(crate) fn progress(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
}
