//! `cargo deny`: licences, bans and sources. It reaches the crate registry only: advisories live in a git repository elsewhere and
//! are not part of this check.
//!
//! The tool is installed once into cargo's home; any version from the pinned one on will do, so that nobody's own is replaced by an
//! older one.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::cargo::{cargo, lock_flag};
use crate::exec;

/// The version that is installed, and the oldest that will do.
const VERSION: [u32; 3] = [0, 20, 2];

const INSTALL: Duration = Duration::from_mins(25);
const CHECK: Duration = Duration::from_mins(5);

/// Installs cargo-deny if it is missing, and runs it.
///
/// # Errors
/// If it cannot be installed, or a dependency breaks a rule of `deny.toml`.
pub(super) fn run(root: &Path) -> Result<()> {
    if !is_installed(root) {
        let version = VERSION.map(|part| part.to_string()).join(".");
        exec::run(&mut cargo(root, &["install", "cargo-deny", "--locked", "--version", &version]), INSTALL)?;
    }
    let mut check = cargo(root, &["deny"]);
    check.args(lock_flag()).args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    exec::run(&mut check, CHECK)
}

fn is_installed(root: &Path) -> bool {
    let version = exec::output(&mut cargo(root, &["deny", "--version"]));
    version.ok().and_then(|line| parse(&line)).is_some_and(|found| found >= VERSION)
}

/// `cargo-deny 0.20.2`
fn parse(line: &str) -> Option<[u32; 3]> {
    let version = line.trim().strip_prefix("cargo-deny ")?;
    let parts: Option<Vec<u32>> = version.split(['.', '-', '+']).take(3).map(|part| part.parse().ok()).collect();
    parts?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse("cargo-deny 0.20.2\n"), Some(VERSION));
        assert!(parse("cargo-deny 0.100.0").unwrap() > VERSION);
        assert!(parse("cargo-deny 0.9.9-rc.1").unwrap() < VERSION);
        assert_eq!(parse("error: no such command"), None);
        assert_eq!(parse("cargo-deny 0.20"), None);
    }
}
