//! Keeps Debian packages from starting services while they are installed, with the file that Debian asks: `policy-rc.d`.
//!
//! If a policy is there that says no already (as in container images), nothing is touched. Otherwise ours stands in for the time of
//! the installation, and what was there comes back. A run that was killed in between is cleaned up by the next one: our file is known
//! by its text, and the original waits beside it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// The whole text of our policy: 101 means "not allowed".
const OURS: &str = "#!/bin/sh\n# Put here by `cargo xtask test` while it installs packages; it may be removed.\nexit 101\n";

const NOT_ALLOWED: i32 = 101;

const BUSY_RETRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// While this is held, no service is started by an installation.
#[must_use = "the policy ends when this is released"]
pub(super) struct NoServices {
    /// The policy's file, if ours stands there.
    ours: Option<PathBuf>,
}

impl NoServices {
    /// Puts the policy in place.
    ///
    /// # Errors
    /// If the folder cannot be changed.
    pub(super) fn hold(folder: &Path) -> Result<Self> {
        let file = folder.join("policy-rc.d");
        restore(&file)?;
        if says_no(&file) {
            return Ok(Self { ours: None });
        }
        // Ours from here on, so that a failure half way is put right when this is dropped.
        let held = Self { ours: Some(file.clone()) };
        if file.exists() {
            fs::rename(&file, kept(&file)).with_context(|| format!("cannot put {} aside", file.display()))?;
        }
        fs::write(&file, OURS)
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(held)
    }

    /// Puts back what was there.
    ///
    /// # Errors
    /// If that is not possible: the policy still stands then.
    pub(super) fn release(mut self) -> Result<()> {
        self.ours.take().map_or(Ok(()), |file| restore(&file))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.ours.take().map(|file| restore(&file)) {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Removes our policy, if it is ours, and brings back the one that was put aside, if one was.
fn restore(file: &Path) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|text| text == OURS) {
        fs::remove_file(file).with_context(|| format!("cannot remove {}: remove it by hand", file.display()))?;
    }
    let kept = kept(file);
    if file.exists() || !kept.exists() {
        return Ok(());
    }
    match fs::rename(&kept, file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot bring {} back: rename {} to it", file.display(), kept.display()))
        }
        _ => Ok(()),
    }
}

fn kept(file: &Path) -> PathBuf {
    file.with_extension("d.before-xtask")
}

/// Asks the policy as Debian does. A file that was written a moment ago can be "busy" while another thread starts a process.
fn says_no(file: &Path) -> bool {
    for _ in 0..BUSY_RETRIES {
        let mut ask = Command::new(file);
        match ask.args(["nginx", "start"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::sleep(BUSY_PAUSE),
            answer => return answer.is_ok_and(|status| status.code() == Some(NOT_ALLOWED)),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(file: &Path, text: &str) {
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn without_a_policy_ours_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let held = NoServices::hold(folder.path()).unwrap();
        assert!(says_no(&folder.path().join("policy-rc.d")));
        held.release().unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_policy_that_allows_is_put_aside_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy-rc.d");
        script(&file, "#!/bin/sh\nexit 0\n");
        {
            let _held = NoServices::hold(folder.path()).unwrap();
            assert!(says_no(&file));
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "#!/bin/sh\nexit 0\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(names(folder.path()), ["policy-rc.d"]);
    }

    #[test]
    fn a_policy_that_says_no_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy-rc.d");
        script(&file, "#!/bin/sh\nexit 101\n");
        let held = NoServices::hold(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "#!/bin/sh\nexit 101\n");
        held.release().unwrap();
        assert_eq!(names(folder.path()), ["policy-rc.d"]);
    }

    #[test]
    fn a_killed_run_is_put_right_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy-rc.d");
        script(&file, "#!/bin/sh\nexit 0\n");
        std::mem::forget(NoServices::hold(folder.path()).unwrap());
        assert_eq!(names(folder.path()), ["policy-rc.d", "policy-rc.d.before-xtask"]);
        NoServices::hold(folder.path()).unwrap().release().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "#!/bin/sh\nexit 0\n");
        assert_eq!(names(folder.path()), ["policy-rc.d"]);
    }
}
