//! The files of the repository: what git tracks, and what it would track (new files that are not ignored).

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::exec;
use crate::metadata::{self, Package};

/// The most that is read of one file, in bytes. Larger files break a rule anyway, and are judged by their beginning.
const READ_LIMIT_BYTES: u64 = 1024 * 1024;

/// One file.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// Its path from the root, with `/`.
    pub(crate) path: String,
    /// Its size in bytes.
    pub(crate) size_bytes: u64,
    content: Vec<u8>,
}

impl SourceFile {
    /// Its text; `None` if it is not UTF-8 or has zero bytes, so that it is no text.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.content).ok().filter(|text| !text.contains('\0'))
    }

    /// Its lines with their numbers from 1; none if it is no text.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text().unwrap_or_default().split_terminator('\n').enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The ending of its name after the last dot, or nothing.
    pub(crate) fn extension(&self) -> &str {
        self.path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension)
    }

    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }
}

/// The repository as the rules see it.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The files, sorted by path.
    pub(crate) files: Vec<SourceFile>,
    /// The workspace's packages.
    pub(crate) packages: Vec<Package>,
}

impl Tree {
    /// Reads the repository.
    ///
    /// # Errors
    /// If git or cargo cannot list it, or a file cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        // A clone that belongs to another user is normal in containers; here it is only listed.
        let safe = format!("safe.directory={}", root.display());
        let args = ["-c", &safe, "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let list = exec::output(Command::new("git").current_dir(root).args(args)).context("tidy needs a git clone")?;
        let mut paths: Vec<&str> = list.split_terminator('\0').collect();
        paths.sort_unstable();
        paths.dedup();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            files.extend(read_file(root, path).with_context(|| format!("cannot read {path}"))?);
        }
        Ok(Self { files, packages: metadata::packages(root)? })
    }

    /// A file by its path.
    pub(crate) fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether a path from the root is a file, or a folder with files.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.iter().any(|file| file.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// Made-up files, for the rules' tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| SourceFile {
            path: (*path).to_owned(),
            size_bytes: text.len() as u64,
            content: text.as_bytes().to_vec(),
        });
        Self { files: files.collect(), packages: Vec::new() }
    }
}

/// The repository's root: two folders above this package.
///
/// # Errors
/// If this tool was not started by cargo inside of the repository.
pub(crate) fn root() -> Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").context("start this tool with `cargo xtask …`, not by itself")?;
    let root = Path::new(&package).ancestors().nth(2).context("this tool is not in dev/xtask of the repository")?;
    Ok(root.to_owned())
}

/// `None` for files that are deleted but not yet committed so, and for what is no file (links, submodules).
fn read_file(root: &Path, path: &str) -> Result<Option<SourceFile>> {
    let full = root.join(path);
    let metadata = match fs::symlink_metadata(&full) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    let mut content = Vec::new();
    File::open(&full)?.take(READ_LIMIT_BYTES).read_to_end(&mut content)?;
    Ok(Some(SourceFile { path: path.to_owned(), size_bytes: metadata.len(), content }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_and_extensions() {
        let tree = Tree::of(&[("crates/core/src/lib.rs", "//! Core.\n"), ("LICENSE", "Text")]);
        assert!(tree.has("crates/core") && tree.has("crates/core/") && tree.has("crates/core/src/lib.rs"));
        assert!(!tree.has("crates/cor") && !tree.has("crates/core/src/lib"));
        assert_eq!(tree.file("LICENSE").unwrap().extension(), "");
        assert!(tree.file("crates/core/src/lib.rs").unwrap().is_rust());
    }

    #[test]
    fn deleted_files_and_links_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", folder.path().join("link")).unwrap();
        assert_eq!(read_file(folder.path(), "file").unwrap().unwrap().size_bytes, 4);
        assert!(read_file(folder.path(), "link").unwrap().is_none());
        assert!(read_file(folder.path(), "gone").unwrap().is_none());
    }
}
