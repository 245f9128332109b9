//! One request to the daemon's API over its unix socket, on a connection of its own.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use crate::http;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Status and body of the answer; null if the body is no JSON.
///
/// # Errors
/// If there is no complete answer: a daemon that is killed meanwhile gives none.
pub fn call(socket: &Path, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: serin\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let answer = http::parse(&bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    if length.is_some_and(|length: usize| length != answer.body.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
}
