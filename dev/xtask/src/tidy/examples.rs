//! Every example document is named in README.md or in docs/, so that people find it: by its path, or by its folder if it is the only
//! document there.

use super::Problem;
use crate::tree::{SourceFile, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let texts: Vec<&str> = tree.files.iter().filter(|file| is_document(file)).filter_map(SourceFile::text).collect();
    let examples: Vec<&str> = tree.files.iter().filter(|file| is_example(file)).map(|file| file.path.as_str()).collect();
    let is_named = |path: &str| {
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        let is_alone = examples.iter().filter(|other| other.rsplit_once('/').is_some_and(|(theirs, _)| theirs == folder)).count() == 1;
        texts.iter().any(|text| names(text, path) || is_alone && folder != "examples" && names(text, folder))
    };
    let unnamed = examples.iter().filter(|path| !is_named(path));
    let fix = "Name its path in README.md or in a page below docs/, with a line on what it shows.";
    unnamed.map(|path| Problem::of(*path, "no document names this example", fix)).collect()
}

fn is_document(file: &SourceFile) -> bool {
    file.path == "README.md" || file.path.starts_with("docs/") && file.extension() == "md"
}

fn is_example(file: &SourceFile) -> bool {
    file.path.starts_with("examples/") && matches!(file.extension(), "yaml" | "yml")
}

/// Whether the text has the path as a whole, not as the beginning of a longer name.
fn names(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let after = text.get(at + path.len()..).and_then(|after| after.chars().next());
        !after.is_some_and(|c| c.is_alphanumeric() || c == '-' || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_by_path_or_by_a_folder_of_its_own() {
        let tree = Tree::of(&[
            ("README.md", "Run `serin run examples/path/release.yaml`, or see examples/folder/ and [this](examples/quick-bad)."),
            ("docs/more.md", "examples/two, examples/two/a.yaml"),
            ("ARCHITECTURE.md", "examples/quick/release.yaml"),
            ("examples/path/release.yaml", ""),
            ("examples/folder/release.yaml", ""),
            ("examples/folder/server.conf", ""),
            ("examples/quick/release.yaml", ""),
            ("examples/quick-bad/release.yaml", ""),
            ("examples/two/a.yaml", ""),
            ("examples/two/b.yaml", ""),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|problem| problem.path).collect();
        assert_eq!(found, ["examples/quick/release.yaml", "examples/two/b.yaml"]);
    }
}
