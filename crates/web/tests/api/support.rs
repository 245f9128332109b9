//! A daemon's server with its API, and a client that sends exactly what it is told.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use serde_json::Value;
use serin_engine::{
    serve::{Retention, Server, ServerConfig},
    systemd::Sockets,
};
use serin_web::{Api, ApiConfig, Limits, Role, Socket, Tcp, TlsFiles, Token, TokenHash, config::Rate};
use tokio::runtime::Runtime;

/// A loaded machine may starve a process for many seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Daemon {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    api: Option<Api>,
    server: Server,
    runtime: Runtime,
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Limits that no test runs into by chance.
pub(crate) fn wide() -> Limits {
    let rate = Rate { per_s: 1e6, burst: 1e6 };
    Limits {
        calls: rate,
        aborts: rate,
        failures: rate,
        head_ms: 100_000,
        body_ms: 100_000,
        connections_per_address: Some(256),
        ..Limits::default()
    }
}

/// The token of a role: tests know them, the daemon only their hashes.
pub(crate) fn token(role: Role) -> String {
    format!("serin_Test{}0000000000000000000000000000000000", role.as_str())
}

impl Daemon {
    pub(crate) fn start() -> Self {
        Self::with(wide(), None)
    }

    pub(crate) fn with(limits: Limits, tls: Option<TlsFiles>) -> Self {
        logs();
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = ServerConfig {
            state: dir.path().join("state"),
            serin_exe: PathBuf::from("/bin/false"),
            services: Vec::new(),
            sockets: Sockets::default(),
            retention: Retention { runs: 10, keep_ms: 60_000 },
        };
        let server = runtime.block_on(Server::start(config)).unwrap();
        let token = |role: Role| Token { name: format!("test-{}", role.as_str()), role, hash: TokenHash::of(&token(role)) };
        let tokens = [Role::Viewer, Role::Operator, Role::Admin].map(token).to_vec();
        let config = ApiConfig {
            socket: Some(Socket::own(&dir.path().join("api.sock"))),
            tcp: Some(Tcp { listen: "127.0.0.1:0".parse().unwrap(), tls, tokens }),
            limits,
            token_source: None,
        };
        let api = {
            let _within = runtime.enter();
            Api::start(server.clone(), &config).unwrap()
        };
        let address = api.tcp_address().unwrap();
        Self { dir, address, api: Some(api), server, runtime }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes as they are, and reads until the end.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Reply {
        exchange(self.connect(), bytes)
    }

    pub(crate) fn get(&self, path: &str, token: Option<&str>) -> Reply {
        self.raw(&request("GET", path, token, None))
    }

    pub(crate) fn send(&self, method: &str, path: &str, role: Role, body: &[u8]) -> Reply {
        self.raw(&request(method, path, Some(&token(role)), Some(body)))
    }

    /// The same over the unix socket, where no token is needed.
    pub(crate) fn local(&self, bytes: &[u8]) -> Reply {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(stream, bytes)
    }

    pub(crate) fn stop(&mut self) {
        if let Some(api) = self.api.take() {
            self.runtime.block_on(api.stop());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        self.runtime.block_on(self.server.stop());
    }
}

/// A request that closes its connection.
pub(crate) fn request(method: &str, path: &str, token: Option<&str>, body: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: serin\r\nConnection: close\r\n").into_bytes();
    if let Some(token) = token {
        bytes.extend(format!("Authorization: Bearer {token}\r\n").bytes());
    }
    if let Some(body) = body {
        bytes.extend(format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()).bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body.unwrap_or_default());
    bytes
}

pub(crate) fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> Reply {
    // A server that has seen enough may close before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.flush();
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => all.extend(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("no answer within {PATIENCE:?}")
            }
            Err(_) => break,
        }
    }
    Reply::read(&all)
}

impl Reply {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The word for what is wrong.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (one, value) = line.split_once(": ")?;
            one.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Everything that any daemon of this process logged.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&logs().lock().unwrap()).into_owned()
}

fn logs() -> Arc<Mutex<Vec<u8>>> {
    static ONCE: Once = Once::new();
    static LOGS: Mutex<Option<Arc<Mutex<Vec<u8>>>>> = Mutex::new(None);
    let logs = Arc::clone(LOGS.lock().unwrap().get_or_insert_with(Arc::default));
    ONCE.call_once(|| {
        let writer = Arc::clone(&logs);
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(move || Log(Arc::clone(&writer)))
            .init();
    });
    logs
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
