//! The processes of a test, found by its folder in their command line or environment.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait;

/// The variable with the folder of the test that a process belongs to.
pub const MARKER: &str = "SERIN_TESTKIT";

/// The variable that Serin gives to replicas: `canary-1@` and the time of the start.
const REPLICA: &str = "SERIN_REPLICA=";

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Program and arguments.
    pub command: String,
    /// Which replica it belongs to (`stable-1`), if it is one.
    pub replica: Option<String>,
}

/// All running processes whose command line or environment mentions the folder; zombies and this process are left out.
#[must_use]
pub fn mentioning(folder: &Path) -> Vec<Process> {
    let folder = folder.to_str().unwrap();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id()).filter_map(|pid| look_at(pid, folder)).collect()
}

/// Replicas that run, with their pids.
#[must_use]
pub fn replicas(folder: &Path) -> BTreeMap<String, u32> {
    mentioning(folder).into_iter().filter_map(|process| Some((process.replica?, process.pid))).collect()
}

/// Where the replica called `canary-1` listens, by the argument `--port` of a sample app.
#[must_use]
pub fn address(folder: &Path, replica: &str) -> Option<SocketAddr> {
    let process = mentioning(folder).into_iter().find(|process| process.replica.as_deref() == Some(replica))?;
    let port = process.command.split("--port=").nth(1)?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// The pid of the proxy.
#[must_use]
pub fn proxy(folder: &Path) -> Option<u32> {
    mentioning(folder).into_iter().find(|process| process.command.split(' ').nth(1) == Some("proxy")).map(|process| process.pid)
}

/// The inode of the socket that listens at this address of IPv4; `None` if nothing does.
///
/// # Panics
/// If the address is of IPv6, or the system does not say.
#[must_use]
pub fn listening_inode(address: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(v4) = address else { panic!("{address} is not of IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    // Local address, state (0A: listening) and inode.
    let row = rows.find(|row| row.get(1) == Some(&local.as_str()) && row.get(3) == Some(&"0A"))?;
    Some(row[9].parse().unwrap())
}

/// Whether a process holds the socket that listens at this address of IPv4.
///
/// # Panics
/// If the address is of IPv6, or the system does not say who listens.
#[must_use]
pub fn holds_listener(pid: u32, address: SocketAddr) -> bool {
    let Some(inode) = listening_inode(address) else { return false };
    let socket = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == socket.as_str()))
}

/// Waits until nothing of the folder runs.
///
/// # Panics
/// If something still runs after a while.
pub fn assert_none_left(folder: &Path) {
    wait::until_or(
        "all processes to end",
        wait::PATIENCE,
        || mentioning(folder).is_empty().then_some(()),
        || format!("{:#?}", mentioning(folder)),
    );
}

/// Kills everything that mentions the folder, and what that starts meanwhile.
pub fn kill_all(folder: &Path) {
    // A supervisor that is killed after its child might have started another one: more rounds find it.
    for _ in 0..100 {
        let left = mentioning(folder);
        if left.is_empty() {
            return;
        }
        for process in left {
            signal(process.pid, Signal::KILL);
        }
        std::thread::yield_now();
    }
}

/// Sends a signal; a process that is gone already is none to worry about.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal to what is left of the group of a process.
pub fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}

fn look_at(pid: u32, folder: &str) -> Option<Process> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok().map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    // Empty for zombies, whose environment is gone too.
    let command = read("cmdline").filter(|command| !command.is_empty())?.trim_end().to_owned();
    let environment = read("environ")?;
    if !command.contains(folder) && !environment.contains(folder) {
        return None;
    }
    let replica = environment.split(' ').find_map(|variable| variable.strip_prefix(REPLICA)?.split('@').next().map(str::to_owned));
    Some(Process { pid, command, replica })
}
