//! The processes of this machine, read from `/proc`.
//!
//! On systems without `/proc` every list is empty. A process that ends while it is read is left out.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: u32,
    /// Its parent's number.
    pub(crate) parent: u32,
    /// When it started, in clock ticks since boot: with the number it names a process for good.
    pub(crate) start_ticks: u64,
    /// The state letter of `/proc/PID/stat`.
    pub(crate) state: char,
    /// Its arguments, the program's name first; empty for kernel threads and zombies.
    pub(crate) command_line: Vec<String>,
    /// The file it runs, if we may know.
    pub(crate) executable: Option<PathBuf>,
    /// Its environment as `NAME=value`, if we may read it.
    pub(crate) environment: Vec<String>,
}

impl Process {
    /// Whether it still does something: a zombie only waits for its parent.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// All processes that can be read.
pub(crate) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(read).collect()
}

/// The numbers of all children, grandchildren and so on of a process.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let all = all();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|p| p.parent == parent && !found.contains(&p.pid)).map(|p| p.pid).collect::<Vec<_>>());
        next += 1;
    }
    found.split_off(1)
}

/// Kills processes at once. One that is gone already is fine.
pub(crate) fn kill(pids: &[u32]) {
    if !pids.is_empty() {
        let kill = Command::new("kill").arg("-KILL").args(pids.iter().map(u32::to_string)).stderr(Stdio::null()).status();
        if let Err(error) = kill {
            eprintln!("warning: cannot kill {pids:?}: {error}");
        }
    }
}

fn read(pid: u32) -> Option<Process> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let (state, parent, start_ticks) = parse_stat(&fs::read_to_string(folder.join("stat")).ok()?)?;
    Some(Process {
        pid,
        parent,
        start_ticks,
        state,
        command_line: nul_separated(&fs::read(folder.join("cmdline")).unwrap_or_default()),
        executable: fs::read_link(folder.join("exe")).ok(),
        environment: nul_separated(&fs::read(folder.join("environ")).unwrap_or_default()),
    })
}

/// State, parent and start time. The name before them is in brackets and may itself hold spaces and brackets.
fn parse_stat(stat: &str) -> Option<(char, u32, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

fn nul_separated(bytes: &[u8]) -> Vec<String> {
    bytes.split(|&byte| byte == 0).filter(|part| !part.is_empty()).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_an_odd_name() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 20 18446744073709551615";
        assert_eq!(parse_stat(stat), Some(('S', 7, 98765)));
        assert_eq!(parse_stat("42 (cut"), None);
    }

    #[test]
    fn finds_itself() {
        let me = all().into_iter().find(|p| p.pid == std::process::id()).expect("this test is a process");
        assert!(me.is_alive());
        assert_eq!(me.executable, std::env::current_exe().ok());
    }
}
