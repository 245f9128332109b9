//! `cargo xtask bench`: runs a benchmark from a release build. `release` measures real releases (`measure-release` of the test
//! kit), `controller` one controller with many releases in a test cluster (`measure-controller`), beside those of other projects, which are built for
//! that unless `--alone` is given; everything else is for `serin-bench`.
//! Arguments are handed on as they are, so that they are declared (and refused) in one place only: `cargo xtask bench detect --help`,
//! `cargo xtask bench release --help` and `cargo xtask bench controller --help` show them.
//!
//! Standard output is the benchmark's alone, so that `--json` can go to a file or another tool.

use anyhow::Result;

use crate::cargo::{self, HandedOn, cargo, lock_flag};
use crate::{cluster, tree};

/// The benchmarks that are not of `serin-bench`.
const RELEASE: &str = "release";
const CONTROLLER: &str = "controller";

/// Builds and runs the benchmark.
///
/// # Errors
/// If it cannot be built, or fails.
pub(crate) fn run(args: &HandedOn) -> Result<()> {
    let root = tree::root()?;
    let mut command = match args.what.split_first() {
        Some((what, options)) if what == RELEASE => {
            let mut command = cargo::tool(&root, "measure-release")?;
            command.args(options);
            command
        }
        Some((what, options)) if what == CONTROLLER => {
            cluster::build(&root)?;
            let peers = if wants_peers(options) { Some(cluster::build_peers(&root)?) } else { None };
            let mut command = cargo::tool(&root, "measure-controller")?;
            if let Some(peers) = peers {
                command.arg("--peers").arg(peers);
            }
            command.args(options);
            command
        }
        _ => {
            let mut command = cargo(&root, &["run", "--release", "-q", "-p", "serin-bench"]);
            command.args(lock_flag()).arg("--").args(&args.what);
            command
        }
    };
    cargo::run(&mut command, "the benchmark")
}

/// Whether controllers of other projects are measured as well. That costs minutes the first time, which nobody should spend for the help.
fn wants_peers(options: &[String]) -> bool {
    !options.iter().any(|option| ["--alone", "--help", "-h"].contains(&option.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_built_where_they_are_measured() {
        let wants = |options: &[&str]| wants_peers(&options.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(wants(&[]) && wants(&["--n", "100", "--json"]));
        assert!(!wants(&["--n", "100", "--alone"]) && !wants(&["--help"]));
    }
}
