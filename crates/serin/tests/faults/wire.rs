//! A relay between two sides that can be cut, held, or made slow: connections that break, hang or lag without either side being at fault.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// See the module. Threads end with the connections that they carry.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    open: Mutex<Vec<TcpStream>>,
    is_held: AtomicBool,
    is_over: AtomicBool,
    delay_ms: AtomicU64,
}

impl Wire {
    pub(crate) fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            open: Mutex::default(),
            is_held: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.is_over.load(Ordering::Relaxed) {
                    return;
                }
                accepting.carry(client);
            }
        });
        Self { address, shared }
    }

    /// A copy of a kubeconfig that leads through this relay.
    pub(crate) fn kubeconfig(&self, original: &Path) -> PathBuf {
        let text = std::fs::read_to_string(original).unwrap().replace(&self.shared.to.to_string(), &self.address.to_string());
        let file = original.with_extension("wire");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Breaks every connection. Returns how many there were.
    pub(crate) fn cut(&self) -> usize {
        let mut open = self.shared.open.lock().unwrap();
        let count = open.drain(..).map(|stream| stream.shutdown(Shutdown::Both)).filter(Result::is_ok).count();
        count / 2
    }

    /// Lets nothing through in either direction, or goes on; connections stay open.
    pub(crate) fn hold(&self, is_held: bool) {
        self.shared.is_held.store(is_held, Ordering::Relaxed);
    }

    /// Everything that comes back comes this much later.
    pub(crate) fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn carry(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.to) else { return };
        let ends = [(&client, &server, false), (&server, &client, true)];
        for (from, to, is_answer) in ends {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.copy(from, to, is_answer));
        }
        self.open.lock().unwrap().extend([client, server]);
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if is_answer {
                std::thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed)));
            }
            while self.is_held.load(Ordering::Relaxed) && !self.is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
