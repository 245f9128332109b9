//! Both versions as processes.

use super::{
    Context, arguments,
    context::{DAY, HOUR, MINUTE, SECOND},
};
use crate::{
    format::short_duration,
    raw,
    tree::Path,
    validated::{LoadCommand, LogPolicy, ProcessArm, Processes, ReadyProbe, RestartPolicy},
};

/// Time beyond `ready.within` that starting processes may take, in milliseconds.
const START_MARGIN_MS: u64 = 5 * SECOND;

/// The smallest log file worth rotating.
const MIN_LOG_BYTES: u64 = 64 << 10;
const MAX_LOG_BYTES: u64 = 64 << 30;

pub(super) fn lower(given: raw::Processes, path: &Path, cx: &mut Context<'_>) -> Processes {
    Processes {
        stable: arm(given.stable, &path.key("stable"), cx),
        canary: arm(given.canary, &path.key("canary"), cx),
        load: given.load.map(|load| {
            let at = path.key("load");
            LoadCommand {
                command: arguments::command(load.command, &arguments::LOAD_TEMPLATES, &at.key("command"), cx),
                env: arguments::environment(load.env, &at.key("env"), cx),
            }
        }),
    }
}

/// How long the canary may take until it is ready, in milliseconds.
pub(super) fn deploy_timeout_ms(processes: &Processes) -> u64 {
    processes.canary.ready.within_ms + START_MARGIN_MS
}

fn arm(given: raw::ProcessArm, path: &Path, cx: &mut Context<'_>) -> ProcessArm {
    let logs = given.logs.unwrap_or_default();
    let at_logs = path.key("logs");
    ProcessArm {
        command: arguments::command(given.command, &arguments::ARM_TEMPLATES, &path.key("command"), cx),
        env: arguments::environment(given.env, &path.key("env"), cx),
        working_dir: given.working_dir.map(Into::into),
        replicas: given.replicas.unwrap_or(1),
        ready: ready(&given.ready.unwrap_or_default(), &path.key("ready"), cx),
        restart: restart(&given.restart.unwrap_or_default(), &path.key("restart"), cx),
        stop_grace_ms: cx.duration(&path.key("stopGrace"), given.stop_grace.as_ref(), 10 * SECOND, 0..=HOUR),
        logs: LogPolicy {
            max_bytes: cx.size(&at_logs.key("maxSize"), logs.max_size.as_ref(), 10 << 20, MIN_LOG_BYTES..=MAX_LOG_BYTES),
            keep: logs.keep.unwrap_or(3),
        },
    }
}

fn ready(given: &raw::Ready, path: &Path, cx: &mut Context<'_>) -> ReadyProbe {
    ReadyProbe {
        path: given.path.as_ref().map(|path| path.0.clone()),
        interval_ms: cx.duration(&path.key("interval"), given.interval.as_ref(), 500, 10..=HOUR),
        timeout_ms: cx.duration(&path.key("timeout"), given.timeout.as_ref(), SECOND, 10..=10 * MINUTE),
        failures: given.failures.unwrap_or(3),
        within_ms: cx.duration(&path.key("within"), given.within.as_ref(), 30 * SECOND, 100..=DAY),
    }
}

fn restart(given: &raw::Restart, path: &Path, cx: &mut Context<'_>) -> RestartPolicy {
    let backoff_ms = cx.duration(&path.key("backoff"), given.backoff.as_ref(), 500, 10..=HOUR);
    let at_max = path.key("maxBackoff");
    let max_backoff_ms = cx.duration(&at_max, given.max_backoff.as_ref(), (30 * SECOND).max(backoff_ms), 10..=DAY);
    if max_backoff_ms < backoff_ms {
        let message = format!("`maxBackoff` is shorter than the first wait, `{}`", short_duration(backoff_ms));
        cx.push(cx.error(&at_max, "contradiction", message).expected("at least as long as `backoff`"));
    }
    RestartPolicy {
        backoff_ms,
        max_backoff_ms,
        limit: given.limit.unwrap_or(3),
        window_ms: cx.duration(&path.key("window"), given.window.as_ref(), 5 * MINUTE, SECOND..=DAY),
    }
}
