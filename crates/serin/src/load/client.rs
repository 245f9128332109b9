//! Sends one request and says exactly how it ended.
//!
//! Connections are kept and reused, the most recently used first. A server may close a kept connection at any moment, also while the
//! next request is on its way; that is no loss. So a request that fails on a *reused* connection *before a single byte of its answer*
//! is sent once more over a fresh connection, whatever its method, and counted as reconnected. On a fresh connection nothing is repeated.

use std::{
    error::Error,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::connection::Connection;

/// How long a connection may take to become ready for another request after an answer.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// What is requested, again and again.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Requested in turn; at least one.
    paths: Vec<Uri>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

/// How a request went without a complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureKind {
    /// No connection could be made, or not in time.
    Connect,
    /// The connection was reset.
    Reset,
    /// The connection was closed in order, but without any answer.
    Closed,
    /// The answer ended before its announced length or its last chunk.
    Truncated,
    /// What came is not an HTTP/1 answer.
    Invalid,
    /// The answer was not complete within the timeout.
    Timeout,
}

/// A request without a complete answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// What the libraries said, for people.
    pub(crate) detail: String,
    /// No byte of an answer had come.
    untouched: bool,
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The header `x-app-version`.
    pub(crate) version: Option<String>,
    /// A 502, 503 or 504 with the header `x-serin-error`: the proxy could not get an answer from the app.
    pub(crate) made_by_proxy: bool,
    pub(crate) body_bytes: u64,
}

/// How one request went.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) result: Result<Answer, Failure>,
    /// A kept connection turned out to be dead, a fresh one was made.
    pub(crate) reconnected: bool,
    /// To be given back with [`Client::keep`].
    pub(crate) connection: Option<Connection>,
}

/// Sends requests over kept connections.
#[derive(Debug)]
pub(crate) struct Client {
    target: Target,
    timeout: Duration,
    most_kept: usize,
    kept: Mutex<Vec<Connection>>,
    /// Requests begun so far.
    begun: AtomicUsize,
}

impl Target {
    /// Checks the URL. `Host` and `User-Agent` are set unless given.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub(crate) fn new(url: &Uri, method: Method, mut headers: HeaderMap, body: Bytes) -> Result<Self, String> {
        match url.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(format!("{url}: https is not supported by load, give the http:// address behind the TLS end")),
            _ => return Err(format!("{url}: expected a full URL, such as http://127.0.0.1:8080/path")),
        }
        let authority = url.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or_else(|| format!("{url}: the URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(format!("{}: a user in the URL is not supported, use --header 'authorization: …'", authority.host()));
        }
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|error| format!("{url}: {error}"))?;
        headers.entry(header::HOST).or_insert(host_header);
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("serin-load"));
        let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Ok(Self {
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(80),
            paths: vec![path.parse().map_err(|error| format!("{url}: {error}"))?],
            method,
            headers,
            body,
        })
    }

    /// Requests these paths in turn instead of the URL's; none leaves that one.
    pub(crate) fn with_paths(mut self, paths: Vec<Uri>) -> Self {
        if !paths.is_empty() {
            self.paths = paths;
        }
        self
    }

    fn request(&self, number: usize) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.paths[number % self.paths.len()].clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

impl Client {
    /// At most `most_kept` idle connections stay open; more are made while more requests are in flight. `timeout` covers a whole
    /// request: connecting, sending, the answer to its last byte, and the second attempt if there is one.
    pub(crate) fn new(target: Target, timeout: Duration, most_kept: usize) -> Self {
        Self { target, timeout, most_kept, kept: Mutex::new(Vec::new()), begun: AtomicUsize::new(0) }
    }

    /// Sends one request.
    pub(crate) async fn exchange(&self) -> Exchange {
        let deadline = Instant::now() + self.timeout;
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let mut reconnected = false;
        if let Some(mut connection) = self.take_kept() {
            match self.attempt(&mut connection, number, deadline).await {
                Err(failure) if failure.untouched && failure.kind != FailureKind::Timeout => reconnected = true,
                Err(failure) => return Exchange { result: Err(failure), reconnected, connection: None },
                Ok(answer) => return Exchange { result: Ok(answer), reconnected, connection: Some(connection) },
            }
        }
        let mut connection = match self.connect(deadline).await {
            Ok(connection) => connection,
            Err(failure) => return Exchange { result: Err(failure), reconnected, connection: None },
        };
        match self.attempt(&mut connection, number, deadline).await {
            Ok(answer) => Exchange { result: Ok(answer), reconnected, connection: Some(connection) },
            Err(failure) => Exchange { result: Err(failure), reconnected, connection: None },
        }
    }

    /// Keeps a connection for further requests, unless the server is closing it or there are enough.
    pub(crate) async fn keep(&self, mut connection: Connection) {
        // The answer is complete a moment before the connection can take the next request.
        if let Ok(Ok(())) = timeout(READY_TIMEOUT, connection.sender.ready()).await {
            let mut kept = self.kept();
            if kept.len() < self.most_kept {
                kept.push(connection);
            }
        }
    }

    fn take_kept(&self) -> Option<Connection> {
        let mut kept = self.kept();
        while let Some(connection) = kept.pop() {
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, Failure> {
        let failed = |detail: String| Failure { kind: FailureKind::Connect, detail, untouched: true };
        match timeout_at(deadline, TcpStream::connect((self.target.host.as_str(), self.target.port))).await {
            Ok(Ok(stream)) => Connection::new(stream).await.map_err(|error| failed(chain(&error))),
            Ok(Err(error)) => Err(failed(chain(&error))),
            Err(_) => Err(failed(format!("no connection within {} ms", self.timeout.as_millis()))),
        }
    }

    async fn attempt(&self, connection: &mut Connection, number: usize, deadline: Instant) -> Result<Answer, Failure> {
        let before = connection.received_bytes();
        let whole = timeout_at(deadline, receive(&mut connection.sender, self.target.request(number))).await;
        let untouched = connection.received_bytes() == before;
        match whole {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure { kind: classify(&error, untouched), detail: chain(&error), untouched }),
            Err(_) => {
                let detail = format!("no complete answer within {} ms", self.timeout.as_millis());
                Err(Failure { kind: FailureKind::Timeout, detail, untouched })
            }
        }
    }
}

async fn receive(
    sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Answer> {
    let response = sender.send_request(request).await?;
    let (head, mut body) = response.into_parts();
    let mut body_bytes = 0;
    while let Some(frame) = body.frame().await {
        body_bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    let status = head.status.as_u16();
    Ok(Answer {
        status,
        version: head.headers.get("x-app-version").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        made_by_proxy: matches!(status, 502..=504) && head.headers.contains_key("x-serin-error"),
        body_bytes,
    })
}

fn classify(error: &hyper::Error, untouched: bool) -> FailureKind {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(io_error) = cause.downcast_ref::<io::Error>()
            && matches!(io_error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted)
        {
            return FailureKind::Reset;
        }
        // Chunk sizes that are no numbers come as an io error of this kind.
        if let Some(io_error) = cause.downcast_ref::<io::Error>()
            && matches!(io_error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        {
            return FailureKind::Invalid;
        }
        source = cause.source();
    }
    match untouched {
        _ if error.is_parse() => FailureKind::Invalid,
        true => FailureKind::Closed,
        false => FailureKind::Truncated,
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::new(&url.parse().map_err(|_| "not a URL".to_owned())?, Method::GET, HeaderMap::new(), Bytes::new())
    }

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, path) in [
            ("http://127.0.0.1:8080/a?b=c", "127.0.0.1", 8080, "/a?b=c"),
            ("http://[::1]:9/", "::1", 9, "/"),
            ("http://localhost", "localhost", 80, "/"),
        ] {
            let target = target(url).unwrap();
            assert_eq!((target.host.as_str(), target.port, target.paths[0].to_string().as_str()), (host, port, path), "{url}");
        }
        assert_eq!(target("http://[::1]:9/").unwrap().headers[header::HOST], "[::1]:9");
    }

    #[test]
    fn urls_that_cannot_work_are_refused_with_a_reason() {
        for (url, part) in [
            ("https://localhost/", "not supported"),
            ("localhost:80", "full URL"),
            ("/path", "full URL"),
            ("http://me:secret@localhost/", "--header"),
        ] {
            let error = target(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("secret"));
        }
    }

    #[test]
    fn paths_are_requested_in_turn() {
        let paths = ["/a", "/b?c=d"].map(|path| path.parse().unwrap()).to_vec();
        let several = target("http://localhost/first").unwrap().with_paths(paths);
        let requested: Vec<String> = (0..3).map(|number| several.request(number).uri().to_string()).collect();
        assert_eq!(requested, ["/a", "/b?c=d", "/a"]);
        let one = target("http://localhost/first").unwrap().with_paths(Vec::new());
        assert_eq!(one.request(7).uri(), "/first");
    }

    #[test]
    fn a_given_host_header_wins() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("shop.example"));
        let target = Target::new(&"http://127.0.0.1:1/".parse().unwrap(), Method::GET, headers, Bytes::new()).unwrap();
        assert_eq!(target.request(0).headers()[header::HOST], "shop.example");
    }
}
