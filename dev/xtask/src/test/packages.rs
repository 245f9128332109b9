//! The real servers and tools that tests run, from Debian's packages.
//!
//! The tests start their own copies on their own ports; the packages must not start a service. Installing needs root on Debian (or
//! what is made from it); elsewhere this says what is missing and fails: under `cargo xtask test` a missing one is a failure.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::policy::NoServices;
use crate::{exec, processes};

struct Tool {
    /// A program of the package.
    program: &'static str,
    /// The Debian package that has it.
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { program: "nginx", package: "nginx-light" },
    Tool { program: "prometheus", package: "prometheus" },
    // Envoy is installed with it.
    Tool { program: "pip3", package: "python3-pip" },
    // Tests use the library that it brings along: a clock that can be set.
    Tool { program: "faketime", package: "faketime" },
];

const APT: Duration = Duration::from_mins(10);

/// Where Debian keeps servers; not in the search path of every user.
const SYSTEM_FOLDERS: &[&str] = &["/usr/sbin", "/usr/local/sbin"];

/// Installs what is missing.
///
/// # Errors
/// If something is missing and cannot be installed here.
pub(super) fn install() -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !is_there(tool.program)).collect();
    if missing.is_empty() {
        println!("all there: {}", TOOLS.iter().map(|tool| tool.program).collect::<Vec<_>>().join(", "));
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !(is_debian(&os_release) && is_root()) {
        let programs: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
        let how = if is_debian(&os_release) {
            format!("run `sudo apt-get install --no-install-recommends {}`, or this as root", packages.join(" "))
        } else {
            "install them with your system's packages (they need not run as services)".to_owned()
        };
        bail!("the tests need {}: {how}; `cargo test` does without", programs.join(", "));
    }
    apt_install(&packages)?;
    let still: Vec<&str> = missing.iter().map(|tool| tool.program).filter(|program| !is_there(program)).collect();
    ensure!(still.is_empty(), "installed {}, but {} is not in the search path", packages.join(", "), still.join(", "));
    Ok(())
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let before = service_pids();
    let policy = NoServices::hold(Path::new("/usr/sbin"))?;
    // Lists first: a fresh container has none, and old ones name files that are gone.
    let result = exec::run(&mut apt(&["update"]), APT)
        .and_then(|()| exec::run(apt(&["install", "-y", "--no-install-recommends"]).args(packages), APT))
        .context("cannot install what the tests need");
    policy.release()?;
    result?;
    let started: Vec<u32> = service_pids().into_iter().filter(|pid| !before.contains(pid)).collect();
    ensure!(started.is_empty(), "installing started a service, which it must not: stop process {started:?}");
    Ok(())
}

fn apt(args: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120"]).args(args);
    apt
}

fn service_pids() -> Vec<u32> {
    let is_server = |process: &processes::Process| {
        let program = process.executable.as_deref().and_then(Path::file_name);
        program.is_some_and(|program| TOOLS.iter().any(|tool| tool.program == program))
    };
    processes::all().into_iter().filter(is_server).map(|process| process.pid).collect()
}

fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(Into::into)).any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn is_debian(os_release: &str) -> bool {
    let values = os_release.lines().filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
    values.flat_map(|value| value.trim_matches('"').split_whitespace()).any(|id| id == "debian")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_what_is_made_from_it() {
        assert!(is_debian("PRETTY_NAME=\"Debian\"\nID=debian\n"));
        assert!(is_debian("ID=\"pop\"\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nVERSION_ID=\"debian\"\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn programs_are_looked_for() {
        assert!(is_there("sh"));
        assert!(!is_there("no-such-program-anywhere"));
    }
}
