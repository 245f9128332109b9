//! What each step runs, and how long it may take. The limits are for what hangs: several times what two slow cores need from cold.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Step, deny, leftovers, packages};
use crate::cargo::{cargo, lock_flag};
use crate::{cluster, exec, metadata, simulate, tidy};

const QUICK: Duration = Duration::from_mins(2);
const BUILD: Duration = Duration::from_mins(25);
const TESTS: Duration = Duration::from_mins(30);

/// Releases that every run simulates: seconds, once it is built.
const SIMULATED: &str = "10000";

/// Under this variable a test that needs a real server fails where it would say that it was left out.
const TESTBED: (&str, &str) = ("SERIN_TESTBED", "1");

/// Runs one step.
///
/// # Errors
/// If it fails; what failed has been printed as it ran.
pub(super) fn run(step: Step, root: &Path) -> Result<()> {
    match step {
        Step::Fmt => exec::run(&mut cargo(root, &["fmt", "--all", "--check"]), QUICK),
        Step::Tidy => tidy::run(),
        Step::Deny => deny::run(root),
        Step::Packages => packages::install(),
        Step::Cluster => cluster::build(root),
        Step::Clippy => {
            let mut clippy = with_lock(root, &["clippy", "--workspace", "--all-targets"]);
            exec::run(clippy.args(["--", "-D", "warnings"]), BUILD)
        }
        Step::Doc => {
            let mut doc = with_lock(root, &["doc", "--no-deps", "--workspace"]);
            exec::run(doc.env("RUSTDOCFLAGS", "-Dwarnings"), BUILD)
        }
        Step::Test => tests(root),
        Step::Simulate => exec::run(simulate::command(root).args(["--seeds", SIMULATED]), BUILD),
    }
}

/// Builds first and by itself: helpers that a compiler keeps (caches, daemons) must not look like something that a test left running.
fn tests(root: &Path) -> Result<()> {
    let all = ["test", "--workspace", "--no-fail-fast"];
    exec::run(with_lock(root, &all).arg("--no-run"), BUILD)?;
    let watch = leftovers::Watch::start(&metadata::target_folder(root)?);
    let (marker, value) = watch.marker();
    let result = exec::run(with_lock(root, &all).env(TESTBED.0, TESTBED.1).env(marker, value), TESTS);
    match (result, watch.finish()) {
        (Err(failed), Err(left)) => bail!("{failed:#}; and {left:#}"),
        (result, left) => result.and(left),
    }
}

fn with_lock(root: &Path, args: &[&str]) -> Command {
    let mut command = cargo(root, args);
    command.args(lock_flag());
    command
}
