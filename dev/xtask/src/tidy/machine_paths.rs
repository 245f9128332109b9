//! No absolute paths of somebody's machine: they work nowhere else, and say more than the reader should know.

use super::Problem;
use crate::tree::Tree;

/// Top folders that exist on one machine only.
const FOLDERS: &[&str] = &["work", "root", "home", "Users"];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let patterns: Vec<String> = FOLDERS.iter().map(|folder| format!("/{folder}/")).collect();
    let mut problems = Vec::new();
    for file in &tree.files {
        for (line_number, line) in file.lines() {
            if let Some(pattern) = patterns.iter().find(|pattern| has_absolute(line, pattern)) {
                let fix = "Write it relative to the repository, with `~/`, or with a folder that every machine has (`/srv/`, `/etc/`).";
                problems.push(Problem::at(file, line_number, format!("an absolute path below `{pattern}`"), fix));
            }
        }
    }
    problems
}

/// Whether the pattern begins a path: after `a/b` or in an address it is only a part of one.
fn has_absolute(line: &str, pattern: &str) -> bool {
    line.match_indices(pattern).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~*})]>/$%".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_machine_are_found_in_any_text() {
        let found = |line: &str| check(&Tree::of(&[("docs/a.md", &format!("text\n{line}\n"))])).len();
        for folder in FOLDERS {
            for line in [format!("/{folder}/a"), format!("see `/{folder}/a`"), format!("path=/{folder}/a")] {
                assert_eq!(found(&line), 1, "{line}");
            }
            for line in [format!("crates/{folder}/a"), format!("http://host/{folder}/a"), format!("~/{folder}/a"), format!("/{folder}er/a")]
            {
                assert_eq!(found(&line), 0, "{line}");
            }
        }
    }
}
