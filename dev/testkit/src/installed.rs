//! Programs of the system that tests use.

use std::{env, path::PathBuf};

/// Where Debian keeps programs; those for servers are not in the search path of every user.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// Where a program is: in the search path, or else where systems keep it.
#[must_use]
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
