//! `serin explain`: why a service is as it is, and what can be done.

use std::process::ExitCode;

use serin_web::model::Explanation;

use super::remote;
use crate::{
    exit,
    output::{self, Output},
    render,
    server::ServerArg,
};

/// Says why a service is as it is: what its release waits for, what each criterion says, and what to run next.
///
/// Exit codes: 0 said, 1 the server does not answer, 2 there is no such service.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service.
    service: String,
    #[command(flatten)]
    server: ServerArg,
}

/// Explains a service.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    remote::with(&args.server, output, async |client| {
        let answer = client.get(&format!("/v1/services/{}/explain", args.service)).await?;
        let told: Explanation = answer.read()?;
        match output {
            Output::Json => output::data(&String::from_utf8_lossy(&answer.body))?,
            Output::Text => output::data(&lines(&told).join("\n"))?,
        }
        Ok(exit::SUCCEEDED)
    })
}

pub(super) fn lines(told: &Explanation) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", told.service, render::plain(&told.why))];
    lines.extend(told.faults.iter().map(|fault| format!("  fault     {}", render::plain(fault))));
    for criterion in &told.criteria {
        lines.push(format!("  {:<12} {}", criterion.verdict.as_str(), render::plain(&format!("{}: {}", criterion.name, criterion.text))));
    }
    for next in &told.next {
        lines.push(format!("  run       {}   ({})", next.command, next.does));
    }
    lines
}
