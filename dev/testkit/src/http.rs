//! One HTTP/1.1 request on a connection of its own.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Names in small letters, in order.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of a name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What the sample app calls its version.
    #[must_use]
    pub fn version(&self) -> &str {
        self.header("x-app-version").unwrap_or("(none)")
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// GET with further headers.
///
/// # Errors
/// If there is no complete answer.
pub fn get(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    request(server, "GET", path, headers, b"")
}

/// Any request.
///
/// # Errors
/// If there is no complete answer.
pub fn request(server: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    exchange(stream, &server.to_string(), method, path, headers, body)
}

/// GET with another host than the server's address.
///
/// # Errors
/// If there is no complete answer.
pub fn get_of_host(server: SocketAddr, host: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    exchange(stream, host, "GET", path, headers, b"")
}

/// Any request on a connection of any kind, which is used up.
///
/// # Errors
/// If there is no complete answer.
pub fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let further: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{further}\r\n")?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, String::from_utf8_lossy(&bytes).into_owned()))
}

/// Changes how a sample app behaves: fields of its `/admin/behaviour`.
///
/// # Panics
/// If the app does not take it.
pub fn behave(app: SocketAddr, changes: &serde_json::Value) {
    let answer = request(app, "PATCH", "/admin/behaviour", &[], changes.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A complete answer: with as much of a body as it says that there is, if it says that.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    let mut answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = dechunked(&answer.body)?;
    }
    let is_whole = answer.header("content-length").is_none_or(|length| length.parse() == Ok(answer.body.len()));
    is_whole.then_some(answer)
}

/// A body in chunks; nothing if its end is missing.
fn dechunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(bytes.get(end + 2..end + 2 + size)?);
        bytes = bytes.get(end + 2 + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_their_end_is_needed() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let whole = parse(format!("{head}3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(whole.text(), "abcd");
        assert!(parse(format!("{head}3\r\nabc\r\n").as_bytes()).is_none());
    }

    #[test]
    fn an_answer_that_is_cut_off_is_none() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(parse(format!("{head}whole").as_bytes()).unwrap().text(), "whole");
        for cut in ["HTTP/1.1 200 OK\r\nContent-Le", head, &format!("{head}part")] {
            assert!(parse(cut.as_bytes()).is_none(), "{cut}");
        }
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\nuntil it is closed").unwrap().text(), "until it is closed");
    }
}
