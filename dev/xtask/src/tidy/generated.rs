//! Generated documents are committed as the generator gives them: whoever changes what they are made from runs it again, and nobody
//! edits them by hand.

use super::Problem;
use crate::generate::DOCUMENTS;
use crate::tree::Tree;

const FIX: &str = "Run `cargo xtask generate` and commit what it writes; edit its sources, not the file.";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    DOCUMENTS.iter().filter_map(|document| problem(tree, document.path, (document.text)())).collect()
}

fn problem(tree: &Tree, path: &str, expected: anyhow::Result<String>) -> Option<Problem> {
    let expected = match expected {
        Ok(expected) => expected,
        Err(error) => return Some(Problem::of(path, format!("cannot be generated: {error:#}"), "Mend its template or its source.")),
    };
    let Some(file) = tree.file(path) else { return Some(Problem::of(path, "is missing", FIX)) };
    if file.text() == Some(&expected) {
        return None;
    }
    let same = file.lines().zip(expected.lines()).take_while(|((_, is), should)| is == should).count();
    Some(Problem::at(file, same + 1, "is not what the generator gives", FIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_named() {
        let tree = Tree::of(&[("a.md", "one\ntwo\n")]);
        let found = |expected: &str| problem(&tree, "a.md", Ok(expected.to_owned())).map(|problem| problem.line);
        assert_eq!(found("one\ntwo\n"), None);
        assert_eq!(found("one\n2\n"), Some(Some(2)));
        assert_eq!(found("one\ntwo\nthree\n"), Some(Some(3)));
        assert_eq!(found("one\ntwo"), Some(Some(3)));
    }

    #[test]
    fn a_missing_file_and_a_generator_that_fails() {
        assert_eq!(problem(&Tree::default(), "a.md", Ok(String::new())).unwrap().what, "is missing");
        let failed = problem(&Tree::default(), "a.md", Err(anyhow::anyhow!("no section"))).unwrap();
        assert_eq!(failed.what, "cannot be generated: no section");
    }
}
