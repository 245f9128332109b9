//! The project's own rules, checked over the tree.
//!
//! A rule is one function from the tree to problems, in a file of its own. A problem says what is wrong, where, and what to do.
//! All rules run; all problems are shown at once.

mod arrows;
mod code_map;
mod core_size;
mod examples;
mod file_length;
mod file_size;
mod generated;
mod ignored;
mod machine_paths;
mod manifests;
mod markers;
mod mask;
mod module_head;
mod purity;
mod whitespace;

use std::fmt;

use anyhow::{Result, bail};

use crate::tree::{self, SourceFile, Tree};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    /// The file or folder, from the root.
    path: String,
    /// The line from 1; `None` for the whole file.
    line: Option<usize>,
    /// What is wrong.
    what: String,
    /// What to do.
    fix: String,
}

impl Problem {
    fn of(path: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, what: what.into(), fix: fix.into() }
    }

    fn at(file: &SourceFile, line: usize, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { line: Some(line), ..Self::of(&file.path, what, fix) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}\n    {}", self.what, self.fix)
    }
}

type Rule = fn(&Tree) -> Vec<Problem>;

/// All rules, by the name that the output gives them.
const RULES: &[(&str, Rule)] = &[
    ("arrows", arrows::check),
    ("core-size", core_size::check),
    ("purity", purity::check),
    ("manifests", manifests::check),
    ("file-length", file_length::check),
    ("module-head", module_head::check),
    ("markers", markers::check),
    ("ignored", ignored::check),
    ("machine-paths", machine_paths::check),
    ("whitespace", whitespace::check),
    ("file-size", file_size::check),
    ("examples", examples::check),
    ("code-map", code_map::check),
    ("generated", generated::check),
];

/// Checks the repository.
///
/// # Errors
/// If a rule is broken, or the repository cannot be read.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::read(&tree::root()?)?;
    let mut count = 0;
    for (name, rule) in RULES {
        for problem in rule(&tree) {
            println!("[{name}] {problem}");
            count += 1;
        }
    }
    match count {
        0 => println!("tidy: {} files follow {} rules", tree.files.len(), RULES.len()),
        1 => bail!("tidy found 1 problem"),
        _ => bail!("tidy found {count} problems"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_where_what_and_what_to_do() {
        let tree = Tree::of(&[("a.rs", "x")]);
        let problem = Problem::at(&tree.files[0], 3, "it is odd", "Make it even.");
        assert_eq!(problem.to_string(), "a.rs:3: it is odd\n    Make it even.");
        assert_eq!(Problem::of("b", "it is odd", "Make it even.").to_string(), "b: it is odd\n    Make it even.");
    }

    #[test]
    fn an_empty_tree_lacks_the_documents_only() {
        let broken: Vec<_> = RULES.iter().filter(|(_, rule)| !rule(&Tree::default()).is_empty()).map(|(name, _)| *name).collect();
        assert_eq!(broken, ["code-map", "generated"]);
    }
}
