//! The repository holds text of a size that people can review: no file over 512 KiB, nothing binary but pictures for the documents.

use super::Problem;
use crate::tree::{SourceFile, Tree};

const LIMIT_BYTES: u64 = 512 * 1024;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    tree.files.iter().flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<Problem> {
    let mut problems = Vec::new();
    if file.size_bytes > LIMIT_BYTES {
        let what = format!("{} KiB, over {}", file.size_bytes.div_ceil(1024), LIMIT_BYTES / 1024);
        problems.push(Problem::of(&file.path, what, "Make it smaller, generate it when it is needed, or split it."));
    }
    let is_picture = file.path.starts_with("docs/") && file.extension() == "png";
    if file.text().is_none() && !is_picture {
        let fix = "Generate it when it is needed, or keep it as text; pictures go below docs/ as .png.";
        problems.push(Problem::of(&file.path, "is binary (zero bytes, or not UTF-8)", fix));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_binary_files() {
        let large = "x".repeat(512 * 1024 + 1);
        let tree = Tree::of(&[
            ("just.txt", &large[1..]),
            ("large.txt", &large),
            ("docs/picture.png", "\u{89}PNG\0"),
            ("docs/tool.exe", "MZ\0"),
            ("picture.png", "\u{89}PNG\0"),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|p| format!("{}: {}", p.path, p.what)).collect();
        assert_eq!(
            found,
            [
                "large.txt: 513 KiB, over 512",
                "docs/tool.exe: is binary (zero bytes, or not UTF-8)",
                "picture.png: is binary (zero bytes, or not UTF-8)"
            ]
        );
    }
}
