//! A living proxy is replaced under load, by its keeper or because it speaks another protocol: no request is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod tools;

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serin_core::WeightBps;
use serin_engine::router::{ProxyKeeper, ProxyLaunch, running_proxy};
use serin_proxy::{
    ProxyLink,
    table::{Endpoint, Pool, RouteTable, Timeouts},
};
use tokio::sync::watch;
use tools::{DEADLINE, SampleApp, wait_for};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
/// A client that was kept from running for so long between two calls has no claim to an answer: kept connections without a
/// request are closed after a second.
const STARVED: Duration = Duration::from_millis(500);

/// A folder, a server, and how to start a proxy in front of it.
struct Scene {
    dir: tempfile::TempDir,
    listen: SocketAddr,
    app: SampleApp,
}

impl Scene {
    /// `listener` may be dropped once a proxy has it.
    fn new() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scene = Self { dir: tempfile::tempdir().unwrap(), listen: listener.local_addr().unwrap(), app: SampleApp::start(&[]) };
        std::fs::write(scene.path("table.json"), serde_json::to_vec(&scene.table(1)).unwrap()).unwrap();
        (scene, listener)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn table(&self, version: u64) -> RouteTable {
        let endpoint = Endpoint { id: "stable-1".to_owned(), address: format!("127.0.0.1:{}", self.app.port) };
        RouteTable {
            epoch: 1,
            version,
            release: "shop".to_owned(),
            salt: "shop".to_owned(),
            stable: Pool { endpoints: vec![endpoint], health: None },
            canary: None,
            weight: WeightBps::ZERO,
            matches: Vec::new(),
            sticky: None,
            timeouts: Timeouts { connect_ms: 5_000, response_ms: 20_000, idle_ms: 20_000 },
            access_log: None,
        }
    }

    fn launch(&self, listener: Option<TcpListener>) -> ProxyLaunch {
        ProxyLaunch {
            serin_exe: PathBuf::from(SERIN),
            listen: self.listen,
            socket: self.path("proxy.sock"),
            table: self.path("table.json"),
            log: self.path("proxy.log"),
            listener: listener.map(Arc::new),
        }
    }

    /// A proxy as an earlier control process left it, with further arguments.
    fn orphan(&self, listener: TcpListener, socket: &str, args: &[&str]) -> Orphan {
        let mut command = Command::new(SERIN);
        command.arg("proxy").arg("--control").arg(self.path(socket)).arg("--table").arg(self.path("table.json")).args(args);
        command.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).stderr(Stdio::null());
        Orphan(command.spawn().unwrap())
    }
}

struct Orphan(Child);

impl Orphan {
    fn ended(&mut self) {
        let status = wait_for("the old proxy to end", || self.0.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Clients with a connection per request, without a pause.
struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..2).map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut is_answered = false;
                // Until it has had one answer at least: what it is excused is none.
                while !stop.load(SeqCst) || !is_answered {
                    let began = Instant::now();
                    let mut sent_in = Duration::ZERO;
                    match ask(address, began, &mut sent_in) {
                        Ok(answer) => {
                            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                            is_answered = true;
                        }
                        Err(error) => assert!(sent_in > STARVED, "a request was lost: {error}"),
                    }
                }
            })
        });
        Self { threads: threads.collect(), stop }
    }

    fn end(self) {
        self.stop.store(true, SeqCst);
        for thread in self.threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

fn ask(address: SocketAddr, began: Instant, sent_in: &mut Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let written = stream.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n");
    *sent_in = began.elapsed();
    written?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

async fn linked(link: &mut watch::Receiver<Option<Arc<ProxyLink>>>) -> Arc<ProxyLink> {
    let link = tokio::time::timeout(DEADLINE, link.wait_for(Option::is_some)).await.unwrap().unwrap();
    link.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_its_keeper_again_and_again() {
    let (scene, listener) = Scene::new();
    let (links, mut link) = watch::channel(None);
    // A socket that is given from outside is never bound by the keeper.
    let keeper = ProxyKeeper::start(scene.launch(Some(listener)), None, links).unwrap();
    let first = linked(&mut link).await;
    first.apply(scene.table(7)).await.unwrap();
    let clients = Clients::start(scene.listen);
    let mut seen = vec![first.hello().pid];
    for _ in 0..4 {
        keeper.replace().await.unwrap();
        let current = linked(&mut link).await;
        assert!(!seen.contains(&current.hello().pid), "{} is not new: {seen:?}", current.hello().pid);
        seen.push(current.hello().pid);
        // Not the one in the file, but the one that was in service.
        assert_eq!(current.current_table().await.unwrap().unwrap().version, 7);
        assert!(scene.path("proxy.sock").exists() && !scene.path("proxy.next").exists());
    }
    clients.end();
    // The newest one is found under the common name.
    drop(first);
    keeper.detach().await;
    let found = running_proxy(&scene.path("proxy.sock")).await.unwrap().unwrap();
    assert_eq!(Some(&found.hello().pid), seen.last());
    let (links, mut link) = watch::channel(None);
    let keeper = ProxyKeeper::start(scene.launch(None), Some(found), links).unwrap();
    let _ = linked(&mut link).await;
    keeper.stop(0).await;
    assert!(TcpStream::connect(scene.listen).is_err(), "nobody holds the socket any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn because_it_speaks_another_protocol() {
    let (scene, listener) = Scene::new();
    let mut old = scene.orphan(listener, "proxy.sock", &["--speak", "1"]);
    let clients = Clients::start(scene.listen);
    let found = until(async || running_proxy(&scene.path("proxy.sock")).await.unwrap()).await;
    assert_eq!((found.hello().protocol(), found.hello().pid), (None, old.0.id()));
    let (links, mut link) = watch::channel(None);
    let keeper = ProxyKeeper::start(scene.launch(None), Some(found), links).unwrap();
    let current = linked(&mut link).await;
    assert_ne!(current.hello().pid, old.0.id());
    old.ended();
    assert_eq!(current.current_table().await.unwrap(), Some(scene.table(1)), "from the file");
    clients.end();
    keeper.stop(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_control_died_while_it_replaced() {
    let (scene, listener) = Scene::new();
    let mut old = scene.orphan(listener.try_clone().unwrap(), "proxy.sock", &[]);
    let mut new = scene.orphan(listener, "proxy.next", &[]);
    let clients = Clients::start(scene.listen);
    for name in ["proxy.sock", "proxy.next"] {
        until(async || ProxyLink::connect(&scene.path(name)).await.ok()).await;
    }
    let found = running_proxy(&scene.path("proxy.sock")).await.unwrap().unwrap();
    assert_eq!(found.hello().pid, new.0.id());
    old.ended();
    assert!(!scene.path("proxy.next").exists());
    drop(found);
    let again = running_proxy(&scene.path("proxy.sock")).await.unwrap().unwrap();
    assert_eq!(again.hello().pid, new.0.id());
    clients.end();
    again.shutdown(0).await.unwrap();
    new.ended();
}

#[tokio::test(flavor = "multi_thread")]
async fn not_by_one_that_does_not_start() {
    let (scene, listener) = Scene::new();
    let mut old = scene.orphan(listener, "proxy.sock", &[]);
    let clients = Clients::start(scene.listen);
    let found = until(async || running_proxy(&scene.path("proxy.sock")).await.unwrap()).await;
    let launch = ProxyLaunch { serin_exe: PathBuf::from("/bin/false"), ..scene.launch(None) };
    let (links, mut link) = watch::channel(None);
    let keeper = ProxyKeeper::start(launch, Some(found), links).unwrap();
    let before = linked(&mut link).await;
    let error = keeper.replace().await.unwrap_err();
    assert!(error.to_string().contains("ended at once"), "{error}");
    assert_eq!(linked(&mut link).await.hello().pid, before.hello().pid);
    assert!(before.current_table().await.is_ok(), "the old one goes on");
    clients.end();
    keeper.stop(0).await;
    old.ended();
}

/// Retries until there is a result.
async fn until<T>(attempt: impl AsyncFn() -> Option<T>) -> T {
    let retry = async {
        loop {
            if let Some(result) = attempt().await {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, retry).await.unwrap()
}
