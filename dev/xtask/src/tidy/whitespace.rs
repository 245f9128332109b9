//! No tabs and no blanks at line ends in Rust, Markdown and YAML, and a line end at the end of the file.
//!
//! Data of tests (not Rust, below a `tests/` folder) is left alone: it may be wrong on purpose.

use super::Problem;
use crate::tree::{SourceFile, Tree};

const EXTENSIONS: &[&str] = &["rs", "md", "yaml", "yml"];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    tree.files.iter().filter(|file| is_covered(file)).flat_map(check_file).collect()
}

fn is_covered(file: &SourceFile) -> bool {
    EXTENSIONS.contains(&file.extension()) && (file.is_rust() || !file.path.split('/').any(|part| part == "tests"))
}

fn check_file(file: &SourceFile) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (line_number, line) in file.lines() {
        if line.contains('\t') {
            problems.push(Problem::at(file, line_number, "a tab", "Indent with spaces; write `\\t` in strings."));
        }
        if line.ends_with([' ', '\t', '\r']) {
            problems.push(Problem::at(file, line_number, "blanks at the line's end", "Remove them."));
        }
    }
    if file.text().is_some_and(|text| !text.is_empty() && !text.ends_with('\n')) {
        problems.push(Problem::of(&file.path, "the last line has no line end", "Add one."));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_blanks_and_missing_line_ends() {
        let tree = Tree::of(&[
            ("good.md", "a\n\nb\n"),
            ("tab.yaml", "a:\n\tb: 1\n"),
            ("blank.rs", "a \nb\r\n"),
            ("end.yml", "a"),
            ("crates/x/tests/broken/tab.yaml", "a:\n\tb: 1"),
            ("crates/x/tests/tab.rs", "\ta\n"),
            ("Makefile", "a:\n\tb\n"),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|p| (p.path, p.line, p.what)).collect();
        let expected = [
            ("tab.yaml", Some(2), "a tab"),
            ("blank.rs", Some(1), "blanks at the line's end"),
            ("blank.rs", Some(2), "blanks at the line's end"),
            ("end.yml", None, "the last line has no line end"),
            ("crates/x/tests/tab.rs", Some(1), "a tab"),
        ];
        assert_eq!(found, expected.map(|(path, line, what)| (path.to_owned(), line, what.to_owned())));
    }
}
