//! Running a command so that people can follow it: the command line is printed, its output streams through, and it has a time limit.
//!
//! The child stays in our process group, so that Ctrl-C at a terminal ends it as well. When the limit passes, the child and all
//! its descendants are killed: a test that hangs would otherwise hold the machine for ever.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::processes;

/// How often a running child is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Runs a command with no input and its output passed through.
///
/// # Errors
/// If it cannot be started, fails, or runs longer than `limit`.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<()> {
    let line = command_line(command);
    println!("$ {line}");
    let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    match wait(child, limit)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("`{line}` failed: {status}"),
        None => bail!("`{line}` was still running after {} s and was killed", limit.as_secs()),
    }
}

/// Runs a short command that cannot hang and gives its standard output.
///
/// # Errors
/// If it cannot be started, fails, or its output is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{line}` is not UTF-8"))
}

fn wait(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            // Descendants first: once the child is gone, nothing says whose they were.
            let descendants = processes::descendants(child.id());
            child.kill()?;
            child.wait()?;
            processes::kill(&descendants);
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

fn command_line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_status() {
        let error = run(Command::new("sh").args(["-c", "exit 3"]), Duration::from_secs(30)).unwrap_err().to_string();
        assert!(error.contains("sh -c exit 3") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let started = Instant::now();
        // The inner shell outlives a kill of the outer one, unless descendants are killed too.
        let script = "sh -c 'exec sleep 61.25' & wait";
        let error = run(Command::new("sh").args(["-c", script]), Duration::from_millis(300)).unwrap_err().to_string();
        assert!(error.contains("was killed"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(60));
        let deadline = Instant::now() + Duration::from_secs(10);
        while processes::all().iter().any(|p| p.is_alive() && p.command_line == ["sleep", "61.25"]) {
            assert!(Instant::now() < deadline, "a descendant is left");
            thread::sleep(POLL);
        }
    }

    #[test]
    fn output_is_given_and_a_failure_shows_what_was_said() {
        assert_eq!(output(Command::new("echo").arg("hello")).unwrap(), "hello\n");
        let error = output(Command::new("sh").args(["-c", "echo because >&2; exit 1"])).unwrap_err().to_string();
        assert!(error.contains("because"), "{error}");
    }
}
