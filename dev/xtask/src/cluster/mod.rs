//! `cargo xtask cluster`: the programs of the test cluster, and a cluster to play with.
//!
//! The programs are built once ([`go`], [`envoy`]) into a cache outside of the tree and linked below the target folder, where the tests look for
//! them. The cache is `SERIN_TESTBED_CACHE`, else `serin-testbed` in the user's cache folder; each of its folders is named by the hash of
//! the file that says what is in it, so that versions live side by side. It may be removed at any time.

mod cache;
mod envoy;
mod go;
mod peers;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::cargo::{self, HandedOn, cargo, lock_flag};
use crate::{metadata, tree};

/// Where the tests look, below the target folder.
const FOLDER: &str = "testbed";
/// Where benchmarks look for the controllers of other projects, below that.
const PEERS: &str = "peers";

/// What to do.
#[derive(Subcommand)]
pub(crate) enum What {
    /// Build the programs of the test cluster, unless they are in the cache
    Build,
    /// Start a cluster and keep it until Ctrl-C; prints how to reach it
    Up(HandedOn),
}

/// Does it.
///
/// # Errors
/// If something cannot be built or started.
pub(crate) fn run(what: &What) -> Result<()> {
    let root = tree::root()?;
    build(&root)?;
    let What::Up(args) = what else { return Ok(()) };
    // Both at once: by themselves they would be built with other features of what they share.
    let mut programs = cargo(&root, &["build", "-q", "-p", "serin", "-p", "serin-testkit", "--bin", "serin", "--bin", "cluster"]);
    cargo::run(programs.args(lock_flag()), "the build of serin and the testbed")?;
    let folder = metadata::target_folder(&root)?.join("debug");
    cargo::run(Command::new(folder.join("cluster")).arg("--serin").arg(folder.join("serin")).args(&args.what), "the cluster")
}

/// Puts all programs where the tests find them.
///
/// # Errors
/// If one cannot be built here, with what is missing.
pub(crate) fn build(root: &Path) -> Result<()> {
    let cache = cache::folder()?;
    let sources = root.join("dev/testkit/cluster");
    let programs = go::build(&sources, &cache)?.into_iter().chain([go::helm(&sources, &cache)?, envoy::install(&sources, &cache)?]);
    let links = metadata::target_folder(root)?.join(FOLDER);
    fs::create_dir_all(&links).with_context(|| format!("cannot make {}", links.display()))?;
    for program in programs {
        let name = program.file_name().context("a program without a name")?;
        link(&program, &links.join(name))?;
    }
    eprintln!("the programs of the test cluster are in {}", links.display());
    Ok(())
}

/// Puts the controllers of other projects where the benchmark finds them, and gives that folder.
///
/// # Errors
/// If one cannot be built here, with what is missing.
pub(crate) fn build_peers(root: &Path) -> Result<PathBuf> {
    let built = peers::build(&root.join("dev/testkit/cluster"), &cache::folder()?)?;
    let links = metadata::target_folder(root)?.join(FOLDER).join(PEERS);
    fs::create_dir_all(&links).with_context(|| format!("cannot make {}", links.display()))?;
    for (name, folder) in built {
        link(&folder, &links.join(name))?;
    }
    Ok(links)
}

/// Replaces a link at once, because tests may run meanwhile.
fn link(program: &Path, link: &Path) -> Result<()> {
    let beside = link.with_extension(std::process::id().to_string());
    let _ = fs::remove_file(&beside);
    symlink(program, &beside).and_then(|()| fs::rename(&beside, link)).with_context(|| format!("cannot link {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("kube-apiserver");
        for target in ["one", "two"] {
            link(Path::new(target), &place).unwrap();
            assert_eq!(fs::read_link(&place).unwrap(), Path::new(target));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
