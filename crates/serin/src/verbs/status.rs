//! `serin status`: how the release of a state folder is.

use std::process::ExitCode;

use serin_core::{
    plan::Plan,
    release::{Entry, State, narrate},
};
use serin_engine::{
    run::{AskError, Request, Response, RunEnd, ask},
    store::{Reader, ReleaseRow, StateFolder},
};

use super::remote::{self, Backend};
use crate::{
    exit,
    output::{self, Output},
    render,
    server::ServerArg,
};

/// Shows how the current release is, or how the last one ended.
///
/// Exit codes: 0 running or succeeded, 1 it does not answer, 2 there is none, 3 refused by preflight or the state folder cannot be read, 4 rolled
/// back, 5 needs an operator or was interrupted.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A service of a server. Without it: the release of this state folder.
    service: Option<String>,
    #[command(flatten)]
    server: ServerArg,
    /// Wait for the end of the service's release, showing what happens, and exit with the code of `serin run`.
    #[arg(long, requires = "service")]
    wait: bool,
}

/// Prints the status.
///
/// # Errors
/// If the store cannot be read or stdout not be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.service {
        return remote::with(&args.server, output, async |client| of_service(&client, name, args.wait, output).await);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let running = runtime.block_on(ask(&args.server.state.state.join("control.sock"), &Request::Status));
    if let Ok(Response::Status(status)) = running {
        match output {
            Output::Json => output::data(&render::json::status(&status).to_string())?,
            Output::Text => output::data(&render::panel::lines(&status, false).join("\n"))?,
        }
        return Ok(exit::code(if status.wait.operator { exit::NEEDS_OPERATOR } else { exit::SUCCEEDED }));
    }
    if let Err(error @ AskError::NoAnswer(_)) = &running {
        output::error(&format!("{error}; it may be busy, try again"));
        return Ok(exit::code(exit::INTERNAL));
    }
    let Some(folder) = StateFolder::existing(&args.server.state.state) else {
        output::error(&format!("{} holds no releases; is it the right folder? (--state)", args.server.state.state.display()));
        return Ok(exit::code(exit::USAGE));
    };
    let reader = Reader::open(&folder)?;
    let Some(row) = reader.releases(1)?.into_iter().next() else {
        output::error("no release was run here yet");
        return Ok(exit::code(exit::USAGE));
    };
    let journal = reader.journal(row.id)?;
    past(&row, &journal.state(), output)
}

/// How the release of a service is, or how its last one ended.
pub(super) async fn of_service(backend: &impl Backend, name: &str, wait: bool, output: Output) -> anyhow::Result<u8> {
    if wait {
        return remote::wait(backend, name, None, output).await;
    }
    let status = backend.service(name).await?;
    match (output, &status.release, &status.last) {
        (Output::Json, _, _) => output::data(&serde_json::to_string(&status)?)?,
        (Output::Text, Some(release), _) => output::data(&render::panel::lines(release, false).join("\n"))?,
        (Output::Text, None, Some(last)) => {
            output::data(&render::plain(&format!("{name} run {} · {}", last.run, remote::end_words(&last.end))))?;
        }
        (Output::Text, None, None) => output::data(&render::plain(&format!("{name} · {} · not released yet", status.serving)))?,
    }
    Ok(remote::ended(&status).unwrap_or(exit::SUCCEEDED))
}

/// A release that nobody is carrying out right now.
fn past(row: &ReleaseRow, state: &State, output: Output) -> anyhow::Result<ExitCode> {
    let end = RunEnd::of(state);
    let interrupted = row.ended_at.is_none() && !state.is_final();
    match output {
        Output::Json => output::data(&serde_json::json!({"type": "status", "release": row.name, "run": row.run, "running": false, "interrupted": interrupted, "state": state, "end": end}).to_string())?,
        Output::Text => {
            let how = if interrupted { format!("interrupted while {}; `serin run` goes on with it", state.phase.name()) } else { state.phase.name().to_owned() };
            let why = state.rollback.as_ref().map_or_else(String::new, |cause| format!("\n  why       {}", render::plain(&cause.text)));
            output::data(&format!("{} run {} · {how}{why}", row.name, row.run))?;
        }
    }
    let code = match (&end, interrupted) {
        (_, true) => exit::NEEDS_OPERATOR,
        (end, false) => exit::of_end(end),
    };
    Ok(exit::code(code))
}

/// A journal in words.
pub(super) fn told(journal: &[Entry], plan: &Plan) -> Vec<String> {
    journal.iter().filter_map(|entry| render::lines::entry(entry, narrate(entry, plan).as_ref())).collect()
}
