//! Somebody who connects all the time, to see whether anybody is ever refused.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// See the module.
#[derive(Debug)]
pub struct Knocking {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Knocking {
    /// Begins.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut knocked, mut refused) = (0, 0);
            while !stopped.load(SeqCst) {
                knocked += 1;
                // A full queue makes the system wait; that is no refusal.
                let result = TcpStream::connect_timeout(&address, Duration::from_secs(5));
                refused += u64::from(result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
                // Ports of the client are used up otherwise.
                thread::sleep(Duration::from_millis(1));
            }
            (knocked, refused)
        });
        Self { stop, thread }
    }

    /// Ends, and looks at what happened.
    ///
    /// # Panics
    /// If a connection was refused.
    pub fn was_never_refused(self) {
        self.stop.store(true, SeqCst);
        let (knocked, refused) = self.thread.join().unwrap();
        assert!(knocked > 0 && refused == 0, "{refused} of {knocked} connections were refused");
    }
}
