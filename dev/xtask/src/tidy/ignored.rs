//! A test that does not run says why: `#[ignore = "…"]`.

use super::Problem;
use super::mask::mask;
use crate::tree::{SourceFile, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    tree.files.iter().filter(|file| file.is_rust()).flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<Problem> {
    let masked = mask(file.text().unwrap_or_default());
    let ignored = masked.lines().enumerate().filter(|(_, line)| is_without_reason(line));
    let fix = "Say what it waits for, as in `#[ignore = \"needs ten minutes\"]`, or let it run.";
    ignored.map(|(index, _)| Problem::at(file, index + 1, "a test is ignored without a reason", fix)).collect()
}

/// Expects masked code, in which a reason is blank but as long as it was.
fn is_without_reason(line: &str) -> bool {
    let code: String = line.split(' ').collect();
    ["#[ignore]", ",ignore)]", "#[ignore=\"\"]"].iter().any(|form| code.contains(form)) && !has_reason(line)
}

fn has_reason(line: &str) -> bool {
    line.split_once('"').and_then(|(_, rest)| rest.split_once('"')).is_some_and(|(reason, _)| !reason.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reason_excuses() {
        let text = "#[ignore]\n#[ignore = \"slow\"]\n#[ignore = \"\"]\n#[cfg_attr(windows, ignore)]\n// #[ignore]\nfn ignore() {}\n";
        let found: Vec<_> = check(&Tree::of(&[("a.rs", text)])).into_iter().map(|p| p.line.unwrap()).collect();
        assert_eq!(found, [1, 3, 4]);
    }
}
