//! The core stays small and pure: few dependencies in all, and none that brings I/O, time, threads or randomness.

use super::Problem;
use crate::tree::Tree;

/// The core may be linked with fewer packages than this.
const LIMIT: usize = 20;

/// Packages (or families, with a trailing `-`) that would let the core do what only the shell may.
const FORBIDDEN: &[(&str, &str)] = &[
    ("async-", "async"),
    ("chrono", "clocks"),
    ("crossbeam-", "threads"),
    ("futures", "async"),
    ("getrandom", "randomness"),
    ("h2", "network"),
    ("http", "network"),
    ("hyper", "network"),
    ("hyper-", "network"),
    ("jiff", "clocks"),
    ("k8s-openapi", "Kubernetes"),
    ("kube", "Kubernetes"),
    ("libsqlite3-sys", "a database"),
    ("mio", "network"),
    ("rand", "randomness"),
    ("reqwest", "network"),
    ("rusqlite", "a database"),
    ("rustix", "system calls"),
    ("saphyr-", "YAML"),
    ("serde-saphyr", "YAML"),
    ("socket2", "network"),
    ("time", "clocks"),
    ("tokio", "async"),
    ("tokio-", "async"),
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(core) = tree.packages.iter().find(|package| package.folder == "crates/core") else { return Vec::new() };
    let manifest = "crates/core/Cargo.toml";
    let mut problems = Vec::new();
    if core.linked.len() >= LIMIT {
        let what = format!("the core is linked with {} packages, {LIMIT} or more: {}", core.linked.len(), core.linked.join(", "));
        problems.push(Problem::of(manifest, what, "Do without, or do it in the crate that needs it."));
    }
    for name in &core.linked {
        if let Some((_, brings)) = FORBIDDEN.iter().find(|(forbidden, _)| is_of(name, forbidden)) {
            let what = format!("the core is linked with {name}, which brings {brings}");
            let fix = "Let the shell (crates/engine) do it, and give the core the result as an input.";
            problems.push(Problem::of(manifest, what, fix));
        }
    }
    problems
}

fn is_of(name: &str, forbidden: &str) -> bool {
    if forbidden.ends_with('-') { name.starts_with(forbidden) } else { name == forbidden }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    fn found(linked: Vec<String>) -> Vec<String> {
        let core = Package { folder: "crates/core".to_owned(), linked, ..Package::default() };
        let tree = Tree { packages: vec![core], ..Tree::default() };
        check(&tree).into_iter().map(|problem| problem.what).collect()
    }

    #[test]
    fn few_and_pure_is_fine() {
        assert!(found(["serde", "serin-stats", "thiserror", "timely"].map(String::from).to_vec()).is_empty());
    }

    #[test]
    fn too_many_and_impure_ones_are_named() {
        assert!(found((0..19).map(|n| format!("p{n}")).collect()).is_empty());
        assert!(found((0..20).map(|n| format!("p{n}")).collect())[0].starts_with("the core is linked with 20 packages"));
        assert_eq!(found(vec!["tokio-util".to_owned()]), ["the core is linked with tokio-util, which brings async"]);
        assert_eq!(found(vec!["time".to_owned()]), ["the core is linked with time, which brings clocks"]);
    }
}
