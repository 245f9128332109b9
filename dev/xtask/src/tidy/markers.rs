//! No unfinished code and no debugging leftovers: what is not built yet is a clear error for the user, not a panic.

use super::Problem;
use super::mask::mask;
use crate::tree::Tree;

const MARKERS: &[(&str, &str)] = &[
    ("todo!", "Finish it, or refuse the case with an error that says what is not supported."),
    ("unimplemented!", "Finish it, or refuse the case with an error that says what is not supported."),
    ("dbg!", "Remove it; use `tracing` for what is worth keeping."),
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.files.iter().filter(|file| file.is_rust()) {
        for (index, line) in mask(file.text().unwrap_or_default()).lines().enumerate() {
            for (marker, fix) in MARKERS.iter().filter(|(marker, _)| has_word(line, marker)) {
                problems.push(Problem::at(file, index + 1, format!("`{marker}` is left in the code"), *fix));
            }
        }
    }
    problems
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_in_code_are_found_and_others_not() {
        let text = "// todo!\nlet a = \"dbg!\";\nmy_dbg!(a);\nstd::todo!();\nlet b = dbg!(a);\n";
        let tree = Tree::of(&[("a.rs", text), ("a.md", "`todo!()`")]);
        let found: Vec<_> = check(&tree).into_iter().map(|p| (p.line.unwrap(), p.what)).collect();
        assert_eq!(found, [(4, "`todo!` is left in the code".to_owned()), (5, "`dbg!` is left in the code".to_owned())]);
    }
}
