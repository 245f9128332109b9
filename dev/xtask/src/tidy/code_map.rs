//! ARCHITECTURE.md is a map that can be trusted: it names every folder of `crates/` and `dev/`, and nothing that does not exist.
//!
//! What counts as a path: a word in backticks that begins with a top folder of the repository, or that ends like a file of ours
//! (`.rs`, `.md`, `.toml`); in code blocks, words that begin with `crates/` or `dev/`. A pattern (`crates/*/src`) is checked up to
//! its first wildcard, and a bare file name (`lib.rs`) must be the name of some file.

use std::collections::BTreeSet;

use super::Problem;
use crate::tree::{SourceFile, Tree};

const MAP: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(map) = tree.file(MAP) else {
        return vec![Problem::of(MAP, "is missing", "Write it: how the house is built, and a code map of crates/ and dev/.")];
    };
    let mut problems = Vec::new();
    let named = paths(map);
    let folders: BTreeSet<&str> = tree.files.iter().filter_map(|file| folder_of(&file.path)).collect();
    for folder in folders {
        let is_named = named.iter().any(|(_, path)| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        if !is_named {
            problems.push(Problem::of(MAP, format!("the code map does not name `{folder}`"), "Add it, with a line on what it is for."));
        }
    }
    for (line, path) in named.iter().filter(|(_, path)| looks_like_ours(tree, path) && !exists(tree, path)) {
        problems.push(Problem::at(map, *line, format!("names `{path}`, which does not exist"), "Name what is there, from the root."));
    }
    problems
}

/// `crates/core` of `crates/core/src/lib.rs`.
fn folder_of(path: &str) -> Option<&str> {
    let (top, rest) = path.split_once('/')?;
    let (name, _) = rest.split_once('/')?;
    if matches!(top, "crates" | "dev") { path.get(..top.len() + 1 + name.len()) } else { None }
}

/// The words that may be paths, each with its line.
fn paths(map: &SourceFile) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (number, line) in map.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block || line.starts_with("    ") {
            let words = line.split_whitespace().filter(|word| word.starts_with("crates/") || word.starts_with("dev/"));
            found.extend(words.map(|word| (number, clean(word))));
        }
        if !in_block {
            let spans = line.split('`').skip(1).step_by(2);
            found.extend(spans.flat_map(str::split_whitespace).map(|word| (number, clean(word))));
        }
    }
    found
}

/// Without what may follow a path: a comma, a line number, a last slash.
fn clean(word: &str) -> String {
    let word = word.trim_matches(|c| ",;()\"'".contains(c));
    let word = word.split_once(':').map_or(word, |(path, _)| path);
    word.split_once('#').map_or(word, |(path, _)| path).trim_end_matches(['/', '.']).to_owned()
}

fn looks_like_ours(tree: &Tree, path: &str) -> bool {
    let ends_like_a_file = [".rs", ".md", ".toml"].iter().any(|ending| path.ends_with(ending));
    match path.split_once('/') {
        Some((top, _)) => !top.is_empty() && top != "~" && (ends_like_a_file || matches!(top, "crates" | "dev") || tree.has(top)),
        None => ends_like_a_file,
    }
}

fn exists(tree: &Tree, path: &str) -> bool {
    if let Some((before, _)) = path.split_once(['*', '{', '<', '…']) {
        return before.is_empty() || tree.files.iter().any(|file| file.path.starts_with(before));
    }
    tree.has(path) || !path.contains('/') && tree.files.iter().any(|file| file.path.rsplit('/').next() == Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(map: &str) -> Vec<String> {
        let files = [(MAP, map), ("crates/core/src/lib.rs", ""), ("crates/stats/src/lib.rs", ""), ("docs/guide.md", "")];
        check(&Tree::of(&files)).into_iter().map(|p| p.line.map_or(p.what.clone(), |line| format!("{line}: {}", p.what))).collect()
    }

    #[test]
    fn a_true_map_in_either_form() {
        assert!(found("`crates/core/`: the core. `crates/stats`: maths.\n").is_empty());
        assert!(found("```\ncrates/core   the core\ncrates/stats  maths\n```\n").is_empty());
        assert!(found("    crates/core   the core\n    crates/stats  maths\n").is_empty());
    }

    #[test]
    fn a_folder_that_is_not_named() {
        assert_eq!(found("`crates/core`, crates/stats\n"), ["the code map does not name `crates/stats`"]);
        assert_eq!(found("`crates/core2`, `crates/stats`\n").first().unwrap(), "the code map does not name `crates/core`");
    }

    #[test]
    fn a_name_of_nothing() {
        let map = |more: &str| format!("`crates/core` `crates/stats`\n{more}\n");
        for more in ["`crates/old`", "`docs/old.md`", "`src/old.rs`", "`old.rs`", "`crates/old/*.rs`", "```\ncrates/old  gone\n```"] {
            assert_eq!(found(&map(more)).len(), 1, "{more}");
        }
        let fine = "`crates/*/src` `lib.rs` `docs/guide.md:12` `crates/core/src/lib.rs` `a/b` `text/html` `/metrics` `cargo test` `v1.2`";
        assert_eq!(found(&map(fine)), Vec::<String>::new());
        assert_eq!(found(&map("`crates/core/src/gone.rs:7`")), ["2: names `crates/core/src/gone.rs`, which does not exist"]);
    }

    #[test]
    fn no_map() {
        assert_eq!(check(&Tree::default()).first().unwrap().to_string().lines().next(), Some("ARCHITECTURE.md: is missing"));
    }
}
