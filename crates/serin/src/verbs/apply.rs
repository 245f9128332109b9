//! `serin apply`: a release on a server.

use std::{path::PathBuf, process::ExitCode};

use http::{Method, StatusCode};
use serin_web::model::{Applied, AppliedResult, Apply};

use super::remote::{self, Backend as _};
use crate::{
    document, exit,
    output::{self, Output},
    render,
    server::{Client, ClientError, ServerArg},
};

/// Begins a release on a server that `serin serve` runs; a service that the server does not know is created.
///
/// Applying the same document again changes nothing. A newer document takes the place of a release that is still in its stages: that one is
/// rolled back first.
///
/// Exit codes: 0 begun or nothing to do, 1 the server does not answer, 2 document or usage, 3 a check failed or the service's state forbids it.
/// With --wait: those of `serin run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The release document, `-` for standard input.
    file: PathBuf,
    #[command(flatten)]
    server: ServerArg,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only say whether the release could begin, with what the checks of that found.
    #[arg(long)]
    dry_run: bool,
    /// Wait for the end of the release, and exit with its code.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

/// Applies a document.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let Ok(document) = document::read(&args.file, output) else { return Ok(exit::code(exit::USAGE)) };
    let service = document.release.name.clone();
    let body = Apply {
        document: document.text,
        name: Some(
            PathBuf::from(&document.origin).file_name().map_or_else(|| "release.yaml".into(), |name| name.to_string_lossy().into_owned()),
        ),
        dir: Some(document.dir.display().to_string()),
        reason: args.reason.clone(),
        dry_run: args.dry_run,
    };
    remote::with(&args.server, output, async |client| {
        let last = if args.wait { last_run(&client, &service).await? } else { 0 };
        let answer = client.order(Method::POST, "/v1/releases", &body).await?;
        let applied: Applied = answer.read()?;
        let words = match (&applied.result, &applied.supersedes) {
            (AppliedResult::Created, _) => "the service is created: its stable version starts, then the release begins".to_owned(),
            (AppliedResult::Begun, _) => "the release begins".to_owned(),
            (AppliedResult::Unchanged, _) => {
                format!("nothing to do: {}", applied.why.as_deref().unwrap_or("this document was released last"))
            }
            (AppliedResult::Supersedes, what) => {
                format!("{} ends first, then this release begins", what.as_deref().unwrap_or("the release under way"))
            }
            (AppliedResult::Checked, None) => "the release could begin".to_owned(),
            (AppliedResult::Checked, Some(what)) => format!("{what} would end first, then this release could begin"),
        };
        match output {
            Output::Json => output::data(&String::from_utf8_lossy(&answer.body))?,
            Output::Text => {
                output::note(&format!("{service}: {words}"));
                render::end::checks(applied.checks.as_deref().unwrap_or_default(), false).iter().for_each(|line| output::note(line));
            }
        }
        if args.wait {
            // Of what is under way or over already, the end is asked for all the same: a document that was rolled back is no success.
            let newer_than = (applied.result != AppliedResult::Unchanged).then_some(last);
            return remote::wait(&client, &service, newer_than, output).await;
        }
        Ok(exit::SUCCEEDED)
    })
}

/// The number of the last run of a service, 0 if there was none. Who does not know it would take its end for that of the next one.
async fn last_run(client: &Client, service: &str) -> Result<i64, ClientError> {
    match client.service(service).await {
        Ok(status) => Ok(status.last.map_or(0, |last| last.number)),
        Err(ClientError::Refused(StatusCode::NOT_FOUND, _)) => Ok(0),
        Err(error) => Err(error),
    }
}
