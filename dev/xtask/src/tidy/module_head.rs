//! Every Rust file begins with a head (`//! …`) that says what it is for.

use super::Problem;
use crate::tree::{SourceFile, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let problem = |file: &SourceFile| {
        let fix = "Begin it with `//! …`: what it is for, which policy it follows and why, the edge cases.";
        Problem::of(&file.path, "has no head", fix)
    };
    tree.files.iter().filter(|file| file.is_rust() && !has_head(file)).map(problem).collect()
}

fn has_head(file: &SourceFile) -> bool {
    let first = file.lines().map(|(_, line)| line.trim()).find(|line| !line.is_empty());
    first.and_then(|line| line.strip_prefix("//!")).is_some_and(|head| !head.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_head() {
        let tree = Tree::of(&[
            ("good.rs", "//! A thing.\nfn f() {}\n"),
            ("late.rs", "use x;\n//! Late.\n"),
            ("blank.rs", "//!\n"),
            ("empty.rs", ""),
            ("doc.rs", "/// Of an item.\nfn f() {}\n"),
            ("no-rust.md", "Text"),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|problem| problem.path).collect();
        assert_eq!(found, ["late.rs", "blank.rs", "empty.rs", "doc.rs"]);
    }
}
