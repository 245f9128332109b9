//! The cache of what is built for the tests.
//!
//! A folder appears under its name only when it is complete: it is made beside and renamed. Two runs that build the same thing do it twice, and
//! the second keeps what the first has put there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The user's cache for this project.
///
/// # Errors
/// If the environment names no place for it.
pub(super) fn folder() -> Result<PathBuf> {
    let given = env::var_os("SERIN_TESTBED_CACHE").map(PathBuf::from);
    let of_user = || env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let at_home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    given
        .or_else(|| Some(of_user().or_else(at_home)?.join("serin-testbed")))
        .context("no place for what is built: set SERIN_TESTBED_CACHE to a folder")
}

/// The folder for what a file describes, made by `make` (into the path it gets) unless it is there.
///
/// # Errors
/// If the file cannot be read, or what `make` says.
pub(super) fn get(cache: &Path, name: &str, described_by: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let description = fs::read(described_by).with_context(|| format!("cannot read {}", described_by.display()))?;
    let hash: String = Sha256::digest(&description).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let folder = cache.join(format!("{name}-{hash}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let beside = cache.join(format!("{name}-{hash}.{}", std::process::id()));
    fs::create_dir_all(&beside).with_context(|| format!("cannot make {}", beside.display()))?;
    let made = make(&beside);
    if made.is_err() {
        let _ = fs::remove_dir_all(&beside);
    }
    made?;
    if fs::rename(&beside, &folder).is_err() {
        fs::remove_dir_all(&beside)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn made_once_and_only_if_it_worked() {
        let cache = tempfile::tempdir().unwrap();
        let description = cache.path().join("description");
        fs::write(&description, "one").unwrap();
        let failed = get(cache.path(), "x", &description, |_| bail!("no"));
        assert_eq!(failed.unwrap_err().to_string(), "no");
        let made = get(cache.path(), "x", &description, |folder| Ok(fs::write(folder.join("file"), "")?)).unwrap();
        assert!(made.join("file").is_file());
        assert_eq!(get(cache.path(), "x", &description, |_| bail!("not again")).unwrap(), made);
        fs::write(&description, "two").unwrap();
        assert!(get(cache.path(), "x", &description, |_| bail!("again")).is_err());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 2);
    }
}
