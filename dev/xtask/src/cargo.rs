//! How this tool calls cargo.
//!
//! `cargo run` gives its child variables about the package that is run (here: this tool). They are taken away again, because
//! build scripts and tests would otherwise see other values under `cargo xtask` than under plain `cargo`, and be built twice.

use std::env;
use std::path::Path;
use std::process::Command;

/// A cargo command in the repository's root.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(args);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_about_this_tool) {
            command.env_remove(name);
        }
    }
    command
}

/// The flag for commands that read the lock file: in CI a lock file that does not fit the manifests is an error, not a thing to repair.
pub(crate) fn lock_flag() -> &'static [&'static str] {
    if env::var_os("CI").is_some() { &["--locked"] } else { &[] }
}

fn is_about_this_tool(name: &str) -> bool {
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || ["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_about_the_run_package_are_taken_away() {
        for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_CRATE_NAME"] {
            assert!(is_about_this_tool(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_TERM_COLOR", "PATH"] {
            assert!(!is_about_this_tool(name), "{name}");
        }
    }
}
