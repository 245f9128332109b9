//! Controllers of other projects, built by Go for `cargo xtask bench controller` alone: each from the version in its `go.mod`, with the manifests
//! that its module ships (they are not in this repository).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{cache, go};
use crate::exec;

/// A controller: its folder here, its module, and which of the module's files are installed before it runs.
struct Peer {
    name: &'static str,
    module: &'static str,
    manifests: &'static [&'static str],
}

const PEERS: [Peer; 2] = [
    Peer {
        name: "argo-rollouts",
        module: "github.com/argoproj/argo-rollouts",
        manifests: &[
            "manifests/crds/analysis-run-crd.yaml",
            "manifests/crds/analysis-template-crd.yaml",
            "manifests/crds/cluster-analysis-template-crd.yaml",
            "manifests/crds/experiment-crd.yaml",
            "manifests/crds/rollout-crd.yaml",
            "manifests/role/argo-rollouts-clusterrole.yaml",
        ],
    },
    Peer {
        name: "flagger",
        module: "github.com/fluxcd/flagger",
        manifests: &["artifacts/flagger/crd.yaml", "artifacts/flagger/account.yaml"],
    },
];

/// The folders of all of them, by name, which are built if they are not in the cache.
///
/// # Errors
/// If Go is missing or cannot build one.
pub(super) fn build(sources: &Path, cache: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    PEERS
        .iter()
        .map(|peer| {
            let sources = sources.join("peers").join(peer.name);
            let folder = cache::get(cache, peer.name, &sources.join("go.sum"), |folder| make(peer, &sources, folder))?;
            Ok((peer.name, folder))
        })
        .collect()
}

/// The program, `version`, and `manifests` with a file each.
fn make(peer: &Peer, sources: &Path, folder: &Path) -> Result<()> {
    eprintln!("building {} once, to be measured beside Serin; that takes 5 minutes on two idle cores", peer.name);
    go::build_tools(sources, folder, "-s -w")?;
    let about = |what: &str| -> Result<String> {
        let said = exec::output(Command::new("go").current_dir(sources).args(["list", "-m", "-f", what, peer.module]))?;
        Ok(said.trim().to_owned())
    };
    fs::write(folder.join("version"), about("{{.Version}}")?).context("cannot write to the cache")?;
    let (module, manifests) = (PathBuf::from(about("{{.Dir}}")?), folder.join("manifests"));
    fs::create_dir_all(&manifests).context("cannot write to the cache")?;
    for file in peer.manifests {
        let from = module.join(file);
        let name = from.file_name().with_context(|| format!("{file} is no file"))?;
        // Not copied as they are: files in Go's cache may not be written to.
        let text = fs::read(&from).with_context(|| format!("{} has no {file}: look at what it has now", peer.module))?;
        fs::write(manifests.join(name), text).context("cannot write to the cache")?;
    }
    Ok(())
}
