//! Can a command be started?

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Finds the program that a command would start: as a path if it has a slash (relative to `directory`), else in `PATH`.
pub(super) fn find(program: &str, directory: &Path) -> Result<PathBuf, String> {
    if program.contains('/') {
        let path = directory.join(program);
        return executable(&path).map(|()| path);
    }
    let paths = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&paths)
        .map(|folder| folder.join(program))
        .find(|path| executable(path).is_ok())
        .ok_or_else(|| format!("{program} is not in PATH"))
}

fn executable(path: &Path) -> Result<(), String> {
    let metadata = path.metadata().map_err(|error| format!("{}: {error}", path.display()))?;
    if metadata.is_dir() {
        return Err(format!("{} is a folder", path.display()));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!("{} is not executable", path.display()));
    }
    Ok(())
}
