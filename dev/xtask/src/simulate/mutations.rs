//! `cargo xtask simulate --mutations`: would the rules notice? Plants one bug after the other in a copy of the state machine, builds
//! the simulation with it, and demands that a rule is broken.
//!
//! There is one copy, below the target folder, patched and restored in place: what does not depend on the core is built once. It has
//! a workspace of its own, because half optimized code that is built in a third of the time finds the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::planted::{PLANTED, Planted};
use crate::cargo::{self, cargo};
use crate::metadata;

/// Seeds within which a rule must be broken.
const SEEDS: u64 = 10_000;
/// What the copy consists of.
const COPIED: &[&str] = &["crates/stats", "crates/core", "dev/simulate"];
const RELEASE: &str = "src/release";

/// What a planted bug came to.
#[derive(Debug)]
struct Found {
    name: &'static str,
    what: &'static str,
    /// The rule and the seed that broke it; `None`: nothing was broken.
    caught: Option<(String, u64)>,
    took: Duration,
}

/// The part of the simulation's output that is needed.
#[derive(Deserialize)]
struct Report {
    broken: Vec<Broken>,
}

#[derive(Deserialize)]
struct Broken {
    seed: u64,
    rule: String,
}

/// Plants the bugs of these names, or all.
///
/// # Errors
/// If the unchanged simulation finds anything, a bug is not caught, or its text is no longer found.
pub(super) fn run(root: &Path, only: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| PLANTED.iter().all(|planted| planted.name != **name)) {
        bail!("no planted bug is called {unknown}");
    }
    let copy = Copy::new(root)?;
    println!("building the simulation as it is");
    copy.build()?;
    if let Some((rule, seed)) = copy.simulate()? {
        bail!("the code as it is breaks `{rule}` with seed {seed}: repair that first (cargo xtask simulate --seed {seed})");
    }
    let mut all = Vec::new();
    for planted in PLANTED.iter().filter(|planted| only.is_empty() || only.iter().any(|name| name == planted.name)) {
        let started = Instant::now();
        let caught = copy.with(planted, || {
            copy.build()?;
            copy.simulate()
        })?;
        let found = Found { name: planted.name, what: planted.what, caught, took: started.elapsed() };
        print!("{}", row(&found));
        all.push(found);
    }
    let missed: Vec<&str> = all.iter().filter(|found| found.caught.is_none()).map(|found| found.name).collect();
    println!("{} of {} planted bugs were caught within {SEEDS} seeds", all.len() - missed.len(), all.len());
    if !missed.is_empty() {
        bail!("not caught: {}", missed.join(", "));
    }
    Ok(())
}

fn row(found: &Found) -> String {
    let caught = found.caught.as_ref().map_or_else(|| "NOT CAUGHT".to_owned(), |(rule, seed)| format!("{rule}, seed {seed}"));
    format!("{:<28}{caught:<26}{:>5.0} s  {}\n", found.name, found.took.as_secs_f64(), found.what)
}

/// A copy of the crates that are simulated.
struct Copy {
    root: PathBuf,
    /// Where the copies are.
    folder: PathBuf,
}

impl Copy {
    fn new(root: &Path) -> Result<Self> {
        let folder = metadata::target_folder(root)?.join("mutations/tree");
        for part in COPIED {
            let there = folder.join(part);
            if there.exists() {
                fs::remove_dir_all(&there).with_context(|| format!("cannot remove {}", there.display()))?;
            }
            copy_folder(&root.join(part), &there)?;
        }
        let manifest = fs::read_to_string(root.join("Cargo.toml")).context("cannot read Cargo.toml")?;
        fs::write(folder.join("Cargo.toml"), manifest_of_copy(&manifest)?)?;
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).context("cannot copy Cargo.lock")?;
        Ok(Self { root: root.to_owned(), folder })
    }

    /// Does something while the bug is planted.
    fn with<T>(&self, planted: &Planted, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut changed: Vec<&str> = planted.edits.iter().map(|edit| edit.file).collect();
        changed.dedup();
        for edit in planted.edits {
            let path = self.source(edit.file);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let times = text.matches(edit.find).count();
            if times != 1 {
                bail!("{}: the text to change is found {times} times in {}: bring the list up to date", planted.name, edit.file);
            }
            fs::write(&path, text.replacen(edit.find, edit.replace, 1))?;
        }
        let result = work();
        for file in changed {
            let original = self.root.join("crates/core").join(RELEASE).join(file);
            // Written anew, so that its time changes and cargo sees it.
            fs::write(self.source(file), fs::read(original)?)?;
        }
        result.with_context(|| planted.name)
    }

    fn source(&self, file: &str) -> PathBuf {
        self.folder.join("crates/core").join(RELEASE).join(file)
    }

    fn build(&self) -> Result<()> {
        let mut command = cargo(&self.folder, &["build", "--release", "-q", "--offline", "-p", "serin-simulate"]);
        command.env("CARGO_TARGET_DIR", self.target()).env("RUSTFLAGS", "-Awarnings");
        cargo::run(&mut command, "the build")
    }

    /// The rule that is broken first, with its seed.
    fn simulate(&self) -> Result<Option<(String, u64)>> {
        let mut command = std::process::Command::new(self.target().join("release/serin-simulate"));
        command.args(["--seeds", &SEEDS.to_string(), "--fail-fast", "--json"]).stdin(Stdio::null());
        let output = command.output().context("cannot start the simulation")?;
        let report: Report = serde_json::from_slice(&output.stdout).context("the simulation did not come to a result")?;
        Ok(report.broken.into_iter().min_by_key(|broken| broken.seed).map(|broken| (broken.rule, broken.seed)))
    }

    fn target(&self) -> PathBuf {
        self.folder.with_file_name("target")
    }
}

/// The workspace's manifest with other members and a quicker build.
fn manifest_of_copy(manifest: &str) -> Result<String> {
    let members = format!("members = {COPIED:?}");
    let mut text = String::new();
    for line in manifest.lines().take_while(|line| !line.starts_with("[profile.")) {
        let line = match line.split_once(" = ") {
            Some(("members", _)) => &members,
            Some(("default-members", _)) => continue,
            _ => line,
        };
        text.push_str(line);
        text.push('\n');
    }
    if !text.contains("[workspace]") || !text.contains(&members) {
        bail!("the workspace's manifest has another shape than expected");
    }
    text.push_str("[profile.release]\nopt-level = 1\nlto = false\ncodegen-units = 16\nincremental = true\ndebug = false\n");
    Ok(text)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let there = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &there)?;
        } else {
            fs::copy(entry.path(), &there)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn the_copy_has_three_members_and_all_dependencies() {
        let manifest = fs::read_to_string(tree::root().unwrap().join("Cargo.toml")).unwrap();
        let copy = manifest_of_copy(&manifest).unwrap();
        assert!(copy.contains("serde = ") && copy.contains("[workspace.lints.clippy]"));
        assert!(!copy.contains("default-members") && !copy.contains("dev/*"));
        assert_eq!(copy.matches("[profile.").count(), 1);
    }
}
