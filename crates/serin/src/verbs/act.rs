//! The verbs that act on a running release from a second terminal.

use std::{path::Path, process::ExitCode};

use serin_core::{WeightBps, release::Action};
use serin_engine::{
    run::{AskError, Request, Response, ask},
    store::{Reader, StateFolder},
};

use serin_web::model::{Reason, SetWeight};

use super::{order, remote};
use crate::{
    exit,
    output::{self, Output},
    server::ServerArg,
};

const EXIT_CODES: &str = "Exit codes: 0 accepted, 2 refused or nothing runs here; it is said why.
With a service: 1 the server does not answer, 2 no such service or usage, 3 its state forbids it.";

/// Where the release runs, and why it is acted on.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// A service of a server. Without it: the release that `serin run` carries out with this state folder.
    service: Option<String>,
    #[command(flatten)]
    server: ServerArg,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// A weight to set by hand.
#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true, after_help = EXIT_CODES)]
pub(crate) struct WeightArgs {
    #[command(flatten)]
    at: Args,
    /// The canary's share in percent: 10, 12.5 or 0.5%.
    #[arg(value_parser = weight, required = true)]
    percent: WeightBps,
}

/// Sets a weight by hand.
///
/// # Errors
/// If no release runs or it does not answer.
pub(crate) fn set_weight(args: WeightArgs, output: Output) -> anyhow::Result<ExitCode> {
    run(args.at, Action::Weight(args.percent), output)
}

/// Passes an action on to the running release.
///
/// # Errors
/// If no release runs or it does not answer.
pub(crate) fn run(args: Args, action: Action, output: Output) -> anyhow::Result<ExitCode> {
    if let Some(service) = &args.service {
        return remote::with(&args.server, output, async |client| match action {
            Action::Weight(weight) => {
                let body = SetWeight { percent: f64::from(weight.canary_bps()) / 100.0, reason: args.reason.clone() };
                order::accepted(&client, service, verb(action), &body, output).await
            }
            _ => order::accepted(&client, service, verb(action), &Reason { reason: args.reason.clone() }, output).await,
        });
    }
    let by = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "someone".to_owned());
    let request = Request::Command { action, by, reason: args.reason };
    let socket = args.server.state.state.join("control.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (code, text) = match runtime.block_on(ask(&socket, &request)) {
        Ok(Response::Accepted) => (exit::SUCCEEDED, "accepted".to_owned()),
        Ok(Response::Refused(why)) => (exit::USAGE, why),
        Ok(Response::Status(_)) => (exit::INTERNAL, "an unexpected answer; do both sides have the same version?".to_owned()),
        Err(error @ AskError::NoAnswer(_)) => (exit::INTERNAL, format!("{error}; not confirmed: see `serin status` for what became of it")),
        Err(error @ AskError::NotRunning { .. }) => (exit::USAGE, format!("{error}; {}", elsewhere(&args.server.state.state))),
    };
    let accepted = code == exit::SUCCEEDED;
    match output {
        Output::Json => output::data(&serde_json::json!({"accepted": accepted, "text": text}).to_string())?,
        Output::Text if accepted => output::note(&text),
        Output::Text => output::error(&text),
    }
    Ok(exit::code(code))
}

/// An action as the API calls it.
pub(super) fn verb(action: Action) -> &'static str {
    match action {
        Action::Pause => "pause",
        Action::Resume => "resume",
        Action::Approve => "approve",
        Action::Reject => "reject",
        Action::Weight(_) => "weight",
        Action::Promote => "promote",
        Action::Abort => "abort",
        Action::Retire => "retire",
    }
}

/// What to do when nothing answers in a state folder.
fn elsewhere(state: &Path) -> String {
    let last = StateFolder::existing(state).and_then(|folder| Reader::open(&folder).ok()?.releases(1).ok()?.into_iter().next());
    match last {
        Some(row) if row.outcome.is_some() => {
            format!("{} run {} has ended ({}): see `serin status`", row.name, row.run, row.outcome.unwrap_or_default())
        }
        Some(row) => format!("{} run {} was interrupted, `serin run` goes on with it", row.name, row.run),
        None => "if it runs elsewhere, name its state folder with --state".to_owned(),
    }
}

pub(super) fn weight(text: &str) -> Result<WeightBps, String> {
    let wrong = || format!("expected a percentage from 0 to 100 with at most two decimals, such as 10 or 0.5%, not '{text}'");
    let number: f64 = text.trim().trim_end_matches('%').trim_end().parse().map_err(|_| wrong())?;
    let bps = (number * 100.0).round();
    if !(0.0..=10_000.0).contains(&bps) || (bps / 100.0 - number).abs() > 1e-9 {
        return Err(wrong());
    }
    // In range: checked just above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    WeightBps::new(bps as u16).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_percent_with_at_most_two_decimals() {
        for (text, bps) in [("10", 1_000), ("0.5%", 50), ("12.34", 1_234), ("0", 0), ("100 %", 10_000)] {
            assert_eq!(weight(text).map(WeightBps::canary_bps), Ok(bps), "{text}");
        }
        for text in ["101", "-1", "0.005", "ten", "", "NaN"] {
            assert!(weight(text).is_err(), "{text}");
        }
    }
}
