//! One request to the daemon's API over its unix socket, on a connection of its own.

use std::{io, os::unix::net::UnixStream, path::Path, time::Duration};

use serde_json::Value;

use crate::http;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Status and body of the answer; null if the body is no JSON.
///
/// # Errors
/// If there is no complete answer: a daemon that is killed meanwhile gives none.
pub(super) fn call(socket: &Path, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = http::exchange(stream, "serin", method, path, &[("content-type", "application/json")], body.as_bytes())?;
    Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
}
