//! Every package says in one line what it is, and follows the workspace's lints.

use super::Problem;
use crate::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in &tree.packages {
        let path = format!("{}/Cargo.toml", package.folder);
        if package.description.as_deref().is_none_or(|description| description.trim().is_empty()) {
            problems.push(Problem::of(&path, "the package has no description", "Add `description = \"…\"` under `[package]`."));
        }
        if !tree.file(&path).and_then(|file| file.text()).is_some_and(follows_workspace_lints) {
            let fix = "Add `[lints]` with `workspace = true`; open single lints in the code, with a reason.";
            problems.push(Problem::of(&path, "the package does not follow the workspace's lints", fix));
        }
    }
    problems
}

fn follows_workspace_lints(manifest: &str) -> bool {
    let code = manifest.lines().map(|line| line.split('#').next().unwrap_or_default().split_whitespace().collect::<String>());
    let mut section = String::new();
    for line in code {
        if line.starts_with('[') {
            section = line;
        } else if line == "lints.workspace=true" && section.is_empty() || line == "workspace=true" && section == "[lints]" {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    #[test]
    fn description_and_lints() {
        let package = |folder: &str, description: Option<&str>| Package {
            folder: folder.to_owned(),
            description: description.map(str::to_owned),
            ..Package::default()
        };
        let good = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";
        let off = "[package]\nname = \"b\"\n\n[lints]\n# workspace = true\n[dependencies.x]\nworkspace = true\n";
        let mut tree = Tree::of(&[("crates/a/Cargo.toml", good), ("crates/b/Cargo.toml", off)]);
        tree.packages = vec![package("crates/a", Some("A")), package("crates/b", Some(" "))];
        let found: Vec<_> = check(&tree).into_iter().map(|p| (p.path, p.what)).collect();
        let path = "crates/b/Cargo.toml".to_owned();
        assert_eq!(
            found,
            [
                (path.clone(), "the package has no description".to_owned()),
                (path, "the package does not follow the workspace's lints".to_owned())
            ]
        );
    }
}
