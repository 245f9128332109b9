//! Upstreams, a running proxy, clients, and waiting for conditions.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serin_core::{
    WeightBps,
    traffic::{Arm, Assignment, Counts, Outcome},
};
use serin_proxy::{
    ProxyConfig, ProxyError, ProxyLink,
    protocol::{PROTOCOL, Speaks, Stats},
    table::{Endpoint, Pool, RouteTable, Timeouts},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

pub(crate) fn text(body: impl Into<Bytes>) -> Response<Body> {
    Response::new(full(body))
}

/// A body that is fed by hand, one frame at a time.
pub(crate) fn fed() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (feed, frames) = mpsc::channel(1);
    (feed, Fed(frames).boxed())
}

struct Fed(mpsc::Receiver<Frame<Bytes>>);

impl hyper::body::Body for Fed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// A server whose every connection and request is counted.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) requests: Arc<AtomicUsize>,
}

impl Upstream {
    /// An HTTP server.
    pub(crate) async fn http<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = requests.clone();
        let mut upstream = Self::raw(move |stream| {
            let (handler, seen) = (handler.clone(), seen.clone());
            async move {
                let service = service_fn(move |request| {
                    seen.fetch_add(1, SeqCst);
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await;
        upstream.requests = requests;
        upstream
    }

    /// A server that answers every request with its name.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::http(move |_| async move { text(name) }).await
    }

    /// Whatever `handler` does with a connection.
    pub(crate) async fn raw<F, R>(handler: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                tokio::spawn(handler(stream));
            }
        });
        Self { addr, connections, requests: Arc::default() }
    }

    /// Reads one head, then writes `answer` and closes.
    pub(crate) async fn saying(answer: &'static [u8]) -> Self {
        Self::raw(move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(answer).await;
        })
        .await
    }

    /// Takes requests and never answers.
    pub(crate) async fn silent() -> Self {
        Self::raw(|mut stream| async move {
            let mut sink = vec![0; 4096];
            while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        })
        .await
    }
}

/// An address where nothing listens, and nothing else will.
pub(crate) async fn nowhere() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    // It keeps its port for as long as the tests run.
    std::mem::forget(socket);
    address
}

pub(crate) async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    head
}

pub(crate) fn pool(addresses: &[SocketAddr]) -> Pool {
    let endpoint = |(n, address): (usize, &SocketAddr)| Endpoint { id: format!("e{n}"), address: address.to_string() };
    Pool { endpoints: addresses.iter().enumerate().map(endpoint).collect(), health: None }
}

pub(crate) fn table(stable: SocketAddr, canary: Option<SocketAddr>, weight: u16) -> RouteTable {
    RouteTable {
        epoch: 1,
        version: 1,
        release: "shop".to_owned(),
        salt: "shop".to_owned(),
        stable: pool(&[stable]),
        canary: canary.map(|canary| pool(&[canary])),
        weight: bps(weight),
        matches: vec![],
        sticky: None,
        timeouts: Timeouts { connect_ms: 5_000, response_ms: 10_000, idle_ms: 10_000 },
        access_log: None,
        preview: None,
    }
}

pub(crate) fn bps(weight: u16) -> WeightBps {
    WeightBps::new(weight).unwrap()
}

/// A proxy in threads of this process.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) link: ProxyLink,
    pub(crate) dir: tempfile::TempDir,
    thread: Option<std::thread::JoinHandle<Result<(), ProxyError>>>,
}

impl Proxy {
    pub(crate) async fn start(table: impl Into<Option<RouteTable>>) -> Self {
        Self::with_workers(table, 2).await
    }

    pub(crate) async fn with_workers(table: impl Into<Option<RouteTable>>, workers: usize) -> Self {
        let (config, addr, dir) = Self::config(table, workers);
        Self::run(config, addr, dir).await
    }

    /// On a listening socket that is there already.
    pub(crate) async fn on(listener: std::net::TcpListener, table: impl Into<Option<RouteTable>>) -> Self {
        let (addr, (config, _, dir)) = (listener.local_addr().unwrap(), Self::config(table, 2));
        Self::run(ProxyConfig { listener, ..config }, addr, dir).await
    }

    /// As [`on`](Self::on), but standing by.
    pub(crate) async fn standing_by(listener: std::net::TcpListener, table: impl Into<Option<RouteTable>>) -> Self {
        let (addr, (config, _, dir)) = (listener.local_addr().unwrap(), Self::config(table, 2));
        Self::run(ProxyConfig { listener, standby: true, ..config }, addr, dir).await
    }

    /// What a proxy could be run with, where it would listen, and the folder of its control socket.
    pub(crate) fn config(table: impl Into<Option<RouteTable>>, workers: usize) -> (ProxyConfig, SocketAddr, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let control_socket = dir.path().join("control.sock");
        (ProxyConfig { listener, control_socket, table: table.into(), workers, standby: false, speaks: Speaks::OURS }, addr, dir)
    }

    async fn run(config: ProxyConfig, addr: SocketAddr, dir: tempfile::TempDir) -> Self {
        let socket = config.control_socket.clone();
        let thread = std::thread::spawn(move || serin_proxy::run(config));
        let link = until(async || ProxyLink::connect(&socket).await.ok()).await;
        Self { addr, socket, link, dir, thread: Some(thread) }
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Result<(), ProxyError> {
        let thread = self.thread.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || thread.join().unwrap());
        tokio::time::timeout(DEADLINE, ended).await.expect("the proxy ends").unwrap()
    }

    pub(crate) async fn stats(&self, wanted: impl Fn(&Stats) -> bool) -> Arc<Stats> {
        stats(&self.link, wanted).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        use std::io::Write as _;
        if let Some(thread) = self.thread.take()
            && let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&self.socket)
        {
            let words = format!("{{\"hello\":{{\"protocol\":{PROTOCOL},\"version\":\"test\"}}}}\n{{\"shutdown\":{{\"drain_ms\":0}}}}\n");
            if stream.write_all(words.as_bytes()).is_ok() {
                let _ = thread.join();
            }
        }
    }
}

/// Counters that satisfy `wanted`: those after the first that do. The fields of one message are read at slightly different moments,
/// so that what came with the wanted change may be missing in the first.
pub(crate) async fn stats(link: &ProxyLink, wanted: impl Fn(&Stats) -> bool) -> Arc<Stats> {
    let mut watched = link.stats();
    let (mut last, mut fitted) = (None, false);
    let found = tokio::time::timeout(DEADLINE, async {
        loop {
            last = watched.borrow_and_update().clone();
            let fits = last.as_ref().filter(|stats| wanted(stats));
            if let Some(stats) = fits.filter(|_| fitted) {
                return stats.clone();
            }
            fitted = fits.is_some();
            watched.changed().await.expect("the link lives");
        }
    })
    .await;
    found.unwrap_or_else(|_| panic!("the counters never came to what was wanted: {last:#?}"))
}

/// Retries until there is a result.
pub(crate) async fn until<T>(attempt: impl AsyncFn() -> Option<T>) -> T {
    let retry = async {
        loop {
            if let Some(result) = attempt().await {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, retry).await.expect("the condition comes true")
}

/// Counts of an arm and assignment over all weights.
pub(crate) fn counts(stats: &Stats, arm: Arm, assignment: Assignment) -> Counts {
    let mut sum = Counts::default();
    for cell in stats.cells.iter().filter(|cell| cell.arm == arm && cell.assignment == assignment) {
        sum.merge(&cell.counts);
    }
    sum
}

/// Requests that ended like this, over all cells.
pub(crate) fn ended(stats: &Stats, outcome: Outcome) -> u64 {
    stats.cells.iter().map(|cell| cell.counts.of(outcome)).sum()
}

/// All finished requests of all cells, aborts included.
pub(crate) fn total(stats: &Stats) -> u64 {
    Outcome::ALL.into_iter().map(|outcome| ended(stats, outcome)).sum()
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A client with one kept connection.
pub(crate) struct Client {
    sender: hyper::client::conn::http1::SendRequest<Body>,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async move { _ = connection.await });
        Self { sender }
    }

    pub(crate) async fn send(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>, hyper::Error> {
        request.headers_mut().entry("host").or_insert(http::HeaderValue::from_static("shop.test"));
        self.sender.ready().await?;
        tokio::time::timeout(DEADLINE, self.sender.send_request(request)).await.expect("an answer in time")
    }

    pub(crate) async fn ask(&mut self, request: Request<Body>) -> Answer {
        let (parts, body) = self.send(request).await.unwrap().into_parts();
        let body = tokio::time::timeout(DEADLINE, body.collect()).await.expect("a body in time").unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(request("GET", path, headers, "")).await
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(full(body)).unwrap()
}

/// One GET on a connection of its own.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> Answer {
    Client::connect(addr).await.get(path, &[]).await
}

/// Sends bytes and reads until the proxy closes.
pub(crate) async fn raw(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the proxy closes");
    String::from_utf8_lossy(&answer).into_owned()
}
