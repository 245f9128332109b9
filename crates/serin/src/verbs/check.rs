//! `serin check`: could a release start?

use std::{path::PathBuf, process::ExitCode};

use serin_core::{
    forecast::warnings,
    release::{Check, CheckStatus},
};
use serin_engine::preflight::static_checks;

use super::StateArg;
use crate::{
    document, exit,
    output::{self, Output},
    render,
};

/// Checks a release document and whether this machine could run it. Starts nothing.
///
/// With `analysis.expect.rps` in the document it also warns of criteria that so much traffic cannot decide.
///
/// Exit codes: 0 fine, 2 the document is wrong, 3 the machine is not ready for it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The release document, `-` for standard input.
    file: PathBuf,
    #[command(flatten)]
    state: StateArg,
}

/// Checks.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let Ok(document) = document::read(&args.file, output) else { return Ok(exit::code(exit::USAGE)) };
    let mut checks = static_checks(&document.release, &document.dir, &args.state.state, false);
    checks.extend(warnings(&document.release.plan).into_iter().map(|warning| Check {
        name: "forecast".to_owned(),
        status: CheckStatus::Warn,
        detail: warning.text,
        hint: Some(warning.help),
    }));
    let failed = checks.iter().any(|check| check.status == CheckStatus::Fail);
    match output {
        Output::Json => {
            output::data(&serde_json::json!({"document": document.name, "valid": true, "ready": !failed, "checks": checks}).to_string())?;
        }
        Output::Text => {
            let word = if failed { "is valid, but this machine is not ready for it" } else { "is valid, and this machine is ready for it" };
            output::data(&format!("{} {word}\n{}", render::plain(&document.name), render::end::checks(&checks, true).join("\n")))?;
        }
    }
    Ok(exit::code(if failed { exit::PREFLIGHT } else { exit::SUCCEEDED }))
}
