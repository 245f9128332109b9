//! What each step runs, and how long it may take. The limits are for what hangs: several times what two slow cores need from cold.

use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Step, deny, leftovers, packages};
use crate::cargo::{cargo, lock_flag};
use crate::{cluster, exec, metadata, simulate, tidy};

const QUICK: Duration = Duration::from_mins(2);
const BUILD: Duration = Duration::from_mins(25);
/// For all tests together.
const TESTS: Duration = Duration::from_mins(30);
/// How names of tests begin that need a cluster.
const CLUSTER: &str = "cluster_";
/// Clusters that a test of them has at once. As many tests as there are cores run side by side, so that there are two clusters per core:
/// most of the time they wait for something. The test kit bounds how many there are in all.
const CLUSTERS_OF_A_TEST: &str = "--test-threads=2";

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
    exec::run(with_lock(root, &["test", "--workspace"]).arg("--no-run"), BUILD)?;
    let watch = leftovers::Watch::start(&metadata::target_folder(root)?);
    match (all_tests(root, watch.marker()), watch.finish()) {
        (Err(failed), Err(left)) => bail!("{failed:#}; and {left:#}"),
        (result, left) => result.and(left),
    }
}

/// What `cargo test --workspace` runs, in three parts. Tests with clusters come last: what they need of the machine would make others slow that
/// look at the time.
fn all_tests(root: &Path, marker: (&str, &str)) -> Result<()> {
    let deadline = Instant::now() + TESTS;
    let left = || deadline.saturating_duration_since(Instant::now());
    let test = |which: &[&str]| {
        let mut command = with_lock(root, &["test", "--workspace", "--no-fail-fast"]);
        command.args(which).env(TESTBED.0, TESTBED.1).env(marker.0, marker.1);
        command
    };
    let (clusters, others): (Vec<String>, Vec<String>) = metadata::tests(root)?.into_iter().partition(|name| name.starts_with(CLUSTER));
    let named: Vec<&str> = others.iter().flat_map(|name| ["--test", name.as_str()]).collect();
    let results = [
        exec::run(test(&["--lib", "--bins"]).args(named), left()),
        exec::run(&mut test(&["--doc"]), left()),
        exec::run_side_by_side(
            clusters.iter().map(|name| test(&["--test", name, "--", CLUSTERS_OF_A_TEST])).collect(),
            thread::available_parallelism().map_or(2, NonZero::get),
            left(),
            &metadata::target_folder(root)?.join("cluster-tests"),
        ),
    ];
    let failed: Vec<String> = results.into_iter().filter_map(|result| Some(format!("{:#}", result.err()?))).collect();
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

fn with_lock(root: &Path, args: &[&str]) -> Command {
    let mut command = cargo(root, args);
    command.args(lock_flag());
    command
}
