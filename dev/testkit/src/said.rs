//! What a process says: its stdout as lines of JSON and its stderr, both as they come.

use std::{
    io::{BufRead, BufReader},
    process::Child,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use serde_json::Value;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Lines of stdout; one that is no JSON is a string.
    pub(crate) lines: Vec<Value>,
    /// Standard error, by whole lines.
    pub(crate) stderr: String,
    /// How many of the two are closed.
    closed: u8,
}

impl Said {
    /// Listens to a process whose output is piped, until it closes it.
    ///
    /// # Panics
    /// If the output is not piped, or taken already.
    pub(crate) fn listen(child: &mut Child) -> Arc<Mutex<Self>> {
        let said = Arc::new(Mutex::new(Self::default()));
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let to = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                hold(&to).lines.push(value);
            }
            hold(&to).closed += 1;
        });
        let to = Arc::clone(&said);
        thread::spawn(move || {
            let (mut from, mut line) = (BufReader::new(err), Vec::new());
            // By lines, so that no character is taken apart.
            while let Ok(1..) = from.read_until(b'\n', &mut line) {
                hold(&to).stderr.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
            hold(&to).closed += 1;
        });
        said
    }

    /// Whether it has said everything: both are closed, and read to their ends.
    pub(crate) fn is_all(&self) -> bool {
        self.closed == 2
    }
}

/// What was said so far. Nothing more is taken in as long as it is held.
pub(crate) fn hold(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// It all as a text for messages.
pub(crate) fn story(lines: &[Value], stderr: &str) -> String {
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    format!("{}\nstderr: {stderr}", lines.join("\n"))
}
