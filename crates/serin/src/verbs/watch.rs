//! `serin watch`: what happens on a server, as it happens.

use std::process::ExitCode;

use super::{
    get,
    remote::{self, Backend as _},
};
use crate::{output::Output, server::ServerArg};

/// Shows what happens on a server until Ctrl-C, a line each. A connection that breaks is made again; what came
/// meanwhile is shown, or said to be missed.
///
/// Exit codes: 0 ended by Ctrl-C, 1 the server does not answer, 2 there is no such service.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One service; all without it.
    service: Option<String>,
    #[command(flatten)]
    server: ServerArg,
}

/// Shows what happens.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    remote::with(&args.server, output, async |client| {
        if let Some(name) = &args.service {
            // A name that is wrong would be waited for in vain.
            client.service(name).await?;
        }
        get::watch(&client, args.service.as_deref(), output).await
    })
}
