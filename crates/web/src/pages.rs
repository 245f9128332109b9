//! Metrics and probes of a process that has no API: `/metrics`, `/healthz` and `/readyz`, and nothing else.
//!
//! Whoever reads metrics sees what the releases of a cluster are called, so that needs a token anywhere but on loopback. The probes say a line and
//! need none: a kubelet has none. The token is read from its file for every request, so that one which is taken away opens nothing any more.
//! Like the API of the daemon it has a thread of its own, and a client can hold little: so few places that there are always some for a kubelet, whose
//! probes would otherwise have the process killed because of somebody else. A connection for which there is no place is closed at once.

use std::{
    convert::Infallible,
    fs,
    io::Read as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serin_engine::measure::CONTENT_TYPE;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::{
    runtime::Builder,
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use crate::{
    identity::bearer,
    net::{Patient, Places},
};

const MOST_CONNECTIONS: usize = 64;
const MOST_CONNECTIONS_OF_ONE_ADDRESS: usize = 8;
const MOST_HEAD_BYTES: usize = 16 * 1024;
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// A connection is let go after this, so that idle ones do not keep others out.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(60);
/// How long the file of the token may take to be read.
const READ_PATIENCE: Duration = Duration::from_secs(2);
const MOST_TOKEN_BYTES: usize = 4_096;
/// The shortest token that is taken for one.
const LEAST_TOKEN_BYTES: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The page for Prometheus.
    Metrics,
    /// Whether the process works.
    Health,
    /// Whether it can do what it is there for.
    Readiness,
}

/// Says how the process is: a page or a line, or (probes) what is wrong.
pub type Teller = Arc<dyn Fn(Asked) -> Result<String, String> + Send + Sync>;

/// Where it is said, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagesConfig {
    /// The address.
    pub listen: SocketAddr,
    /// A file with the token that reading metrics needs; without it only loopback addresses are listened on.
    pub token_file: Option<PathBuf>,
}

/// Why nothing is said.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// Metrics would be open to everyone.
    #[error("metrics on {listen} would be open to everyone who reaches it; give a file with a token, or a loopback address")]
    Open {
        /// The address.
        listen: SocketAddr,
    },
    /// The file of the token cannot be used.
    #[error("the token for metrics cannot be used: {0}")]
    Token(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {listen} for metrics: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No thread or no runtime.
    #[error("cannot start the thread for metrics: {0}")]
    Thread(std::io::Error),
}

/// A listener at work. It ends when this is dropped.
#[derive(Debug)]
pub struct Pages {
    address: SocketAddr,
    _stop: watch::Sender<()>,
}

impl Pages {
    /// Begins to answer.
    ///
    /// # Errors
    /// If it would be open to everyone, or cannot begin.
    pub fn start(config: PagesConfig, teller: Teller) -> Result<Self, PagesError> {
        Self::start_with(config, teller, HEAD_PATIENCE)
    }

    fn start_with(config: PagesConfig, teller: Teller, head_patience: Duration) -> Result<Self, PagesError> {
        let PagesConfig { listen, token_file } = config;
        match &token_file {
            None if !listen.ip().is_loopback() => return Err(PagesError::Open { listen }),
            None => {}
            Some(file) => drop(read_token(file).map_err(PagesError::Token)?),
        }
        let fail = |source| PagesError::Listen { listen, source };
        let listener = TcpListener::bind(listen).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .thread_name("serin-metrics-files")
            .build()
            .map_err(PagesError::Thread)?;
        let (stop, stopped) = watch::channel(());
        let door = Arc::new(Door { teller, token_file, head_patience });
        let run = move || {
            runtime.block_on(accept(listener, door, stopped));
            runtime.shutdown_background();
        };
        thread::Builder::new().name("serin-metrics".to_owned()).spawn(run).map_err(PagesError::Thread)?;
        Ok(Self { address, _stop: stop })
    }

    /// Where it listens; tells the port if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

struct Door {
    teller: Teller,
    token_file: Option<PathBuf>,
    /// How long a client may take to ask.
    head_patience: Duration,
}

async fn accept(listener: TcpListener, door: Arc<Door>, mut stopped: watch::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "metrics cannot be told"),
    };
    // By address and not by network, as the API counts: the pods of a node may share a network with the kubelet.
    let places = Places::new(MOST_CONNECTIONS, MOST_CONNECTIONS_OF_ONE_ADDRESS);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            // Nobody is left who wants it to go on.
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, from)) = accepted else {
            // Out of file descriptors, most likely.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(place) = places.take(from.ip().to_canonical()) else { continue };
        let door = Arc::clone(&door);
        connections.spawn(async move {
            let io = TokioIo::new(Patient::new(stream, WRITE_PATIENCE));
            let service = service_fn(|request| {
                let door = Arc::clone(&door);
                async move { Ok::<_, Infallible>(door.answer(&request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(door.head_patience)
                .max_buf_size(MOST_HEAD_BYTES)
                .serve_connection(io, service);
            // How a connection ends is the client's business.
            let _ = timeout(CONNECTION_PATIENCE, connection).await;
            drop(place);
        });
    }
}

impl Door {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let asked = match request.uri().path() {
            "/metrics" => Asked::Metrics,
            "/healthz" => Asked::Health,
            "/readyz" => Asked::Readiness,
            _ => return line(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz"),
        };
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return line(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        if asked == Asked::Metrics
            && let Err(refused) = self.admit(request.headers()).await
        {
            return refused;
        }
        match (self.teller)(asked) {
            Ok(text) if asked == Asked::Metrics => whole(StatusCode::OK, CONTENT_TYPE, text),
            Ok(text) => line(StatusCode::OK, &text),
            Err(why) => line(StatusCode::SERVICE_UNAVAILABLE, &why),
        }
    }

    /// Whether whoever asks has the token, if there is one.
    async fn admit(&self, headers: &HeaderMap) -> Result<(), Response<Full<Bytes>>> {
        let Some(file) = self.token_file.clone() else { return Ok(()) };
        let read = timeout(READ_PATIENCE, spawn_blocking(move || read_token(&file))).await;
        let wanted = match read {
            Ok(Ok(Ok(token))) => token,
            other => {
                // Not to the client: where the file is, is nobody's business.
                tracing::error!(why = ?other.map(|read| read.map(|read| read.err())), "the token for metrics cannot be read");
                return Err(line(StatusCode::SERVICE_UNAVAILABLE, "the token cannot be checked now"));
            }
        };
        // Hashes are equally long, whatever was given.
        let is_same = bearer(headers).is_some_and(|given| bool::from(Sha256::digest(given).ct_eq(&Sha256::digest(&wanted))));
        if is_same {
            return Ok(());
        }
        let mut refused = line(StatusCode::UNAUTHORIZED, "a bearer token is needed");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(refused)
    }
}

/// The token in a file, without the space around it. Errors say nothing of what is in it.
fn read_token(file: &Path) -> Result<String, String> {
    let at = file.display();
    let mut text = String::new();
    let opened = fs::File::open(file).map_err(|error| format!("cannot open {at}: {error}"))?;
    let most = u64::try_from(MOST_TOKEN_BYTES).unwrap_or(u64::MAX);
    opened.take(most + 1).read_to_string(&mut text).map_err(|error| format!("cannot read {at}: {error}"))?;
    let token = text.trim();
    if text.len() > MOST_TOKEN_BYTES || token.len() < LEAST_TOKEN_BYTES || token.contains(char::is_whitespace) {
        return Err(format!(
            "{at} must have one token of {LEAST_TOKEN_BYTES} to {MOST_TOKEN_BYTES} characters; `openssl rand -hex 32` makes one"
        ));
    }
    Ok(token.to_owned())
}

fn line(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    whole(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn whole(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write as _},
        net::TcpStream,
        time::Instant,
    };

    use socket2::{Domain, Socket, Type};

    use super::*;

    const TOKEN: &str = "0123456789abcdef-secret";

    fn teller() -> Teller {
        Arc::new(|asked| match asked {
            Asked::Metrics => Ok("up 1\n".to_owned()),
            Asked::Health => Ok("ok".to_owned()),
            Asked::Readiness => Err("not listed yet".to_owned()),
        })
    }

    fn ask(pages: &Pages, path: &str, head: &str) -> String {
        try_ask(pages, path, head).unwrap()
    }

    fn try_ask(pages: &Pages, path: &str, head: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(pages.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// A client that says nothing.
    fn silent(pages: &Pages, from: [u8; 4]) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&pages.address().into()).unwrap();
        socket.into()
    }

    fn status(answer: &str) -> &str {
        answer.split(' ').nth(1).unwrap()
    }

    fn config(listen: &str, token_file: Option<&Path>) -> PagesConfig {
        PagesConfig { listen: listen.parse().unwrap(), token_file: token_file.map(Path::to_owned) }
    }

    #[test]
    fn on_loopback_everything_is_told_and_nothing_else() {
        let pages = Pages::start(config("127.0.0.1:0", None), teller()).unwrap();
        let metrics = ask(&pages, "/metrics", "");
        assert!(status(&metrics) == "200" && metrics.contains("version=0.0.4") && metrics.ends_with("up 1\n"), "{metrics}");
        assert_eq!(status(&ask(&pages, "/healthz", "")), "200");
        let readiness = ask(&pages, "/readyz", "");
        assert!(status(&readiness) == "503" && readiness.ends_with("not listed yet\n"), "{readiness}");
        assert_eq!(status(&ask(&pages, "/v1/services", "")), "404");
    }

    #[test]
    fn elsewhere_metrics_need_the_token_that_the_file_has_now() {
        assert!(matches!(Pages::start(config("0.0.0.0:0", None), teller()), Err(PagesError::Open { .. })));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "short").unwrap();
        let refused = Pages::start(config("127.0.0.1:0", Some(&file)), teller()).unwrap_err().to_string();
        assert!(refused.contains("must have one token") && !refused.contains("short\n"), "{refused}");
        fs::write(&file, format!("{TOKEN}\n")).unwrap();
        let pages = Pages::start(config("127.0.0.1:0", Some(&file)), teller()).unwrap();
        let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
        let basic = format!("Authorization: Basic {TOKEN}\r\n");
        for head in [String::new(), bearer("wrong"), bearer(""), basic, bearer(TOKEN).repeat(2)] {
            let answer = ask(&pages, "/metrics", &head);
            assert!(status(&answer) == "401" && !answer.contains("up 1"), "{head}: {answer}");
        }
        assert_eq!(status(&ask(&pages, "/metrics", &bearer(TOKEN))), "200");
        assert_eq!(status(&ask(&pages, "/healthz", "")), "200", "a kubelet has no token");
        fs::write(&file, "another-token-of-some-length").unwrap();
        assert_eq!(status(&ask(&pages, "/metrics", &bearer(TOKEN))), "401");
        fs::remove_file(&file).unwrap();
        let answer = ask(&pages, "/metrics", &bearer(TOKEN));
        assert!(status(&answer) == "503" && !answer.contains("token\u{2f}"), "{answer}");
    }

    #[test]
    fn clients_that_say_nothing_keep_others_out_at_no_time() {
        // None of them is let go while this test runs.
        let pages = Pages::start_with(config("127.0.0.1:0", None), teller(), Duration::from_hours(1)).unwrap();
        let all: Vec<TcpStream> = (0..2 * MOST_CONNECTIONS).map(|_| silent(&pages, [127, 0, 0, 2])).collect();
        assert_eq!(status(&ask(&pages, "/healthz", "")), "200", "one address does not hold all places");
        drop(all);
    }

    #[test]
    fn clients_that_say_nothing_are_let_go() {
        let pages = Pages::start_with(config("127.0.0.1:0", None), teller(), Duration::from_millis(100)).unwrap();
        let all: Vec<TcpStream> = (0..MOST_CONNECTIONS_OF_ONE_ADDRESS).map(|_| silent(&pages, [127, 0, 0, 1])).collect();
        let begun = Instant::now();
        // One for which there is no place is closed without an answer.
        while !try_ask(&pages, "/healthz", "").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            assert!(begun.elapsed() < Duration::from_secs(60), "their places are never free again");
            thread::sleep(Duration::from_millis(20));
        }
        drop(all);
    }
}
