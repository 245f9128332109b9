//! Waiting for conditions, with deadlines.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// Polls until the condition gives something.
///
/// # Panics
/// After [`PATIENCE`].
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    until_or(what, PATIENCE, condition, String::new)
}

/// Polls until the condition gives something; `context` is for the message if it does not in time.
///
/// # Panics
/// After `patience`.
pub fn until_or<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Option<T>, context: impl FnOnce() -> String) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        if Instant::now() >= end {
            panic!("waited in vain for {what}\n{}", context());
        }
        thread::sleep(POLL);
    }
}

/// Asks again and again, with a pause after each time, until there is an answer; `None` if there is none in time.
pub fn paced<T>(pause: Duration, patience: Duration, mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = question() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(pause);
    }
}
