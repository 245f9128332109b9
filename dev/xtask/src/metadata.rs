//! What cargo knows about the workspace's packages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cargo::{cargo, lock_flag};
use crate::exec;

/// A package of the workspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    /// Its name, like `serin-core`.
    pub(crate) name: String,
    /// Its folder from the root, like `crates/core`.
    pub(crate) folder: String,
    /// What its manifest says it is.
    pub(crate) description: Option<String>,
    /// Names of its direct dependencies, build dependencies included, test-only ones not.
    pub(crate) direct: Vec<String>,
    /// Names of everything that it is linked with: the direct normal dependencies and theirs, on any system. Sorted.
    pub(crate) linked: Vec<String>,
}

/// The workspace's packages.
///
/// # Errors
/// If cargo cannot say.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut command = cargo(root, &["metadata", "--format-version", "1"]);
    parse(&exec::output(command.args(lock_flag()))?, root)
}

/// Where cargo puts what it builds.
///
/// # Errors
/// If cargo cannot say.
pub(crate) fn target_folder(root: &Path) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Folders {
        target_directory: PathBuf,
    }
    let json = exec::output(&mut cargo(root, &["metadata", "--format-version", "1", "--no-deps"]))?;
    let folders: Folders = serde_json::from_str(&json).context("cannot read the output of `cargo metadata`")?;
    Ok(folders.target_directory)
}

/// Names of all test targets (files in `tests` folders) of the workspace, sorted.
///
/// # Errors
/// If cargo cannot say.
pub(crate) fn tests(root: &Path) -> Result<BTreeSet<String>> {
    parse_tests(&exec::output(&mut cargo(root, &["metadata", "--format-version", "1", "--no-deps"]))?)
}

fn parse_tests(json: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Workspace {
        packages: Vec<Targets>,
    }
    #[derive(Deserialize)]
    struct Targets {
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let workspace: Workspace = serde_json::from_str(json).context("cannot read the output of `cargo metadata`")?;
    let targets = workspace.packages.into_iter().flat_map(|package| package.targets);
    Ok(targets.filter(|target| target.kind.iter().any(|kind| kind == "test")).map(|target| target.name).collect())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<RawPackage>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct RawPackage {
    id: String,
    name: String,
    description: Option<String>,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` is a normal dependency.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

fn parse(json: &str, root: &Path) -> Result<Vec<Package>> {
    let metadata: Metadata = serde_json::from_str(json).context("cannot read the output of `cargo metadata`")?;
    let names: BTreeMap<&str, &str> = metadata.packages.iter().map(|p| (p.id.as_str(), p.name.as_str())).collect();
    let nodes: BTreeMap<&str, &Node> = metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let members = metadata.packages.iter().filter(|p| metadata.workspace_members.contains(&p.id));
    members
        .map(|package| {
            let folder = package.manifest_path.parent().and_then(|folder| folder.strip_prefix(root).ok());
            let folder = folder.with_context(|| format!("package {} is outside of the workspace", package.name))?;
            let direct = package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev"));
            Ok(Package {
                name: package.name.clone(),
                folder: folder.to_string_lossy().into_owned(),
                description: package.description.clone(),
                direct: direct.map(|d| d.name.clone()).collect(),
                linked: linked(&package.id, &nodes).iter().filter_map(|id| names.get(id)).map(ToString::to_string).collect(),
            })
        })
        .collect()
}

fn linked<'a>(id: &'a str, nodes: &BTreeMap<&'a str, &'a Node>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![id];
    while let Some(node) = open.pop().and_then(|id| nodes.get(id)) {
        for edge in node.deps.iter().filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none())) {
            if found.insert(edge.pkg.as_str()) {
                open.push(&edge.pkg);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_targets_of_all_packages() {
        let json = r#"{"packages": [
            {"targets": [{"name": "serin", "kind": ["bin"]}, {"name": "run_good", "kind": ["test"]}, {"name": "cluster_bad", "kind": ["test"]}]},
            {"targets": [{"name": "update", "kind": ["bench"]}, {"name": "stats", "kind": ["test"]}]}]}"#;
        assert_eq!(parse_tests(json).unwrap().into_iter().collect::<Vec<_>>(), ["cluster_bad", "run_good", "stats"]);
    }

    #[test]
    fn direct_and_linked_dependencies() {
        let json = r#"{
            "workspace_members": ["a"],
            "packages": [
                {"id": "a", "name": "serin-a", "description": "First", "manifest_path": "/r/crates/a/Cargo.toml", "dependencies": [
                    {"name": "b", "kind": null}, {"name": "builder", "kind": "build"}, {"name": "tester", "kind": "dev"}]},
                {"id": "b", "name": "b", "description": null, "manifest_path": "/x/b/Cargo.toml", "dependencies": []},
                {"id": "c", "name": "c", "description": null, "manifest_path": "/x/c/Cargo.toml", "dependencies": []},
                {"id": "t", "name": "tester", "description": null, "manifest_path": "/x/t/Cargo.toml", "dependencies": []}],
            "resolve": {"nodes": [
                {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}, {"pkg": "t", "dep_kinds": [{"kind": "dev"}]}]},
                {"id": "b", "deps": [{"pkg": "c", "dep_kinds": [{"kind": "dev"}, {"kind": null}]}]},
                {"id": "c", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}]},
                {"id": "t", "deps": []}]}}"#;
        let packages = parse(json, Path::new("/r")).unwrap();
        let [package] = packages.as_slice() else { panic!("one member, got {packages:?}") };
        assert_eq!((package.name.as_str(), package.folder.as_str()), ("serin-a", "crates/a"));
        assert_eq!(package.direct, ["b", "builder"]);
        assert_eq!(package.linked, ["b", "c"]);
    }
}
