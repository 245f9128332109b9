//! Ends a cluster whose test was killed.
//!
//! A panic runs `Drop`; SIGKILL runs nothing. So a shell stands by with the read end of a pipe whose only other end is the test: when it
//! closes, every process with the cluster's folder in its environment is killed, and the folder removed. A signal on the parent's death would
//! need code between fork and exec, and follows the thread that forked, not the process.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::processes;

/// `$1` is the marker with its value, `$2` the folder. Ctrl-C in a terminal must not end the guard before it has done its work.
const SCRIPT: &str = r#"trap '' INT TERM HUP
cat > /dev/null
for round in 1 2 3 4 5 6 7 8 9 10; do
    left=$(grep -lsxzF -e "$1" /proc/[0-9]*/environ | cut -d/ -f3)
    [ -z "$left" ] && break
    kill -KILL $left 2> /dev/null
done
rm -rf -- "$2"
"#;

/// See the module. Dropping it means that the cluster has been stopped in order: what is left then is killed.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    /// Stands by for processes with this folder as their [`processes::MARKER`].
    pub(super) fn start(folder: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "testbed-guard"]).arg(format!("{}={}", processes::MARKER, folder.display())).arg(folder);
        // Not itself among those that are killed.
        shell.env_remove(processes::MARKER).process_group(0);
        Self(shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    #[test]
    fn what_is_left_is_killed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("600").env(processes::MARKER, folder.path()).spawn().unwrap();
        drop(Guard::start(folder.path()));
        let ended = wait::until("the end of what was left", || child.try_wait().unwrap());
        assert!(!ended.success());
        assert!(!folder.path().exists());
    }
}
