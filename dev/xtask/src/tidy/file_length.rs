//! A file is one concept that can be read in one go: at most 500 lines of Rust, unless its head says why not.

use super::Problem;
use crate::tree::{SourceFile, Tree};

const LIMIT_LINES: usize = 500;

/// How the excuse begins, and within how many lines it stands.
const EXCUSE: &str = "//! Long because: ";
const EXCUSE_WITHIN_LINES: usize = 10;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let too_long = |file: &&SourceFile| file.is_rust() && file.lines().count() > LIMIT_LINES && !is_excused(file);
    let problem = |file: &SourceFile| {
        let what = format!("{} lines, over {LIMIT_LINES}", file.lines().count());
        Problem::of(&file.path, what, format!("Split it by concept, or say in its head why it must be so: `{EXCUSE}…`."))
    };
    tree.files.iter().filter(too_long).map(problem).collect()
}

fn is_excused(file: &SourceFile) -> bool {
    let reason = file.lines().take(EXCUSE_WITHIN_LINES).find_map(|(_, line)| line.strip_prefix(EXCUSE));
    reason.is_some_and(|reason| !reason.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_need_a_reason() {
        let lines = |head: &str, count: usize| format!("{head}{}", "x\n".repeat(count - head.lines().count()));
        let excused = lines("//! A table.\n//! Long because: it is one table.\n", 900);
        let unexcused = lines("//! Long because: \n", 900);
        let tree = Tree::of(&[
            ("just.rs", &lines("", 500)),
            ("over.rs", &lines("", 501)),
            ("excused.rs", &excused),
            ("unexcused.rs", &unexcused),
            ("data.json", &lines("", 900)),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|p| format!("{}: {}", p.path, p.what)).collect();
        assert_eq!(found, ["over.rs: 501 lines, over 500", "unexcused.rs: 900 lines, over 500"]);
    }
}
