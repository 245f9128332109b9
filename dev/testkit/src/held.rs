//! Listening sockets held as systemd holds those of a socket unit: they are open before the server starts, it is handed them, and they
//! stay whatever becomes of it and of its proxies.
//!
//! What systemd does between fork and exec needs code that is forbidden here, so a shell does it: bash, because other shells know
//! descriptors of one digit only. The shell becomes the server, so that `LISTEN_PID` is right.

use std::{
    fmt::Write as _,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd as _, OwnedFd},
    process::{Child, Command},
};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// The first descriptor that is passed on, by the protocol of systemd.
const FIRST: u32 = 3;
/// Sockets are handed to the shell at descriptors from here on, out of the way of those that the server gets.
const OUT_OF_THE_WAY: i32 = 100;

/// See the module. Dropping it closes the sockets, for this process.
#[derive(Debug)]
pub struct Held {
    sockets: Vec<OwnedFd>,
}

impl Held {
    /// Listens at these addresses.
    ///
    /// # Panics
    /// If something else does.
    #[must_use]
    pub fn listen(addresses: &[SocketAddr]) -> Self {
        let open = |address| fcntl_dupfd_cloexec(TcpListener::bind(address).unwrap(), OUT_OF_THE_WAY).unwrap();
        Self { sockets: addresses.iter().map(open).collect() }
    }

    /// A prepared command that is handed the sockets if it is started by [`spawn`](Self::spawn). Its standard streams are to be set anew.
    #[must_use]
    pub fn handed_to(&self, prepared: &Command) -> Command {
        let mut script = "LISTEN_PID=$$ exec \"$0\" \"$@\"".to_owned();
        for (socket, to) in self.sockets.iter().zip(FIRST..) {
            let from = socket.as_raw_fd();
            // Writing into a String cannot fail.
            let _ = write!(script, " {to}<&{from} {from}<&-");
        }
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg(prepared.get_program()).args(prepared.get_args());
        if let Some(folder) = prepared.get_current_dir() {
            command.current_dir(folder);
        }
        for (name, value) in prepared.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let names: Vec<String> = (0..self.sockets.len()).map(|index| format!("s{index}")).collect();
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        command
    }

    /// Starts what was [prepared](Self::handed_to).
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        // Whatever else this process starts right now inherits them too, which is harmless as long as it ends.
        self.inherited(FdFlags::empty())?;
        let child = command.spawn();
        self.inherited(FdFlags::CLOEXEC)?;
        child
    }

    fn inherited(&self, flags: FdFlags) -> io::Result<()> {
        self.sockets.iter().try_for_each(|socket| Ok(fcntl_setfd(socket, flags)?))
    }
}
