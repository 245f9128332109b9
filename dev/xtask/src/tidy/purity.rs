//! The core and the statistics use nothing of the standard library that has effects or gives another answer the next time.
//!
//! Time and everything that happened come in as inputs, effects go out as values. That is what makes a journal replay to the
//! same state, byte for byte. Their tests may do what they like.

use super::Problem;
use super::mask::mask;
use crate::tree::Tree;

const FOLDERS: &[&str] = &["crates/core/src/", "crates/stats/src/"];

const IMPURE: &[(&str, &str)] = &[
    ("Instant::now", "reads the clock"),
    ("SystemTime", "reads the clock"),
    ("std::env", "reads the environment"),
    ("std::fs", "does I/O"),
    ("std::io", "does I/O"),
    ("std::net", "does I/O"),
    ("std::process", "does I/O"),
    ("std::thread", "starts threads"),
    ("HashMap", "is iterated in another order each time (BTreeMap is not)"),
    ("HashSet", "is iterated in another order each time (BTreeSet is not)"),
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.files.iter().filter(|file| file.is_rust() && FOLDERS.iter().any(|folder| file.path.starts_with(folder))) {
        for (index, line) in mask(file.text().unwrap_or_default()).lines().enumerate() {
            for (name, does) in IMPURE.iter().filter(|(name, _)| line.contains(name)) {
                let fix = "Take it as an input, or emit an effect for the shell (crates/engine) to carry out.";
                problems.push(Problem::at(file, index + 1, format!("`{name}` {does}"), fix));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_found_in_pure_crates_only() {
        let text = "//! Never std::fs.\nuse std::collections::HashMap;\nuse std::time::Duration;\nfn f() { Instant::now(); }\n";
        let tree = Tree::of(&[("crates/core/src/a.rs", text), ("crates/engine/src/a.rs", text), ("crates/core/tests/a.rs", text)]);
        let lines: Vec<_> = check(&tree).into_iter().map(|p| (p.path, p.line.unwrap())).collect();
        assert_eq!(lines, [("crates/core/src/a.rs".to_owned(), 2), ("crates/core/src/a.rs".to_owned(), 4)]);
    }
}
