//! `serin check`: could a release start?

use std::{path::PathBuf, process::ExitCode};

use serin_core::release::CheckStatus;
use serin_engine::preflight::{forecast, static_checks};
use serin_spec::validated::ClusterRelease;

use super::StateArg;
use crate::{
    document::{self, Any},
    exit,
    output::{self, Output},
    render,
};

/// Checks a release document and whether this machine could run it. Starts nothing.
///
/// Of a document for a cluster only what needs no cluster is checked: what is there is looked at before the release begins.
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
    let document = match document::read_any(&args.file, output) {
        Ok(Any::Machine(document)) => document,
        Ok(Any::Cluster(name, release)) => return cluster(&name, &release, output),
        Err(document::Rejected) => return Ok(exit::code(exit::USAGE)),
    };
    let mut checks = static_checks(&document.release, &document.dir, &args.state.state, false);
    checks.extend(forecast(&document.release.plan));
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

/// A document for a cluster: what can be said without asking one.
fn cluster(name: &str, release: &ClusterRelease, output: Output) -> anyhow::Result<ExitCode> {
    let checks = forecast(&release.plan);
    match output {
        Output::Json => {
            output::data(&serde_json::json!({"document": name, "valid": true, "cluster": true, "checks": checks}).to_string())?;
        }
        Output::Text => {
            let shown = render::end::checks(&checks, true).join("\n");
            output::data(format!("{} is valid, for a cluster: `serin controller` runs it there\n{shown}", render::plain(name)).trim_end())?;
        }
    }
    Ok(exit::code(exit::SUCCEEDED))
}
