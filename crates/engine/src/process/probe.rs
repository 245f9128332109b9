//! One look at whether a replica is ready: a GET, or a TCP connection.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serin_core::human_duration;
use serin_spec::validated::ReadyProbe;
use tokio::{
    net::TcpStream,
    time::{error::Elapsed, timeout},
};

/// How much of an answer's head is read, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How much of an answer's body is read and thrown away, so that the server does not see a reset.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Ready, or why not: `GET /ready answered 503`.
pub(super) async fn probe(probe: &ReadyProbe, port: u16) -> Result<(), String> {
    probe_address(probe.path.as_deref(), probe.timeout_ms, &format!("127.0.0.1:{port}")).await
}

/// Looks at a server once: a GET that must answer 200–399, or a TCP connection where there is no path.
///
/// # Errors
/// Why it is not well: `GET /health answered 503`.
pub async fn probe_address(path: Option<&str>, timeout_ms: u64, address: &str) -> Result<(), String> {
    let Some(path) = path else {
        let connected = timeout(Duration::from_millis(timeout_ms), connect(address)).await;
        return told(&format!("connecting to {address}"), timeout_ms, connected.map(|one| one.map(drop)));
    };
    ask_address(path, None, timeout_ms, address).await
}

/// Asks a server once: a GET that must answer `status`, or 200–399 without one.
///
/// # Errors
/// What is wrong with the answer: `GET /health answered 503`.
pub async fn ask_address(path: &str, status: Option<u16>, timeout_ms: u64, address: &str) -> Result<(), String> {
    let answered = timeout(Duration::from_millis(timeout_ms), get(path, address)).await;
    let judged = answered.map(|answered| {
        let found = answered?.as_u16();
        match status {
            Some(status) if found != status => Err(format!("answered {found}, not {status}")),
            None if !(200..400).contains(&found) => Err(format!("answered {found}")),
            _ => Ok(()),
        }
    });
    told(&format!("GET {path}"), timeout_ms, judged)
}

fn told(name: &str, timeout_ms: u64, outcome: Result<Result<(), String>, Elapsed>) -> Result<(), String> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => Err(format!("{name} {reason}")),
        Err(_) => Err(format!("{name} timed out after {}", human_duration(timeout_ms))),
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("failed: {}", cause(&error)))?;
    match (stream.local_addr(), stream.peer_addr()) {
        // TCP lets a socket connect to itself if it happens to get the port that it looks for.
        (Ok(local), Ok(peer)) if local == peer => Err("failed: nothing listens".to_owned()),
        _ => Ok(stream),
    }
}

async fn get(path: &str, address: &str) -> Result<StatusCode, String> {
    let stream = connect(address).await?;
    let request = Request::get(path)
        .header(header::HOST, address)
        .header(header::USER_AGENT, "serin-probe")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("is not a request: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("failed: {}", cause(&error)))?;

    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| format!("failed: {}", cause(&error)))?;
        let status = answer.status();
        // The verdict stands with the head, whatever becomes of the body.
        let _discarded = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await;
        Ok(status)
    };
    let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
    tokio::select! {
        status = &mut exchange => status,
        // The connection may end first, with the answer already handed over.
        _ = &mut connection => exchange.await,
    }
}

/// The innermost cause: `Connection refused (os error 111)` rather than `client error (Connect)`.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn ready(path: Option<&str>, timeout_ms: u64) -> ReadyProbe {
        ReadyProbe { path: path.map(str::to_owned), interval_ms: 100, timeout_ms, failures: 3, within_ms: 1_000 }
    }

    /// A server that gives each connection the same answer and then closes it, or keeps it open without a word.
    async fn server(answer: Option<&'static [u8]>) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                if let Some(answer) = answer {
                    let _read = stream.read(&mut request).await;
                    let _sent = stream.write_all(answer).await;
                } else {
                    open.push(stream);
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn the_status_decides() {
        for (answer, expected) in [
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".as_slice(), Ok(())),
            (b"HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
            (b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n", Ok(())),
            (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Err("GET /ready answered 404".to_owned())),
            (b"HTTP/1.1 503 Busy\r\ncontent-length: 90\r\n\r\ncut short", Err("GET /ready answered 503".to_owned())),
        ] {
            assert_eq!(probe(&ready(Some("/ready"), 5_000), server(Some(answer)).await).await, expected);
        }
        for nonsense in [b"".as_slice(), b"SSH-2.0-x\r\n"] {
            let reason = probe(&ready(Some("/ready"), 5_000), server(Some(nonsense)).await).await.unwrap_err();
            assert!(reason.starts_with("GET /ready failed: "), "{reason}");
        }
    }

    #[tokio::test]
    async fn silence_and_absence_are_failures_that_say_so() {
        let silent = server(None).await;
        assert_eq!(probe(&ready(Some("/ready"), 50), silent).await, Err("GET /ready timed out after 50 ms".to_owned()));
        assert_eq!(probe(&ready(None, 5_000), silent).await, Ok(()), "a connection is enough without a path");
        let unused = super::super::port::free_port(&[]).unwrap();
        for path in [None, Some("/ready")] {
            let reason = probe(&ready(path, 5_000), unused).await.unwrap_err();
            assert!(reason.contains("refused"), "{reason}");
        }
    }
}
