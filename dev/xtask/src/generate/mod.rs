//! Documents that are made from code, so that they cannot say anything else than the code does.
//!
//! Each is a function to its text, in a file of its own. `generate` writes them all; the rule `generated` of `tidy` compares them
//! with what is committed.

mod fields;
mod places;
mod release_document;

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    cargo::{self, cargo, lock_flag},
    tree,
};

/// A generated document.
pub(crate) struct Generated {
    /// Where it lies, from the root.
    pub(crate) path: &'static str,
    /// Makes its text.
    pub(crate) text: fn() -> Result<String>,
}

/// All of them.
pub(crate) const DOCUMENTS: &[Generated] = &[Generated { path: "docs/release-document.md", text: release_document::text }];

/// Manifests of Kubernetes are written by the test that compares them: this program would be built for minutes if it knew the cluster's types.
fn manifests(root: &Path) -> Result<()> {
    let mut test = cargo(root, &["test", "--quiet", "--package", "serin-kube", "--test", "manifests"]);
    cargo::run(test.args(lock_flag()).env("SERIN_GENERATE", "1"), "writing the manifests in charts/ and packaging/kubernetes/")?;
    println!("charts/serin and packaging/kubernetes are up to date");
    Ok(())
}

/// Writes every generated document.
///
/// # Errors
/// If one cannot be made or written.
pub(crate) fn run() -> Result<()> {
    let root = tree::root()?;
    for document in DOCUMENTS {
        let text = (document.text)().with_context(|| format!("cannot make {}", document.path))?;
        let path = root.join(document.path);
        let changed = fs::read_to_string(&path).ok().as_ref() != Some(&text);
        if changed {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        println!("{} {}", document.path, if changed { "written" } else { "is up to date" });
    }
    manifests(&root)
}
