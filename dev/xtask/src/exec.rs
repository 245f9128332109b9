//! Running a command so that people can follow it: the command line is printed, its output streams through, and it has a time limit.
//!
//! The child stays in our process group, so that Ctrl-C at a terminal ends it as well. When the limit passes, the child and all
//! its descendants are killed: a test that hangs would otherwise hold the machine for ever. Commands that run side by side show what they said
//! when they end, each in one piece.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
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
    ends_well(command, &line, limit)
}

fn ends_well(command: &mut Command, line: &str, limit: Duration) -> Result<()> {
    let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    match wait(child, limit)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("`{line}` failed: {status}"),
        None => bail!("`{line}` was still running after {} s and was killed", limit.as_secs()),
    }
}

/// Runs commands, `at_once` of them at a time, with no input. What each says is kept in a file of this folder (which is made, and where
/// files of an earlier run are written over) and printed when it ends. A command that fails does not keep the others from running.
///
/// # Errors
/// What all that failed have to say, if any cannot be started, fails, or runs at a time later than `limit` after the start.
pub(crate) fn run_side_by_side(commands: Vec<Command>, at_once: usize, limit: Duration, folder: &Path) -> Result<()> {
    let deadline = Instant::now() + limit;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let queue = Mutex::new(commands.into_iter().enumerate());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((number, mut command)) = next else { return };
                    let file = folder.join(format!("{number}.log"));
                    let left = deadline.saturating_duration_since(Instant::now());
                    if let Err(error) = run_into(&mut command, left, &file) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

fn run_into(command: &mut Command, limit: Duration, path: &Path) -> Result<()> {
    let line = command_line(command);
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let result = ends_well(command.stdout(file.try_clone()?).stderr(file), &line, limit);
    let said = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    println!("$ {line}\n{}", String::from_utf8_lossy(&said).trim_end());
    result
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
    let program = Path::new(command.get_program());
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
    fn commands_side_by_side_all_run_and_those_that_failed_are_named() {
        let folder = tempfile::tempdir().unwrap();
        // Each of the first two ends only if the other one runs as well.
        let meet = |own: &str, other: &str| format!("touch {own}; until test -e {other}; do sleep 0.01; done; echo {own} is done");
        let scripts = [meet("a", "b"), meet("b", "a"), "echo why; exit 3".to_owned(), "touch last".to_owned()];
        let commands = scripts.iter().map(|script| {
            let mut command = Command::new("sh");
            command.current_dir(folder.path()).args(["-c", script]);
            command
        });
        let logs = folder.path().join("logs");
        let error = run_side_by_side(commands.collect(), 2, Duration::from_secs(60), &logs).unwrap_err().to_string();
        assert!(error.contains("exit 3") && !error.contains("touch"), "{error}");
        assert!(folder.path().join("last").exists());
        let said = |number: u32| fs::read_to_string(logs.join(format!("{number}.log"))).unwrap();
        assert_eq!((said(0).as_str(), said(1).as_str(), said(2).as_str()), ("a is done\n", "b is done\n", "why\n"));
    }

    #[test]
    fn output_is_given_and_a_failure_shows_what_was_said() {
        assert_eq!(output(Command::new("echo").arg("hello")).unwrap(), "hello\n");
        let error = output(Command::new("sh").args(["-c", "echo because >&2; exit 1"])).unwrap_err().to_string();
        assert!(error.contains("because"), "{error}");
    }
}
