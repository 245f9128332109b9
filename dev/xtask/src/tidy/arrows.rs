//! Dependencies between our crates go one way only: stats ← core ← {spec, proxy, engine}; spec, proxy ← engine ← {kube, web} ← serin.
//!
//! So the data plane knows no releases, the state machine no I/O, and each crate can be read without those above it. Tests may
//! reach across (a dev-dependency is no arrow), and the packages under `dev/` may use anything; nothing that ships may use them.

use super::Problem;
use crate::tree::Tree;

/// What each folder of `crates/` may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("stats", &[]),
    ("core", &["stats"]),
    ("spec", &["stats", "core"]),
    ("proxy", &["stats", "core"]),
    ("engine", &["stats", "core", "spec", "proxy"]),
    ("kube", &["stats", "core", "spec", "proxy", "engine"]),
    ("web", &["stats", "core", "spec", "proxy", "engine"]),
    ("serin", &["stats", "core", "spec", "proxy", "engine", "kube", "web"]),
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in &tree.packages {
        let Some(folder) = package.folder.strip_prefix("crates/") else { continue };
        let manifest = format!("{}/Cargo.toml", package.folder);
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == folder) else {
            let fix = "Give it a place in the table of `dev/xtask/src/tidy/arrows.rs` and in ARCHITECTURE.md.";
            problems.push(Problem::of(manifest, "no rule says what this crate may depend on", fix));
            continue;
        };
        let ours = package.direct.iter().filter_map(|name| tree.packages.iter().find(|other| other.name == *name));
        for other in ours.filter(|other| !is_allowed(&other.folder, allowed)) {
            let what = format!("{} depends on {}, against the arrows", package.name, other.name);
            let fix = if allowed.is_empty() {
                "It may use none of our crates: move the code up, or what it needs down.".to_owned()
            } else {
                format!("It may use {} only: move the code up, or what it needs down (tests may use dev-dependencies).", allowed.join(", "))
            };
            problems.push(Problem::of(&manifest, what, fix));
        }
    }
    problems
}

fn is_allowed(folder: &str, allowed: &[&str]) -> bool {
    folder.strip_prefix("crates/").is_some_and(|name| allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    fn found(packages: &[(&str, &[&str])]) -> Vec<String> {
        let packages = packages.iter().map(|(folder, direct)| Package {
            name: folder.replace("crates/", "serin-").replace("dev/", ""),
            folder: (*folder).to_owned(),
            direct: direct.iter().map(ToString::to_string).collect(),
            ..Package::default()
        });
        let tree = Tree { packages: packages.collect(), ..Tree::default() };
        check(&tree).into_iter().map(|problem| format!("{}: {}", problem.path, problem.what)).collect()
    }

    #[test]
    fn along_the_arrows_is_fine() {
        let packages: &[(&str, &[&str])] = &[
            ("crates/stats", &["serde"]),
            ("crates/core", &["serin-stats", "serde"]),
            ("crates/engine", &["serin-core", "serin-proxy"]),
            ("crates/proxy", &["serin-core"]),
            ("dev/testkit", &["serin-engine", "serin-core"]),
        ];
        assert!(found(packages).is_empty());
    }

    #[test]
    fn against_the_arrows_is_named() {
        let packages: &[(&str, &[&str])] =
            &[("crates/proxy", &["serin-spec"]), ("crates/spec", &["testkit"]), ("crates/stats", &["serin-proxy"]), ("dev/testkit", &[])];
        assert_eq!(
            found(packages),
            [
                "crates/proxy/Cargo.toml: serin-proxy depends on serin-spec, against the arrows",
                "crates/spec/Cargo.toml: serin-spec depends on testkit, against the arrows",
                "crates/stats/Cargo.toml: serin-stats depends on serin-proxy, against the arrows",
            ]
        );
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        assert_eq!(found(&[("crates/misc", &[])]), ["crates/misc/Cargo.toml: no rule says what this crate may depend on"]);
    }
}
